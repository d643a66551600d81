// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that the verifier must refuse, and next to each one that differs in
 * one thing and must load. Names are bad_NAME and good_NAME; which member of
 * uring_bpf_ops a program is for stands in its map below.
 */
#include "event_loop.h"
#include "request.h"

#define USER_BUFFER(desc, data)						\
	struct io_bpf_buf_desc desc = { .len = slot_of(data) }

#define CALLBACK(name)							\
SEC("struct_ops")							\
int BPF_PROG(name, struct uring_bpf_data *data)

#define ENDING(name)							\
SEC("struct_ops")							\
void BPF_PROG(name, struct uring_bpf_data *data)

/* An iterator that is not destroyed. */
CALLBACK(good_destroyed)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

CALLBACK(bad_destroyed)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	return 0;
}

/* One that is not destroyed on one way out. */
CALLBACK(good_branch)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int *valid;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	valid = bpf_iter_uring_buf_next(&iter);
	if (valid && *valid > 100) {
		bpf_iter_uring_buf_destroy(&iter);
		return -EIO;
	}
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

CALLBACK(bad_branch)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int *valid;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	valid = bpf_iter_uring_buf_next(&iter);
	if (valid && *valid > 100)
		return -EIO;
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

/* One that is destroyed twice. */
CALLBACK(good_twice)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

CALLBACK(bad_twice)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

/* next after destroy. */
CALLBACK(good_next)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

CALLBACK(bad_next)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	bpf_iter_uring_buf_next(&iter);
	return 0;
}

/* next without new. */
CALLBACK(bad_no_new)
{
	struct bpf_iter_uring_buf iter;

	bpf_iter_uring_buf_next(&iter);
	return 0;
}

/* A dynptr, and a slice of one, that outlive the page. */
#define STALE(name, before, after)					\
CALLBACK(name)								\
{									\
	struct bpf_iter_uring_buf iter;					\
	struct bpf_dynptr chunk;					\
	USER_BUFFER(desc, data);					\
	__u8 byte = 0;							\
									\
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);	\
	if (bpf_iter_uring_buf_next(&iter)) {				\
		bpf_uring_buf_dynptr(&iter, &chunk);			\
		before;							\
		bpf_dynptr_read(&byte, 1, &chunk, 0, 0);		\
		after;							\
	}								\
	bpf_iter_uring_buf_destroy(&iter);				\
	return byte ? 0 : -EIO;						\
}

STALE(good_dynptr_next, , bpf_iter_uring_buf_next(&iter))
STALE(bad_dynptr_next, bpf_iter_uring_buf_next(&iter), )

CALLBACK(bad_dynptr_destroy)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	USER_BUFFER(desc, data);
	__u8 byte = 0;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	bpf_iter_uring_buf_destroy(&iter);
	bpf_dynptr_read(&byte, 1, &chunk, 0, 0);
	return byte ? 0 : -EIO;
}

#define SLICE(name, before, after)					\
CALLBACK(name)								\
{									\
	struct bpf_iter_uring_buf iter;					\
	struct bpf_dynptr chunk;					\
	const __u8 *slice;						\
	USER_BUFFER(desc, data);					\
	__u8 byte = 0;							\
									\
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);	\
	if (bpf_iter_uring_buf_next(&iter)) {				\
		bpf_uring_buf_dynptr(&iter, &chunk);			\
		slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);		\
		before;							\
		if (slice)						\
			byte = *slice;					\
		after;							\
	}								\
	bpf_iter_uring_buf_destroy(&iter);				\
	return byte ? 0 : -EIO;						\
}

SLICE(good_slice_next, , bpf_iter_uring_buf_next(&iter))
SLICE(bad_slice_next, bpf_iter_uring_buf_next(&iter), )

CALLBACK(bad_slice_destroy)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	const __u8 *slice;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);
	bpf_iter_uring_buf_destroy(&iter);
	return slice ? *slice : 0;
}

/* The count behind the pointer that next returned, after the next next. */
CALLBACK(good_valid)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int *valid, bytes = 0;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	valid = bpf_iter_uring_buf_next(&iter);
	if (valid)
		bytes = *valid;
	bpf_iter_uring_buf_destroy(&iter);
	return bytes ? 0 : -EIO;
}

CALLBACK(bad_valid)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int *valid;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	valid = bpf_iter_uring_buf_next(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return valid ? *valid : 0;
}

CALLBACK(bad_valid_null)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int bytes;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bytes = *bpf_iter_uring_buf_next(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return bytes ? 0 : -EIO;
}

/* A writable slice, and one past the size that was asked for. */
CALLBACK(good_slice_end)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	const __u8 *slice;
	USER_BUFFER(desc, data);
	int byte = 0;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);
	if (slice)
		byte = slice[7];
	bpf_iter_uring_buf_destroy(&iter);
	return byte ? 0 : -EIO;
}

