// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What requests must give back: pinned pages, memory, registered buffers, and
//! the programs' maps. Each is used often enough that a leak shows.

use std::fs;
use std::time::{Duration, Instant};

use super::bench::{Bench, patience};
use super::case::RingMode;
use super::programs::Family;
use super::{Case, Named, Set, Stop};
use crate::errno::res_text;
use crate::memory::Memory;
use crate::proc::{number, pins};
use crate::registration::Table;
use crate::request::{Descriptor, Request};
use crate::spec::PageKind;

/// Buffer types (UAPI).
const USER: u8 = 0;
const FIXED: u8 = 1;
const VEC: u8 = 2;
const REG_VEC: u8 = 4;
/// No user address.
const KERNEL: u64 = 0xffff_8880_0000_0000;
const IOVECS: usize = 1024;
/// Of iovec arrays of 16 KiB: a leak of each comes to 24 MiB.
const MANY: usize = 1500;
/// Kernel memory may grow by this much by itself.
const NOISE: u64 = 12 << 20;

pub(crate) fn cases(set: Set) -> Vec<Case> {
    /// The thorough set looks as often for the same.
    const TIMES: usize = 5;
    let table: [Named; 18] = [
        ("pinned pages of a user source", |bench| {
            pinned_pages(bench, USER, false)
        }),
        ("pinned pages of a user destination", |bench| {
            pinned_pages(bench, USER, true)
        }),
        ("pinned pages of a vec source", |bench| {
            pinned_pages(bench, VEC, false)
        }),
        ("pinned pages of a vec destination", |bench| {
            pinned_pages(bench, VEC, true)
        }),
        ("pinned pages of a user source, left early", |bench| {
            left_early(bench, USER, false)
        }),
        ("pinned pages of a user destination, left early", |bench| {
            left_early(bench, USER, true)
        }),
        ("pinned pages of a vec source, left early", |bench| {
            left_early(bench, VEC, false)
        }),
        ("pinned pages of a vec destination, left early", |bench| {
            left_early(bench, VEC, true)
        }),
        ("pages of a user source", |bench| {
            user_pages(bench, &Way::Read(USER))
        }),
        ("pages of a user destination", |bench| {
            user_pages(bench, &Way::Write(USER))
        }),
        ("pages of a vec source", |bench| {
            user_pages(bench, &Way::Read(VEC))
        }),
        ("pages of a vec destination", |bench| {
            user_pages(bench, &Way::Write(VEC))
        }),
        ("pages of programs that may not sleep", |bench| {
            user_pages(bench, &Way::Atomic)
        }),
        ("iovec arrays of vec", |bench| iovecs(bench, VEC, true)),
        ("iovec arrays of reg-vec", |bench| {
            iovecs(bench, REG_VEC, true)
        }),
        ("iovec arrays of vec that fail", |bench| {
            iovecs(bench, VEC, false)
        }),
        ("iovec arrays of reg-vec that fail", |bench| {
            iovecs(bench, REG_VEC, false)
        }),
        ("registered buffers", registered_buffers),
    ];
    const FAMILIES: &[Family] = &[
        Family::Checksum,
        Family::Fill,
        Family::Copy,
        Family::Callbacks,
    ];
    let times = if set == Set::Full { TIMES } else { 1 };
    let mut cases: Vec<Case> = table
        .into_iter()
        .map(|(name, run)| {
            Case::check("resources", name, FAMILIES, move |bench| {
                (0..times).try_for_each(|_| once_more(|| run(bench)))
            })
        })
        .collect();
    cases.push(Case::check(
        "resources",
        "maps of requests that have ended",
        FAMILIES,
        maps,
    ));
    cases
}

/// What is counted is all processes' together: growth is a leak only if it
/// comes every time.
fn once_more(run: impl Fn() -> Result<(), Stop>) -> Result<(), Stop> {
    const TIMES: usize = 3;
    let mut ended = run();
    for _ in 1..TIMES {
        if !matches!(ended, Err(Stop::Fail(_))) {
            break;
        }
        ended = run();
    }
    ended
}

