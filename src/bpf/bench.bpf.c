// SPDX-License-Identifier: GPL-2.0
/*
 * What a request costs before it does anything with its bytes: through prep_fn
 * and issue_fn with a slot, and through every chunk of one buffer.
 */
#include "chunks.h"

SEC("struct_ops")
int BPF_PROG(prepared_issue, struct uring_bpf_data *data)
{
	uring_bpf_set_result(data, 0);
	return 0;
}

static __always_inline int iterate(struct uring_bpf_data *data,
				   struct request *request,
				   struct io_bpf_buf_desc *desc, int direction)
{
	struct bpf_iter_uring_buf iter;
	__u64 bytes = 0;
	int *valid, error;

	error = bpf_iter_uring_buf_new(&iter, data, desc, direction);
	while ((valid = bpf_iter_uring_buf_next(&iter)))
		bytes += *valid;
	if (!error)
		error = iteration_error(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return complete(data, request, bytes, error);
}

SEC("struct_ops")
int BPF_PROG(iterate_source_issue, struct uring_bpf_data *data)
{
	struct request *request = request_of(data);

	if (!request)
		return -EINVAL;
	return iterate(data, request, &request->from, ITER_SOURCE);
}

SEC("struct_ops")
int BPF_PROG(iterate_dest_issue, struct uring_bpf_data *data)
{
	struct request *request = request_of(data);

	if (!request)
		return -EINVAL;
	return iterate(data, request, &request->to, ITER_DEST);
}

#define BENCH(name)							\
SEC(".struct_ops.link")							\
struct uring_bpf_ops name = {						\
	.prep_fn = (void *)prep,					\
	.issue_fn = (void *)name##_issue,				\
};

BENCH(prepared)
BENCH(iterate_source)
BENCH(iterate_dest)
