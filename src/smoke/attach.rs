// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Attaching to rings: ids, slots, wrong descriptors; and requests that name a
//! slot with nothing in it.

use std::io;
use std::os::fd::AsRawFd;

use super::bench::{Bench, Entry, Session, patience};
use super::programs::Family;
use super::{Case, Named, Stop};
use crate::announcement::Announcement;
use crate::errno::{Errno, res_text};
use crate::kernel::{ID_SHIFT, IDS};
use crate::request::Behaviour;
use crate::ring::Ring;
use crate::spec::RingOptions;
use crate::struct_ops::{Attachment, Ops};

/// IORING_SETUP_IOPOLL (UAPI).
const SETUP_IOPOLL: u32 = 1 << 0;
const FAMILIES: &[Family] = &[Family::Callbacks];

pub fn cases() -> Vec<Case> {
    let table: [Named; 15] = [
        ("what the kernel announces", announced),
        ("every id from 0 to 15, alone", every_id),
        ("all 16 ids at once", all_at_once),
        ("ids past 15", ids_past_the_end),
        ("a taken slot", taken_slot),
        ("one id on two rings", two_rings),
        ("one map twice", one_map_twice),
        ("what is no ring", no_ring),
        ("a ring without the setup flag", without_flag),
        ("no issue_fn", no_issue),
        ("no prep_fn", no_prep),
        ("the ring goes before the link", ring_goes_first),
        ("sqe: ids of empty slots", empty_slots),
        ("sqe: a ring without the setup flag", plain_ring),
        ("sqe: a ring with IORING_SETUP_IOPOLL", polled_ring),
    ];
    table
        .into_iter()
        .map(|(name, run)| Case::check("attach", name, FAMILIES, run))
        .collect()
}

/// Where the opcode is, an application must find it by every way that there is.
fn announced(bench: &Bench<'_>) -> Result<(), Stop> {
    let kernel = &bench.loaded.kernel;
    let opcode = kernel.opcode.ok_or("the kernel has no opcode")?;
    let session = open(bench)?;
    let announced = Announcement::of(kernel, &session.ring, opcode)?;
    match announced.is_complete() {
        true => Ok(()),
        false => Err(Stop::Fail(announced.to_string())),
    }
}

fn open(bench: &Bench<'_>) -> Result<Session, Stop> {
    let ring = Ring::open(&bench.loaded.kernel, &RingOptions::default(), 32)?;
    Ok(Session::new(ring))
}

fn ops(bench: &Bench<'_>, session: &Session, id: u16) -> Ops {
    bench.ops(Family::Callbacks, "callbacks", &session.ring, id)
}

fn attach(bench: &Bench<'_>, ops: &Ops) -> Result<Attachment, Stop> {
    let attached = bench.loaded.value.attach(ops);
    attached.map_err(|error| Stop::Fail(format!("attaching as id {}: {}", ops.id, name(&error))))
}

fn name(error: &io::Error) -> String {
    res_text(-error.raw_os_error().unwrap_or(libc::EIO))
}

/// Attaching must fail with one of these.
fn refused(bench: &Bench<'_>, what: &str, ops: &Ops, expected: &[i32]) -> Result<(), Stop> {
    match bench.loaded.value.attach(ops) {
        Ok(_) => Err(not_refused(what, "it is attached", expected)),
        Err(error) => refused_with(what, &error, expected),
    }
}

fn refused_with(what: &str, error: &io::Error, expected: &[i32]) -> Result<(), Stop> {
    match expected.contains(&error.raw_os_error().unwrap_or(0)) {
        true => Ok(()),
        false => Err(not_refused(what, &name(error), expected)),
    }
}

fn not_refused(what: &str, got: &str, expected: &[i32]) -> Stop {
    let expected = Errno::new(expected[0]).name();
    Stop::Fail(format!("{what}: {got}, expected -{expected}"))
}

/// What a request of this id completes with; the program says 7.
fn request(bench: &Bench<'_>, session: &Session, id: u32) -> Result<i32, Stop> {
    let programs = bench.loaded.programs(Family::Callbacks, true);
    let map = programs.array::<Behaviour>("behaviours", 1)?;
    let map = map.ok_or("the programs have no map of behaviours")?;
    map.set(
        0,
        Behaviour {
            result: 7,
            sets_result: 1,
            ..Behaviour::default()
        },
    );
    let entry = Entry {
        op_flags: id << ID_SHIFT,
        ..bench.entry(0, 0, 0)
    };
    Ok(session.run(&[entry], patience(0))?[0].unwrap_or_default())
}

