// SPDX-License-Identifier: GPL-2.0
/*
 * Checksums of a buffer or of a part of the arena, exact for any split into
 * chunks and any split of a stream into requests: what one request leaves
 * unfinished, the next one of the same stream takes up.
 */
#include "arena.h"
#include "chunks.h"

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct stream);
} streams SEC(".maps");

/*
 * A checksum: where it starts, what a whole page and what fewer bytes do to
 * it, and the digest it has come to. `page` and `bytes` point to memory that
 * can be read in place.
 */
struct algorithm {
	void (*init)(__u64 acc[4]);
	void (*page)(struct walk *walk, const void *page);
	void (*bytes)(struct walk *walk, const void *bytes, __u32 len);
	__u64 (*digest)(struct walk *walk);
};

#include "crc32c.h"
#include "adler32.h"
#include "xor64.h"
#include "xxh64.h"

static __always_inline int take_page(struct walk *walk,
				     struct bpf_iter_uring_buf *iter,
				     const struct algorithm algorithm)
{
	struct bpf_dynptr chunk;
	const void *page;
	int error;

	error = source_chunk(walk, iter, &chunk);
	if (error)
		return error;
	page = bpf_dynptr_slice(&chunk, 0, NULL, CHUNK_MAX);
	if (!page)
		return -EIO;
	algorithm.page(walk, page);
	return 0;
}

static __always_inline int take_part(struct walk *walk,
				     struct bpf_iter_uring_buf *iter, __u32 len,
				     const struct algorithm algorithm)
{
	struct bpf_dynptr chunk;
	int error;

	if (len > CHUNK_MAX)
		return -EIO;
	error = source_chunk(walk, iter, &chunk) ?:
		bpf_dynptr_read(walk->scratch, len, &chunk, 0, 0);
	if (error)
		return error;
	algorithm.bytes(walk, walk->scratch, len);
	return 0;
}

static __always_inline void take_arena(struct walk *walk,
				       const struct algorithm algorithm)
{
	__u32 pages = walk->limit / CHUNK_MAX, rest, i;

	use_arena();
	bpf_for(i, 0, pages) {
		arena_to_page(walk->scratch, walk->from_arena + walk->bytes);
		/* Or a page of values is kept on the stack. */
		barrier();
		algorithm.page(walk, walk->scratch);
		walk->position += CHUNK_MAX;
		walk->bytes += CHUNK_MAX;
	}
	rest = walk->limit & (CHUNK_MAX - 1);
	arena_to_scratch(walk->scratch, walk->from_arena + walk->bytes, rest);
	algorithm.bytes(walk, walk->scratch, rest);
	walk->position += rest;
	walk->bytes += rest;
}

/* The stream's state, at its start or where the request before left it. */
static __always_inline struct stream *resume(struct request *request,
					     struct walk *walk,
					     const struct algorithm algorithm)
{
	struct stream *stream = bpf_map_lookup_elem(&streams, &request->stream);
	int i;

	if (!stream)
		return NULL;
	if (!request->position)
		algorithm.init(stream->acc);
	for (i = 0; i < 4; i++)
		walk->acc[i] = stream->acc[i];
	walk->tail = stream->tail;
	return stream;
}

static __always_inline int checksum(struct uring_bpf_data *data,
				    const struct algorithm algorithm,
				    page_body page, part_body part)
{
	struct walk walk = {};
	struct request *request = start(data, &walk);
	struct stream *stream;
	int error = 0, i;

	if (!request)
		return -EINVAL;
	stream = resume(request, &walk, algorithm);
	if (!stream)
		return -EINVAL;
	if (request->position && request->position != stream->position) {
		error = stop(request, STAGE_ORDER, -ESTALE);
		return complete(data, request, 0, error);
	}
	if (page)
		error = for_each_chunk(data, &request->from, ITER_SOURCE, &walk,
				       page, part);
	else
		take_arena(&walk, algorithm);
	for (i = 0; i < 4; i++)
		stream->acc[i] = walk.acc[i];
	stream->position = walk.position;
	request->digest = algorithm.digest(&walk);
	return complete(data, request, walk.bytes, error);
}

