// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Descriptions of buffers that must be refused, each with its errno, and next
//! to them those that must be taken.

use super::bench::{Bench, Session, patience};
use super::case::{Mode, RingMode};
use super::programs::Family;
use super::{Case, Stop};
use crate::errno::res_text;
use crate::memory::{Memory, Protection};
use crate::registration::Table;
use crate::request::{Descriptor, Request, stage_name};
use crate::spec::PageKind;

const PAGE: u64 = 4096;
/// The registered buffer: four pages in each of these slots, of a table of
/// `SLOTS`.
const SLOT: u16 = 1;
const HIGH_SLOT: u16 = 0x102;
const SLOTS: u16 = 0x104;
const LEN: u64 = 4 * PAGE;
/// No user address, and none that the processor can follow.
const KERNEL: u64 = 0xffff_8880_0000_0000;
const NON_CANONICAL: u64 = 0x0000_9000_0000_0000;
const SSIZE_MAX: u64 = i64::MAX as u64;
/// What is written over the zeros that the buffer begins with.
const FILL: u64 = 0xa5;

const USER: u8 = 0;
const FIXED: u8 = 1;
const VEC: u8 = 2;
const KFIXED: u8 = 3;
const REG_VEC: u8 = 4;

/// Where an address is: in the registered buffer, or anywhere.
#[derive(Debug, Clone, Copy)]
enum At {
    In(i64),
    Absolute(u64),
    /// In a page that nothing is mapped in, right behind one that is.
    Unmapped(i64),
}
use At::{Absolute, In, Unmapped};

/// A description, with the iovecs that its address names when it has some.
struct Entry {
    name: &'static str,
    kind: u8,
    reserved: u8,
    index: u16,
    at: At,
    len: u32,
    iovecs: &'static [(At, u64)],
    expected: i32,
}

impl Entry {
    /// Whether it is refused for what it says, before a byte is handed out;
    /// else for memory that turns out not to be there.
    fn is_refused_whole(&self) -> bool {
        let mut iovecs = self.iovecs.iter();
        self.expected < 0 && !iovecs.any(|(at, _)| matches!(at, Unmapped(_)))
    }
}

const fn plain(name: &'static str, kind: u8, index: u16, at: At, len: u32, expected: i32) -> Entry {
    Entry {
        name,
        kind,
        reserved: 0,
        index,
        at,
        len,
        iovecs: &[],
        expected,
    }
}

const fn vector(
    name: &'static str,
    kind: u8,
    iovecs: &'static [(At, u64)],
    expected: i32,
) -> Entry {
    Entry {
        name,
        kind,
        reserved: 0,
        index: if kind == REG_VEC { SLOT } else { 0 },
        at: Absolute(0),
        len: iovecs.len() as u32,
        iovecs,
        expected,
    }
}

const fn reserved(name: &'static str, kind: u8, value: u8) -> Entry {
    Entry {
        reserved: value,
        ..plain(
            name,
            kind,
            SLOT,
            In(0),
            if kind == VEC || kind == REG_VEC { 0 } else { 1 },
            -EINVAL,
        )
    }
}

use libc::{EFAULT, EINVAL, ENOMEM, EOVERFLOW};

