// SPDX-License-Identifier: GPL-2.0
/*
 * Copies: a buffer to the arena, the arena to a buffer, one buffer to another,
 * and within the arena. The source is never written, the destination never
 * read.
 */
#include "arena.h"
#include "check.h"
#include "chunks.h"

/* The arena ends where the request does, whatever the iterator hands out. */
static __always_inline int check_limit(struct walk *walk, __u32 len)
{
	if (walk->bytes + len <= walk->limit)
		return 0;
	walk->stage = STAGE_OVERRUN;
	return -EOVERFLOW;
}

/* By the kernel's own copy. */
static __always_inline int chunk_to_arena(struct walk *walk,
					  struct bpf_iter_uring_buf *iter,
					  __u32 len)
{
	return check_limit(walk, len) ?:
	       bpf_uring_buf_to_arena(iter, 0,
				      (void *)(walk->to_arena + walk->bytes), len);
}

static __always_inline int page_chunk_to_arena(struct walk *walk,
					       struct bpf_iter_uring_buf *iter)
{
	return chunk_to_arena(walk, iter, CHUNK_MAX);
}

static __always_inline int arena_to_chunk(struct walk *walk,
					  struct bpf_iter_uring_buf *iter,
					  __u32 len)
{
	return check_limit(walk, len) ?:
	       bpf_uring_buf_from_arena(iter, 0,
					(void *)(walk->from_arena + walk->bytes),
					len);
}

static __always_inline int arena_to_page_chunk(struct walk *walk,
					       struct bpf_iter_uring_buf *iter)
{
	return arena_to_chunk(walk, iter, CHUNK_MAX);
}

/* Word by word. */
static __always_inline int to_arena_page(struct walk *walk,
					 struct bpf_iter_uring_buf *iter)
{
	struct bpf_dynptr chunk;
	const void *page;
	int error;

	error = check_limit(walk, CHUNK_MAX) ?: source_chunk(walk, iter, &chunk);
	if (error)
		return error;
	page = bpf_dynptr_slice(&chunk, 0, NULL, CHUNK_MAX);
	if (!page)
		return -EIO;
	page_to_arena(walk->to_arena + walk->bytes, page);
	return 0;
}

static __always_inline int to_arena_part(struct walk *walk,
					 struct bpf_iter_uring_buf *iter,
					 __u32 len)
{
	struct bpf_dynptr chunk;
	int error;

	if (len > CHUNK_MAX)
		return -EIO;
	error = check_limit(walk, len) ?: source_chunk(walk, iter, &chunk) ?:
		bpf_dynptr_read(walk->scratch, len, &chunk, 0, 0);
	if (error)
		return error;
	scratch_to_arena(walk->to_arena + walk->bytes, walk->scratch, 0, len);
	return 0;
}

static __always_inline int from_arena_page(struct walk *walk,
					   struct bpf_iter_uring_buf *iter)
{
	struct bpf_dynptr chunk;
	void *page;
	int error;

	error = check_limit(walk, CHUNK_MAX) ?: dest_chunk(walk, iter, &chunk);
	if (error)
		return error;
	page = bpf_dynptr_data(&chunk, 0, CHUNK_MAX);
	if (!page)
		return -EIO;
	arena_to_page(page, walk->from_arena + walk->bytes);
	return 0;
}

static __always_inline int from_arena_part(struct walk *walk,
					   struct bpf_iter_uring_buf *iter,
					   __u32 len)
{
	struct bpf_dynptr chunk;
	int error;

	if (len > CHUNK_MAX)
		return -EIO;
	error = check_limit(walk, len) ?: dest_chunk(walk, iter, &chunk);
	if (error)
		return error;
	arena_to_scratch(walk->scratch, walk->from_arena + walk->bytes, len);
	return bpf_dynptr_write(&chunk, 0, walk->scratch, len, 0);
}

SEC("struct_ops")
int BPF_PROG(to_arena_issue, struct uring_bpf_data *data)
{
	struct walk walk = {};
	struct request *request = start(data, &walk);
	int error;

	if (!request)
		return -EINVAL;
	use_arena();
	if (have_kfunc(bpf_uring_buf_to_arena))
		error = for_each_chunk(data, &request->from, ITER_SOURCE, &walk,
				       page_chunk_to_arena, chunk_to_arena);
	else
		error = for_each_chunk(data, &request->from, ITER_SOURCE, &walk,
				       to_arena_page, to_arena_part);
	return complete(data, request, walk.bytes, error);
}

SEC("struct_ops")
int BPF_PROG(from_arena_issue, struct uring_bpf_data *data)
{
	struct walk walk = {};
	struct request *request = start(data, &walk);
	int error;

	if (!request)
		return -EINVAL;
	use_arena();
	if (have_kfunc(bpf_uring_buf_from_arena))
		error = for_each_chunk(data, &request->to, ITER_DEST, &walk,
				       arena_to_page_chunk, arena_to_chunk);
	else
		error = for_each_chunk(data, &request->to, ITER_DEST, &walk,
				       from_arena_page, from_arena_part);
	return complete(data, request, walk.bytes, error);
}

