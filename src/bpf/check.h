/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the interface must refuse, tried in one small request: a kernel that
 * lost one of these checks copies every byte right and is still wrong.
 */
#ifndef URINGBPF_CHECK_H
#define URINGBPF_CHECK_H

#include "arena.h"
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

/* What each attempt of `refuse` came to. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, ATTEMPTS);
	__type(key, __u32);
	__type(value, __s64);
} attempts SEC(".maps");

static __always_inline void tried(__u32 attempt, __s64 result)
{
	__s64 *entry = bpf_map_lookup_elem(&attempts, &attempt);

	if (entry)
		*entry = result;
}

/*
 * Every way to write through a dynptr that is for reading, in the order of
 * enum attempt. What is written is not what is there.
 */
static __always_inline void write_read_only(struct bpf_iter_uring_buf *iter,
					    __u32 attempt)
{
	struct bpf_dynptr chunk;
	__u8 byte = 0;

	if (bpf_uring_buf_dynptr(iter, &chunk))
		return;
	if (bpf_dynptr_read(&byte, 1, &chunk, 0, 0))
		return;
	byte = ~byte;
	tried(attempt, bpf_dynptr_write(&chunk, 0, &byte, 1, 0));
	tried(attempt + 1, bpf_dynptr_memset(&chunk, 0, 1, byte));
	tried(attempt + 2, bpf_dynptr_copy(&chunk, 0, &chunk, 1, 64));
	tried(attempt + 3, bpf_dynptr_data(&chunk, 0, 1) ? 1 : 0);
}

/* The kfuncs for whole chunks: both iterators are at one, none is at none. */
static __always_inline void try_chunks(struct request *request,
				       struct bpf_iter_uring_buf *to,
				       struct bpf_iter_uring_buf *from,
				       struct bpf_iter_uring_buf *none, __u32 len)
{
	void *to_arena = (void *)request->to_arena;
	void *from_arena = (void *)request->from_arena;
	__u64 lanes[4] = {};

	if (have_kfunc(bpf_uring_buf_copy)) {
		tried(TRY_COPY, bpf_uring_buf_copy(to, 0, from, 0, len));
		tried(TRY_COPY_TO_END, bpf_uring_buf_copy(to, 1, from, 0, len));
		tried(TRY_COPY_FROM_END, bpf_uring_buf_copy(to, 0, from, 1, len));
		tried(TRY_COPY_BEHIND,
		      bpf_uring_buf_copy(to, len + 1, from, 0, 0));
		tried(TRY_COPY_WRAPS, bpf_uring_buf_copy(to, -1, from, 0, 2));
		tried(TRY_COPY_TO_SOURCE, bpf_uring_buf_copy(from, 0, from, 1, 1));
		tried(TRY_COPY_TO_NONE, bpf_uring_buf_copy(none, 0, from, 0, 1));
		tried(TRY_COPY_FROM_NONE, bpf_uring_buf_copy(to, 0, none, 0, 1));
	}
	if (have_kfunc(bpf_uring_buf_to_arena)) {
		tried(TRY_TO_ARENA_END,
		      bpf_uring_buf_to_arena(from, 1, to_arena, len));
		tried(TRY_TO_ARENA_WRAPS,
		      bpf_uring_buf_to_arena(from, -1, to_arena, 2));
		tried(TRY_TO_ARENA_NONE,
		      bpf_uring_buf_to_arena(none, 0, to_arena, 1));
	}
	if (have_kfunc(bpf_uring_buf_from_arena)) {
		tried(TRY_FROM_ARENA_END,
		      bpf_uring_buf_from_arena(to, 1, from_arena, len));
		tried(TRY_FROM_ARENA_WRAPS,
		      bpf_uring_buf_from_arena(to, -1, from_arena, 2));
		tried(TRY_FROM_ARENA_SOURCE,
		      bpf_uring_buf_from_arena(from, 0, from_arena, 1));
		tried(TRY_FROM_ARENA_NONE,
		      bpf_uring_buf_from_arena(none, 0, from_arena, 1));
	}
	if (have_kfunc(bpf_uring_buf_fill)) {
		tried(TRY_FILL_SOURCE, bpf_uring_buf_fill(from, 0));
		tried(TRY_FILL_NONE, bpf_uring_buf_fill(none, 0));
	}
	if (have_kfunc(bpf_uring_buf_crc32c))
		tried(TRY_CRC32C_NONE, bpf_uring_buf_crc32c(none, CHUNK_MAX));
	if (have_kfunc(bpf_uring_buf_xxh64)) {
		tried(TRY_XXH64_BEHIND,
		      bpf_uring_buf_xxh64(from, len + 1, lanes, sizeof(lanes)));
		tried(TRY_XXH64_LANES,
		      bpf_uring_buf_xxh64(from, 0, lanes, 3 * sizeof(*lanes)));
		tried(TRY_XXH64_NONE,
		      bpf_uring_buf_xxh64(none, 0, lanes, sizeof(lanes)));
	}
}