#define BODIES(name)							\
static __always_inline int name##_take_page(struct walk *walk,		\
				     struct bpf_iter_uring_buf *iter)	\
{									\
	return take_page(walk, iter, name##_algorithm);			\
}									\
									\
static __always_inline int name##_take_part(struct walk *walk,		\
				     struct bpf_iter_uring_buf *iter,	\
				     __u32 len)				\
{									\
	return take_part(walk, iter, len, name##_algorithm);		\
}

#define ISSUE(name, algorithm, page, part)				\
SEC("struct_ops")							\
int BPF_PROG(name##_issue, struct uring_bpf_data *data)		\
{									\
	return checksum(data, algorithm, page, part);			\
}									\
									\
SEC(".struct_ops.link")							\
struct uring_bpf_ops name = {						\
	.prep_fn = (void *)prep,					\
	.issue_fn = (void *)name##_issue,				\
};

#define CHECKSUM(name)							\
ISSUE(name, name##_algorithm, name##_take_page, name##_take_part)	\
ISSUE(name##_arena, name##_algorithm, NULL, NULL)

BODIES(crc32c)
BODIES(xxh64)
BODIES(adler32)
BODIES(xor64)

CHECKSUM(adler32)
CHECKSUM(xor64)
ISSUE(crc32c_arena, crc32c_algorithm, NULL, NULL)
ISSUE(xxh64_arena, xxh64_algorithm, NULL, NULL)
/* Whatever the kernel offers: what bench compares with. */
ISSUE(crc32c_by_table, crc32c_algorithm, crc32c_take_page, crc32c_take_part)

/* By the kernel's own where it has one to offer. */
static __always_inline int crc32c_by_kernel_part(struct walk *walk,
						 struct bpf_iter_uring_buf *iter,
						 __u32 len)
{
	walk->acc[0] = bpf_uring_buf_crc32c(iter, walk->acc[0]);
	return 0;
}

static __always_inline int crc32c_by_kernel_page(struct walk *walk,
						 struct bpf_iter_uring_buf *iter)
{
	return crc32c_by_kernel_part(walk, iter, CHUNK_MAX);
}

SEC("struct_ops")
int BPF_PROG(crc32c_issue, struct uring_bpf_data *data)
{
	if (have_kfunc(bpf_uring_buf_crc32c))
		return checksum(data, crc32c_algorithm, crc32c_by_kernel_page,
				crc32c_by_kernel_part);
	return checksum(data, crc32c_algorithm, crc32c_take_page,
			crc32c_take_part);
}

SEC(".struct_ops.link")
struct uring_bpf_ops crc32c = {
	.prep_fn = (void *)prep,
	.issue_fn = (void *)crc32c_issue,
};

/* The whole stripes from `off` on, which in a page with a tail is not 0. */
static __always_inline int xxh64_by_kernel(struct walk *walk,
					   struct bpf_iter_uring_buf *iter,
					   __u32 off, int len)
{
	int taken = bpf_uring_buf_xxh64(iter, off, walk->acc, sizeof(walk->acc));

	if (taken == len)
		return 0;
	walk->stage = STAGE_ACCESS;
	return taken < 0 ? taken : -EIO;
}

static __always_inline int xxh64_by_kernel_page(struct walk *walk,
						struct bpf_iter_uring_buf *iter)
{
	__u32 held = walk->position & (STRIPE - 1);
	struct bpf_dynptr chunk;
	const void *page;
	int error;

	if (!held)
		return xxh64_by_kernel(walk, iter, 0, CHUNK_MAX);
	error = source_chunk(walk, iter, &chunk);
	if (error)
		return error;
	page = bpf_dynptr_slice(&chunk, 0, NULL, CHUNK_MAX);
	if (!page)
		return -EIO;
	xxh64_keep(walk->tail, held, page, 0, STRIPE - held);
	xxh64_stripes(walk->acc, walk->tail, 1);
	error = xxh64_by_kernel(walk, iter, STRIPE - held, CHUNK_MAX - STRIPE);
	if (!error)
		xxh64_keep(walk->tail, 0, page, CHUNK_MAX - held, held);
	return error;
}

SEC("struct_ops")
int BPF_PROG(xxh64_issue, struct uring_bpf_data *data)
{
	if (have_kfunc(bpf_uring_buf_xxh64))
		return checksum(data, xxh64_algorithm, xxh64_by_kernel_page,
				xxh64_take_part);
	return checksum(data, xxh64_algorithm, xxh64_take_page,
			xxh64_take_part);
}

SEC(".struct_ops.link")
struct uring_bpf_ops xxh64 = {
	.prep_fn = (void *)prep,
	.issue_fn = (void *)xxh64_issue,
};
