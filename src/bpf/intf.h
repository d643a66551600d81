/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space and the BPF programs share. src/request.rs mirrors it; the
 * build checks the mirror against the sizes and offsets in the skeletons.
 */
#ifndef URINGBPF_INTF_H
#define URINGBPF_INTF_H

/* Requests in flight at once; a power of two, so that an index is masked. */
#define SLOTS		128

/* The most that a chunk holds: the programs are written for 4 KiB pages. */
#define CHUNK_MAX	4096

/* A word may straddle the end of a chunk by seven bytes at either side. */
#define SCRATCH_SIZE	(CHUNK_MAX + 64)

/* A buffer as the kernel wants it described (UAPI, 16 bytes). */
struct io_bpf_buf_desc {
	__u8  type;
	__u8  reserved;
	__u16 buf_index;
	__u32 len;
	__u64 addr;
};

/* What a program was doing when it met the error in request::error. */
enum stage {
	STAGE_NONE = 0,
	STAGE_SOURCE_NEW,	/* bpf_iter_uring_buf_new, ITER_SOURCE */
	STAGE_DEST_NEW,		/* bpf_iter_uring_buf_new, ITER_DEST */
	STAGE_SOURCE_NEXT,	/* bpf_iter_uring_buf_error of the source */
	STAGE_DEST_NEXT,	/* bpf_iter_uring_buf_error of the destination */
	STAGE_SOURCE_DYNPTR,	/* bpf_uring_buf_dynptr */
	STAGE_DEST_DYNPTR,	/* bpf_uring_buf_dynptr_rdwr */
	STAGE_CHUNK_SIZE,	/* a chunk of 0 bytes or of more than a page */
	STAGE_ACCESS,		/* slice, read, write, copy or memset of a chunk */
	STAGE_OVERRUN,		/* the iterator goes on after request::len bytes */
	STAGE_ORDER,		/* request::position is not where the stream is */
	STAGE_BLOCK,		/* a block's checksum is not the one that is kept */
};

/*
 * One request: the SQE carries its index in `off`. User space writes the first
 * half before it submits, the program the second before it completes.
 */
struct request {
	struct io_bpf_buf_desc from;	/* read through an ITER_SOURCE iterator */
	struct io_bpf_buf_desc to;	/* written through an ITER_DEST iterator */
	__u64 from_arena;		/* user address of the source in the arena */
	__u64 to_arena;			/* user address of the destination */
	__u64 len;			/* bytes the request is about */
	__u64 position;			/* of its first byte in the whole stream */
	__u64 word;			/* fill: byte, word, first count or seed */
	__u32 stream;			/* checksum: index of the state to go on with */
	__u32 reserved;

	__u64 bytes;			/* handled so far */
	__u64 digest;			/* of everything in the stream up to here */
	__u32 source_chunks;
	__u32 dest_chunks;
	__s32 error;			/* 0 or a negative errno */
	__u32 stage;			/* enum stage of the error */
};

/* The parity that a slot's write to a block device keeps up. */
struct parity {
	__u64 blocks;			/* arena: that of the first block's group */
	__u32 group;			/* blocks of a group */
	__u32 unchecked;		/* 1: old blocks are not compared */
};

/* Where a checksum stands between the requests of one stream. */
struct stream {
	__u64 position;			/* bytes taken in */
	__u64 acc[4];			/* crc32c, xor64: [0]; adler32: [0], [1] */
	__u8  tail[64];			/* xxh64: the bytes of an unfinished stripe */
};

/* One chunk as an iterator handed it out. */
struct chunk {
	__u64 offset;			/* of its first byte in the buffer */
	__u64 place;			/* of its first byte in its page */
	__u32 valid;			/* what bpf_iter_uring_buf_next points at */
	__u32 size;			/* bpf_dynptr_size of the chunk's dynptr */
	__u8  first;			/* its first and last byte */
	__u8  last;
	__u8  pad[6];
};

/* What the interface refuses, tried on the running kernel: see check.h. */
enum refusal {
	REFUSE_WRITABLE_SOURCE,		/* rdwr dynptr of an ITER_SOURCE iterator */
	REFUSE_DIRECTION,		/* direction 2 */
	REFUSE_TYPE,			/* buffer type 5 */
	REFUSE_NO_CHUNK,		/* dynptr before the first next */
	REFUSE_DEST,			/* request::to as an ITER_DEST iterator */
	REFUSALS,
};

/*
 * More of it, over request::from as a source and request::to as a destination,
 * for `smoke` alone. Results are errnos, or as said.
 */
