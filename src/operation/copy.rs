// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Copies between any two buffers, in one request or through the arena in two.

use std::ops::Range;

use super::{
    Operand, Setup, borrowed, check, check_chunks, check_outcome, chunks, entries, lend, parts,
    place, table, take,
};
use crate::buffer::Buffer;
use crate::error::Failure;
use crate::kernel_buffer::{Direction, Expected, Server};
use crate::layout::Shape;
use crate::memory::Memory;
use crate::pattern;
use crate::program::{Family, Plan, Program, Storage};
use crate::request::Request;
use crate::ring::Ring;
use crate::spec::{BufferType, PageKind};
use crate::submission::{Outcome, Submission, run as submit};

/// A copy that went as it must.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    pub requests: usize,
    pub source_chunks: u64,
    pub dest_chunks: u64,
    pub sleepable: bool,
}

/// The operation that copies between two types.
fn operation(from: BufferType, to: BufferType) -> &'static str {
    match (from == BufferType::Arena, to == BufferType::Arena) {
        (true, true) => "within_arena",
        (true, false) => "from_arena",
        (false, true) => "to_arena",
        (false, false) => "between",
    }
}

/// One leg: an operation from one buffer to another.
struct Leg<'b, 'm> {
    op: &'static str,
    from: &'b Buffer<'m>,
    to: &'b Buffer<'m>,
}

/// Copies, and verifies every byte of the destination, the bytes around both
/// buffers, and that the source is as it was.
pub fn run(
    setup: &Setup,
    from: &Operand,
    to: &Operand,
    via_arena: bool,
) -> Result<Copied, Failure> {
    assert_eq!(from.shape.len(), to.shape.len(), "both sides are as long");
    let middle = Operand {
        shape: Shape {
            kind: BufferType::Arena,
            segments: vec![from.shape.len()],
            offset: from.shape.offset,
            index: 0,
            at: 0,
        },
        pages: PageKind::Base,
    };
    let parts = parts(&[from, to], setup.depth);
    let from_layout = from.layout(setup.seed, &parts)?;
    let to_layout = to.layout(setup.seed.wrapping_add(1), &parts)?;
    let middle_layout = middle.layout(setup.seed, &parts)?;
    let middle_bytes = if via_arena {
        middle_layout.size as usize
    } else {
        0
    };

    // Declared in this order so that each is dropped before what it uses.
    let mut from_memory = from.memory(&from_layout)?;
    let mut to_memory = to.memory(&to_layout)?;
    let from_path = from_memory.as_ref().and_then(Memory::path);
    let to_path = to_memory.as_ref().and_then(Memory::path);
    let server = Server::for_layouts(setup.registration, &[&from_layout, &to_layout])?;
    let server = server.as_ref();
    let entries = entries(setup.depth, server);
    let ring = Ring::open(&setup.kernel, &setup.ring, entries)?;
    let mut storage = Storage::default();
    let mut ops = match via_arena {
        true => vec![
            operation(from.shape.kind, BufferType::Arena),
            operation(BufferType::Arena, to.shape.kind),
        ],
        false => vec![operation(from.shape.kind, to.shape.kind)],
    };
    ops.dedup();
    let checked = !from.is_arena() || !to.is_arena();
    if checked {
        ops.push(check::OPERATION);
    }
    let plan = Plan {
        ops,
        arena: from.arena_bytes(&from_layout) + to.arena_bytes(&to_layout) + middle_bytes,
        non_sleepable: setup.non_sleepable,
        ..Plan::default()
    };
    let program = Program::attach(&ring, &mut storage, Family::Copy, &plan)?;
    let mut arena = program.arena()?;
    let mut source = place(from, from_layout, from_memory.as_mut(), &mut arena)?;
    let mut dest = place(to, to_layout, to_memory.as_mut(), &mut arena)?;
    let mut middle = match via_arena {
        true => {
            let region = take(&mut arena, middle_bytes)?;
            Some(Buffer::new(middle.shape, middle_layout, region))
        }
        false => None,
    };
    source.prepare(Some(setup.seed));
    dest.prepare(None);
    if let Some(middle) = &mut middle {
        middle.prepare(None);
    }
    let (_table, free) = table(&ring, &[&source, &dest], server)?;
    let expected = Expected::Pattern(setup.seed);
    let loans = [
        borrowed(&mut source, from_path, Direction::Write, expected),
        borrowed(&mut dest, to_path, Direction::Read, expected),
    ];
    let loan = lend(server, &ring, free, loans)?;

    let mut order = check::Order::AsLaidOut;
    if !from.is_arena() {
        let byte_at = |position| pattern::byte_at(setup.seed, position);
        order = check::refusals(&ring, &program, &source, byte_at)?;
    } else if !to.is_arena() && !to.is_kernel() {
        let byte_at = |position| dest.byte(position);
        order = check::refusals(&ring, &program, &dest, byte_at)?;
    }
    if let Some(loan) = &loan {
        let sides = [(&source, Direction::Write), (&dest, Direction::Read)];
        for (buffer, direction) in sides.into_iter().filter(|(side, _)| side.is_kernel()) {
            check::kernel_refusals(&ring, &program, buffer, direction, loan.empty_slot())?;
        }
    }
    let legs = match &middle {
        Some(middle) => vec![leg(&source, middle), leg(middle, &dest)],
        None => vec![leg(&source, &dest)],
    };
    let copied = transfer(setup, &ring, &program, &legs, &parts)?;
    if let Some(loan) = loan {
        loan.give_back()?;
    }
    let mut buffers = vec![("destination", &dest), ("source", &source)];
    buffers.extend(middle.as_ref().map(|middle| ("arena", middle)));
    for (name, buffer) in buffers {
        if let Some(wrong) = buffer.compare(|position, bytes| expected.write(position, bytes)) {
            return Err(Failure::mismatch(format!("{name}: {wrong}")));
        }
    }
    if order == check::Order::Wrong {
        let checked = if from.is_arena() { to } else { from };
        let listing = chunks::run(setup, checked)?;
        let wrong = listing
            .wrong
            .unwrap_or_else(|| "and yet they do when listed".to_string());
        return Err(Failure::mismatch(format!(
            "the iterator's chunks do not come as the buffer has them: {wrong}"
        )));
    }
    Ok(copied)
}

