/* SPDX-License-Identifier: GPL-2.0 */
/* Adler-32. Of 64-bit sums a page overflows none: one reduction per page. */

#define ADLER_BASE	65521

static __always_inline void adler32_init(__u64 acc[4])
{
	acc[0] = 1;
	acc[1] = 0;
}

static __always_inline void adler32_page(struct walk *walk, const void *page)
{
	__u64 a = walk->acc[0], b = walk->acc[1];
	const __u8 *bytes = page;
	int i, k;

	bpf_for(i, 0, CHUNK_MAX / 512) {
#pragma clang loop unroll(full)
		for (k = 0; k < 512; k++) {
			a += bytes[i * 512 + k];
			b += a;
			barrier_var(b);
		}
	}
	walk->acc[0] = a % ADLER_BASE;
	walk->acc[1] = b % ADLER_BASE;
}

static __always_inline void adler32_bytes(struct walk *walk, const void *bytes,
					  __u32 len)
{
	__u64 a = walk->acc[0], b = walk->acc[1];
	__u32 i;

	bpf_for(i, 0, len) {
		if (i >= CHUNK_MAX)
			break;
		a += ((const __u8 *)bytes)[i];
		b += a;
	}
	walk->acc[0] = a % ADLER_BASE;
	walk->acc[1] = b % ADLER_BASE;
}

static __always_inline __u64 adler32_digest(struct walk *walk)
{
	return walk->acc[1] << 16 | walk->acc[0];
}

static const struct algorithm adler32_algorithm = {
	adler32_init, adler32_page, adler32_bytes, adler32_digest,
};
