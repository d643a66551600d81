// SPDX-License-Identifier: GPL-2.0
/*
 * The requests of a block device: a checksum for each block, computed when it
 * is written and compared when it is read. The pages of a request are chunks
 * of any multiple of 512 bytes, so a block may lie in several of them: it is
 * put together in the slot's scratch then. A block that is one whole page is
 * worked on in place.
 *
 * With parity, the XOR of a group of blocks, a write takes the old block out of
 * its group's and puts the new one in. The old blocks are compared with their
 * checksums first: what a bad one would take out was never in. Nothing is
 * changed before all are compared, so the request may be run again then.
 */
#include "arena.h"
#include "chunks.h"

/* As in checksum.bpf.c; a block is one call of page() or bytes(). */
struct algorithm {
	void (*init)(__u64 acc[4]);
	void (*page)(struct walk *walk, const void *page);
	void (*bytes)(struct walk *walk, const void *bytes, __u32 len);
	__u64 (*digest)(struct walk *walk);
};

#include "crc32c.h"
#include "xxh64.h"

/*
 * Room for two blocks: that a piece of one ends where the block does, the
 * verifier does not see.
 */
struct assembly {
	__u8 bytes[2 * CHUNK_MAX];
	__u8 tail[64];
	__u64 digest;			/* of the block in `bytes` */
};

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct assembly);
} assemblies SEC(".maps");

/* The checksum of every block, one map for all queues of a device. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, 1);		/* blocks */
	__type(key, __u32);
	__type(value, __u64);
} sums SEC(".maps");

/* Those of the blocks that a slot's request is about to write. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, 1);		/* slots * blocks of a request */
	__type(key, __u32);
	__type(value, __u64);
} written SEC(".maps");

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct parity);
} parities SEC(".maps");

/*
 * What is done to a block that was put together, in global functions: they are
 * verified by themselves, not anew for every turn of the loops around them.
 */
static __always_inline int sum_assembly(__u32 slot, __u32 size,
					const struct algorithm algorithm)
{
	struct assembly *assembly = bpf_map_lookup_elem(&assemblies, &slot);
	struct walk walk = {};

	if (!assembly || !valid_length(size))
		return -ERANGE;
	walk.tail = assembly->tail;
	algorithm.init(walk.acc);
	algorithm.bytes(&walk, assembly->bytes, size);
	walk.position = size;
	assembly->digest = algorithm.digest(&walk);
	return 0;
}

__noinline int assembly_crc32c(__u32 slot, __u32 size)
{
	return sum_assembly(slot, size, crc32c_algorithm);
}

__noinline int assembly_xxh64(__u32 slot, __u32 size)
{
	return sum_assembly(slot, size, xxh64_algorithm);
}

__noinline int assembly_to_arena(__u32 slot, __u64 address, __u32 size)
{
	struct assembly *assembly = bpf_map_lookup_elem(&assemblies, &slot);

	if (!assembly || !valid_length(size))
		return -ERANGE;
	use_arena();
	scratch_to_arena(address, assembly->bytes, 0, size);
	return 0;
}

__noinline int arena_to_assembly(__u32 slot, __u64 address, __u32 size)
{
	struct assembly *assembly = bpf_map_lookup_elem(&assemblies, &slot);

	if (!assembly || !valid_length(size))
		return -ERANGE;
	use_arena();
	arena_to_scratch(assembly->bytes, address, size);
	return 0;
}

/* Takes the old block in the arena out of the parity there, and this one in. */
__noinline int assembly_to_parity(__u32 slot, __u64 parity, __u64 old, __u32 size)
{
	struct assembly *assembly = bpf_map_lookup_elem(&assemblies, &slot);
	__u32 at, i;

	if (!assembly)
		return -ERANGE;
	use_arena();
	bpf_for(at, 0, size / 512) {
		const __u64 *new;

		if (at >= CHUNK_MAX / 512)
			return -ERANGE;
		new = (const __u64 *)(assembly->bytes + at * 512);
#pragma clang loop unroll(full)
		for (i = 0; i < 512 / 8; i++)
			arena_words(parity + at * 512)[i] ^=
				arena_words(old + at * 512)[i] ^ new[i];
	}
	return 0;
}

