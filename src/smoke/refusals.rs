// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the kfuncs refuse a program that has loaded: the attempts of
//! src/bpf/check.h, over a buffer of each type.

use super::bench::{Bench, patience};
use super::case::{RingMode, Side};
use super::place::lay_out;
use super::programs::Family;
use super::{Case, Stop};
use crate::buffer::Buffer;
use crate::errno::res_text;
use crate::memory::Memory;
use crate::registration::Table;
use crate::request::{REFUSALS, Request};
use crate::spec::BufferType;

/// Not an errno and not 0: the attempt was not made.
const UNTRIED: i64 = i64::MIN;
const LEN: u64 = 4097;

pub fn cases() -> Vec<Case> {
    let kinds = [
        BufferType::User,
        BufferType::Fixed,
        BufferType::Vec,
        BufferType::RegVec,
    ];
    let all = kinds.into_iter().flat_map(|kind| {
        REFUSALS.iter().enumerate().map(move |(index, (what, _))| {
            let name = format!("{what}, {kind}");
            Case::check("refusals", name, &[Family::Copy], move |bench| {
                check(bench, kind, index)
            })
        })
    });
    all.collect()
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