const TABLE: &[Entry] = &[
    plain("type 5", 5, SLOT, In(0), 1, -EINVAL),
    plain("type 255", 255, SLOT, In(0), 1, -EINVAL),
    reserved("user, reserved 1", USER, 1),
    reserved("fixed, reserved 255", FIXED, 255),
    reserved("vec, reserved 1", VEC, 1),
    reserved("kfixed, reserved 128", KFIXED, 128),
    reserved("reg-vec, reserved 1", REG_VEC, 1),
    plain("user", USER, 0, In(0), LEN as u32, LEN as i32),
    plain("user, nothing", USER, 0, In(0), 0, 0),
    plain(
        "user, a kernel address",
        USER,
        0,
        Absolute(KERNEL),
        1,
        -EFAULT,
    ),
    plain(
        "user, no address at all",
        USER,
        0,
        Absolute(NON_CANONICAL),
        1,
        -EFAULT,
    ),
    plain("user, address 0", USER, 0, Absolute(0), 1, -EFAULT),
    plain("user, wraps", USER, 0, Absolute(u64::MAX), 2, -EFAULT),
    plain("user, unmapped", USER, 0, Unmapped(0), 1, -EFAULT),
    plain(
        "user, ends in an unmapped page",
        USER,
        0,
        Unmapped(-1),
        2,
        -EFAULT,
    ),
    plain(
        "user, ends before an unmapped page",
        USER,
        0,
        Unmapped(-1),
        1,
        1,
    ),
    plain("fixed", FIXED, SLOT, In(0), LEN as u32, LEN as i32),
    plain(
        "fixed, nothing at the end",
        FIXED,
        SLOT,
        In(LEN as i64),
        0,
        0,
    ),
    plain(
        "fixed, nothing behind the end",
        FIXED,
        SLOT,
        In(LEN as i64 + 1),
        0,
        -EFAULT,
    ),
    plain(
        "fixed, a byte past the end",
        FIXED,
        SLOT,
        In(1),
        LEN as u32,
        -EFAULT,
    ),
    plain(
        "fixed, begins at the end",
        FIXED,
        SLOT,
        In(LEN as i64),
        1,
        -EFAULT,
    ),
    plain("fixed, 4 GiB behind", FIXED, SLOT, In(1 << 32), 1, -EFAULT),
    plain(
        "fixed, begins a byte early",
        FIXED,
        SLOT,
        In(-1),
        2,
        -EFAULT,
    ),
    plain(
        "fixed, offset 0 instead of an address",
        FIXED,
        SLOT,
        Absolute(0),
        1,
        -EFAULT,
    ),
    plain("fixed, wraps", FIXED, SLOT, Absolute(u64::MAX), 2, -EFAULT),
    plain(
        "fixed, u32::MAX bytes",
        FIXED,
        SLOT,
        In(0),
        u32::MAX,
        -EFAULT,
    ),
    plain("fixed, a slot past 255", FIXED, HIGH_SLOT, In(0), 1, 1),
    plain("fixed, empty slot", FIXED, 0, In(0), 1, -EFAULT),
    plain(
        "fixed, empty slot past 255",
        FIXED,
        0x100 | SLOT,
        In(0),
        1,
        -EFAULT,
    ),
    plain(
        "fixed, slot past the table",
        FIXED,
        SLOTS,
        In(0),
        1,
        -EFAULT,
    ),
    plain("fixed, slot 65535", FIXED, u16::MAX, In(0), 1, -EFAULT),
    plain(
        "kfixed of a user buffer, address",
        KFIXED,
        SLOT,
        In(0),
        1,
        -EINVAL,
    ),
    plain(
        "kfixed of a user buffer, offset 0",
        KFIXED,
        SLOT,
        Absolute(0),
        1,
        -EINVAL,
    ),
    plain("kfixed, empty slot", KFIXED, 0, Absolute(0), 1, -EFAULT),
    plain(
        "kfixed, slot past the table",
        KFIXED,
        SLOTS,
        Absolute(0),
        1,
        -EFAULT,
    ),
    plain("vec, no iovecs", VEC, 0, In(0), 0, 0),
    plain(
        "vec, no iovecs at a bad address",
        VEC,
        0,
        Absolute(KERNEL),
        0,
        0,
    ),
    plain("vec, 1025 iovecs", VEC, 0, In(0), 1025, -EINVAL),
    plain("vec, u32::MAX iovecs", VEC, 0, In(0), u32::MAX, -EINVAL),
    plain(
        "vec, array at a kernel address",
        VEC,
        0,
        Absolute(KERNEL),
        1,
        -EFAULT,
    ),
    plain("vec, array at address 0", VEC, 0, Absolute(0), 1, -EFAULT),
    plain("vec, array unmapped", VEC, 0, Unmapped(0), 1, -EFAULT),
    plain(
        "vec, array ends unmapped",
        VEC,
        0,
        Unmapped(-16),
        2,
        -EFAULT,
    ),
    vector("vec", VEC, &[(In(0), 5), (In(9), 7)], 12),
    vector(
        "vec, empty iovecs",
        VEC,
        &[(In(0), 0), (In(1), 3), (In(9), 0)],
        3,
    ),
    vector(
        "vec, a kernel address",
        VEC,
        &[(Absolute(KERNEL), 1)],
        -EFAULT,
    ),
    vector(
        "vec, a kernel address behind others",
        VEC,
        &[(In(0), 1), (In(1), 1), (Absolute(KERNEL), 1)],
        -EFAULT,
    ),
    vector(
        "vec, an iovec that wraps",
        VEC,
        &[(Absolute(u64::MAX), 2)],
        -EFAULT,
    ),
    vector("vec, a length below 0", VEC, &[(In(0), u64::MAX)], -EINVAL),
    vector(
        "vec, a length below 0 behind others",
        VEC,
        &[(In(0), 1), (In(0), 1 << 63)],
        -EINVAL,
    ),
    vector(
        "vec, lengths that wrap",
        VEC,
        &[(In(0), SSIZE_MAX), (In(0), SSIZE_MAX), (In(0), 2)],
        -EINVAL,
    ),
    vector(
        "vec, lengths of more than SSIZE_MAX",
        VEC,
        &[(In(0), SSIZE_MAX), (In(0), 1)],
        -EINVAL,
    ),
    vector(
        "vec, unmapped behind others",
        VEC,
        &[(In(0), 1), (Unmapped(0), 1)],
        -EFAULT,
    ),
    plain("reg-vec, no iovecs", REG_VEC, SLOT, In(0), 0, 0),
    plain("reg-vec, 1025 iovecs", REG_VEC, SLOT, In(0), 1025, -EINVAL),
    plain(
        "reg-vec, u32::MAX iovecs",
        REG_VEC,
        SLOT,
        In(0),
        u32::MAX,
        -ENOMEM,
    ),
    plain(
        "reg-vec, array at a kernel address",
        REG_VEC,
        SLOT,
        Absolute(KERNEL),
        1,
        -EFAULT,
    ),
    plain(
        "reg-vec, array unmapped",
        REG_VEC,
        SLOT,
        Unmapped(0),
        1,
        -EFAULT,
    ),
    plain(
        "reg-vec, array ends unmapped",
        REG_VEC,
        SLOT,
        Unmapped(-16),
        2,
        -EFAULT,
    ),
    plain("reg-vec, empty slot", REG_VEC, 0, In(0), 1, -EFAULT),
    plain(
        "reg-vec, slot past the table",
        REG_VEC,
        SLOTS,
        In(0),
        1,
        -EFAULT,
    ),
    vector("reg-vec", REG_VEC, &[(In(4096), 5), (In(9), 7)], 12),
    vector("reg-vec, all of it", REG_VEC, &[(In(0), LEN)], LEN as i32),
    vector("reg-vec, an empty iovec", REG_VEC, &[(In(0), 0)], -EFAULT),
    vector(
        "reg-vec, an empty iovec behind others",
        REG_VEC,
        &[(In(0), 1), (In(1), 0)],
        -EFAULT,
    ),
    vector(
        "reg-vec, a byte past the end",
        REG_VEC,
        &[(In(0), LEN + 1)],
        -EFAULT,
    ),
    vector(
        "reg-vec, a byte past the end behind others",
        REG_VEC,
        &[(In(0), 1), (In(LEN as i64 - 1), 2)],
        -EFAULT,
    ),
    vector(
        "reg-vec, 4 GiB behind",
        REG_VEC,
        &[(In(1 << 32), 1)],
        -EFAULT,
    ),
    vector(
        "reg-vec, 4 GiB and a byte",
        REG_VEC,
        &[(In(0), (1 << 32) + 1)],
        -EFAULT,
    ),
    vector(
        "reg-vec, begins a byte early",
        REG_VEC,
        &[(In(-1), 2)],
        -EFAULT,
    ),
    vector(
        "reg-vec, wraps",
        REG_VEC,
        &[(In(1), u64::MAX >> 1)],
        -EFAULT,
    ),
    vector(
        "reg-vec, offset 0 instead of an address",
        REG_VEC,
        &[(Absolute(0), 1)],
        -EFAULT,
    ),
];

