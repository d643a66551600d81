// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The structures that user space and the BPF programs share: src/bpf/intf.h,
//! checked against what the compiler made of it.

use std::mem::offset_of;

use crate::bpf_skel;

/// Requests in flight at once on one program.
pub const SLOTS: usize = 128;

/// The most that a chunk holds: the programs are written for 4 KiB pages.
pub const CHUNK_MAX: usize = 4096;

/// A buffer as the kernel wants it described.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub kind: u8,
    pub reserved: u8,
    pub buf_index: u16,
    pub len: u32,
    pub addr: u64,
}

/// One request: the arguments, then what the program says about it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    pub from: Descriptor,
    pub to: Descriptor,
    pub from_arena: u64,
    pub to_arena: u64,
    /// Bytes the request is about.
    pub len: u64,
    /// Of its first byte in the whole stream.
    pub position: u64,
    /// Fill: the byte, word, first count or seed.
    pub word: u64,
    /// Checksum: index of the state to go on with.
    pub stream: u32,
    pub reserved: u32,

    pub bytes: u64,
    pub digest: u64,
    pub source_chunks: u32,
    pub dest_chunks: u32,
    pub error: i32,
    pub stage: u32,
}

/// The parity that a slot's write to a block device keeps up.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parity {
    /// Address in the arena of that of the first block's group; those of the
    /// groups behind it follow.
    pub blocks: u64,
    /// Blocks of a group.
    pub group: u32,
    /// 1: old blocks are not compared with their checksums.
    pub unchecked: u32,
}

/// One chunk as an iterator handed it out.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Of its first byte in the buffer.
    pub offset: u64,
    /// Of its first byte in its page.
    pub place: u64,
    /// What `bpf_iter_uring_buf_next` points at.
    pub valid: u32,
    /// `bpf_dynptr_size` of the chunk's dynptr.
    pub size: u32,
    pub first: u8,
    pub last: u8,
    pub pad: [u8; 6],
}

/// Where a checksum stands between the requests of one stream.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    pub position: u64,
    pub acc: [u64; 4],
    pub tail: [u8; 64],
}

/// What the callbacks of a request shall do, and what they saw.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behaviour {
    pub prep_result: i32,
    pub issue_result: i32,
    pub result: i32,
    pub sets_result: u32,
    /// Calls of prep_fn, issue_fn, fail_fn, cleanup_fn.
    pub calls: [u32; 4],
    /// `opf` as each of them saw it.
    pub opf: [u32; 4],
    pub wrong_pdu: u32,
    pub order: u32,
    /// At the first and at the newest issue_fn.
    pub issue_flags: [u32; 2],
}

/// What prep_fn sees of an SQE, of the fields that are the program's.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SqeFields {
    pub off: u64,
    pub addr: u64,
    pub addr3: u64,
    pub fd: i32,
    pub len: u32,
    pub splice_fd_in: i32,
    pub buf_index: u16,
    /// Of prep_fn.
    pub calls: u16,
}

/// Several buffers of one request: three sources and a destination.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Several {
    pub buffers: [Descriptor; 4],
    pub bytes: [u64; 4],
    /// Of the first and last bytes of an iterator's chunks.
    pub ends: [u64; 4],
    pub chunks: [u32; 4],
    pub error: i32,
    pub at: u32,
}

/// One buffer walked to its end, and what each kfunc said on the way.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trial {
    pub buffer: Descriptor,
    /// What `bpf_iter_uring_buf_new` returned.
    pub opened: i32,
    /// Why the iteration ended, where the kernel tells.
    pub error: i32,
    pub bytes: u64,
    /// The kernel's address of the request's `struct uring_bpf_ops`.
    pub ops: u64,
    /// Calls of fail_fn, whatever the slot: in the first.
    pub fails: u64,
}

