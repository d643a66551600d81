/* SPDX-License-Identifier: GPL-2.0 */
/*
 * RAID parity: the XOR of the stream's little-endian 64-bit words. A chunk
 * that begins inside a word is taken as if it began a word, and its sum
 * rotated into place: byte j of the digest is the XOR of the bytes at
 * positions j, j + 8, j + 16 …
 */

static __always_inline void xor64_init(__u64 acc[4])
{
	acc[0] = 0;
}

static __always_inline __u64 xor64_place(__u64 sum, __u64 position)
{
	__u32 shift = (position & 7) * 8;

	return sum << shift | sum >> ((64 - shift) & 63);
}

static __always_inline void xor64_page(struct walk *walk, const void *page)
{
	const __u64 *words = page;
	__u64 sum = 0;
	__u64 block;
	int i;

	for_each_block(block) {
#pragma clang loop unroll(full)
		for (i = 0; i < BLOCK_WORDS; i++) {
			sum ^= words[block + i];
			/* Load and add in turn, not all loads first. */
			barrier_var(sum);
		}
	}
	walk->acc[0] ^= xor64_place(sum, walk->position);
}

static __always_inline void xor64_bytes(struct walk *walk, const void *bytes,
					__u32 len)
{
	__u32 words = len >> 3, shift = 0, i;
	__u64 sum = 0;

	bpf_for(i, 0, words) {
		if (i >= CHUNK_MAX / 8)
			break;
		sum ^= ((const __u64 *)bytes)[i];
	}
	bpf_for(i, words * 8, len) {
		if (i >= CHUNK_MAX)
			break;
		sum ^= (__u64)((const __u8 *)bytes)[i] << (shift & 63);
		shift += 8;
	}
	walk->acc[0] ^= xor64_place(sum, walk->position);
}

static __always_inline __u64 xor64_digest(struct walk *walk)
{
	return walk->acc[0];
}

static const struct algorithm xor64_algorithm = {
	xor64_init, xor64_page, xor64_bytes, xor64_digest,
};