fn expect(
    bench: &Bench<'_>,
    session: &Session,
    what: &str,
    id: u32,
    expected: i32,
) -> Result<(), Stop> {
    let got = request(bench, session, id)?;
    match got == expected {
        true => Ok(()),
        false => Err(Stop::Fail(format!(
            "{what}: a request with id {id} ends with {}, expected {}",
            res_text(got),
            res_text(expected)
        ))),
    }
}

fn every_id(bench: &Bench<'_>) -> Result<(), Stop> {
    let session = open(bench)?;
    for id in 0..IDS {
        let attached = attach(bench, &ops(bench, &session, id))?;
        expect(bench, &session, "attached", id.into(), 7)?;
        let other = u32::from((id + 1) % IDS);
        expect(bench, &session, "beside it", other, -libc::EOPNOTSUPP)?;
        drop(attached);
        expect(bench, &session, "detached", id.into(), -libc::EOPNOTSUPP)?;
    }
    Ok(())
}

fn all_at_once(bench: &Bench<'_>) -> Result<(), Stop> {
    let session = open(bench)?;
    let attached: Result<Vec<_>, _> = (0..IDS)
        .map(|id| attach(bench, &ops(bench, &session, id)))
        .collect();
    let _attached = attached?;
    for id in 0..IDS {
        expect(bench, &session, "all attached", id.into(), 7)?;
    }
    Ok(())
}

fn ids_past_the_end(bench: &Bench<'_>) -> Result<(), Stop> {
    let session = open(bench)?;
    for id in [IDS, IDS + 1, 255, u16::MAX] {
        let what = format!("attaching as id {id}");
        refused(bench, &what, &ops(bench, &session, id), &[libc::EINVAL])?;
    }
    Ok(())
}

fn taken_slot(bench: &Bench<'_>) -> Result<(), Stop> {
    let session = open(bench)?;
    let first = attach(bench, &ops(bench, &session, 3))?;
    refused(
        bench,
        "a taken slot",
        &ops(bench, &session, 3),
        &[libc::EBUSY],
    )?;
    expect(bench, &session, "after a second attempt", 3, 7)?;
    drop(first);
    let _second = attach(bench, &ops(bench, &session, 3))
        .map_err(|_| "a slot cannot be taken again after it was detached")?;
    expect(bench, &session, "taken again", 3, 7)
}

fn two_rings(bench: &Bench<'_>) -> Result<(), Stop> {
    let (one, other) = (open(bench)?, open(bench)?);
    let first = attach(bench, &ops(bench, &one, 5))?;
    let _second = attach(bench, &ops(bench, &other, 5))?;
    expect(bench, &one, "the first ring", 5, 7)?;
    expect(bench, &other, "the second ring", 5, 7)?;
    drop(first);
    expect(
        bench,
        &one,
        "detached from the first ring",
        5,
        -libc::EOPNOTSUPP,
    )?;
    expect(bench, &other, "detached from the first ring only", 5, 7)
}

fn one_map_twice(bench: &Bench<'_>) -> Result<(), Stop> {
    let session = open(bench)?;
    let value = &bench.loaded.value;
    let failed = |error: io::Error| Stop::Fail(format!("one map: {}", name(&error)));
    let map = value.map(&ops(bench, &session, 2)).map_err(failed)?;
    let link = value.link(&map).map_err(failed)?;
    match value.link(&map) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        Err(error) => return Err(failed(error)),
        Ok(_) => return Err("a map can be attached twice, expected -EBUSY".into()),
    }
    expect(bench, &session, "after a second attempt", 2, 7)?;
    drop(link);
    let _again = value.link(&map).map_err(failed)?;
    expect(bench, &session, "the same map, attached again", 2, 7)
}

fn no_ring(bench: &Bench<'_>) -> Result<(), Stop> {
    let null = std::fs::File::open("/dev/null").map_err(|_| "open /dev/null")?;
    let session = open(bench)?;
    let mut wrong = ops(bench, &session, 0);
    wrong.ring_fd = null.as_raw_fd();
    let errnos = [libc::EOPNOTSUPP, libc::EBADF, libc::EINVAL];
    refused(bench, "attaching to /dev/null", &wrong, &errnos)?;
    for fd in [-1, i32::MAX] {
        wrong.ring_fd = fd;
        refused(
            bench,
            &format!("attaching to descriptor {fd}"),
            &wrong,
            &[libc::EBADF],
        )?;
    }
    drop(session);
    let closed = open(bench)?;
    wrong.ring_fd = closed.ring.raw_fd();
    drop(closed);
    refused(bench, "attaching to a closed descriptor", &wrong, &errnos)
}