CALLBACK(bad_slice_end)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	const __u8 *slice;
	USER_BUFFER(desc, data);
	int byte = 0;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);
	if (slice)
		byte = slice[8];
	bpf_iter_uring_buf_destroy(&iter);
	return byte ? 0 : -EIO;
}

/* What may be written is what bpf_dynptr_data hands out of a writable dynptr. */
#define WRITE(name, at, before)						\
CALLBACK(name)								\
{									\
	struct bpf_iter_uring_buf iter;					\
	struct bpf_dynptr chunk;					\
	USER_BUFFER(desc, data);					\
	__u8 *bytes;							\
									\
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_DEST);		\
	if (bpf_iter_uring_buf_next(&iter)) {				\
		bpf_uring_buf_dynptr_rdwr(&iter, &chunk);		\
		bytes = bpf_dynptr_data(&chunk, 0, 8);			\
		before;							\
		if (bytes)						\
			*(volatile __u8 *)(bytes + (at)) = 1;		\
	}								\
	bpf_iter_uring_buf_destroy(&iter);				\
	return 0;							\
}

WRITE(good_slice_write, 7, )
WRITE(bad_data_end, 8, )
WRITE(bad_data_next, 7, bpf_iter_uring_buf_next(&iter))

CALLBACK(bad_data_destroy)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	USER_BUFFER(desc, data);
	__u8 *bytes;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_DEST);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr_rdwr(&iter, &chunk);
	bytes = bpf_dynptr_data(&chunk, 0, 8);
	bpf_iter_uring_buf_destroy(&iter);
	if (bytes)
		*bytes = 1;
	return 0;
}

CALLBACK(bad_slice_write)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	__u8 *slice;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);
	if (slice)
		*slice = 1;
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

/* The whole of it: most programs need no more than the pdu. */
struct uring_bpf_data___all {
	void *req_data;
	const struct uring_bpf_ops *ops;
	__u32 opf;
	__u32 issue_flags;
	unsigned int lock_depth;
	__u8 pdu[36];
} __attribute__((preserve_access_index));

#define ALL(data)	((struct uring_bpf_data___all *)(data))

/* The pdu: its first and last bytes, what is on its edges, what is outside. */
#define PDU(name, type, at)						\
CALLBACK(name)								\
{									\
	*(volatile type *)(data->pdu + (at)) = 1;			\
	return 0;							\
}

PDU(good_pdu_first, __u32, 0)
PDU(bad_pdu_before, __u32, -1)
PDU(good_pdu, __u32, 32)
PDU(bad_pdu, __u32, 36)
PDU(good_pdu_last, __u64, 28)
PDU(bad_pdu_over, __u64, 29)

/* The other members, which may be read. */
#define MEMBER(member)							\
CALLBACK(good_##member)							\
{									\
	return *(volatile typeof(ALL(data)->member) *)&ALL(data)->member ? 0 : -EIO; \
}									\
CALLBACK(bad_##member)							\
{									\
	*(volatile typeof(ALL(data)->member) *)&ALL(data)->member = 0;	\
	return 0;							\
}

MEMBER(req_data)
MEMBER(ops)
MEMBER(opf)
MEMBER(issue_flags)
MEMBER(lock_depth)

/*
 * Descriptors: a whole one, one that is too short, and pointers to none at all.
 * They are in maps, where it is known what is behind them.
 */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[16]);
} described SEC(".maps");

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[15]);
} described_short SEC(".maps");

#define DESCRIBED(name, map)						\
CALLBACK(name)								\
{									\
	struct bpf_iter_uring_buf iter;					\
	__u32 key = 0;							\
	void *desc = bpf_map_lookup_elem(&map, &key);			\
									\
	if (!desc)							\
		return -EIO;						\
	bpf_iter_uring_buf_new(&iter, data, desc, ITER_SOURCE);		\
	bpf_iter_uring_buf_destroy(&iter);				\
	return 0;							\
}

DESCRIBED(good_descriptor, described)
DESCRIBED(bad_descriptor_short, described_short)

#define NO_DESCRIPTOR(name, desc)					\
CALLBACK(name)								\
{									\
	struct bpf_iter_uring_buf iter;					\
									\
	bpf_iter_uring_buf_new(&iter, data, desc, ITER_SOURCE);		\
	bpf_iter_uring_buf_destroy(&iter);				\
	return 0;							\
}

NO_DESCRIPTOR(bad_descriptor_null, NULL)
NO_DESCRIPTOR(bad_descriptor_number, (void *)*(__u64 *)data->pdu)

/* Programs of other types, and callbacks of other struct_ops. */
SEC("syscall")
int good_syscall(void *ctx)
{
	return 0;
}

