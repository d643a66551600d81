// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the kfuncs refuse a program that has loaded: the attempts of
//! src/bpf/check.h, over a buffer of each type.

use std::time::{Duration, Instant};

use super::bench::{ASYNC, Bench, Session, patience};
use super::case::{RingMode, Side};
use super::place::lay_out;
use super::programs::Family;
use super::{Case, Check, Stop};
use crate::buffer::Buffer;
use crate::errno::res_text;
use crate::memory::Memory;
use crate::registration::Table;
use crate::request::{REFUSALS, Request, attempts, stage_name};
use crate::ring::Ring;
use crate::spec::BufferType;
use crate::struct_ops::{Attachment, Ops};

/// Not an errno and not 0: the attempt was not made.
const UNTRIED: i64 = i64::MIN;
const LEN: u64 = 4097;
/// For how long a request that may not sleep can come when it would have to.
const PERSISTENCE: Duration = Duration::from_secs(3);
/// The attempts that would leave something in the buffer.
const WRITES: std::ops::RangeInclusive<usize> = 8..=15;

pub fn cases() -> Vec<Case> {
    let kinds = [
        BufferType::User,
        BufferType::Fixed,
        BufferType::Vec,
        BufferType::RegVec,
    ];
    const FAMILIES: &[Family] = &[Family::Copy];
    let mut cases = Vec::new();
    let mut add = |name: String, run: Box<Check>| {
        cases.push(Case::check("refusals", name, FAMILIES, run));
    };
    for kind in kinds {
        for (index, (what, _)) in REFUSALS.iter().enumerate() {
            add(
                format!("{what}, {kind}"),
                Box::new(move |bench| check(bench, kind, index)),
            );
        }
        for (index, (what, ..)) in attempts(LEN as i64).iter().enumerate() {
            add(
                format!("{what}, {kind}"),
                Box::new(move |bench| {
                    let session = bench.session(RingMode::Plain, false)?;
                    let id = session.id(bench.loaded, Family::Copy, true, "refuse")?;
                    attempt(bench, &session, id, kind, 0, Some(index))
                }),
            );
        }
        for sleepable in [true, false] {
            let words = if sleepable { "" } else { " sleepable=no" };
            add(
                format!("all of it, and the lock is given back, {kind}{words}"),
                Box::new(move |bench| lock(bench, kind, sleepable)),
            );
        }
    }
    cases
}

fn check(bench: &Bench<'_>, kind: BufferType, index: usize) -> Result<(), Stop> {
    let (shape, layout) = lay_out(&Side::plain(kind), LEN, 1, 7);
    let mut memory = Memory::anonymous(layout.size as usize, crate::spec::PageKind::Base)?;
    let session = bench.session(RingMode::Plain, false)?;
    let table = Table::new(&session.ring, 2)?;
    let mut buffer = Buffer::new(shape, layout, memory.region());
    buffer.prepare(Some(7));
    table.add(&buffer)?;
    let view = buffer.view(&(0..LEN))?;
    let programs = bench.loaded.programs(Family::Copy, true);
    let results = programs
        .array::<i64>("refusals", REFUSALS.len())?
        .ok_or("the programs have no map of refusals")?;
    for attempt in 0..REFUSALS.len() {
        results.set(attempt, UNTRIED);
    }
    programs.requests().set(
        0,
        Request {
            from: view.descriptor,
            len: LEN,
            ..Request::default()
        },
    );
    let id = session.id(bench.loaded, Family::Copy, true, "check")?;
    session.run(&[bench.entry(id, 0, 0)], patience(LEN))?;
    let (what, expected) = REFUSALS[index];
    match results.get(index) {
        got if got == i64::from(expected) => Ok(()),
        UNTRIED => Err(Stop::Fail(format!(
            "{what}: the program did not come to it"
        ))),
        got => Err(Stop::Fail(format!(
            "{what}: {}, expected {}",
            res_text(got as i32),
            res_text(expected)
        ))),
    }
}

