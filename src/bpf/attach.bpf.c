// SPDX-License-Identifier: GPL-2.0
/*
 * The smallest program that can be attached: whether it can tells which setup
 * flag a ring needs. As an operation it is the empty request.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops")
int BPF_PROG(empty_prep, struct uring_bpf_data *data,
	     const struct io_uring_sqe *sqe)
{
	return 0;
}

SEC("struct_ops")
int BPF_PROG(empty_issue, struct uring_bpf_data *data)
{
	uring_bpf_set_result(data, 0);
	return 0;
}

SEC(".struct_ops.link")
struct uring_bpf_ops empty = {
	.prep_fn = (void *)empty_prep,
	.issue_fn = (void *)empty_issue,
};
