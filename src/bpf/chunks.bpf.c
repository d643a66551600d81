// SPDX-License-Identifier: GPL-2.0
/* Writes down every chunk that an iterator hands out, for people to look at. */
#include "chunks.h"

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, 1);		/* set to what the buffer may need */
	__type(key, __u32);
	__type(value, struct chunk);
} chunks SEC(".maps");

static __always_inline int record(struct walk *walk,
				  struct bpf_iter_uring_buf *iter, __u32 len)
{
	__u32 index = walk->acc[0];
	struct chunk *chunk = bpf_map_lookup_elem(&chunks, &index);
	struct bpf_dynptr ptr;
	const __u8 *first;
	int error;

	if (!chunk) {
		walk->stage = STAGE_OVERRUN;
		return -EOVERFLOW;
	}
	error = source_chunk(walk, iter, &ptr);
	if (error)
		return error;
	first = bpf_dynptr_slice(&ptr, 0, NULL, 1);
	if (!first)
		return -EIO;
	chunk->offset = walk->bytes;
	chunk->valid = len;
	chunk->size = bpf_dynptr_size(&ptr);
	/*
	 * The verifier allows no arithmetic on the pointer, and so the address
	 * passes through memory, where only its place in the page stays.
	 */
	*(volatile __u64 *)&chunk->place = (__u64)first;
	chunk->place = *(volatile __u64 *)&chunk->place & (CHUNK_MAX - 1);
	chunk->first = *first;
	walk->acc[0]++;
	return bpf_dynptr_read(&chunk->last, 1, &ptr, len - 1, 0);
}

static __always_inline int record_page(struct walk *walk,
				       struct bpf_iter_uring_buf *iter)
{
	return record(walk, iter, CHUNK_MAX);
}

SEC("struct_ops")
int BPF_PROG(chunks_issue, struct uring_bpf_data *data)
{
	struct walk walk = {};
	struct request *request = start(data, &walk);
	int error;

	if (!request)
		return -EINVAL;
	error = for_each_chunk(data, &request->from, ITER_SOURCE, &walk,
			       record_page, record);
	return complete(data, request, walk.bytes, error);
}

SEC(".struct_ops.link")
struct uring_bpf_ops list = {
	.prep_fn = (void *)prep,
	.issue_fn = (void *)chunks_issue,
};
