// SPDX-License-Identifier: GPL-2.0
/*
 * For the reproducers of known defects: walks a buffer, and keeps what each
 * kfunc returned apart.
 */
#include "chunks.h"

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct trial);
} trials SEC(".maps");

static __always_inline struct trial *trial_of(struct uring_bpf_data *data)
{
	__u32 slot = slot_of(data);

	return bpf_map_lookup_elem(&trials, &slot);
}

/* Fills every chunk with a byte when the buffer is a destination. */
static __always_inline int walk(struct uring_bpf_data *data, const int direction)
{
	struct trial *trial = trial_of(data);
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	int *valid, error = 0;

	if (!trial)
		return -EINVAL;
	*(volatile __u64 *)&trial->ops = (__u64)data->ops;
	trial->opened = bpf_iter_uring_buf_new(&iter, data, &trial->buffer,
					       direction);
	while ((valid = bpf_iter_uring_buf_next(&iter))) {
		__u32 len = *valid;

		if (direction == ITER_DEST) {
			error = bpf_uring_buf_dynptr_rdwr(&iter, &chunk);
			error = error ?: bpf_dynptr_memset(&chunk, 0, len, 0xa5);
			if (error)
				break;
		}
		trial->bytes += len;
	}
	trial->error = error ?: iteration_error(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	uring_bpf_set_result(data, 0);
	return 0;
}

SEC("struct_ops")
int BPF_PROG(read_issue, struct uring_bpf_data *data)
{
	return walk(data, ITER_SOURCE);
}

SEC("struct_ops")
int BPF_PROG(write_issue, struct uring_bpf_data *data)
{
	return walk(data, ITER_DEST);
}

/* Must not be called at all, so nothing about the request is to be relied on. */
SEC("struct_ops")
void BPF_PROG(read_fail, struct uring_bpf_data *data)
{
	__u32 slot = 0;
	struct trial *trial = bpf_map_lookup_elem(&trials, &slot);

	if (trial)
		__sync_fetch_and_add(&trial->fails, 1);
}

SEC(".struct_ops.link")
struct uring_bpf_ops reader = {
	.prep_fn = (void *)prep,
	.issue_fn = (void *)read_issue,
	.fail_fn = (void *)read_fail,
};

SEC(".struct_ops.link")
struct uring_bpf_ops writer = {
	.prep_fn = (void *)prep,
	.issue_fn = (void *)write_issue,
};
