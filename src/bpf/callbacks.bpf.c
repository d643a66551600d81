// SPDX-License-Identifier: GPL-2.0
/*
 * Callbacks that return what they are told to, count themselves, and see to it
 * that all 36 bytes of the pdu and the request's own flags stay as they are;
 * and a prep_fn that writes down what it sees of the SQE.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

#define PDU_WORDS	9
/* What each callback that may write leaves in the words behind the slot. */
#define PREP_MARK	0x70726570
#define ISSUE_MARK	0x69737375

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct behaviour);
} behaviours SEC(".maps");

static __always_inline __u32 *words(struct uring_bpf_data *data)
{
	return (__u32 *)data->pdu;
}

static __always_inline struct behaviour *behaviour_of(struct uring_bpf_data *data)
{
	__u32 slot = words(data)[0];

	return bpf_map_lookup_elem(&behaviours, &slot);
}

static __always_inline void mark(struct uring_bpf_data *data, __u32 mark)
{
	int i;

#pragma clang loop unroll(full)
	for (i = 1; i < PDU_WORDS; i++)
		words(data)[i] = mark + i;
}

static __always_inline bool is_marked(struct uring_bpf_data *data, __u32 mark)
{
	__u32 wrong = 0;
	int i;

#pragma clang loop unroll(full)
	for (i = 1; i < PDU_WORDS; i++)
		wrong |= words(data)[i] ^ (mark + i);
	return !wrong;
}

static __always_inline void called(struct behaviour *behaviour,
				   enum callback callback)
{
	behaviour->order = behaviour->order << 4 | callback;
}

SEC("struct_ops")
int BPF_PROG(callbacks_prep, struct uring_bpf_data *data,
	     const struct io_uring_sqe *sqe)
{
	struct behaviour *behaviour;

	words(data)[0] = sqe->off;
	behaviour = behaviour_of(data);
	if (!behaviour)
		return -EINVAL;
	mark(data, PREP_MARK);
	behaviour->preps++;
	behaviour->prep_opf = data->opf;
	called(behaviour, CALLBACK_PREP);
	return behaviour->prep_result;
}

SEC("struct_ops")
int BPF_PROG(callbacks_issue, struct uring_bpf_data *data)
{
	struct behaviour *behaviour = behaviour_of(data);

	if (!behaviour)
		return -EINVAL;
	if (!is_marked(data, behaviour->issues ? ISSUE_MARK : PREP_MARK))
		behaviour->wrong_pdu++;
	mark(data, ISSUE_MARK);
	if (!behaviour->issues)
		behaviour->issue_flags[0] = data->issue_flags;
	behaviour->issue_flags[1] = data->issue_flags;
	behaviour->issues++;
	behaviour->issue_opf = data->opf;
	called(behaviour, CALLBACK_ISSUE);
	if (behaviour->sets_result)
		uring_bpf_set_result(data, behaviour->result);
	return behaviour->issue_result;
}

SEC("struct_ops")
void BPF_PROG(callbacks_fail, struct uring_bpf_data *data)
{
	struct behaviour *behaviour = behaviour_of(data);

	if (!behaviour)
		return;
	if (!is_marked(data, behaviour->issues ? ISSUE_MARK : PREP_MARK))
		behaviour->wrong_pdu++;
	behaviour->fails++;
	behaviour->fail_opf = data->opf;
	called(behaviour, CALLBACK_FAIL);
}

SEC("struct_ops")
void BPF_PROG(callbacks_cleanup, struct uring_bpf_data *data)
{
	struct behaviour *behaviour = behaviour_of(data);

	if (!behaviour)
		return;
	if (!is_marked(data, behaviour->issues ? ISSUE_MARK : PREP_MARK))
		behaviour->wrong_pdu++;
	behaviour->cleanups++;
	behaviour->cleanup_opf = data->opf;
	called(behaviour, CALLBACK_CLEANUP);
}

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sqe_fields);
} sqes SEC(".maps");

SEC("struct_ops")
int BPF_PROG(fields_prep, struct uring_bpf_data *data,
	     const struct io_uring_sqe *sqe)
{
	__u32 key = 0;
	struct sqe_fields *seen = bpf_map_lookup_elem(&sqes, &key);

	if (!seen)
		return -EINVAL;
	seen->off = sqe->off;
	seen->addr = sqe->addr;
	seen->addr3 = sqe->addr3;
	seen->fd = sqe->fd;
	seen->len = sqe->len;
	seen->splice_fd_in = sqe->splice_fd_in;
	seen->buf_index = sqe->buf_index;
	seen->calls++;
	return 0;
}

SEC("struct_ops")
int BPF_PROG(fields_issue, struct uring_bpf_data *data)
{
	return 0;
}

SEC(".struct_ops.link")
struct uring_bpf_ops callbacks = {
	.prep_fn = (void *)callbacks_prep,
	.issue_fn = (void *)callbacks_issue,
	.fail_fn = (void *)callbacks_fail,
	.cleanup_fn = (void *)callbacks_cleanup,
};

SEC(".struct_ops.link")
struct uring_bpf_ops fields = {
	.prep_fn = (void *)fields_prep,
	.issue_fn = (void *)fields_issue,
};
