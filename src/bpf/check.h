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

SEC("struct_ops")
int BPF_PROG(check_issue, struct uring_bpf_data *data)
{
	struct request *request = request_of(data);
	struct io_bpf_buf_desc desc = {};
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	__u32 chunks = 0;
	int error;

	if (!request)
		return -EINVAL;
	desc.type = 5;
	barrier_var(desc.type);
	attempt(data, REFUSE_TYPE, &desc, ITER_SOURCE);
	attempt(data, REFUSE_DIRECTION, &request->from, 2);

	error = bpf_iter_uring_buf_new(&iter, data, &request->from, ITER_SOURCE);
	if (error)
		stop(request, STAGE_SOURCE_NEW, error);
	else
		note(REFUSE_NO_CHUNK, bpf_uring_buf_dynptr(&iter, &chunk));
	if (bpf_iter_uring_buf_next(&iter)) {
		note(REFUSE_WRITABLE_SOURCE,
		     bpf_uring_buf_dynptr_rdwr(&iter, &chunk));
		chunks++;
	}
	bpf_iter_uring_buf_destroy(&iter);
	request->source_chunks = chunks;
	return complete(data, request, 0, error);
}

#endif
