// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that the verifier must refuse, and next to each one that differs in
 * one thing and must load. Names are bad_NAME and good_NAME; which member of
 * uring_bpf_ops a program is for stands in its map below.
 */
#include "request.h"

#define USER_BUFFER(desc, data)						\
	struct io_bpf_buf_desc desc = { .len = slot_of(data) }

#define CALLBACK(name)							\
SEC("struct_ops")							\
int BPF_PROG(name, struct uring_bpf_data *data)

#define ENDING(name)							\
SEC("struct_ops")							\
void BPF_PROG(name, struct uring_bpf_data *data)

/* An iterator that is not destroyed. */
CALLBACK(good_destroyed)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

CALLBACK(bad_destroyed)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	return 0;
}

/* One that is not destroyed on one way out. */
CALLBACK(good_branch)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int *valid;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	valid = bpf_iter_uring_buf_next(&iter);
	if (valid && *valid > 100) {
		bpf_iter_uring_buf_destroy(&iter);
		return -EIO;
	}
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

CALLBACK(bad_branch)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int *valid;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	valid = bpf_iter_uring_buf_next(&iter);
	if (valid && *valid > 100)
		return -EIO;
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

/* One that is destroyed twice. */
CALLBACK(good_twice)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

CALLBACK(bad_twice)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

/* next after destroy. */
CALLBACK(good_next)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

CALLBACK(bad_next)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_destroy(&iter);
	bpf_iter_uring_buf_next(&iter);
	return 0;
}

/* next without new. */
CALLBACK(bad_no_new)
{
	struct bpf_iter_uring_buf iter;

	bpf_iter_uring_buf_next(&iter);
	return 0;
}

/* A dynptr, and a slice of one, that outlive the page. */
#define STALE(name, before, after)					\
CALLBACK(name)								\
{									\
	struct bpf_iter_uring_buf iter;					\
	struct bpf_dynptr chunk;					\
	USER_BUFFER(desc, data);					\
	__u8 byte = 0;							\
									\
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);	\
	if (bpf_iter_uring_buf_next(&iter)) {				\
		bpf_uring_buf_dynptr(&iter, &chunk);			\
		before;							\
		bpf_dynptr_read(&byte, 1, &chunk, 0, 0);		\
		after;							\
	}								\
	bpf_iter_uring_buf_destroy(&iter);				\
	return byte ? 0 : -EIO;						\
}

STALE(good_dynptr_next, , bpf_iter_uring_buf_next(&iter))
STALE(bad_dynptr_next, bpf_iter_uring_buf_next(&iter), )

CALLBACK(bad_dynptr_destroy)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	USER_BUFFER(desc, data);
	__u8 byte = 0;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	bpf_iter_uring_buf_destroy(&iter);
	bpf_dynptr_read(&byte, 1, &chunk, 0, 0);
	return byte ? 0 : -EIO;
}

#define SLICE(name, before, after)					\
CALLBACK(name)								\
{									\
	struct bpf_iter_uring_buf iter;					\
	struct bpf_dynptr chunk;					\
	const __u8 *slice;						\
	USER_BUFFER(desc, data);					\
	__u8 byte = 0;							\
									\
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);	\
	if (bpf_iter_uring_buf_next(&iter)) {				\
		bpf_uring_buf_dynptr(&iter, &chunk);			\
		slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);		\
		before;							\
		if (slice)						\
			byte = *slice;					\
		after;							\
	}								\
	bpf_iter_uring_buf_destroy(&iter);				\
	return byte ? 0 : -EIO;						\
}

SLICE(good_slice_next, , bpf_iter_uring_buf_next(&iter))
SLICE(bad_slice_next, bpf_iter_uring_buf_next(&iter), )

CALLBACK(bad_slice_destroy)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	const __u8 *slice;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);
	bpf_iter_uring_buf_destroy(&iter);
	return slice ? *slice : 0;
}

/* The count behind the pointer that next returned, after the next next. */
CALLBACK(good_valid)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int *valid, bytes = 0;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	valid = bpf_iter_uring_buf_next(&iter);
	if (valid)
		bytes = *valid;
	bpf_iter_uring_buf_destroy(&iter);
	return bytes ? 0 : -EIO;
}

CALLBACK(bad_valid)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int *valid;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	valid = bpf_iter_uring_buf_next(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return valid ? *valid : 0;
}

CALLBACK(bad_valid_null)
{
	struct bpf_iter_uring_buf iter;
	USER_BUFFER(desc, data);
	int bytes;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bytes = *bpf_iter_uring_buf_next(&iter);
	bpf_iter_uring_buf_destroy(&iter);
	return bytes ? 0 : -EIO;
}