/// Has fill-byte write what a description is of, so many times.
fn write(bench: &Bench<'_>, to: Descriptor, times: usize, expected: i32) -> Result<(), Stop> {
    let request = Request {
        to,
        ..Request::default()
    };
    submit(bench, (Family::Fill, "fill_byte"), request, times, expected)
}

/// Has xor64 read it.
fn read(bench: &Bench<'_>, from: Descriptor, times: usize, expected: i32) -> Result<(), Stop> {
    let request = Request {
        from,
        ..Request::default()
    };
    submit(bench, (Family::Checksum, "xor64"), request, times, expected)
}

fn submit(
    bench: &Bench<'_>,
    (family, op): (Family, &str),
    request: Request,
    times: usize,
    expected: i32,
) -> Result<(), Stop> {
    let session = bench.session(RingMode::Plain, false)?;
    let id = session.id(bench.loaded, family, true, op)?;
    let requests = bench.loaded.programs(family, true).requests();
    for _ in 0..times {
        requests.set(0, request);
        let result = session.run(&[bench.entry(id, 0, 0)], patience(64 << 20))?[0];
        if result != Some(expected) {
            let got = result.map_or("nothing".to_string(), res_text);
            let expected = res_text(expected);
            return Err(Stop::Fail(format!("res is {got}, expected {expected}")));
        }
    }
    Ok(())
}

/// What a process holds, and what is pinned by all.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    pins: Option<u64>,
    /// KiB, of this process.
    pinned: u64,
    locked: u64,
}

impl Held {
    pub fn look() -> Self {
        let status = |key| number("/proc/self/status", key).unwrap_or(0);
        Held {
            pins: pins(),
            pinned: status("VmPin"),
            locked: status("VmLck"),
        }
    }

