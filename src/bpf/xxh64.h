/* SPDX-License-Identifier: GPL-2.0 */
/*
 * XXH64 with seed 0. Stripes are 32 bytes; the bytes of an unfinished one wait
 * in the stream's tail, and how many they are follows from the position.
 */

#define XXH_P1	0x9e3779b185ebca87ULL
#define XXH_P2	0xc2b2ae3d27d4eb4fULL
#define XXH_P3	0x165667b19e3779f9ULL
#define XXH_P4	0x85ebca77c2b2ae63ULL
#define XXH_P5	0x27d4eb2f165667c5ULL
#define STRIPE	32
/* Blocks as in words.h: a page that begins inside a stripe has 3 * 42 + 1 whole ones. */
#define STRIPE_BLOCK	42
#define STRIPE_BLOCKS	3

static __always_inline __u64 rotate_left(__u64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static __always_inline __u64 xxh64_round(__u64 acc, __u64 input)
{
	return rotate_left(acc + input * XXH_P2, 31) * XXH_P1;
}

/*
 * Stripes in place. A round is eight instructions, of which the rotation that
 * BPF lacks takes four: so both factors have to stay in registers, and the
 * loads in their places, or a page of them ends up on the stack.
 */
static __always_inline void xxh64_stripes(__u64 acc[4], const void *stripes,
					  const int count)
{
	__u64 lanes[4] = { acc[0], acc[1], acc[2], acc[3] };
	__u64 p1 = XXH_P1, p2 = XXH_P2;
	const __u64 *words = stripes;
	int i, lane;

	barrier_var(p1);
	barrier_var(p2);
#pragma clang loop unroll(full)
	for (i = 0; i < count; i++) {
#pragma clang loop unroll(full)
		for (lane = 0; lane < 4; lane++) {
			__u64 sum = words[i * 4 + lane] * p2;

			sum += lanes[lane];
			sum = rotate_left(sum, 31) * p1;
			barrier_var(sum);
			lanes[lane] = sum;
		}
	}
	for (lane = 0; lane < 4; lane++)
		acc[lane] = lanes[lane];
}

static __always_inline void xxh64_init(__u64 acc[4])
{
	acc[0] = XXH_P1 + XXH_P2;
	acc[1] = XXH_P2;
	acc[2] = 0;
	acc[3] = -XXH_P1;
}

/* Up to 32 bytes of a page or scratch page, to the tail from `held` on. */
static __always_inline void xxh64_keep(__u8 *tail, __u32 held, const __u8 *from,
				       __u32 at, __u32 len)
{
	__u32 i;

	bpf_for(i, 0, len) {
		__u32 source = at + i, dest = held + i;

		/* The verifier knows each sum, not that both fit together. */
		barrier_var(source);
		barrier_var(dest);
		if (source >= CHUNK_MAX || dest >= STRIPE)
			break;
		tail[dest] = from[source];
	}
}

static __always_inline void xxh64_page(struct walk *walk, const void *page)
{
	__u32 held = walk->position & (STRIPE - 1);
	__u32 skip = (STRIPE - held) & (STRIPE - 1);
	const __u8 *stripes = page;
	int i;

	if (held) {
		xxh64_keep(walk->tail, held, page, 0, skip);
		xxh64_stripes(walk->acc, walk->tail, 1);
	}
	stripes += skip;
	for (i = 0; i < STRIPE_BLOCKS; i++) {
		xxh64_stripes(walk->acc, stripes + i * STRIPE_BLOCK * STRIPE, STRIPE_BLOCK);
		barrier_var(i);
	}
	xxh64_stripes(walk->acc, stripes + STRIPE_BLOCKS * STRIPE_BLOCK * STRIPE, 1);
	if (held)
		xxh64_keep(walk->tail, 0, page, CHUNK_MAX - held, held);
	else
		xxh64_stripes(walk->acc, page + CHUNK_MAX - STRIPE, 1);
}

static __always_inline void xxh64_bytes(struct walk *walk, const void *bytes,
					__u32 len)
{
	__u32 held = walk->position & (STRIPE - 1);
	__u32 skip = STRIPE - held, stripes, at, i;

	if (len < skip) {
		xxh64_keep(walk->tail, held, bytes, 0, len);
		return;
	}
	xxh64_keep(walk->tail, held, bytes, 0, skip);
	xxh64_stripes(walk->acc, walk->tail, 1);
	stripes = (len - skip) / STRIPE;
	bpf_for(i, 0, stripes) {
		if (i >= CHUNK_MAX / STRIPE)
			break;
		xxh64_stripes(walk->acc, bytes + skip + i * STRIPE, 1);
	}
	at = skip + stripes * STRIPE;
	xxh64_keep(walk->tail, 0, bytes, at, len - at);
}

static __always_inline __u64 xxh64_merge(__u64 hash, __u64 acc)
{
	return (hash ^ xxh64_round(0, acc)) * XXH_P1 + XXH_P4;
}

static __always_inline __u64 xxh64_digest(struct walk *walk)
{
	__u32 held = walk->position & (STRIPE - 1), i;
	const __u8 *tail = walk->tail;
	const __u64 *acc = walk->acc;
	__u64 hash = XXH_P5;

	if (walk->position >= STRIPE) {
		hash = rotate_left(acc[0], 1) + rotate_left(acc[1], 7) +
		       rotate_left(acc[2], 12) + rotate_left(acc[3], 18);
		hash = xxh64_merge(hash, acc[0]);
		hash = xxh64_merge(hash, acc[1]);
		hash = xxh64_merge(hash, acc[2]);
		hash = xxh64_merge(hash, acc[3]);
	}
	hash += walk->position;

	for (i = 0; i + 8 <= STRIPE; i += 8) {
		if (i + 8 > held)
			break;
		hash ^= xxh64_round(0, *(const __u64 *)(tail + i));
		hash = rotate_left(hash, 27) * XXH_P1 + XXH_P4;
	}
	i = held & ~7;
	if (held & 4) {
		hash ^= *(const __u32 *)(tail + i) * XXH_P1;
		hash = rotate_left(hash, 23) * XXH_P2 + XXH_P3;
	}
	bpf_for(i, held & ~3, held) {
		if (i >= STRIPE)
			break;
		hash ^= tail[i] * XXH_P5;
		hash = rotate_left(hash, 11) * XXH_P1;
	}
	hash = (hash ^ hash >> 33) * XXH_P2;
	hash = (hash ^ hash >> 29) * XXH_P3;
	return hash ^ hash >> 32;
}

static const struct algorithm xxh64_algorithm = {
	xxh64_init, xxh64_page, xxh64_bytes, xxh64_digest,
};