/* A writable slice, and one past the size that was asked for. */
CALLBACK(good_slice_end)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	const __u8 *slice;
	USER_BUFFER(desc, data);
	int byte = 0;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);
	if (slice)
		byte = slice[7];
	bpf_iter_uring_buf_destroy(&iter);
	return byte ? 0 : -EIO;
}

CALLBACK(bad_slice_end)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	const __u8 *slice;
	USER_BUFFER(desc, data);
	int byte = 0;

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);
	if (slice)
		byte = slice[8];
	bpf_iter_uring_buf_destroy(&iter);
	return byte ? 0 : -EIO;
}

CALLBACK(bad_slice_write)
{
	struct bpf_iter_uring_buf iter;
	struct bpf_dynptr chunk;
	__u8 *slice;
	USER_BUFFER(desc, data);

	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);
	bpf_iter_uring_buf_next(&iter);
	bpf_uring_buf_dynptr(&iter, &chunk);
	slice = bpf_dynptr_slice(&chunk, 0, NULL, 8);
	if (slice)
		*slice = 1;
	bpf_iter_uring_buf_destroy(&iter);
	return 0;
}

/* The pdu, its last word and the one behind; and other members. */
CALLBACK(good_pdu)
{
	*(__u32 *)(data->pdu + 32) = 1;
	return 0;
}

CALLBACK(bad_pdu)
{
	*(volatile __u32 *)(data->pdu + 36) = 1;
	return 0;
}

CALLBACK(bad_opf)
{
	*(volatile __u32 *)&data->opf = 1;
	return 0;
}

/* Iterators where the submitter's memory may not be: elsewhere than issue_fn. */
#define ITERATE(data)							\
	struct bpf_iter_uring_buf iter;					\
	USER_BUFFER(desc, data);					\
									\
	bpf_iter_uring_buf_new(&iter, data, &desc, ITER_SOURCE);	\
	bpf_iter_uring_buf_destroy(&iter)

SEC("struct_ops")
int BPF_PROG(bad_iterator_prep, struct uring_bpf_data *data,
	     const struct io_uring_sqe *sqe)
{
	ITERATE(data);
	return 0;
}

ENDING(bad_iterator_fail)
{
	ITERATE(data);
}

ENDING(bad_iterator_cleanup)
{
	ITERATE(data);
}

SEC("struct_ops")
int BPF_PROG(good_prep, struct uring_bpf_data *data,
	     const struct io_uring_sqe *sqe)
{
	return 0;
}

ENDING(good_fail)
{
	*(__u32 *)data->pdu = 1;
}

ENDING(good_cleanup)
{
	*(__u32 *)data->pdu = 1;
}

#define ISSUE(name)							\
SEC(".struct_ops.link")							\
struct uring_bpf_ops o_##name = { .issue_fn = (void *)name };

ISSUE(good_destroyed) ISSUE(bad_destroyed)
ISSUE(good_branch) ISSUE(bad_branch)
ISSUE(good_twice) ISSUE(bad_twice)
ISSUE(good_next) ISSUE(bad_next) ISSUE(bad_no_new)
ISSUE(good_dynptr_next) ISSUE(bad_dynptr_next) ISSUE(bad_dynptr_destroy)
ISSUE(good_slice_next) ISSUE(bad_slice_next) ISSUE(bad_slice_destroy)
ISSUE(good_valid) ISSUE(bad_valid) ISSUE(bad_valid_null)
ISSUE(good_slice_end) ISSUE(bad_slice_end) ISSUE(bad_slice_write)
ISSUE(good_pdu) ISSUE(bad_pdu) ISSUE(bad_opf)

SEC(".struct_ops.link")
struct uring_bpf_ops o_bad_iterator_prep = { .prep_fn = (void *)bad_iterator_prep };
SEC(".struct_ops.link")
struct uring_bpf_ops o_bad_iterator_fail = { .fail_fn = (void *)bad_iterator_fail };
SEC(".struct_ops.link")
struct uring_bpf_ops o_bad_iterator_cleanup = { .cleanup_fn = (void *)bad_iterator_cleanup };
SEC(".struct_ops.link")
struct uring_bpf_ops o_good_prep = { .prep_fn = (void *)good_prep };
SEC(".struct_ops.link")
struct uring_bpf_ops o_good_fail = { .fail_fn = (void *)good_fail };
SEC(".struct_ops.link")
struct uring_bpf_ops o_good_cleanup = { .cleanup_fn = (void *)good_cleanup };