enum attempt {
	/* an iterator that did not open */
	TRY_UNOPENED_NEW,
	TRY_UNOPENED_NEXT,		/* 1: a chunk */
	TRY_UNOPENED_DYNPTR,
	TRY_UNOPENED_RDWR,
	TRY_UNOPENED_ERROR,
	/* a second one that does not open, beside one that has */
	TRY_SECOND_TYPE,
	TRY_SECOND_SLOT,
	TRY_FIRST_BYTES,		/* that the first one hands out all the same */
	/* read-only dynptrs, written to, of a source and of a destination */
	TRY_SOURCE_WRITE,
	TRY_SOURCE_MEMSET,
	TRY_SOURCE_COPY,
	TRY_SOURCE_DATA,		/* 1: not NULL */
	TRY_DEST_WRITE,
	TRY_DEST_MEMSET,
	TRY_DEST_COPY,
	TRY_DEST_DATA,			/* 1: not NULL */
	/* the chunks of a destination */
	TRY_RDWR_NO_CHUNK,
	TRY_RDWR_SIZE,			/* chunks with a dynptr of another size */
	TRY_RDONLY_SIZE,
	TRY_DYNPTR_AT_END,
	TRY_RDWR_AT_END,
	TRY_NEXT_AT_END,		/* 1: a chunk */
	/* the kfuncs for whole chunks, where the kernel has them */
	TRY_COPY,
	TRY_COPY_TO_END,		/* a byte past the destination's chunk */
	TRY_COPY_FROM_END,		/* and past the source's */
	TRY_COPY_BEHIND,		/* no bytes, behind the chunk */
	TRY_COPY_WRAPS,
	TRY_COPY_TO_SOURCE,
	TRY_COPY_TO_NONE,		/* no current chunk */
	TRY_COPY_FROM_NONE,
	TRY_TO_ARENA_END,
	TRY_TO_ARENA_WRAPS,
	TRY_TO_ARENA_NONE,
	TRY_FROM_ARENA_END,
	TRY_FROM_ARENA_WRAPS,
	TRY_FROM_ARENA_SOURCE,
	TRY_FROM_ARENA_NONE,
	TRY_FILL_SOURCE,
	TRY_FILL_NONE,
	TRY_CRC32C_NONE,		/* the CRC that it is given */
	TRY_XXH64_BEHIND,
	TRY_XXH64_LANES,		/* three of them */
	TRY_XXH64_NONE,
	ATTEMPTS,
};

/*
 * What the callbacks of one request shall do, and what they saw. The program
 * counts; user space compares.
 */
struct behaviour {
	__s32 prep_result;
	__s32 issue_result;
	__s32 result;			/* for uring_bpf_set_result ... */
	__u32 sets_result;		/* ... if this is not 0 */
	__u32 preps, issues, fails, cleanups;
	__u32 prep_opf, issue_opf, fail_opf, cleanup_opf;
	__u32 wrong_pdu;		/* callbacks that found it changed */
	__u32 order;			/* enum callback of each, newest lowest */
	__u32 issue_flags[2];		/* at the first and at the newest issue_fn */
};

/* What prep_fn sees of an SQE, of the fields that are the program's. */
struct sqe_fields {
	__u64 off;
	__u64 addr;
	__u64 addr3;
	__s32 fd;
	__u32 len;
	__s32 splice_fd_in;
	__u16 buf_index;
	__u16 calls;
};

enum callback {
	CALLBACK_PREP = 1,
	CALLBACK_ISSUE,
	CALLBACK_FAIL,
	CALLBACK_CLEANUP,
};

/* Iterators that one request opens at once. */
#define ITERATORS	4

/* The first three are sources, the last one is a destination. */
struct several {
	struct io_bpf_buf_desc buffers[ITERATORS];
	__u64 bytes[ITERATORS];		/* that each iterator handed out */
	__u64 ends[ITERATORS];		/* of its chunks: 31 * before + 7 * first byte + last */
	__u32 chunks[ITERATORS];
	__s32 error;
	__u32 at;			/* the iterator that it came from */
};

/* One buffer walked to its end, and what each kfunc said on the way. */
struct trial {
	struct io_bpf_buf_desc buffer;
	__s32 opened;			/* bpf_iter_uring_buf_new */
	__s32 error;			/* bpf_iter_uring_buf_error, or a dynptr's */
	__u64 bytes;			/* in all chunks */
	__u64 ops;			/* uring_bpf_data::ops, as a number */
	__u64 fails;			/* calls of fail_fn; those of all slots in slot 0 */
};

#endif