SEC("syscall")
int bad_syscall_new(void *ctx)
{
	struct bpf_iter_uring_buf iter;
	struct io_bpf_buf_desc desc = {};

	bpf_iter_uring_buf_new(&iter, ctx, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

SEC("syscall")
int bad_syscall_result(void *ctx)
{
	uring_bpf_set_result(ctx, 1);
	return 0;
}

SEC("tc")
int good_tc(void *skb)
{
	return 0;
}

SEC("tc")
int bad_tc_new(void *skb)
{
	struct bpf_iter_uring_buf iter;
	struct io_bpf_buf_desc desc = {};

	bpf_iter_uring_buf_new(&iter, skb, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

SEC("tc")
int bad_tc_result(void *skb)
{
	uring_bpf_set_result(skb, 1);
	return 0;
}

/* The ring's other struct_ops. */
SEC("struct_ops")
int BPF_PROG(good_loop, struct iou_ctx *ring, struct iou_loop_params *params)
{
	return 0;
}

SEC("struct_ops")
int BPF_PROG(bad_loop_new, struct iou_ctx *ring, struct iou_loop_params *params)
{
	struct bpf_iter_uring_buf iter;
	struct io_bpf_buf_desc desc = {};

	bpf_iter_uring_buf_new(&iter, (void *)ring, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

SEC("struct_ops")
int BPF_PROG(bad_loop_result, struct iou_ctx *ring,
	     struct iou_loop_params *params)
{
	uring_bpf_set_result((void *)ring, 1);
	return 0;
}

/* Iterators where the submitter's memory may not be. */
#define ITERATE(data)							\
	struct bpf_iter_uring_buf iter;					\
	USER_BUFFER(desc, data);					\
									\
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);	\
	bpf_iter_uring_buf_destroy(&iter)

ENDING(bad_iterator_fail)
{
	ITERATE(data);
}

ENDING(bad_iterator_cleanup)
{
	ITERATE(data);
}

ENDING(good_fail)
{
	*(__u32 *)data->pdu = 1;
}

ENDING(good_cleanup)
{
	*(__u32 *)data->pdu = 1;
}

#define ISSUE(name)							\
SEC(".struct_ops.link")							\
struct uring_bpf_ops o_##name = { .issue_fn = (void *)name };

ISSUE(good_destroyed) ISSUE(bad_destroyed)
ISSUE(good_branch) ISSUE(bad_branch)
ISSUE(good_twice) ISSUE(bad_twice)
ISSUE(good_next) ISSUE(bad_next) ISSUE(bad_no_new)
ISSUE(good_dynptr_next) ISSUE(bad_dynptr_next) ISSUE(bad_dynptr_destroy)
ISSUE(good_slice_next) ISSUE(bad_slice_next) ISSUE(bad_slice_destroy)
ISSUE(good_valid) ISSUE(bad_valid) ISSUE(bad_valid_null)
ISSUE(good_slice_end) ISSUE(bad_slice_end) ISSUE(bad_slice_write)
ISSUE(good_slice_write) ISSUE(bad_data_end)
ISSUE(bad_data_next) ISSUE(bad_data_destroy)
ISSUE(good_pdu_first) ISSUE(bad_pdu_before)
ISSUE(good_pdu) ISSUE(bad_pdu)
ISSUE(good_pdu_last) ISSUE(bad_pdu_over)
ISSUE(good_req_data) ISSUE(bad_req_data)
ISSUE(good_ops) ISSUE(bad_ops)
ISSUE(good_opf) ISSUE(bad_opf)
ISSUE(good_issue_flags) ISSUE(bad_issue_flags)
ISSUE(good_lock_depth) ISSUE(bad_lock_depth)
ISSUE(good_descriptor) ISSUE(bad_descriptor_short)
ISSUE(bad_descriptor_null) ISSUE(bad_descriptor_number)

#define LOOP(name)							\
SEC(".struct_ops.link")							\
struct io_uring_bpf_ops o_##name = { .loop_step = (void *)name };

LOOP(good_loop) LOOP(bad_loop_new) LOOP(bad_loop_result)

SEC(".struct_ops.link")
struct uring_bpf_ops o_bad_iterator_fail = { .fail_fn = (void *)bad_iterator_fail };
SEC(".struct_ops.link")
struct uring_bpf_ops o_bad_iterator_cleanup = { .cleanup_fn = (void *)bad_iterator_cleanup };
SEC(".struct_ops.link")
struct uring_bpf_ops o_good_fail = { .fail_fn = (void *)good_fail };
SEC(".struct_ops.link")
struct uring_bpf_ops o_good_cleanup = { .cleanup_fn = (void *)good_cleanup };
