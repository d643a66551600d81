// SPDX-License-Identifier: GPL-2.0
/*
 * Copies: a buffer to the arena, the arena to a buffer, one buffer to another,
 * and within the arena. The source is never written, the destination never
 * read.
 */
#include "arena.h"
#include "check.h"
#include "chunks.h"

static __always_inline int to_arena_page(struct walk *walk,
					 struct bpf_dynptr *chunk)
{
	const void *page = bpf_dynptr_slice(chunk, 0, NULL, CHUNK_MAX);

	if (!page)
		return -EIO;
	if (walk->bytes + CHUNK_MAX > walk->limit)
		return -EOVERFLOW;
	page_to_arena(walk->to_arena + walk->bytes, page);
	return 0;
}

static __always_inline int to_arena_part(struct walk *walk,
					 struct bpf_dynptr *chunk, __u32 len)
{
	int error;

	if (len > CHUNK_MAX)
		return -EIO;
	if (walk->bytes + len > walk->limit)
		return -EOVERFLOW;
	error = bpf_dynptr_read(walk->scratch, len, chunk, 0, 0);
	if (error)
		return error;
	scratch_to_arena(walk->to_arena + walk->bytes, walk->scratch, 0, len);
	return 0;
}

static __always_inline int from_arena_page(struct walk *walk,
					   struct bpf_dynptr *chunk)
{
	void *page = bpf_dynptr_data(chunk, 0, CHUNK_MAX);

	if (!page)
		return -EIO;
	if (walk->bytes + CHUNK_MAX > walk->limit)
		return -EOVERFLOW;
	arena_to_page(page, walk->from_arena + walk->bytes);
	return 0;
}

static __always_inline int from_arena_part(struct walk *walk,
					   struct bpf_dynptr *chunk, __u32 len)
{
	if (len > CHUNK_MAX)
		return -EIO;
	if (walk->bytes + len > walk->limit)
		return -EOVERFLOW;
	arena_to_scratch(walk->scratch, walk->from_arena + walk->bytes, len);
	return bpf_dynptr_write(chunk, 0, walk->scratch, len, 0);
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
	error = for_each_chunk(data, &request->to, ITER_DEST, &walk,
			       from_arena_page, from_arena_part);
	return complete(data, request, walk.bytes, error);
}

SEC("struct_ops")
int BPF_PROG(within_arena_issue, struct uring_bpf_data *data)
{
	struct walk walk = {};
	struct request *request = start(data, &walk);
	__u32 pages, i;

	if (!request)
		return -EINVAL;
	use_arena();
	pages = pages_of(walk.limit);
	bpf_for(i, 0, pages) {
		__u64 left = walk.limit - walk.bytes;
		__u32 len = left < CHUNK_MAX ? left : CHUNK_MAX;

		arena_to_scratch(walk.scratch, walk.from_arena + walk.bytes, len);
		scratch_to_arena(walk.to_arena + walk.bytes, walk.scratch, 0, len);
		walk.bytes += len;
	}
	return complete(data, request, walk.bytes, 0);
}

/*
 * Two iterators in lockstep. What both have left of their current chunks is
 * copied at once; then the one that is used up goes on, so every turn of the
 * loop takes at least one new chunk. With both at the same place in their
 * pages that is one copy per page.
 */
SEC("struct_ops")
int BPF_PROG(between_issue, struct uring_bpf_data *data)
{
	__u32 from_left, to_left, from_at = 0, to_at = 0;
	__u32 from_chunks = 0, to_chunks = 0;
	struct bpf_iter_uring_buf from, to;
	struct bpf_dynptr source, dest;
	struct walk walk = {};
	struct request *request = start(data, &walk);
	__u64 bytes = 0;
	int *valid, error, dest_error;

	if (!request)
		return -EINVAL;
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
		error = bpf_uring_buf_dynptr(&from, &source);
		if (error) {
			stop(request, STAGE_SOURCE_DYNPTR, error);
			break;
		}
		error = bpf_uring_buf_dynptr_rdwr(&to, &dest);
		if (error) {
			stop(request, STAGE_DEST_DYNPTR, error);
			break;
		}
		error = bpf_dynptr_copy(&dest, to_at, &source, from_at, len);
		if (error) {
			stop(request, STAGE_ACCESS, error);
			break;
		}
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
