/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's side, declared here instead of taken from a vmlinux.h: the
 * programs then build on any machine, and whatever may sit elsewhere in
 * another kernel is relocated at load time (preserve_access_index).
 */
#ifndef URINGBPF_KERNEL_H
#define URINGBPF_KERNEL_H

typedef _Bool bool;
typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "intf.h"

#define ARRAY_MMAPABLE		(1U << 10)	/* BPF_F_MMAPABLE */
#define MAP_TYPE_ARRAY		2
#define MAP_TYPE_ARENA		33

#define NULL			((void *)0)

#define ESTALE			116
#define EIO			5
#define EINVAL			22
#define ERANGE		34
#define EOVERFLOW	75

/* A pointer into an arena: clang casts it where it is followed. */
#define __arena			__attribute__((address_space(1)))

enum io_bpf_buf_direction {
	ITER_DEST = 0,
	ITER_SOURCE = 1,
};

struct bpf_dynptr {
	__u64 __opaque[2];
} __attribute__((aligned(8)));

struct bpf_iter_num {
	__u64 __opaque[1];
} __attribute__((aligned(8)));

struct bpf_iter_uring_buf {
	__u64 __opaque[12];
} __attribute__((aligned(8)));

struct io_uring_sqe {
	__s32 fd;
	__u64 off;
	__u64 addr;
	__u32 len;
	__u16 buf_index;
	__s32 splice_fd_in;
	__u64 addr3;
} __attribute__((preserve_access_index));

struct uring_bpf_ops;

struct uring_bpf_data {
	const struct uring_bpf_ops *ops;
	__u32 opf;
	__u32 issue_flags;
	__u8 pdu[36];
} __attribute__((preserve_access_index));

/* libbpf matches the members by name with those of the running kernel. */
struct uring_bpf_ops {
	unsigned short id;
	int ring_fd;
	int (*prep_fn)(struct uring_bpf_data *data, const struct io_uring_sqe *sqe);
	int (*issue_fn)(struct uring_bpf_data *data);
	void (*fail_fn)(struct uring_bpf_data *data);
	void (*cleanup_fn)(struct uring_bpf_data *data);
};

extern void uring_bpf_set_result(struct uring_bpf_data *data, int res) __ksym;

extern int bpf_iter_uring_buf_new(struct bpf_iter_uring_buf *iter,
				  struct uring_bpf_data *data,
				  struct io_bpf_buf_desc *desc,
				  int direction) __ksym;
extern int *bpf_iter_uring_buf_next(struct bpf_iter_uring_buf *iter) __ksym;
extern void bpf_iter_uring_buf_destroy(struct bpf_iter_uring_buf *iter) __ksym;
extern int bpf_uring_buf_dynptr(struct bpf_iter_uring_buf *it__iter,
				struct bpf_dynptr *ptr__uninit) __ksym;
extern int bpf_uring_buf_dynptr_rdwr(struct bpf_iter_uring_buf *it__iter,
				     struct bpf_dynptr *ptr__uninit) __ksym;
/* Not in the posted series: there, an error reads as the end of the buffer. */
extern int bpf_iter_uring_buf_error(const struct bpf_iter_uring_buf *it__iter)
	__weak __ksym;


/*
 * Not in the posted series: whole chunks at memcpy's cost, which programs do
 * without where they are missing. Ranges are inside of the current chunk.
 */
extern int bpf_uring_buf_copy(struct bpf_iter_uring_buf *to__iter, __u32 to_off,
			      struct bpf_iter_uring_buf *from__iter,
			      __u32 from_off, __u32 len) __weak __ksym;
extern int bpf_uring_buf_to_arena(struct bpf_iter_uring_buf *from__iter,
				  __u32 from_off, void *to__arena,
				  __u32 len) __weak __ksym;
extern int bpf_uring_buf_from_arena(struct bpf_iter_uring_buf *to__iter,
				    __u32 to_off, void *from__arena,
				    __u32 len) __weak __ksym;
extern int bpf_uring_buf_fill(struct bpf_iter_uring_buf *to__iter,
			      __u64 word) __weak __ksym;
extern __u32 bpf_uring_buf_crc32c(struct bpf_iter_uring_buf *it__iter,
				  __u32 crc) __weak __ksym;
extern int bpf_uring_buf_xxh64(struct bpf_iter_uring_buf *it__iter, __u32 off,
			       __u64 *lanes, __u32 lanes__sz) __weak __ksym;

extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u64 offset,
			      void *buffer, __u64 buffer__szk) __ksym;
extern __u64 bpf_dynptr_size(const struct bpf_dynptr *ptr) __ksym;
extern int bpf_dynptr_copy(struct bpf_dynptr *dst, __u64 dst_off,
			   struct bpf_dynptr *src, __u64 src_off,
			   __u64 size) __ksym;
extern int bpf_dynptr_memset(struct bpf_dynptr *ptr, __u64 offset, __u64 size,
			     __u8 val) __ksym;

#endif
