/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The arena: memory that programs and user space share. No helper takes a
 * pointer into it, so without the kernel's own bpf_uring_buf_to_arena() every
 * byte passes through a register.
 */
#ifndef URINGBPF_ARENA_H
#define URINGBPF_ARENA_H

#include "kernel.h"
#include "words.h"

struct {
	__uint(type, MAP_TYPE_ARENA);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, 1);		/* pages: set when the buffers are known */
} arena SEC(".maps");

/* A program owns an arena only if it refers to the map by name. */
#define use_arena()	asm volatile("" : : "r"(&arena))

#define arena_bytes(address)	((__u8 __arena *)(address))
#define arena_words(address)	((__u64 __arena *)(address))

static __always_inline __u32 pages_of(__u64 len)
{
	return (len + CHUNK_MAX - 1) / CHUNK_MAX;
}

/*
 * A page between the arena and any other memory, at any alignment. A pointer
 * for each block, or clang casts the address of each word into the arena.
 */
static __always_inline void page_to_arena(__u64 address, const void *page)
{
	__u64 block;
	int i;

	for_each_block(block) {
		__u64 __arena *to = arena_words(address + block * 8);
		const __u64 *from = page + block * 8;

#pragma clang loop unroll(full)
		for (i = 0; i < BLOCK_WORDS; i++)
			to[i] = from[i];
	}
}

static __always_inline void arena_to_page(void *page, __u64 address)
{
	__u64 block;
	int i;

	for_each_block(block) {
		__u64 __arena *from = arena_words(address + block * 8);
		__u64 *to = page + block * 8;

#pragma clang loop unroll(full)
		for (i = 0; i < BLOCK_WORDS; i++)
			to[i] = from[i];
	}
}

/* A page from one place in the arena to another. */
static __always_inline void page_within_arena(__u64 dest, __u64 source)
{
	__u64 block;
	int i;

	for_each_block(block) {
		__u64 __arena *from = arena_words(source + block * 8);
		__u64 __arena *to = arena_words(dest + block * 8);

#pragma clang loop unroll(full)
		for (i = 0; i < BLOCK_WORDS; i++)
			to[i] = from[i];
	}
}

/* Up to a page between the arena and a scratch page: words, then bytes. */
static __always_inline void scratch_to_arena(__u64 address, const void *scratch,
					     __u32 skip, __u32 len)
{
	__u32 words = len >> 3, i;

	skip &= 7;
	bpf_for(i, 0, words) {
		if (i >= CHUNK_MAX / 8)
			break;
		arena_words(address)[i] = *(const __u64 *)(scratch + skip + i * 8);
	}
	bpf_for(i, words * 8, len) {
		if (i >= CHUNK_MAX)
			break;
		arena_bytes(address)[i] = *(const __u8 *)(scratch + skip + i);
	}
}

static __always_inline void arena_to_scratch(void *scratch, __u64 address,
					     __u32 len)
{
	__u32 words = len >> 3, i;

	bpf_for(i, 0, words) {
		if (i >= CHUNK_MAX / 8)
			break;
		((__u64 *)scratch)[i] = arena_words(address)[i];
	}
	bpf_for(i, words * 8, len) {
		if (i >= CHUNK_MAX)
			break;
		((__u8 *)scratch)[i] = arena_bytes(address)[i];
	}
}

#endif
