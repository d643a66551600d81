// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Patterns written by the BPF program.

use super::{
    Operand, Setup, borrowed, check_chunks, check_outcome, entries, lend, parts, place, table,
};
use crate::error::Failure;
use crate::kernel_buffer::{Direction, Expected, Server};
use crate::memory::Memory;
use crate::oracle::Fill;
use crate::program::{Family, Plan, Program, Storage};
use crate::request::Request;
use crate::ring::Ring;
use crate::submission::{Submission, run as submit};

/// A fill that went as it must.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filled {
    pub bytes: u64,
    pub requests: usize,
    pub chunks: u64,
    pub sleepable: bool,
}

/// Fills the buffer by an operation of the `fill` family (fill_byte,
/// fill_word, fill_count, fill_random) with its argument, and compares it with
/// `expected`, which writes what must stand from a position on.
pub fn run(
    setup: &Setup,
    to: &Operand,
    operation: &str,
    word: u64,
    expected: impl Fn(u64, &mut [u8]),
) -> Result<Filled, Failure> {
    let parts = parts(&[to], setup.depth);
    let layout = to.layout(setup.seed, &parts)?;
    let arena_bytes = to.arena_bytes(&layout);
    let mut memory = to.memory(&layout)?;
    let path = memory.as_ref().and_then(Memory::path);
    // Before the ring, as what it serves is gone with that.
    let server = Server::for_layouts(setup.registration, &[&layout])?;
    let server = server.as_ref();
    let entries = entries(setup.depth, server);
    let ring = Ring::open(&setup.kernel, &setup.ring, entries)?;
    let mut storage = Storage::default();
    let op = if to.is_arena() {
        format!("{operation}_arena")
    } else {
        operation.to_string()
    };
    let plan = Plan {
        ops: vec![&op],
        arena: arena_bytes,
        non_sleepable: setup.non_sleepable,
        ..Plan::default()
    };
    let program = Program::attach(&ring, &mut storage, Family::Fill, &plan)?;
    let mut arena = program.arena()?;
    let mut dest = place(to, layout, memory.as_mut(), &mut arena)?;
    dest.prepare(None);
    let (_table, free) = table(&ring, &[&dest], server)?;
    let told = Fill::of_operation(operation, word)
        .ok_or_else(|| Failure::usage(format!("no fill operation {operation}")))?;
    let dest_loan = borrowed(&mut dest, path, Direction::Read, Expected::Fill(told));
    let loan = lend(server, &ring, free, [dest_loan])?;

    let mut views = Vec::new();
    let mut submissions = Vec::new();
    for part in &parts {
        let view = dest.view(part)?;
        submissions.push(Submission {
            id: program.id(&op),
            request: Request {
                to: view.descriptor,
                to_arena: dest.address(part.start),
                len: part.end - part.start,
                position: part.start,
                word,
                ..Request::default()
            },
            after_previous: false,
        });
        views.push(view);
    }
    let outcomes = submit(&ring, &program, &submissions, &setup.sqe, setup.depth)?;
    let mut filled = Filled {
        bytes: dest.len(),
        requests: outcomes.len(),
        sleepable: program.sleepable(),
        ..Filled::default()
    };
    for (outcome, part) in outcomes.iter().zip(&parts) {
        let what = format!("{operation} of bytes {}..{}", part.start, part.end);
        check_outcome(&what, outcome, part.end - part.start)?;
        if !to.is_arena() {
            let chunks = outcome.request.dest_chunks;
            check_chunks(&what, "destination", chunks, dest.chunks(part))?;
        }
        filled.chunks += u64::from(outcome.request.dest_chunks);
    }
    if let Some(loan) = loan {
        loan.give_back()?;
    }
    match dest.compare(expected) {
        Some(wrong) => Err(Failure::mismatch(format!("destination: {wrong}"))),
        None => Ok(filled),
    }
}