fn leg<'b, 'm>(from: &'b Buffer<'m>, to: &'b Buffer<'m>) -> Leg<'b, 'm> {
    Leg {
        op: operation(from.shape().kind, to.shape().kind),
        from,
        to,
    }
}

/// Submits every leg of every part, and checks what the requests said.
fn transfer(
    setup: &Setup,
    ring: &Ring,
    program: &Program<'_>,
    legs: &[Leg<'_, '_>],
    parts: &[Range<u64>],
) -> Result<Copied, Failure> {
    let mut views = Vec::new();
    let mut submissions = Vec::new();
    let mut expected = Vec::new();
    for part in parts {
        for (number, leg) in legs.iter().enumerate() {
            let from = leg.from.view(part)?;
            let to = leg.to.view(part)?;
            submissions.push(Submission {
                id: program.id(leg.op),
                request: Request {
                    from: from.descriptor,
                    to: to.descriptor,
                    from_arena: leg.from.address(part.start),
                    to_arena: leg.to.address(part.start),
                    len: part.end - part.start,
                    position: part.start,
                    ..Request::default()
                },
                after_previous: number > 0,
            });
            expected.push((leg, part.clone()));
            // The iovecs that the descriptors name live until all is done.
            views.push((from, to));
        }
    }
    let outcomes = submit(ring, program, &submissions, &setup.sqe, setup.depth)?;
    let mut copied = Copied {
        bytes: legs[0].from.len(),
        requests: outcomes.len(),
        sleepable: program.sleepable(),
        ..Copied::default()
    };
    for (outcome, (leg, part)) in outcomes.iter().zip(&expected) {
        check_leg(outcome, leg, part)?;
        copied.source_chunks += u64::from(outcome.request.source_chunks);
        copied.dest_chunks += u64::from(outcome.request.dest_chunks);
    }
    Ok(copied)
}

fn check_leg(outcome: &Outcome, leg: &Leg<'_, '_>, part: &Range<u64>) -> Result<(), Failure> {
    let what = format!("{} of bytes {}..{}", leg.op, part.start, part.end);
    check_outcome(&what, outcome, part.end - part.start)?;
    if leg.from.shape().kind != BufferType::Arena {
        let chunks = outcome.request.source_chunks;
        check_chunks(&what, "source", chunks, leg.from.chunks(part))?;
    }
    if leg.to.shape().kind != BufferType::Arena {
        let chunks = outcome.request.dest_chunks;
        check_chunks(&what, "destination", chunks, leg.to.chunks(part))?;
    }
    Ok(())
}