typedef int (*assembly_sum)(__u32 slot, __u32 size);

enum mode {
	SUM,		/* note the checksums of what will be written */
	SUM_PARITY,	/* and get it into the parity; the old blocks are in the arena */
	STORE,		/* copy to the arena, keep the checksums */
	STORE_PARITY,	/* and get it into the parity */
	VERIFY,		/* compare what was read */
	FETCH,		/* copy from the arena, and compare */
};

static __always_inline bool sums_only(const enum mode mode)
{
	return mode == SUM || mode == SUM_PARITY;
}

static __always_inline bool stores(const enum mode mode)
{
	return mode == STORE || mode == STORE_PARITY;
}

static __always_inline bool keeps_parity(const enum mode mode)
{
	return mode == SUM_PARITY || mode == STORE_PARITY;
}

struct blocks {
	struct request *request;
	struct assembly *assembly;
	__u64 block;			/* the current one, on the device */
	__u64 arena;			/* its address there, or the old one's */
	__u64 parity;			/* the address of its group's parity */
	__u32 group;			/* blocks of a group */
	__u32 member;			/* which of them it is */
	__u32 slot;
	__u32 size;			/* bytes of a block */
	__u32 filled;			/* of the current one */
	__u32 entry;			/* of the current one in `written` */
};

/* A block is complete: does with its checksum what is to do. */
static __always_inline int finish_block(struct blocks *blocks, __u64 digest,
					const enum mode mode)
{
	__u32 key = sums_only(mode) ? blocks->entry : blocks->block;
	__u64 *sum;

	if (sums_only(mode))
		sum = bpf_map_lookup_elem(&written, &key);
	else
		sum = bpf_map_lookup_elem(&sums, &key);
	if (!sum)
		return -ERANGE;
	if (sums_only(mode) || stores(mode)) {
		*sum = digest;
	} else if (*sum != digest) {
		blocks->request->digest = digest;
		return stop(blocks->request, STAGE_BLOCK, -EIO);
	}
	blocks->block++;
	if (keeps_parity(mode) && ++blocks->member >= blocks->group) {
		blocks->member = 0;
		blocks->parity += blocks->size;
	}
	blocks->entry++;
	blocks->arena += blocks->size;
	return 0;
}

static __always_inline int finish_page(struct blocks *blocks, const void *page,
				       const enum mode mode,
				       const struct algorithm algorithm)
{
	struct walk walk = { .tail = blocks->assembly->tail };

	algorithm.init(walk.acc);
	algorithm.page(&walk, page);
	walk.position = CHUNK_MAX;
	return finish_block(blocks, algorithm.digest(&walk), mode);
}

static __always_inline int finish_assembly(struct blocks *blocks,
					   const enum mode mode,
					   assembly_sum assembly_sum)
{
	int error = assembly_sum(blocks->slot, blocks->size);

	if (error)
		return error;
	return finish_block(blocks, blocks->assembly->digest, mode);
}

static __always_inline int take_page(struct blocks *blocks,
				     struct bpf_dynptr *chunk,
				     const enum mode mode,
				     const struct algorithm algorithm)
{
	const void *page;
	void *dest;

	if (mode == FETCH) {
		dest = bpf_dynptr_data(chunk, 0, CHUNK_MAX);
		if (!dest)
			return -EIO;
		arena_to_page(dest, blocks->arena);
		/* Or a page of values is kept on the stack. */
		barrier();
		return finish_page(blocks, dest, mode, algorithm);
	}
	page = bpf_dynptr_slice(chunk, 0, NULL, CHUNK_MAX);
	if (!page)
		return -EIO;
	if (mode == STORE) {
		page_to_arena(blocks->arena, page);
		barrier();
	}
	return finish_page(blocks, page, mode, algorithm);
}

