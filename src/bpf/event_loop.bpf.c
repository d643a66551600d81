// SPDX-License-Identifier: GPL-2.0
/*
 * The other kind of BPF ops that a ring takes (CONFIG_IO_URING_BPF_OPS): an
 * event loop that ends at once.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

#define IOU_LOOP_STOP	1

struct iou_ctx;
struct iou_loop_params;

struct io_uring_bpf_ops {
	int (*loop_step)(struct iou_ctx *ring, struct iou_loop_params *params);
	__u32 ring_fd;
};

SEC("struct_ops")
int BPF_PROG(event_loop_step, struct iou_ctx *ring,
	     struct iou_loop_params *params)
{
	return IOU_LOOP_STOP;
}

SEC(".struct_ops.link")
struct io_uring_bpf_ops event_loop = {
	.loop_step = (void *)event_loop_step,
};
