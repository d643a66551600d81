// SPDX-License-Identifier: GPL-2.0
/*
 * Patterns written through writable dynptrs: one byte, one 64-bit word, a
 * counter, or random words. Word i of a stream stands at bytes 8i … 8i+7,
 * little endian:
 *
 *   word     request::word
 *   count    request::word + i
 *   random   output i of the SplitMix64 generator seeded with request::word
 *
 * A chunk may begin and end inside a word, so what does not fit is built in
 * the scratch page from the word that the chunk begins in, and written from
 * the chunk's place in that word.
 */
#include "arena.h"
#include "chunks.h"

#define GAMMA	0x9e3779b97f4a7c15ULL

/*
 * Each pattern is a counter with a stride, and what becomes of its value:
 * word i = value(word + i * stride).
 */
struct pattern {
	__u64 stride;
	__u64 (*value)(__u64 counter);
};

static __always_inline __u64 itself(__u64 counter)
{
	return counter;
}

static __always_inline __u64 every_byte(__u64 counter)
{
	return (counter & 0xff) * 0x0101010101010101ULL;
}

static __always_inline __u64 splitmix(__u64 counter)
{
	__u64 z = counter + GAMMA;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static const struct pattern byte_pattern = { 0, every_byte };
static const struct pattern word_pattern = { 0, itself };
static const struct pattern count_pattern = { 1, itself };
static const struct pattern random_pattern = { GAMMA, splitmix };

/* The counter at the word that holds the walk's position. */
static __always_inline __u64 counter_at(struct walk *walk, struct pattern pattern)
{
	return walk->acc[0] + (walk->position >> 3) * pattern.stride;
}

/* At least so many words from the one that holds position, to scratch. */
static __always_inline void build(struct walk *walk, __u32 count,
				  struct pattern pattern)
{
	__u64 counter = counter_at(walk, pattern);
	__u32 blocks = (count + 7) / 8, i, k;
	__u64 *to = walk->scratch;

	bpf_for(i, 0, blocks) {
		if (i >= SCRATCH_SIZE / 64)
			break;
#pragma clang loop unroll(full)
		for (k = 0; k < 8; k++) {
			to[i * 8 + k] = pattern.value(counter);
			counter += pattern.stride;
			barrier_var(counter);
		}
	}
}

static __always_inline int part(struct walk *walk,
				struct bpf_iter_uring_buf *iter, __u32 len,
				struct pattern pattern)
{
	__u32 phase = walk->position & 7;
	struct bpf_dynptr chunk;
	int error;

	build(walk, (phase + len + 7) >> 3, pattern);
	if (len > CHUNK_MAX)
		return -EIO;
	error = dest_chunk(walk, iter, &chunk);
	if (error)
		return error;
	return bpf_dynptr_write(&chunk, 0, walk->scratch + phase, len, 0);
}

static __always_inline int page(struct walk *walk,
				struct bpf_iter_uring_buf *iter,
				struct pattern pattern)
{
	__u64 counter = counter_at(walk, pattern);
	struct bpf_dynptr chunk;
	int error, i;
	__u64 block;
	__u64 *to;

	if (walk->position & 7)
		return part(walk, iter, CHUNK_MAX, pattern);
	error = dest_chunk(walk, iter, &chunk);
	if (error)
		return error;
	to = bpf_dynptr_data(&chunk, 0, CHUNK_MAX);
	if (!to)
		return -EIO;
	for_each_block(block) {
#pragma clang loop unroll(full)
		for (i = 0; i < BLOCK_WORDS; i++) {
			to[block + i] = pattern.value(counter);
			counter += pattern.stride;
			/* One counter, not a block of precomputed ones on the stack. */
			barrier_var(counter);
		}
	}
	return 0;
}

static __always_inline int byte_part(struct walk *walk,
				     struct bpf_iter_uring_buf *iter, __u32 len)
{
	struct bpf_dynptr chunk;

	return dest_chunk(walk, iter, &chunk) ?:
	       bpf_dynptr_memset(&chunk, 0, len, walk->acc[0]);
}

static __always_inline int byte_page(struct walk *walk,
				     struct bpf_iter_uring_buf *iter)
{
	return byte_part(walk, iter, CHUNK_MAX);
}

/* By the kernel: a chunk that begins inside the word takes it from there on. */
static __always_inline int kernel_part(struct walk *walk,
				       struct bpf_iter_uring_buf *iter, __u32 len)
{
	__u32 shift = (walk->position & 7) * 8;
	__u64 word = walk->acc[0];

	return bpf_uring_buf_fill(iter, word >> shift |
					word << ((64 - shift) & 63));
}

static __always_inline int kernel_page(struct walk *walk,
				       struct bpf_iter_uring_buf *iter)
{
	return kernel_part(walk, iter, CHUNK_MAX);
}

#define WORD_BODIES(name)						\
static __always_inline int name##_page(struct walk *walk,		\
				       struct bpf_iter_uring_buf *iter)	\
{									\
	return page(walk, iter, name##_pattern);			\
}									\
									\
static __always_inline int name##_part(struct walk *walk,		\
				       struct bpf_iter_uring_buf *iter,	\
				       __u32 len)			\
{									\
	return part(walk, iter, len, name##_pattern);			\
}

WORD_BODIES(word)
WORD_BODIES(count)
WORD_BODIES(random)

static __always_inline int fill(struct uring_bpf_data *data, page_body page,
				part_body part, struct pattern pattern)
{
	struct walk walk = {};
	struct request *request = start(data, &walk);
	int error;

	if (!request)
		return -EINVAL;
	walk.acc[0] = request->word;
	if (!pattern.stride && have_kfunc(bpf_uring_buf_fill)) {
		walk.acc[0] = pattern.value(request->word);
		error = for_each_chunk(data, &request->to, ITER_DEST, &walk,
				       kernel_page, kernel_part);
	} else {
		error = for_each_chunk(data, &request->to, ITER_DEST, &walk,
				       page, part);
	}
	return complete(data, request, walk.bytes, error);
}

/* A page of words, each of which begins so many bits into a pattern's word. */
static __always_inline void arena_page(struct walk *walk, __u32 shift,
				       struct pattern pattern)
{
	__u64 counter = counter_at(walk, pattern);
	__u64 __arena *to = arena_words(walk->to_arena);
	__u64 now = pattern.value(counter), next;
	__u64 block;
	int i;

	for_each_block(block) {
#pragma clang loop unroll(full)
		for (i = 0; i < BLOCK_WORDS; i++) {
			counter += pattern.stride;
			barrier_var(counter);
			next = pattern.value(counter);
			to[block + i] = shift ? now >> shift | next << (64 - shift) : now;
			now = next;
		}
	}
}

static __always_inline void advance(struct walk *walk, __u32 len)
{
	walk->to_arena += len;
	walk->position += len;
	walk->bytes += len;
}

/* The arena has no iterator; what is less than a page goes through scratch. */
static __always_inline int fill_arena(struct uring_bpf_data *data,
				      struct pattern pattern)
{
	struct walk walk = {};
	struct request *request = start(data, &walk);
	__u32 pages, rest, phase, i;

	if (!request)
		return -EINVAL;
	use_arena();
	walk.acc[0] = request->word;
	phase = walk.position & 7;
	pages = walk.limit / CHUNK_MAX;
	if (phase) {
		bpf_for(i, 0, pages) {
			arena_page(&walk, phase * 8, pattern);
			advance(&walk, CHUNK_MAX);
		}
	} else {
		bpf_for(i, 0, pages) {
			arena_page(&walk, 0, pattern);
			advance(&walk, CHUNK_MAX);
		}
	}
	rest = walk.limit & (CHUNK_MAX - 1);
	build(&walk, (phase + rest + 7) >> 3, pattern);
	scratch_to_arena(walk.to_arena, walk.scratch, phase, rest);
	advance(&walk, rest);
	return complete(data, request, walk.bytes, 0);
}

#define FILL(name, body)						\
SEC("struct_ops")							\
int BPF_PROG(name##_issue, struct uring_bpf_data *data)		\
{									\
	return fill(data, body##_page, body##_part, body##_pattern);	\
}									\
									\
SEC("struct_ops")							\
int BPF_PROG(name##_arena_issue, struct uring_bpf_data *data)		\
{									\
	return fill_arena(data, body##_pattern);				\
}									\
									\
SEC(".struct_ops.link")							\
struct uring_bpf_ops name = {						\
	.prep_fn = (void *)prep,					\
	.issue_fn = (void *)name##_issue,				\
};									\
									\
SEC(".struct_ops.link")							\
struct uring_bpf_ops name##_arena = {					\
	.prep_fn = (void *)prep,					\
	.issue_fn = (void *)name##_arena_issue,			\
};

FILL(fill_byte, byte)
FILL(fill_word, word)
FILL(fill_count, count)
FILL(fill_random, random)