/// In a worker the iterators take the ring's lock: after those that did not
/// open, others must get it still, and so must this process.
fn lock(bench: &Bench<'_>, kind: BufferType, sleepable: bool) -> Result<(), Stop> {
    let session = Session::new(Ring::open(&bench.loaded.kernel, &Default::default(), 8)?);
    let attached = match sleepable {
        true => attach(bench, &session, "refuse_issue")?,
        false => attach(bench, &session, "refuse_atomic")?,
    };
    for flags in [ASYNC, 0, ASYNC] {
        attempt(bench, &session, 0, kind, flags, None)?;
    }
    drop(attached);
    Ok(())
}

/// One of the programs that make the attempts, as id 0.
pub fn attach(bench: &Bench<'_>, session: &Session, program: &str) -> Result<Attachment, Stop> {
    let programs = bench.loaded.programs(Family::Copy, true);
    let issue = programs.program(program).ok_or_else(|| {
        Stop::Skip("the kernel gives its iterators to sleepable programs alone".into())
    })?;
    let ops = Ops {
        issue: Some(issue),
        ..bench.ops(Family::Copy, "refuse", &session.ring, 0)
    };
    let attached = bench.loaded.value.attach(&ops);
    attached.map_err(|error| Stop::Fail(format!("attaching {program}: {error}")))
}

/// Makes all attempts in one request, and looks at what came of one of them or
/// of all.
fn attempt(
    bench: &Bench<'_>,
    session: &Session,
    id: u32,
    kind: BufferType,
    flags: u8,
    index: Option<usize>,
) -> Result<(), Stop> {
    let (shape, layout) = lay_out(&Side::plain(kind), LEN, 1, 7);
    let mut memory = Memory::anonymous(layout.size as usize, crate::spec::PageKind::Base)?;
    let table = Table::new(&session.ring, 2)?;
    let mut buffer = Buffer::new(shape, layout, memory.region());
    buffer.prepare(Some(7));
    table.add(&buffer)?;
    let before = buffer.stream();
    let view = buffer.view(&(0..LEN))?;
    let programs = bench.loaded.programs(Family::Copy, true);
    let table = attempts(LEN as i64);
    let results = programs
        .array::<i64>("attempts", table.len())?
        .ok_or("the programs have no map of attempts")?;
    let run = || {
        for attempt in 0..table.len() {
            results.set(attempt, UNTRIED);
        }
        programs.requests().set(
            0,
            Request {
                from: view.descriptor,
                to: view.descriptor,
                ..Request::default()
            },
        );
        session.run(&[bench.entry(id, 0, flags)], patience(LEN))?;
        Ok::<_, Stop>(programs.requests().get(0))
    };
    // Who may not sleep has to try again while somebody has the lock, as this
    // process has while it submits.
    let until = Instant::now() + PERSISTENCE;
    let mut request = run()?;
    let again = i64::from(-libc::EAGAIN);
    while (0..table.len()).any(|attempt| results.get(attempt) == again)
        || request.error == -libc::EAGAIN
    {
        if Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        request = run()?;
    }
    let mut wrong = Vec::new();
    if request.error != 0 {
        let stage = stage_name(request.stage);
        wrong.push(format!("{} from {stage}", res_text(request.error)));
    }
    let mut absent = false;
    for (number, (what, expected, optional)) in table.iter().enumerate() {
        if index.is_some_and(|index| index != number) {
            continue;
        }
        match results.get(number) {
            got if got == *expected => {}
            UNTRIED if *optional => absent = true,
            UNTRIED => wrong.push(format!("{what}: the program did not come to it")),
            got => wrong.push(format!(
                "{what}: {}, expected {}",
                res_text(got as i32),
                res_text(*expected as i32)
            )),
        }
    }
    // Whoever looks at one attempt is not told of what another one wrote.
    let changed = buffer.stream() != before;
    if changed && index.is_none_or(|index| WRITES.contains(&index)) {
        wrong.push("the buffer is not as it was".to_string());
    }
    if let Some(found) = buffer.compare_guards() {
        wrong.push(found.to_string());
    }
    match wrong.is_empty() {
        true if absent && index.is_some() => Err(Stop::Skip(
            "the kernel has no such kfunc for whole chunks".into(),
        )),
        true => Ok(()),
        false => Err(Stop::Fail(wrong.join("; "))),
    }
}
