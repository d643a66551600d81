// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Descriptions of a buffer that the kernel registered, the pages of a block
//! request: which must be refused, each with its errno, and which taken.

use super::bench::{Bench, Borrowing};
use super::case::{Mode, RingMode};
use super::errno_table::attempt;
use super::programs::Family;
use super::transfer::return_loan;
use super::{Case, Machine, Stop};
use crate::buffer::Buffer;
use crate::errno::res_text;
use crate::kernel_buffer::Direction;
use crate::layout::{Layout, Shape};
use crate::memory::Memory;
use crate::registration::Table;
use crate::request::Descriptor;
use crate::spec::{BufferType, PageKind};

/// The request's pages: four, in this slot of a table of `SLOTS`.
const SLOT: u16 = 1;
const SLOTS: u16 = 3;
const LEN: u64 = 4 * 4096;

const FIXED: u8 = 1;
const KFIXED: u8 = 3;
const REG_VEC: u8 = 4;

use libc::{EFAULT, EINVAL, ENOMEM, EOVERFLOW};

/// What a description names.
#[derive(Debug, Clone, Copy)]
enum Named {
    /// So many bytes at an offset.
    Bytes(u64, u32),
    /// So many bytes at an address of this process, where the pages are mapped.
    Address(u32),
    /// Iovecs: offset and length.
    Iovecs(&'static [(u64, u64)]),
    /// One iovec, at the address.
    IovecAtAddress,
    /// So many iovecs, at an address that is none.
    NoIovecs(u32),
}
use Named::{Address, Bytes, IovecAtAddress, Iovecs, NoIovecs};

struct Entry {
    name: &'static str,
    kind: u8,
    slot: u16,
    reserved: u8,
    named: Named,
    /// In the direction of the request.
    expected: i32,
    /// What is as good: which of two checks comes first the interface does
    /// not say.
    or: i32,
}

const fn entry(name: &'static str, kind: u8, named: Named, expected: i32) -> Entry {
    Entry {
        name,
        kind,
        slot: SLOT,
        reserved: 0,
        named,
        expected,
        or: expected,
    }
}

const TABLE: &[Entry] = &[
    entry(
        "kfixed, all of it",
        KFIXED,
        Bytes(0, LEN as u32),
        LEN as i32,
    ),
    entry("kfixed, the last byte", KFIXED, Bytes(LEN - 1, 1), 1),
    entry("kfixed, nothing", KFIXED, Bytes(0, 0), 0),
    entry("kfixed, nothing at the end", KFIXED, Bytes(LEN, 0), 0),
    entry(
        "kfixed, nothing behind the end",
        KFIXED,
        Bytes(LEN + 1, 0),
        -EFAULT,
    ),
    entry("kfixed, begins at the end", KFIXED, Bytes(LEN, 1), -EFAULT),
    entry(
        "kfixed, a byte past the end",
        KFIXED,
        Bytes(1, LEN as u32),
        -EFAULT,
    ),
    entry(
        "kfixed, a page past the end",
        KFIXED,
        Bytes(LEN - 4096, 8192),
        -EFAULT,
    ),
    entry(
        "kfixed, u32::MAX bytes",
        KFIXED,
        Bytes(0, u32::MAX),
        -EFAULT,
    ),
    entry(
        "kfixed, offset u64::MAX",
        KFIXED,
        Bytes(u64::MAX, 1),
        -EFAULT,
    ),
    entry("kfixed, offset 4 GiB", KFIXED, Bytes(1 << 32, 1), -EFAULT),
    entry("kfixed, wraps", KFIXED, Bytes(u64::MAX, 2), -EFAULT),
    entry("kfixed, an address", KFIXED, Address(1), -EFAULT),
    Entry {
        reserved: 1,
        ..entry("kfixed, reserved 1", KFIXED, Bytes(0, 1), -EINVAL)
    },
    Entry {
        slot: 0,
        ..entry("kfixed, empty slot", KFIXED, Bytes(0, 1), -EFAULT)
    },
    entry("fixed, offset 0", FIXED, Bytes(0, 1), -EINVAL),
    entry("fixed, an address", FIXED, Address(1), -EINVAL),
    entry("reg-vec", REG_VEC, Iovecs(&[(8000, 300), (5, 7)]), 307),
    entry(
        "reg-vec, all of it",
        REG_VEC,
        Iovecs(&[(0, LEN)]),
        LEN as i32,
    ),
    entry(
        "reg-vec, the last byte",
        REG_VEC,
        Iovecs(&[(0, 1), (LEN - 1, 1)]),
        2,
    ),
    entry("reg-vec, no iovecs", REG_VEC, NoIovecs(0), 0),
    entry("reg-vec, array at address 0", REG_VEC, NoIovecs(1), -EFAULT),
    entry("reg-vec, 1025 iovecs", REG_VEC, NoIovecs(1025), -EINVAL),
    Entry {
        or: -EINVAL,
        ..entry(
            "reg-vec, u32::MAX iovecs",
            REG_VEC,
            NoIovecs(u32::MAX),
            -ENOMEM,
        )
    },
    entry(
        "reg-vec, an empty iovec",
        REG_VEC,
        Iovecs(&[(0, 0)]),
        -EFAULT,
    ),
    entry(
        "reg-vec, an empty iovec behind others",
        REG_VEC,
        Iovecs(&[(0, 1), (1, 0)]),
        -EFAULT,
    ),
    entry(
        "reg-vec, a byte past the end",
        REG_VEC,
        Iovecs(&[(0, LEN + 1)]),
        -EFAULT,
    ),
    entry(
        "reg-vec, a byte past the end behind others",
        REG_VEC,
        Iovecs(&[(0, 1), (LEN - 1, 2)]),
        -EFAULT,
    ),
    entry(
        "reg-vec, begins at the end",
        REG_VEC,
        Iovecs(&[(LEN, 1)]),
        -EFAULT,
    ),
    entry(
        "reg-vec, offset u64::MAX",
        REG_VEC,
        Iovecs(&[(u64::MAX, 1)]),
        -EFAULT,
    ),
    entry(
        "reg-vec, offset 4 GiB",
        REG_VEC,
        Iovecs(&[(1 << 32, 1)]),
        -EFAULT,
    ),
    entry(
        "reg-vec, 4 GiB and a byte",
        REG_VEC,
        Iovecs(&[(0, (1 << 32) + 1)]),
        -EFAULT,
    ),
    Entry {
        or: -EOVERFLOW,
        ..entry("reg-vec, wraps", REG_VEC, Iovecs(&[(u64::MAX, 2)]), -EFAULT)
    },
    entry("reg-vec, an address", REG_VEC, IovecAtAddress, -EFAULT),
    Entry {
        slot: 0,
        ..entry("reg-vec, empty slot", REG_VEC, Iovecs(&[(0, 1)]), -EFAULT)
    },
    Entry {
        reserved: 255,
        ..entry("reg-vec, reserved 255", REG_VEC, NoIovecs(0), -EINVAL)
    },
];

/// What no request of the other direction may do.
const AGAINST: &[Entry] = &[
    entry("kfixed, wrong direction", KFIXED, Bytes(0, 1), -EFAULT),
    entry(
        "kfixed, all of it, wrong direction",
        KFIXED,
        Bytes(0, LEN as u32),
        -EFAULT,
    ),
    entry(
        "reg-vec, wrong direction",
        REG_VEC,
        Iovecs(&[(0, 1)]),
        -EFAULT,
    ),
];

/// Every entry over the pages of a block write, which are read, and over
/// those of a block read, which are written.
pub fn cases(machine: Machine) -> Vec<Case> {
    const FAMILIES: &[Family] = &[Family::Checksum, Family::Fill];
    if !machine.ublk {
        return Vec::new();
    }
    let mut cases = Vec::new();
    for direction in [Direction::Write, Direction::Read] {
        let forth = direction == Direction::Read;
        let entries = TABLE.iter().map(|entry| (entry, forth));
        for (entry, write) in entries.chain(AGAINST.iter().map(|entry| (entry, !forth))) {
            let verb = if write { "write" } else { "read" };
            let name = format!("{verb} kernel buffer: {}", entry.name);
            // In a worker every other one.
            let mode = match cases.len() % 2 {
                0 => Mode::Inline,
                _ => Mode::Async,
            };
            cases.push(Case::in_mode("errno", name, FAMILIES, mode, move |bench| {
                check(bench, entry, direction, write, mode)
            }));
        }
    }
    cases
}

fn check(
    bench: &Bench<'_>,
    entry: &Entry,
    direction: Direction,
    write: bool,
    mode: Mode,
) -> Result<(), Stop> {
    let shape = Shape {
        kind: BufferType::Kfixed,
        segments: vec![LEN],
        offset: 0,
        index: SLOT,
        at: 0,
    };
    let layout = Layout::in_requests(&shape, 1, std::slice::from_ref(&(0..LEN)))?;
    let mut memory = Memory::anonymous(layout.size as usize, PageKind::Kernel)?;
    let file = memory.path();
    let session = bench.session(RingMode::Plain, false)?;
    let _table = Table::new(&session.ring, u32::from(SLOTS))?;
    let mut buffer = Buffer::new(shape, layout, memory.region());
    buffer.prepare(Some(1));
    let address = buffer.address(0);
    let iovecs: Vec<[u64; 2]> = match entry.named {
        Iovecs(iovecs) => iovecs.iter().map(|(at, len)| [*at, *len]).collect(),
        IovecAtAddress => vec![[address, 1]],
        Bytes(..) | Address(_) | NoIovecs(_) => Vec::new(),
    };
    let (addr, len) = match entry.named {
        Bytes(offset, len) => (offset, len),
        Address(len) => (address, len),
        NoIovecs(count) => (0, count),
        Iovecs(_) | IovecAtAddress => (iovecs.as_ptr() as u64, iovecs.len() as u32),
    };
    let descriptor = Descriptor {
        kind: entry.kind,
        reserved: entry.reserved,
        buf_index: entry.slot,
        len,
        addr,
    };
    let lent = bench.lend(
        &session,
        [Borrowing {
            buffer: &buffer,
            memory: file,
            direction,
            expected: None,
        }],
    )?;
    let (result, stage) = attempt(bench, &session, descriptor, write, mode)?;
    let mut wrong = Vec::new();
    if ![entry.expected, entry.or].contains(&result) {
        wrong.push(format!(
            "{}: res is {}{stage}, expected {}",
            entry.name,
            res_text(result),
            res_text(entry.expected)
        ));
    }
    // Whatever came of it, it came of bytes of the request alone.
    wrong.extend(buffer.compare_guards().map(|found| found.to_string()));
    return_loan(lent, &mut wrong)?;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Stop::Fail(wrong.join("; "))),
    }
}
