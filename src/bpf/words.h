/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The words of a page, in blocks. A block is unrolled and the loop over blocks
 * is not: that is four turns to the CPU, and half the time to the kernel that
 * loads the program, whose analyses look at every instruction.
 */
#ifndef URINGBPF_WORDS_H
#define URINGBPF_WORDS_H

#include "kernel.h"

#define BLOCK_WORDS	128

/*
 * What `first` counts must not become a pointer that is compared with the
 * page's end: the verifier does not know how such a comparison comes out.
 */
#define for_each_block(first)						\
	_Pragma("clang loop unroll(disable)")				\
	for ((first) = 0; (first) < CHUNK_MAX / 8;			\
	     (first) += BLOCK_WORDS, ({ barrier_var(first); }))

#endif