SEC("struct_ops")
int BPF_PROG(within_arena_issue, struct uring_bpf_data *data)
{
	struct walk walk = {};
	struct request *request = start(data, &walk);
	__u32 pages, rest, i;

	if (!request)
		return -EINVAL;
	use_arena();
	pages = walk.limit / CHUNK_MAX;
	bpf_for(i, 0, pages) {
		page_within_arena(walk.to_arena + walk.bytes,
				  walk.from_arena + walk.bytes);
		walk.bytes += CHUNK_MAX;
	}
	rest = walk.limit & (CHUNK_MAX - 1);
	arena_to_scratch(walk.scratch, walk.from_arena + walk.bytes, rest);
	scratch_to_arena(walk.to_arena + walk.bytes, walk.scratch, 0, rest);
	return complete(data, request, walk.bytes + rest, 0);
}

/* A part of one chunk to a part of another. */
static __always_inline int copy_part(struct request *request,
				     struct bpf_iter_uring_buf *to, __u32 to_at,
				     struct bpf_iter_uring_buf *from,
				     __u32 from_at, __u32 len, const bool kfunc)
{
	struct bpf_dynptr source, dest;
	int error;

	if (kfunc) {
		error = bpf_uring_buf_copy(to, to_at, from, from_at, len);
		return error ? stop(request, STAGE_ACCESS, error) : 0;
	}
	error = bpf_uring_buf_dynptr(from, &source);
	if (error)
		return stop(request, STAGE_SOURCE_DYNPTR, error);
	error = bpf_uring_buf_dynptr_rdwr(to, &dest);
	if (error)
		return stop(request, STAGE_DEST_DYNPTR, error);
	error = bpf_dynptr_copy(&dest, to_at, &source, from_at, len);
	return error ? stop(request, STAGE_ACCESS, error) : 0;
}

/*
 * Two iterators in lockstep. What both have left of their current chunks is
 * copied at once; then the one that is used up goes on, so every turn of the
 * loop takes at least one new chunk. With both at the same place in their
 * pages that is one copy per page.
 */
static __always_inline int copy_between(struct uring_bpf_data *data,
					struct request *request, const bool kfunc)
{
	__u32 from_left, to_left, from_at = 0, to_at = 0;
	__u32 from_chunks = 0, to_chunks = 0;
	struct bpf_iter_uring_buf from, to;
	__u64 bytes = 0;
	int *valid, error, dest_error;

	error = bpf_iter_uring_buf_new(&from, data, &request->from, ITER_SOURCE);
	if (error)
		stop(request, STAGE_SOURCE_NEW, error);
	dest_error = bpf_iter_uring_buf_new(&to, data, &request->to, ITER_DEST);
	if (!error && dest_error)
		error = stop(request, STAGE_DEST_NEW, dest_error);

	valid = bpf_iter_uring_buf_next(&from);
	if (!valid)
		goto out;
	from_left = *valid;
	from_chunks++;
	valid = bpf_iter_uring_buf_next(&to);
	if (!valid)
		goto out;
	to_left = *valid;
	to_chunks++;

	for (;;) {
		__u32 len = from_left < to_left ? from_left : to_left;

		if (!valid_length(len)) {
			error = stop(request, STAGE_CHUNK_SIZE, -EIO);
			break;
		}
		error = copy_part(request, &to, to_at, &from, from_at, len, kfunc);
		if (error)
			break;
		bytes += len;

		if (from_left > to_left) {
			from_left -= len;
			from_at += len;
		} else {
			bool both = from_left == to_left;

			to_left -= len;
			to_at += len;
			valid = bpf_iter_uring_buf_next(&from);
			if (!valid)
				break;
			from_left = *valid;
			from_at = 0;
			from_chunks++;
			if (!both)
				continue;
		}
		valid = bpf_iter_uring_buf_next(&to);
		if (!valid)
			break;
		to_left = *valid;
		to_at = 0;
		to_chunks++;
	}
out:
	if (!error) {
		error = iteration_error(&from);
		if (error)
			stop(request, STAGE_SOURCE_NEXT, error);
	}
	if (!error) {
		error = iteration_error(&to);
		if (error)
			stop(request, STAGE_DEST_NEXT, error);
	}
	bpf_iter_uring_buf_destroy(&to);
	bpf_iter_uring_buf_destroy(&from);
	request->source_chunks = from_chunks;
	request->dest_chunks = to_chunks;
	return complete(data, request, bytes, error);
}

SEC("struct_ops")
int BPF_PROG(between_issue, struct uring_bpf_data *data)
{
	struct request *request = request_of(data);

	if (!request)
		return -EINVAL;
	if (have_kfunc(bpf_uring_buf_copy))
		return copy_between(data, request, 1);
	return copy_between(data, request, 0);
}

#define COPY(name)							\
SEC(".struct_ops.link")							\
struct uring_bpf_ops name = {						\
	.prep_fn = (void *)prep,					\
	.issue_fn = (void *)name##_issue,				\
};

COPY(to_arena)
COPY(from_arena)
COPY(within_arena)
COPY(between)
COPY(check)
