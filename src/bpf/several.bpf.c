// SPDX-License-Identifier: GPL-2.0
/*
 * Several iterators in one request: side by side, in lockstep, one inside the
 * other.
 */
#include "chunks.h"

#define BLOCK	1024

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, ARRAY_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct several);
} several SEC(".maps");

static __always_inline struct several *several_of(struct uring_bpf_data *data)
{
	__u32 slot = slot_of(data);

	return bpf_map_lookup_elem(&several, &slot);
}

/* Notes a chunk: its length, its first byte and its last one. */
static __always_inline void note(struct several *several,
				 struct bpf_iter_uring_buf *iter, __u32 which,
				 int valid)
{
	__u8 first = 0, last = 0;
	struct bpf_dynptr chunk;
	int error;

	error = bpf_uring_buf_dynptr(iter, &chunk);
	error = error ?: bpf_dynptr_read(&first, 1, &chunk, 0, 0);
	error = error ?: bpf_dynptr_read(&last, 1, &chunk, valid - 1, 0);
	if (error && !several->error) {
		several->error = error;
		several->at = which;
	}
	several->bytes[which] += valid;
	several->chunks[which]++;
	several->ends[which] = several->ends[which] * 31 + first * 7 + last;
}

static __always_inline void drain(struct several *several,
				  struct bpf_iter_uring_buf *iter, __u32 which)
{
	int *valid, error;

	while ((valid = bpf_iter_uring_buf_next(iter)))
		note(several, iter, which, *valid);
	error = iteration_error(iter);
	if (error && !several->error) {
		several->error = error;
		several->at = which;
	}
}

static __always_inline void open(struct several *several,
				 struct bpf_iter_uring_buf *iter,
				 struct uring_bpf_data *data, __u32 which,
				 const int direction)
{
	int error = bpf_iter_uring_buf_new(iter, data, &several->buffers[which],
					   direction);

	if (error && !several->error) {
		several->error = error;
		several->at = which;
	}
}

static __always_inline int finish(struct uring_bpf_data *data,
				  struct several *several)
{
	uring_bpf_set_result(data, several->error ?: (int)several->bytes[3]);
	return 0;
}

/* Four at once, each run to its end in turn, closed in another order. */
SEC("struct_ops")
int BPF_PROG(together_issue, struct uring_bpf_data *data)
{
	struct several *several = several_of(data);
	struct bpf_iter_uring_buf a, b, c, d;

	if (!several)
		return -EINVAL;
	open(several, &a, data, 0, ITER_SOURCE);
	open(several, &b, data, 1, ITER_SOURCE);
	open(several, &c, data, 2, ITER_SOURCE);
	open(several, &d, data, 3, ITER_DEST);
	drain(several, &b, 1);
	drain(several, &d, 3);
	drain(several, &a, 0);
	drain(several, &c, 2);
	bpf_iter_uring_buf_destroy(&a);
	bpf_iter_uring_buf_destroy(&d);
	bpf_iter_uring_buf_destroy(&b);
	bpf_iter_uring_buf_destroy(&c);
	return finish(data, several);
}

/* Three, of which the first ends before the last begins. */
SEC("struct_ops")
int BPF_PROG(chain_issue, struct uring_bpf_data *data)
{
	struct several *several = several_of(data);
	struct bpf_iter_uring_buf a, b, d;

	if (!several)
		return -EINVAL;
	open(several, &a, data, 0, ITER_SOURCE);
	open(several, &b, data, 1, ITER_SOURCE);
	drain(several, &a, 0);
	bpf_iter_uring_buf_destroy(&a);
	open(several, &d, data, 3, ITER_DEST);
	drain(several, &b, 1);
	bpf_iter_uring_buf_destroy(&b);
	drain(several, &d, 3);
	bpf_iter_uring_buf_destroy(&d);
	return finish(data, several);
}

/* One inside the other: the third once for each chunk of the first. */
SEC("struct_ops")
int BPF_PROG(nested_issue, struct uring_bpf_data *data)
{
	struct several *several = several_of(data);
	struct bpf_iter_uring_buf outer, inner;
	int *valid;

	if (!several)
		return -EINVAL;
	open(several, &outer, data, 0, ITER_SOURCE);
	while ((valid = bpf_iter_uring_buf_next(&outer))) {
		note(several, &outer, 0, *valid);
		open(several, &inner, data, 3, ITER_DEST);
		drain(several, &inner, 3);
		bpf_iter_uring_buf_destroy(&inner);
	}
	bpf_iter_uring_buf_destroy(&outer);
	return finish(data, several);
}

static __always_inline int read_block(struct bpf_iter_uring_buf *iter,
				      void *to, __u32 at, __u32 len)
{
	struct bpf_dynptr chunk;
	int error = bpf_uring_buf_dynptr(iter, &chunk);

	return error ?: bpf_dynptr_read(to, len, &chunk, at, 0);
}

/* RAID parity: what three sources have XORed into a destination, in lockstep. */
SEC("struct_ops")
int BPF_PROG(parity_issue, struct uring_bpf_data *data)
{
	struct several *several = several_of(data);
	struct bpf_iter_uring_buf a, b, c, d;
	__u64 *scratch = scratch_of(data);
	struct bpf_dynptr chunk;
	__u32 block, i;
	int *valid, error = 0;

	if (!several || !scratch)
		return -EINVAL;
	open(several, &a, data, 0, ITER_SOURCE);
	open(several, &b, data, 1, ITER_SOURCE);
	open(several, &c, data, 2, ITER_SOURCE);
	open(several, &d, data, 3, ITER_DEST);
	while ((valid = bpf_iter_uring_buf_next(&d))) {
		int len = *valid;

		valid = bpf_iter_uring_buf_next(&a);
		if (!valid || *valid != len)
			break;
		valid = bpf_iter_uring_buf_next(&b);
		if (!valid || *valid != len)
			break;
		valid = bpf_iter_uring_buf_next(&c);
		if (!valid || *valid != len)
			break;
		bpf_for(block, 0, CHUNK_MAX / BLOCK) {
			__u32 at = block * BLOCK;
			__u32 part = len - at;

			if (at >= len || error)
				break;
			if (part > BLOCK)
				part = BLOCK;
			error = read_block(&a, scratch, at, part);
			error = error ?: read_block(&b, (void *)scratch + BLOCK, at, part);
			error = error ?: read_block(&c, (void *)scratch + 2 * BLOCK, at, part);
			bpf_for(i, 0, BLOCK / 8) {
				if (i >= BLOCK / 8)
					break;
				scratch[i] ^= scratch[i + BLOCK / 8] ^
					      scratch[i + 2 * BLOCK / 8];
			}
			error = error ?: bpf_uring_buf_dynptr_rdwr(&d, &chunk);
			error = error ?: bpf_dynptr_write(&chunk, at, scratch, part, 0);
		}
		several->bytes[3] += len;
		several->chunks[3]++;
	}
	if (error && !several->error)
		several->error = error;
	bpf_iter_uring_buf_destroy(&d);
	bpf_iter_uring_buf_destroy(&c);
	bpf_iter_uring_buf_destroy(&b);
	bpf_iter_uring_buf_destroy(&a);
	return finish(data, several);
}

#define SEVERAL(name)							\
SEC(".struct_ops.link")							\
struct uring_bpf_ops name = {						\
	.prep_fn = (void *)prep,					\
	.issue_fn = (void *)name##_issue,				\
};

SEVERAL(together)
SEVERAL(chain)
SEVERAL(nested)
SEVERAL(parity)
