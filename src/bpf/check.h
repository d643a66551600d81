/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the interface must refuse, tried in one small request: a kernel that
 * lost one of these checks copies every byte right and is still wrong.
 */
#ifndef URINGBPF_CHECK_H
#define URINGBPF_CHECK_H

#include "chunks.h"

/* What each attempt returned; INT_MIN where it could not be made. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, REFUSALS);
	__type(key, __u32);
	__type(value, __s64);
} refusals SEC(".maps");

static __always_inline void note(__u32 refusal, int result)
{
	__s64 *entry = bpf_map_lookup_elem(&refusals, &refusal);

	if (entry)
		*entry = result;
}

/* An iterator that must not come into being. */
static __always_inline void attempt(struct uring_bpf_data *data, __u32 refusal,
				    struct io_bpf_buf_desc *desc, int direction)
{
	struct bpf_iter_uring_buf iter;

	note(refusal, bpf_iter_uring_buf_new(&iter, data, desc, direction));
	bpf_iter_uring_buf_destroy(&iter);
}

/* Order matters to it, and every chunk counts. */
static __always_inline __u64 mix(__u64 sum, __u64 value)
{
	return (sum << 7 | sum >> 57) ^ value;
}

/*
 * Beside the attempts, a sum over the length and first byte of the chunks in
 * the first request::len bytes: a copy between two buffers whose segments are
 * swapped alike is right, and yet neither buffer is.
 */
SEC("struct_ops")
int BPF_PROG(check_issue, struct uring_bpf_data *data)
{
	struct request *request = request_of(data);
	struct io_bpf_buf_desc desc = {};
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	__u64 sum = 0, bytes;
	__u32 chunks = 0;
	int *valid, error;

	if (!request)
		return -EINVAL;
	/* 0, but the verifier must not know: it would follow every sum. */
	bytes = request->position;
	desc.type = 5;
	barrier_var(desc.type);
	attempt(data, REFUSE_TYPE, &desc, ITER_SOURCE);
	attempt(data, REFUSE_DIRECTION, &request->from, 2);
	attempt(data, REFUSE_DEST, &request->to, ITER_DEST);

	error = bpf_iter_uring_buf_new(&iter, data, &request->from, ITER_SOURCE);
	if (error)
		stop(request, STAGE_SOURCE_NEW, error);
	else
		note(REFUSE_NO_CHUNK, bpf_uring_buf_dynptr(&iter, &chunk));
	while ((valid = bpf_iter_uring_buf_next(&iter))) {
		__u32 len = *valid;
		const __u8 *first;

		if (!bytes)
			note(REFUSE_WRITABLE_SOURCE,
			     bpf_uring_buf_dynptr_rdwr(&iter, &chunk));
		error = bpf_uring_buf_dynptr(&iter, &chunk);
		if (error) {
			stop(request, STAGE_SOURCE_DYNPTR, error);
			break;
		}
		first = bpf_dynptr_slice(&chunk, 0, NULL, 1);
		if (!first) {
			error = stop(request, STAGE_ACCESS, -EIO);
			break;
		}
		sum = mix(sum, (__u64)len << 8 | *first);
		bytes += len;
		chunks++;
		if (bytes >= request->len)
			break;
	}
	bpf_iter_uring_buf_destroy(&iter);
	request->source_chunks = chunks;
	request->digest = sum;
	return complete(data, request, 0, error);
}

#endif