static __always_inline __u64 bytes_left(struct bpf_iter_uring_buf *iter)
{
	__u64 bytes = 0;
	int *valid;

	while ((valid = bpf_iter_uring_buf_next(iter)))
		bytes += *valid;
	return bytes;
}

/*
 * The buffers stay as they are. An error is the request's own: nothing of it
 * could be tried.
 */
static __always_inline int try_all(struct uring_bpf_data *data)
{
	struct request *request = request_of(data);
	__u32 rdwr = 0, rdonly = 0, len, first;
	struct bpf_iter_uring_buf from, to, none;
	struct io_bpf_buf_desc desc = {};
	struct bpf_dynptr chunk;
	int *valid, error;

	if (!request)
		return -EINVAL;
	use_arena();
	desc.type = 5;
	barrier_var(desc.type);
	tried(TRY_UNOPENED_NEW,
	      bpf_iter_uring_buf_new(&none, data, &desc, ITER_DEST));
	tried(TRY_UNOPENED_NEXT, bpf_iter_uring_buf_next(&none) ? 1 : 0);
	tried(TRY_UNOPENED_DYNPTR, bpf_uring_buf_dynptr(&none, &chunk));
	tried(TRY_UNOPENED_RDWR, bpf_uring_buf_dynptr_rdwr(&none, &chunk));
	tried(TRY_UNOPENED_ERROR, iteration_error(&none));
	bpf_iter_uring_buf_destroy(&none);

	error = bpf_iter_uring_buf_new(&from, data, &request->from, ITER_SOURCE);
	if (error)
		stop(request, STAGE_SOURCE_NEW, error);
	valid = bpf_iter_uring_buf_next(&from);
	first = valid ? *valid : 0;
	tried(TRY_SECOND_TYPE,
	      bpf_iter_uring_buf_new(&none, data, &desc, ITER_DEST));
	bpf_iter_uring_buf_destroy(&none);
	/* FIXED, in a slot past every table. */
	desc.type = 1;
	desc.buf_index = 0xffff;
	barrier_var(desc.type);
	tried(TRY_SECOND_SLOT,
	      bpf_iter_uring_buf_new(&none, data, &desc, ITER_DEST));

	/* The one that did not open stays in use: it is at no chunk. */
	if (!error) {
		error = bpf_iter_uring_buf_new(&to, data, &request->to, ITER_DEST);
		if (error)
			stop(request, STAGE_DEST_NEW, error);
		else
			tried(TRY_RDWR_NO_CHUNK,
			      bpf_uring_buf_dynptr_rdwr(&to, &chunk));
		valid = bpf_iter_uring_buf_next(&to);
		if (valid && first) {
			len = *valid;
			write_read_only(&from, TRY_SOURCE_WRITE);
			write_read_only(&to, TRY_DEST_WRITE);
			try_chunks(request, &to, &from, &none, len);
		}
		while (valid) {
			if (bpf_uring_buf_dynptr_rdwr(&to, &chunk) ||
			    bpf_dynptr_size(&chunk) != *valid)
				rdwr++;
			if (bpf_uring_buf_dynptr(&to, &chunk) ||
			    bpf_dynptr_size(&chunk) != *valid)
				rdonly++;
			valid = bpf_iter_uring_buf_next(&to);
		}
		if (!error) {
			tried(TRY_RDWR_SIZE, rdwr);
			tried(TRY_RDONLY_SIZE, rdonly);
			tried(TRY_DYNPTR_AT_END, bpf_uring_buf_dynptr(&to, &chunk));
			tried(TRY_RDWR_AT_END,
			      bpf_uring_buf_dynptr_rdwr(&to, &chunk));
			tried(TRY_NEXT_AT_END,
			      bpf_iter_uring_buf_next(&to) ? 1 : 0);
			error = iteration_error(&to);
			if (error)
				stop(request, STAGE_DEST_NEXT, error);
		}
		bpf_iter_uring_buf_destroy(&to);
	}
	bpf_iter_uring_buf_destroy(&none);
	tried(TRY_FIRST_BYTES, first + bytes_left(&from));
	if (!error) {
		error = iteration_error(&from);
		if (error)
			stop(request, STAGE_SOURCE_NEXT, error);
	}
	bpf_iter_uring_buf_destroy(&from);
	return complete(data, request, 0, error);
}

SEC("struct_ops")
int BPF_PROG(refuse_issue, struct uring_bpf_data *data)
{
	return try_all(data);
}

/* Never sleepable: the loader makes those so whose names end in _issue. */
SEC("struct_ops")
int BPF_PROG(refuse_atomic, struct uring_bpf_data *data)
{
	return try_all(data);
}

SEC(".struct_ops.link")
struct uring_bpf_ops refuse = {
	.prep_fn = (void *)prep,
	.issue_fn = (void *)refuse_issue,
};

SEC(".struct_ops.link")
struct uring_bpf_ops refuse_at_once = {
	.prep_fn = (void *)prep,
	.issue_fn = (void *)refuse_atomic,
};

#endif
