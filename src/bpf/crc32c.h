/* SPDX-License-Identifier: GPL-2.0 */
/* CRC-32C (Castagnoli), eight bytes at a time through eight tables. */

/* Entry [k][b]: byte b followed by k zero bytes. Filled in by the loader. */
const volatile __u32 crc32c_table[8][256] SEC(".rodata.crc32c");

static __always_inline __u32 crc32c_byte(__u32 crc, __u8 byte)
{
	return crc32c_table[0][(crc ^ byte) & 0xff] ^ (crc >> 8);
}

static __always_inline __u32 crc32c_word(__u32 crc, __u64 word)
{
	__u64 x = word ^ crc;

	return crc32c_table[7][x & 0xff] ^
	       crc32c_table[6][(x >> 8) & 0xff] ^
	       crc32c_table[5][(x >> 16) & 0xff] ^
	       crc32c_table[4][(x >> 24) & 0xff] ^
	       crc32c_table[3][(x >> 32) & 0xff] ^
	       crc32c_table[2][(x >> 40) & 0xff] ^
	       crc32c_table[1][(x >> 48) & 0xff] ^
	       crc32c_table[0][x >> 56];
}

static __always_inline void crc32c_init(__u64 acc[4])
{
	acc[0] = 0xffffffff;
}

static __always_inline void crc32c_page(struct walk *walk, const void *page)
{
	const __u64 *words = page;
	__u32 crc = walk->acc[0];
	int i, k;

	/* An open-coded iterator is verified once, not once per turn. */
	bpf_for(i, 0, CHUNK_MAX / 512) {
#pragma clang loop unroll(full)
		for (k = 0; k < 64; k++)
			crc = crc32c_word(crc, words[i * 64 + k]);
	}
	walk->acc[0] = crc;
}

static __always_inline void crc32c_bytes(struct walk *walk, const void *bytes,
					 __u32 len)
{
	__u32 crc = walk->acc[0], words = len >> 3, i;

	bpf_for(i, 0, words) {
		if (i >= CHUNK_MAX / 8)
			break;
		crc = crc32c_word(crc, ((const __u64 *)bytes)[i]);
	}
	bpf_for(i, words * 8, len) {
		if (i >= CHUNK_MAX)
			break;
		crc = crc32c_byte(crc, ((const __u8 *)bytes)[i]);
	}
	walk->acc[0] = crc;
}

static __always_inline __u64 crc32c_digest(struct walk *walk)
{
	return (__u32)~walk->acc[0];
}

static const struct algorithm crc32c_algorithm = {
	crc32c_init, crc32c_page, crc32c_bytes, crc32c_digest,
};
