// SPDX-License-Identifier: GPL-2.0
/* An event loop that ends at once. */
#include "event_loop.h"

char LICENSE[] SEC("license") = "GPL";

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