/* The next part of a block that lies in one chunk: `len` bytes from `at`. */
static __always_inline int take_piece(struct blocks *blocks,
				      struct bpf_dynptr *chunk, __u32 at,
				      __u32 len, const enum mode mode,
				      assembly_sum assembly_sum)
{
	__u8 *bytes = blocks->assembly->bytes;
	__u32 filled = blocks->filled;
	int error;

	if (filled >= CHUNK_MAX || !valid_length(len))
		return -ERANGE;
	if (mode == FETCH && !filled) {
		error = arena_to_assembly(blocks->slot, blocks->arena,
					  blocks->size);
		if (!error)
			error = finish_assembly(blocks, mode, assembly_sum);
		if (error)
			return error;
	}
	if (mode == FETCH)
		error = bpf_dynptr_write(chunk, at, bytes + filled, len, 0);
	else
		error = bpf_dynptr_read(bytes + filled, len, chunk, at, 0);
	if (error)
		return error;
	filled += len;
	if (filled < blocks->size) {
		blocks->filled = filled;
		return 0;
	}
	blocks->filled = 0;
	if (mode == FETCH)
		return 0;
	if (keeps_parity(mode)) {
		error = assembly_to_parity(blocks->slot, blocks->parity,
					   blocks->arena, blocks->size);
		if (error)
			return error;
	}
	if (stores(mode)) {
		error = assembly_to_arena(blocks->slot, blocks->arena,
					  blocks->size);
		if (error)
			return error;
	}
	return finish_assembly(blocks, mode, assembly_sum);
}

static __always_inline int take_chunk(struct blocks *blocks,
				      struct bpf_dynptr *chunk, __u32 len,
				      const enum mode mode,
				      const struct algorithm algorithm,
				      assembly_sum assembly_sum)
{
	__u32 at = 0, turn;
	int error;

	if (!keeps_parity(mode) && len == CHUNK_MAX &&
	    blocks->size == CHUNK_MAX && !blocks->filled)
		return take_page(blocks, chunk, mode, algorithm);
	/* No more pieces than sectors in a page. */
	bpf_for(turn, 0, CHUNK_MAX / 512 + 1) {
		__u32 piece = blocks->size - blocks->filled;

		if (at >= len)
			break;
		if (piece > len - at)
			piece = len - at;
		error = take_piece(blocks, chunk, at, piece, mode, assembly_sum);
		if (error)
			return error;
		at += piece;
	}
	return at == len ? 0 : -ERANGE;
}

/* Finds the parity of the request's blocks, if the old ones are not bad. */
static __always_inline int begin_parity(struct blocks *blocks,
					assembly_sum assembly_sum)
{
	struct parity *parity = bpf_map_lookup_elem(&parities, &blocks->slot);
	__u64 first = blocks->block;
	__u32 i;

	if (!parity || !parity->group || !blocks->size)
		return stop(blocks->request, STAGE_ACCESS, -EINVAL);
	blocks->parity = parity->blocks;
	blocks->group = parity->group;
	blocks->member = first % parity->group;
	if (parity->unchecked)
		return 0;
	bpf_for(i, 0, blocks->request->len / blocks->size) {
		__u32 key = first + i;
		__u64 *sum = bpf_map_lookup_elem(&sums, &key);
		int error;

		error = arena_to_assembly(blocks->slot,
					  blocks->arena + i * (__u64)blocks->size,
					  blocks->size);
		if (!error)
			error = assembly_sum(blocks->slot, blocks->size);
		if (error || !sum)
			return stop(blocks->request, STAGE_ACCESS, -ERANGE);
		if (*sum != blocks->assembly->digest) {
			blocks->block = first + i;
			blocks->request->digest = blocks->assembly->digest;
			return stop(blocks->request, STAGE_BLOCK, -EIO);
		}
	}
	return 0;
}

