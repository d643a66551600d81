/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The chunk loop. A whole page takes the fast path of each program, in place;
 * any other length, the first and last chunk of a segment, the general one.
 *
 * Everything is inlined, so a body given as an argument costs no call, and the
 * counters live in registers: nothing is done per page that can be done per
 * request.
 */
#ifndef URINGBPF_CHUNKS_H
#define URINGBPF_CHUNKS_H

#include "request.h"
#include "words.h"

/* The work of one request, as the bodies see it. */
struct walk {
	struct request *request;
	void *scratch;			/* SCRATCH_SIZE bytes of this slot */
	__u64 position;			/* of the chunk's first byte in the stream */
	__u64 bytes;			/* handled so far */
	__u64 limit;			/* bytes the request is about */
	__u8 *tail;			/* struct stream::tail, in checksums */
	__u64 from_arena;		/* the arena's side, when it has one */
	__u64 to_arena;
	__u64 acc[4];			/* the program's own */
	enum stage stage;		/* of the error that a body returns */
};

/* What is done to a chunk of CHUNK_MAX bytes, and to one of any length. */
typedef int (*page_body)(struct walk *walk, struct bpf_iter_uring_buf *iter);
typedef int (*part_body)(struct walk *walk, struct bpf_iter_uring_buf *iter,
			 __u32 len);

/* The request's slot and scratch page, NULL when the slot is none. */
static __always_inline struct request *start(struct uring_bpf_data *data,
					     struct walk *walk)
{
	struct request *request = request_of(data);

	walk->request = request;
	walk->scratch = scratch_of(data);
	if (!request || !walk->scratch)
		return NULL;
	walk->position = request->position;
	walk->limit = request->len;
	walk->from_arena = request->from_arena;
	walk->to_arena = request->to_arena;
	return request;
}

static __always_inline int iteration_error(struct bpf_iter_uring_buf *iter)
{
	if (!bpf_ksym_exists(bpf_iter_uring_buf_error))
		return 0;
	return bpf_iter_uring_buf_error(iter);
}

static __always_inline bool valid_length(__u32 len)
{
	return len - 1 < CHUNK_MAX;
}

/* The current chunk, to be read. */
static __always_inline int source_chunk(struct walk *walk,
					struct bpf_iter_uring_buf *iter,
					struct bpf_dynptr *chunk)
{
	int error = bpf_uring_buf_dynptr(iter, chunk);

	if (error)
		walk->stage = STAGE_SOURCE_DYNPTR;
	return error;
}

/* The current chunk, to be written. */
static __always_inline int dest_chunk(struct walk *walk,
				      struct bpf_iter_uring_buf *iter,
				      struct bpf_dynptr *chunk)
{
	int error = bpf_uring_buf_dynptr_rdwr(iter, chunk);

	if (error)
		walk->stage = STAGE_DEST_DYNPTR;
	return error;
}

/* Every chunk of one buffer, through page() or part(). */
static __always_inline int for_each_chunk(struct uring_bpf_data *data,
					  struct io_bpf_buf_desc *desc,
					  const int direction, struct walk *walk,
					  page_body page, part_body part)
{
	struct request *request = walk->request;
	const bool dest = direction == ITER_DEST;
	struct bpf_iter_uring_buf iter;
	__u32 chunks = 0;
	int *valid, error;

	walk->stage = STAGE_ACCESS;
	error = bpf_iter_uring_buf_new(&iter, data, desc, direction);
	if (error)
		stop(request, dest ? STAGE_DEST_NEW : STAGE_SOURCE_NEW, error);

	while ((valid = bpf_iter_uring_buf_next(&iter))) {
		__u32 len = *valid;

		if (!valid_length(len)) {
			error = stop(request, STAGE_CHUNK_SIZE, -EIO);
			break;
		}
		error = len == CHUNK_MAX ? page(walk, &iter) :
					   part(walk, &iter, len);
		if (error) {
			stop(request, walk->stage, error);
			break;
		}
		walk->position += len;
		walk->bytes += len;
		chunks++;
	}
	if (!error) {
		error = iteration_error(&iter);
		if (error)
			stop(request, dest ? STAGE_DEST_NEXT :
					     STAGE_SOURCE_NEXT, error);
	}
	bpf_iter_uring_buf_destroy(&iter);
	if (dest)
		request->dest_chunks = chunks;
	else
		request->source_chunks = chunks;
	return error;
}

#endif
