/* SPDX-License-Identifier: GPL-2.0 */
/* CRC-32C (Castagnoli), eight bytes at a time through eight tables. */

/* Entry [k][b]: byte b followed by k zero bytes. Filled in by the loader. */
const volatile __u32 crc32c_table[8][256] SEC(".rodata.crc32c");

static __always_inline __u32 crc32c_byte(__u32 crc, __u8 byte)
{
	return crc32c_table[0][(crc ^ byte) & 0xff] ^ (crc >> 8);
}

/*
 * The entry of one byte: scaled, then added to where the tables are, in one
 * register. From C, clang makes a pointer to each table and has no register
 * left for them.
 */
#define crc32c_entry(tables, k, byte)					\
({									\
	__u64 __at = (byte);						\
									\
	asm("%[at] <<= 2;"						\
	    "%[at] += %[base];"						\
	    "%[at] = *(u32 *)(%[at] + %[table]);"			\
	    : [at]"+r"(__at)						\
	    : [base]"r"(tables), [table]"i"((k) * sizeof(crc32c_table[0])));\
	(__u32)__at;							\
})

/*
 * Eight bytes in place. Each is loaded by itself, which takes one instruction
 * where cutting it out of a word takes three; the first four, having met the
 * sum, from the stack.
 */
static __always_inline __u32 crc32c_word(const void *tables, __u32 crc,
					 const void *word)
{
	const volatile __u8 *high = word + 4;
	volatile __u32 mixed = *(const __u32 *)word ^ crc;
	const volatile __u8 *low = (const volatile __u8 *)&mixed;

	return crc32c_entry(tables, 7, low[0]) ^ crc32c_entry(tables, 6, low[1]) ^
	       crc32c_entry(tables, 5, low[2]) ^ crc32c_entry(tables, 4, low[3]) ^
	       crc32c_entry(tables, 3, high[0]) ^ crc32c_entry(tables, 2, high[1]) ^
	       crc32c_entry(tables, 1, high[2]) ^ crc32c_entry(tables, 0, high[3]);
}

static __always_inline void crc32c_init(__u64 acc[4])
{
	acc[0] = 0xffffffff;
}

static __always_inline void crc32c_page(struct walk *walk, const void *page)
{
	const void *tables = (const void *)crc32c_table;
	__u32 crc = walk->acc[0];
	int i, k;

	/* An open-coded iterator is verified once, not once per turn. */
	bpf_for(i, 0, CHUNK_MAX / 256) {
#pragma clang loop unroll(full)
		for (k = 0; k < 32; k++)
			crc = crc32c_word(tables, crc, page + i * 256 + k * 8);
	}
	walk->acc[0] = crc;
}

static __always_inline void crc32c_bytes(struct walk *walk, const void *bytes,
					 __u32 len)
{
	__u32 crc = walk->acc[0], words = len >> 3, i;
	const void *tables = (const void *)crc32c_table;

	bpf_for(i, 0, words) {
		if (i >= CHUNK_MAX / 8)
			break;
		crc = crc32c_word(tables, crc, bytes + i * 8);
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