/// What the interface refuses, in the order of the results of `check`.
pub const REFUSALS: [(&str, i32); 5] = [
    (
        "bpf_uring_buf_dynptr_rdwr of an ITER_SOURCE iterator",
        -libc::EPERM,
    ),
    ("bpf_iter_uring_buf_new with direction 2", -libc::EINVAL),
    ("bpf_iter_uring_buf_new with buffer type 5", -libc::EINVAL),
    ("bpf_uring_buf_dynptr before the first chunk", -libc::EINVAL),
    // Not refused: unless a request names something else, it is empty.
    ("bpf_iter_uring_buf_new of an empty destination", 0),
];

/// More of it, in the order of the results of `refuse`: over a buffer of so
/// many bytes, what must come of each attempt, and whether it needs a kfunc
/// that a kernel may be without.
pub const fn attempts(len: i64) -> [(&'static str, i64, bool); 43] {
    use libc::{E2BIG, EFAULT, EINVAL, EPERM};
    const fn fails(what: &'static str, errno: i32) -> (&'static str, i64, bool) {
        (what, -(errno as i64), false)
    }
    const fn chunk(what: &'static str, errno: i32) -> (&'static str, i64, bool) {
        (what, -(errno as i64), true)
    }
    [
        fails("bpf_iter_uring_buf_new of type 5", EINVAL),
        ("bpf_iter_uring_buf_next after a failed new", 0, false),
        fails("bpf_uring_buf_dynptr after a failed new", EINVAL),
        fails("bpf_uring_buf_dynptr_rdwr after a failed new", EINVAL),
        ("bpf_iter_uring_buf_error after a failed new", 0, false),
        fails("a second iterator of type 5", EINVAL),
        fails("a second iterator over slot 65535", EFAULT),
        ("bytes of an iterator beside two that failed", len, false),
        fails("bpf_dynptr_write to a source's read-only dynptr", EINVAL),
        fails("bpf_dynptr_memset of a source's read-only dynptr", EINVAL),
        fails("bpf_dynptr_copy to a source's read-only dynptr", EINVAL),
        ("bpf_dynptr_data of a source's read-only dynptr", 0, false),
        fails(
            "bpf_dynptr_write to a destination's read-only dynptr",
            EINVAL,
        ),
        fails(
            "bpf_dynptr_memset of a destination's read-only dynptr",
            EINVAL,
        ),
        fails(
            "bpf_dynptr_copy to a destination's read-only dynptr",
            EINVAL,
        ),
        (
            "bpf_dynptr_data of a destination's read-only dynptr",
            0,
            false,
        ),
        fails("bpf_uring_buf_dynptr_rdwr before the first chunk", EINVAL),
        ("chunks with a writable dynptr of another size", 0, false),
        ("chunks with a read-only dynptr of another size", 0, false),
        fails("bpf_uring_buf_dynptr behind the last chunk", EINVAL),
        fails("bpf_uring_buf_dynptr_rdwr behind the last chunk", EINVAL),
        ("bpf_iter_uring_buf_next behind the last chunk", 0, false),
        chunk("bpf_uring_buf_copy of a chunk to itself", 0),
        chunk("bpf_uring_buf_copy past the end of a chunk", E2BIG),
        chunk("bpf_uring_buf_copy from past the end of a chunk", E2BIG),
        chunk("bpf_uring_buf_copy of nothing behind a chunk", E2BIG),
        chunk("bpf_uring_buf_copy of a range that wraps", E2BIG),
        chunk("bpf_uring_buf_copy to a source", EPERM),
        chunk("bpf_uring_buf_copy to no chunk", EINVAL),
        chunk("bpf_uring_buf_copy from no chunk", EINVAL),
        chunk("bpf_uring_buf_to_arena past the end of a chunk", E2BIG),
        chunk("bpf_uring_buf_to_arena of a range that wraps", E2BIG),
        chunk("bpf_uring_buf_to_arena of no chunk", EINVAL),
        chunk("bpf_uring_buf_from_arena past the end of a chunk", E2BIG),
        chunk("bpf_uring_buf_from_arena to a range that wraps", E2BIG),
        chunk("bpf_uring_buf_from_arena to a source", EPERM),
        chunk("bpf_uring_buf_from_arena to no chunk", EINVAL),
        chunk("bpf_uring_buf_fill of a source", EPERM),
        chunk("bpf_uring_buf_fill of no chunk", EINVAL),
        ("bpf_uring_buf_crc32c of no chunk", CHUNK_MAX as i64, true),
        chunk("bpf_uring_buf_xxh64 behind a chunk", E2BIG),
        chunk("bpf_uring_buf_xxh64 with three lanes", EINVAL),
        chunk("bpf_uring_buf_xxh64 of no chunk", EINVAL),
    ]
}

/// `STAGE_BLOCK`: a block is not what was written to it.
pub const STAGE_BLOCK: u32 = 11;

/// What a program was doing when it met its error.
pub fn stage_name(stage: u32) -> &'static str {
    const NAMES: [&str; 12] = [
        "program",
        "bpf_iter_uring_buf_new of the source",
        "bpf_iter_uring_buf_new of the destination",
        "bpf_iter_uring_buf_next of the source",
        "bpf_iter_uring_buf_next of the destination",
        "bpf_uring_buf_dynptr",
        "bpf_uring_buf_dynptr_rdwr",
        "a chunk of no bytes or of more than a page",
        "access to a chunk",
        "more bytes than the request is about",
        "a request out of its stream's order",
        "a block whose checksum is another one",
    ];
    NAMES.get(stage as usize).copied().unwrap_or("program")
}