static __always_inline int take_request(struct uring_bpf_data *data,
					const enum mode mode,
					const struct algorithm algorithm,
					assembly_sum assembly_sum)
{
	/* A read's pages are a destination; they can be looked at, too. */
	const bool read = mode == VERIFY || mode == FETCH;
	struct request *request = request_of(data);
	struct bpf_iter_uring_buf iter;
	struct blocks blocks = {};
	struct bpf_dynptr chunk;
	__u64 bytes = 0;
	int *valid, error;

	blocks.slot = slot_of(data);
	blocks.assembly = bpf_map_lookup_elem(&assemblies, &blocks.slot);
	if (!request || !blocks.assembly)
		return -EINVAL;
	blocks.request = request;
	blocks.block = request->position;
	blocks.size = request->word;
	blocks.entry = request->stream;
	blocks.arena = request->to_arena;

	if (keeps_parity(mode)) {
		error = begin_parity(&blocks, assembly_sum);
		if (error)
			goto out;
	}
	error = bpf_iter_uring_buf_new(&iter, data,
				       read ? &request->to : &request->from,
				       read ? ITER_DEST : ITER_SOURCE);
	if (error)
		stop(request, read ? STAGE_DEST_NEW : STAGE_SOURCE_NEW, error);
	while ((valid = bpf_iter_uring_buf_next(&iter))) {
		__u32 len = *valid;

		if (!valid_length(len)) {
			error = stop(request, STAGE_CHUNK_SIZE, -EIO);
			break;
		}
		if (bytes + len > request->len) {
			error = stop(request, STAGE_OVERRUN, -EOVERFLOW);
			break;
		}
		error = mode == FETCH ? bpf_uring_buf_dynptr_rdwr(&iter, &chunk) :
					bpf_uring_buf_dynptr(&iter, &chunk);
		if (error) {
			stop(request, mode == FETCH ? STAGE_DEST_DYNPTR :
						      STAGE_SOURCE_DYNPTR, error);
			break;
		}
		error = take_chunk(&blocks, &chunk, len, mode, algorithm,
				   assembly_sum);
		if (error) {
			if (request->stage != STAGE_BLOCK)
				stop(request, STAGE_ACCESS, error);
			break;
		}
		bytes += len;
	}
	if (!error) {
		error = iteration_error(&iter);
		if (error)
			stop(request, read ? STAGE_DEST_NEXT :
					     STAGE_SOURCE_NEXT, error);
	}
	bpf_iter_uring_buf_destroy(&iter);
out:
	/* Where it stopped, counted in blocks from the request's first one. */
	request->dest_chunks = blocks.block - request->position;
	return complete(data, request, bytes, error);
}

#define BLOCKS(name, mode, algorithm)					\
SEC("struct_ops")							\
int BPF_PROG(name##_issue, struct uring_bpf_data *data)			\
{									\
	if (stores(mode) || keeps_parity(mode) || mode == FETCH)	\
		use_arena();						\
	return take_request(data, mode, algorithm##_algorithm,		\
			    assembly_##algorithm);			\
}									\
									\
SEC(".struct_ops.link")							\
struct uring_bpf_ops name = {						\
	.prep_fn = (void *)prep,					\
	.issue_fn = (void *)name##_issue,				\
};

BLOCKS(sum_crc32c, SUM, crc32c)
BLOCKS(sum_xxh64, SUM, xxh64)
BLOCKS(store_crc32c, STORE, crc32c)
BLOCKS(store_xxh64, STORE, xxh64)
BLOCKS(verify_crc32c, VERIFY, crc32c)
BLOCKS(verify_xxh64, VERIFY, xxh64)
BLOCKS(fetch_crc32c, FETCH, crc32c)
BLOCKS(fetch_xxh64, FETCH, xxh64)
BLOCKS(sum_parity_crc32c, SUM_PARITY, crc32c)
BLOCKS(sum_parity_xxh64, SUM_PARITY, xxh64)
BLOCKS(store_parity_crc32c, STORE_PARITY, crc32c)
BLOCKS(store_parity_xxh64, STORE_PARITY, xxh64)