/// A ring with exactly these flags.
fn bare(bench: &Bench<'_>, flags: u32) -> Result<Session, Stop> {
    let opcode = bench.loaded.kernel.opcode.unwrap_or_default();
    let ring = Ring::with_flags(flags, 8, opcode);
    ring.map(Session::new)
        .map_err(|error| Stop::Skip(format!("this kernel makes no such ring: {}", name(&error))))
}

fn without_flag(bench: &Bench<'_>) -> Result<(), Stop> {
    let session = bare(bench, 0)?;
    let what = "attaching to a ring without the setup flag";
    refused(bench, what, &ops(bench, &session, 0), &[libc::EINVAL])
}

fn no_issue(bench: &Bench<'_>) -> Result<(), Stop> {
    let session = open(bench)?;
    let without = Ops {
        issue: None,
        ..ops(bench, &session, 0)
    };
    // Refused, or with requests that do nothing.
    match bench.loaded.value.attach(&without) {
        Ok(_attached) => expect(bench, &session, "without issue_fn", 0, 0),
        Err(error) => refused_with("ops without issue_fn", &error, &[libc::EINVAL]),
    }
}

fn no_prep(bench: &Bench<'_>) -> Result<(), Stop> {
    if bench.loaded.is_posted {
        return Err(Stop::Skip("the posted kernel calls it all the same".into()));
    }
    let session = open(bench)?;
    let without = Ops {
        prep: None,
        ..ops(bench, &session, 0)
    };
    // Refused, or with a pdu of zeros, which names slot 0.
    match bench.loaded.value.attach(&without) {
        Ok(_attached) => expect(bench, &session, "without prep_fn", 0, 7),
        Err(error) => refused_with("ops without prep_fn", &error, &[libc::EINVAL]),
    }
}

fn ring_goes_first(bench: &Bench<'_>) -> Result<(), Stop> {
    if bench.loaded.is_posted {
        return Err(Stop::Skip("defect D6 can take the machine down".into()));
    }
    let session = open(bench)?;
    let attached = attach(bench, &ops(bench, &session, 1))?;
    expect(bench, &session, "attached", 1, 7)?;
    drop(session);
    drop(attached);
    Ok(())
}

fn empty_slots(bench: &Bench<'_>) -> Result<(), Stop> {
    if bench.loaded.is_posted {
        return Err(Stop::Skip("defect D4 can take the machine down".into()));
    }
    let session = open(bench)?;
    let _attached = attach(bench, &ops(bench, &session, 9))?;
    for id in 0..=255 {
        let expected = match id {
            9 => 7,
            0..=15 => -libc::EOPNOTSUPP,
            _ => -libc::EINVAL,
        };
        expect(bench, &session, "id 9 alone is attached", id, expected)?;
    }
    Ok(())
}

fn plain_ring(bench: &Bench<'_>) -> Result<(), Stop> {
    if bench.loaded.is_posted {
        return Err(Stop::Skip("defect D4 can take the machine down".into()));
    }
    let session = bare(bench, 0)?;
    for id in [0, 1, 15] {
        expect(
            bench,
            &session,
            "without the setup flag",
            id,
            -libc::EOPNOTSUPP,
        )?;
    }
    // Which of the two is wrong the interface does not say.
    for id in [16, 255] {
        let got = request(bench, &session, id)?;
        if ![-libc::EINVAL, -libc::EOPNOTSUPP].contains(&got) {
            return Err(Stop::Fail(format!(
                "without the setup flag: a request with id {id} ends with {}, expected -EINVAL",
                res_text(got)
            )));
        }
    }
    Ok(())
}

fn polled_ring(bench: &Bench<'_>) -> Result<(), Stop> {
    if bench.loaded.is_posted {
        return Err(Stop::Skip("defect D4 can take the machine down".into()));
    }
    let flag = crate::program::setup_flag(&bench.loaded.kernel)?;
    let session = bare(bench, flag | SETUP_IOPOLL)?;
    // Attached or not, such a ring takes no request that cannot be polled.
    let attached = bench.loaded.value.attach(&ops(bench, &session, 0));
    let got = request(bench, &session, 0)?;
    drop(attached);
    match got == -libc::EINVAL {
        true => Ok(()),
        false => Err(Stop::Fail(format!(
            "a request on a polled ring ends with {}, expected -EINVAL",
            res_text(got)
        ))),
    }
}
