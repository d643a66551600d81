/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How a request reaches its program: the SQE carries the index of a slot in
 * the array below, which user space maps. prep keeps the index in the pdu.
 */
#ifndef URINGBPF_REQUEST_H
#define URINGBPF_REQUEST_H

#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct request);
} requests SEC(".maps");

/* Where a chunk is laid that cannot be worked on in place: one per slot. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u8[SCRATCH_SIZE]);
} scratch SEC(".maps");

/* Set by the loader: do without the optional kfuncs although they are there. */
const volatile __u32 without_kfuncs SEC(".rodata.kfuncs");

/* Known at load time: the verifier removes the branch that is not taken. */
#define have_kfunc(name)	(bpf_ksym_exists(name) && !without_kfuncs)

static __always_inline __u32 slot_of(struct uring_bpf_data *data)
{
	return *(__u32 *)data->pdu;
}

static __always_inline struct request *request_of(struct uring_bpf_data *data)
{
	__u32 slot = slot_of(data);

	return bpf_map_lookup_elem(&requests, &slot);
}

static __always_inline void *scratch_of(struct uring_bpf_data *data)
{
	__u32 slot = slot_of(data);

	return bpf_map_lookup_elem(&scratch, &slot);
}

SEC("struct_ops")
int BPF_PROG(prep, struct uring_bpf_data *data, const struct io_uring_sqe *sqe)
{
	__u64 slot = sqe->off;

	if (slot >= SLOTS)
		return -EINVAL;
	*(__u32 *)data->pdu = slot;
	return 0;
}

static __always_inline int stop(struct request *request, enum stage stage,
				int error)
{
	request->stage = stage;
	request->error = error;
	return error;
}

/* The completion's result: the bytes handled, or the error that ended it. */
static __always_inline int complete(struct uring_bpf_data *data,
				    struct request *request, __u64 bytes,
				    int error)
{
	request->bytes = bytes;
	uring_bpf_set_result(data, error ?: (int)bytes);
	return 0;
}

#endif