/// Which of two checks comes first the interface does not say.
const AS_GOOD: &[(&str, i32)] = &[
    ("vec, u32::MAX iovecs", -ENOMEM),
    ("reg-vec, u32::MAX iovecs", -EINVAL),
    ("reg-vec, wraps", -EOVERFLOW),
];

/// Every entry read, and written; and in a worker, which takes the ring's lock
/// for the import and has to give it back whatever comes of that.
pub fn cases() -> Vec<Case> {
    const FAMILIES: &[Family] = &[Family::Checksum, Family::Fill];
    let mut cases = Vec::new();
    for (number, entry) in TABLE.iter().enumerate() {
        for (write, mode) in [
            (false, Mode::Inline),
            (true, Mode::Inline),
            (number % 2 == 0, Mode::Async),
        ] {
            let verb = if write { "write" } else { "read" };
            let mut name = format!("{verb} {}", entry.name);
            if mode == Mode::Async {
                name += " in a worker";
            }
            cases.push(Case::in_mode("errno", name, FAMILIES, mode, move |bench| {
                check(bench, entry, write, mode)
            }));
        }
    }
    cases
}

fn check(bench: &Bench<'_>, entry: &Entry, write: bool, mode: Mode) -> Result<(), Stop> {
    let mut memory = Memory::anonymous(LEN as usize, PageKind::Base)?;
    // A page, and one that is as good as unmapped.
    let mut edge = Memory::anonymous(2 * PAGE as usize, PageKind::Base)?;
    let session = bench.session(RingMode::Plain, false)?;
    let table = Table::new(&session.ring, u32::from(SLOTS))?;
    let region = memory.region();
    for slot in [SLOT, HIGH_SLOT] {
        table.add_region(slot, &region)?;
    }
    let edge = edge.region();
    edge.protect(PAGE as usize..2 * PAGE as usize, Protection::None)?;
    let resolve = |at: At| match at {
        In(offset) => region.address().wrapping_add_signed(offset),
        Absolute(address) => address,
        Unmapped(offset) => (edge.address() + PAGE).wrapping_add_signed(offset),
    };
    let iovecs: Vec<[u64; 2]> = entry
        .iovecs
        .iter()
        .map(|(at, len)| [resolve(*at), *len])
        .collect();
    let descriptor = Descriptor {
        kind: entry.kind,
        reserved: entry.reserved,
        buf_index: entry.index,
        len: entry.len,
        addr: match iovecs.is_empty() {
            true => resolve(entry.at),
            false => iovecs.as_ptr() as u64,
        },
    };
    let got = attempt(bench, &session, descriptor, write, mode)?;
    if entry.is_refused_whole() && region.bytes().iter().any(|byte| *byte != 0) {
        return Err(Stop::Fail(format!(
            "{}: res is {}{}, yet bytes of the buffer were handed out before; expected {} from \
             bpf_iter_uring_buf_new",
            entry.name,
            res_text(got.0),
            got.1,
            res_text(entry.expected)
        )));
    }
    if got.0 != entry.expected && !AS_GOOD.contains(&(entry.name, got.0)) {
        return Err(Stop::Fail(format!(
            "{}: res is {}{}, expected {}",
            entry.name,
            res_text(got.0),
            got.1,
            res_text(entry.expected)
        )));
    }
    Ok(())
}

/// The result of one request over a description, and where it came from.
pub(super) fn attempt(
    bench: &Bench<'_>,
    session: &Session,
    descriptor: Descriptor,
    write: bool,
    mode: Mode,
) -> Result<(i32, String), Stop> {
    let (family, op) = match write {
        true => (Family::Fill, "fill_byte"),
        false => (Family::Checksum, "xor64"),
    };
    let id = session.id(bench.loaded, family, true, op)?;
    let requests = bench.loaded.programs(family, true).requests();
    let mut request = Request {
        word: FILL,
        ..Request::default()
    };
    match write {
        true => request.to = descriptor,
        false => request.from = descriptor,
    }
    requests.set(0, request);
    let entry = bench.entry(id, 0, mode.worker_flag());
    let results = session.run(&[entry], patience(0))?;
    let after = requests.get(0);
    let stage = match after.error {
        0 => String::new(),
        _ => format!(" from {}", stage_name(after.stage)),
    };
    Ok((results[0].unwrap_or_default(), stage))
}