type RequestInC = bpf_skel::copy::types::request;
type ChunkInC = bpf_skel::chunks::types::chunk;

const _: () = {
    assert!(size_of::<Descriptor>() == 16);
    assert!(size_of::<Request>() == size_of::<RequestInC>());
    assert!(offset_of!(Request, from_arena) == offset_of!(RequestInC, from_arena));
    assert!(offset_of!(Request, word) == offset_of!(RequestInC, word));
    assert!(offset_of!(Request, stream) == offset_of!(RequestInC, stream));
    assert!(offset_of!(Request, bytes) == offset_of!(RequestInC, bytes));
    assert!(offset_of!(Request, error) == offset_of!(RequestInC, error));
    assert!(offset_of!(Request, stage) == offset_of!(RequestInC, stage));
    assert!(size_of::<Behaviour>() == size_of::<bpf_skel::callbacks::types::behaviour>());
    assert!(size_of::<SqeFields>() == size_of::<bpf_skel::callbacks::types::sqe_fields>());
    assert!(
        offset_of!(Behaviour, wrong_pdu)
            == offset_of!(bpf_skel::callbacks::types::behaviour, wrong_pdu)
    );
    assert!(size_of::<Several>() == size_of::<bpf_skel::several::types::several>());
    assert!(offset_of!(Several, error) == offset_of!(bpf_skel::several::types::several, error));
    assert!(size_of::<Trial>() == size_of::<bpf_skel::repro::types::trial>());
    assert!(offset_of!(Trial, fails) == offset_of!(bpf_skel::repro::types::trial, fails));
    assert!(size_of::<Parity>() == size_of::<bpf_skel::blocks::types::parity>());
    assert!(
        offset_of!(Parity, unchecked) == offset_of!(bpf_skel::blocks::types::parity, unchecked)
    );
    assert!(offset_of!(Parity, group) == offset_of!(bpf_skel::blocks::types::parity, group));
    assert!(size_of::<Stream>() == size_of::<bpf_skel::checksum::types::stream>());
    assert!(size_of::<Chunk>() == size_of::<ChunkInC>());
    assert!(offset_of!(Chunk, valid) == offset_of!(ChunkInC, valid));
    assert!(offset_of!(Chunk, last) == offset_of!(ChunkInC, last));
};
