/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The other kind of BPF ops that a ring takes (CONFIG_IO_URING_BPF_OPS): an
 * event loop.
 */
#ifndef URINGBPF_EVENT_LOOP_H
#define URINGBPF_EVENT_LOOP_H

#include "kernel.h"

#define IOU_LOOP_STOP	1

struct iou_ctx;
struct iou_loop_params;

struct io_uring_bpf_ops {
	int (*loop_step)(struct iou_ctx *ring, struct iou_loop_params *params);
	__u32 ring_fd;
};

#endif /* URINGBPF_EVENT_LOOP_H */