    /// Fails where more is held than at this look, for longer than what a
    /// request leaves behind for a moment.
    pub fn compare(&self) -> Result<(), Stop> {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let now = Held::look();
            let grown = [
                (
                    "pins of user pages",
                    now.pins.unwrap_or(0),
                    self.pins.unwrap_or(0),
                ),
                ("KiB of VmPin", now.pinned, self.pinned),
                ("KiB of VmLck", now.locked, self.locked),
            ];
            let more = grown.into_iter().find(|(_, now, before)| now > before);
            match more {
                None => return Ok(()),
                Some((what, now, before)) if Instant::now() > until => {
                    return Err(Stop::Fail(format!(
                        "{} more {what} after the case than before",
                        now - before
                    )));
                }
                Some(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// What kmemleak finds, where the kernel has it.
pub fn leaks() -> Option<String> {
    const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
    // It reports what is unreferenced in a scan and at least five seconds old.
    fs::write(KMEMLEAK, "scan").ok()?;
    std::thread::sleep(Duration::from_secs(6));
    fs::write(KMEMLEAK, "scan").ok()?;
    let report = fs::read_to_string(KMEMLEAK).ok()?;
    let first = report.lines().next()?;
    let count = report.matches("unreferenced object").count();
    Some(format!("kmemleak finds {count} objects: {first}"))
}

/// A description of a whole buffer, which VEC has through one iovec.
fn whole(kind: u8, iovec: &[u64; 2]) -> Descriptor {
    let (len, addr) = match kind {
        VEC | REG_VEC => (1, iovec.as_ptr() as u64),
        _ => (iovec[1] as u32, iovec[0]),
    };
    Descriptor {
        kind,
        len,
        addr,
        ..Descriptor::default()
    }
}

/// The pins of user pages, where they can be counted.
fn counted_pins() -> Result<u64, Stop> {
    pins().ok_or_else(|| {
        Stop::Skip("no exact counts of pins in /proc/vmstat (vm.stat_refresh is for root)".into())
    })
}

/// An iterator that is destroyed before its end has pinned pages that it never
/// handed out.
fn left_early(bench: &Bench<'_>, kind: u8, is_destination: bool) -> Result<(), Stop> {
    const LEN: usize = 64 * 4096;
    let before = counted_pins()?;
    let mut long = Memory::anonymous(LEN, PageKind::Base)?;
    let mut short = Memory::anonymous(4096, PageKind::Base)?;
    let iovec = [long.region().address(), LEN as u64];
    let long = whole(kind, &iovec);
    let short = whole(USER, &[short.region().address(), 4096]);
    let (from, to) = match is_destination {
        true => (short, long),
        false => (long, short),
    };
    let request = Request {
        from,
        to,
        ..Request::default()
    };
    submit(bench, (Family::Copy, "between"), request, 16, 4096)?;
    let after = pins().unwrap_or(before);
    match after > before {
        false => Ok(()),
        true => Err(Stop::Fail(format!(
            "{} pins of user pages were not given back by 16 iterators over 64 pages that were \
             destroyed after the first: pages that were pinned and not handed out",
            after - before
        ))),
    }
}

fn pinned_pages(bench: &Bench<'_>, kind: u8, is_destination: bool) -> Result<(), Stop> {
    const LEN: usize = 256 * 4096;
    let before = counted_pins()?;
    let mut memory = Memory::anonymous(LEN, PageKind::Base)?;
    let region = memory.region();
    let iovec = [region.address(), LEN as u64];
    let whole = whole(kind, &iovec);
    let run: fn(&Bench<'_>, Descriptor, usize, i32) -> Result<(), Stop> =
        if is_destination { write } else { read };
    run(bench, whole, 8, LEN as i32)?;
    region.protect(LEN - 1..LEN, crate::memory::Protection::None)?;
    run(bench, whole, 8, -libc::EFAULT)?;
    let after = pins().unwrap_or(before);
    match after > before {
        false => Ok(()),
        true => Err(Stop::Fail(format!(
            "{} pins of user pages were not given back by 16 requests over 256 pages",
            after - before
        ))),
    }
}

/// How the pages of a buffer are come by.
enum Way {
    Read(u8),
    Write(u8),
    /// By programs that may not sleep, as a source and as a destination.
    Atomic,
}

/// Pages that somebody still refers to do not become free with their mapping.
fn user_pages(bench: &Bench<'_>, way: &Way) -> Result<(), Stop> {
    const LEN: usize = 16 << 20;
    let free = || number("/proc/meminfo", "MemFree").unwrap_or(0) << 10;
    let round = || {
        let mut memory = Memory::anonymous(LEN, PageKind::Base)?;
        let iovec = [memory.region().address(), LEN as u64];
        match way {
            Way::Read(kind) => read(bench, whole(*kind, &iovec), 1, LEN as i32),
            Way::Write(kind) => write(bench, whole(*kind, &iovec), 1, LEN as i32),
            Way::Atomic => walk_at_once(bench, whole(USER, &iovec)),
        }
    };
    round()?;
    let before = free();
    for _ in 0..3 {
        round()?;
    }
    let lost = before.saturating_sub(free());
    match lost > 2 * LEN as u64 {
        false => Ok(()),
        true => Err(Stop::Fail(format!(
            "{} MiB are lost after requests over 48 MiB of user pages",
            lost >> 20
        ))),
    }
}

/// By a program that may not sleep and, where it would have to, stops: what it
/// has by then it must give back all the same.
fn walk_at_once(bench: &Bench<'_>, buffer: Descriptor) -> Result<(), Stop> {
    let ring = crate::ring::Ring::open(&bench.loaded.kernel, &Default::default(), 8)?;
    let session = super::bench::Session::new(ring);
    let _attached = super::refusals::attach(bench, &session, "refuse_atomic")?;
    bench.loaded.programs(Family::Copy, true).requests().set(
        0,
        Request {
            from: buffer,
            to: buffer,
            ..Request::default()
        },
    );
    let result = session.run(&[bench.entry(0, 0, 0)], patience(64 << 20))?[0];
    match result {
        Some(0) => Ok(()),
        Some(again) if again == -libc::EAGAIN => Ok(()),
        other => Err(Stop::Fail(format!(
            "res is {}, expected 0",
            other.map_or("nothing".to_string(), res_text)
        ))),
    }
}

fn iovecs(bench: &Bench<'_>, kind: u8, succeed: bool) -> Result<(), Stop> {
    let mut memory = Memory::anonymous(4096, PageKind::Base)?;
    let region = memory.region();
    let session = bench.session(RingMode::Plain, false)?;
    let table = Table::new(&session.ring, 1)?;
    table.add_region(0, &region)?;
    // Of VEC most may be empty, and cost nothing.
    let len = u64::from(kind == REG_VEC);
    let mut array = vec![[region.address(), len]; IOVECS];
    if !succeed {
        array[IOVECS - 1] = match kind {
            REG_VEC => [region.address(), 4097],
            _ => [KERNEL, 1],
        };
    }
    let buffer = Descriptor {
        kind,
        len: IOVECS as u32,
        addr: array.as_ptr() as u64,
        ..Descriptor::default()
    };
    let used = || number("/proc/meminfo", "SUnreclaim").unwrap_or(0) << 10;
    let expected = match succeed {
        true => IOVECS as i32 * len as i32,
        false => -libc::EFAULT,
    };
    read(bench, buffer, 16, expected)?;
    let before = used();
    read(bench, buffer, MANY, expected)?;
    let grown = used().saturating_sub(before);
    match grown > NOISE {
        false => Ok(()),
        true => Err(Stop::Fail(format!(
            "kernel memory grew by {} KiB over requests with 1024 iovecs: \
             the iovec arrays are not freed",
            grown >> 10
        ))),
    }
}

/// A reference to a registered buffer keeps its pages pinned.
fn registered_buffers(bench: &Bench<'_>) -> Result<(), Stop> {
    const LEN: usize = 64 * 4096;
    let status = || number("/proc/self/status", "VmPin").unwrap_or(0);
    let before = (pins(), status());
    for kind in [FIXED, REG_VEC] {
        let mut memory = Memory::anonymous(LEN, PageKind::Base)?;
        let region = memory.region();
        let session = bench.session(RingMode::Plain, false)?;
        let table = Table::new(&session.ring, 1)?;
        table.add_region(0, &region)?;
        let good = [region.address(), LEN as u64];
        read(bench, whole(kind, &good), 3, LEN as i32)?;
        let past = [region.address(), LEN as u64 + 1];
        read(bench, whole(kind, &past), 3, -libc::EFAULT)?;
        drop(table);
        let after = (pins(), status());
        // Each of the two by itself.
        if after.0 > before.0 || after.1 > before.1 {
            return Err(Stop::Fail(format!(
                "a registered buffer is still pinned when it has been unregistered \
                 (type {kind}): {} pins, before {}; VmPin {} KiB, before {} KiB",
                after.0.unwrap_or(0),
                before.0.unwrap_or(0),
                after.1,
                before.1
            )));
        }
    }
    Ok(())
}

/// Requests hold their programs' map until they end, and no longer.
fn maps(bench: &Bench<'_>) -> Result<(), Stop> {
    let ring = crate::ring::Ring::open(&bench.loaded.kernel, &Default::default(), 8)?;
    let ops = bench.ops(Family::Callbacks, "callbacks", &ring, 0);
    let session = super::bench::Session::new(ring);
    let programs = bench.loaded.programs(Family::Callbacks, true);
    let map = programs.array::<crate::request::Behaviour>("behaviours", 4)?;
    let map = map.ok_or("the programs have no map of behaviours")?;
    let attached = bench
        .loaded
        .value
        .attach(&ops)
        .map_err(|error| Stop::Fail(format!("attaching the callbacks: {error}")))?;
    let id = attached
        .map_id()
        .map_err(|error| Stop::Fail(format!("the map's id: {error}")))?;
    for (prep, result) in [(0, 0), (0, -libc::EIO), (-libc::EIO, 0)] {
        map.set(
            0,
            crate::request::Behaviour {
                prep_result: prep,
                result,
                sets_result: 1,
                ..Default::default()
            },
        );
        let flags = super::bench::LINK;
        session.run(
            &[bench.entry(0, 0, flags), bench.entry(0, 0, 0)],
            patience(0),
        )?;
    }
    drop(attached);
    drop(session);
    let until = Instant::now() + Duration::from_secs(5);
    while crate::struct_ops::map_exists(id) {
        if Instant::now() > until {
            return Err(
                "the programs' map stays although its requests have ended and nothing \
                        is attached: a reference to it is leaked"
                    .into(),
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
