// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Checksums of a buffer, computed by the BPF program.

use super::{
    Operand, Setup, borrowed, check_chunks, check_outcome, entries, lend, parts, place, table,
};
use crate::error::Failure;
use crate::kernel_buffer::{Direction, Expected, Server};
use crate::memory::Memory;
use crate::program::{Family, Plan, Program, Storage};
use crate::request::{Request, SLOTS};
use crate::ring::Ring;
use crate::submission::{Submission, run as submit};

/// A checksum as the program computed it, over a buffer that is as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summed {
    pub digest: u64,
    pub bytes: u64,
    pub requests: usize,
    pub chunks: u64,
    pub sleepable: bool,
}

/// Sums the buffer once per request in flight; all must agree. `algorithm` is
/// the operation's name: crc32c, xxh64, adler32 or xor64.
pub fn run(setup: &Setup, from: &Operand, algorithm: &str) -> Result<Summed, Failure> {
    let parts = parts(&[from], 1);
    let layout = from.layout(setup.seed, &parts)?;
    let arena_bytes = from.arena_bytes(&layout);
    let mut memory = from.memory(&layout)?;
    let path = memory.as_ref().and_then(Memory::path);
    // Before the ring, as what it serves is gone with that.
    let server = Server::for_layouts(setup.registration, &[&layout])?;
    let server = server.as_ref();
    let entries = entries(setup.depth, server);
    let ring = Ring::open(&setup.kernel, &setup.ring, entries)?;
    let mut storage = Storage::default();
    let op = if from.is_arena() {
        format!("{algorithm}_arena")
    } else {
        algorithm.to_string()
    };
    let plan = Plan {
        ops: vec![&op],
        arena: arena_bytes,
        non_sleepable: setup.non_sleepable,
        ..Plan::default()
    };
    let program = Program::attach(&ring, &mut storage, Family::Checksum, &plan)?;
    let mut arena = program.arena()?;
    let mut source = place(from, layout, memory.as_mut(), &mut arena)?;
    source.prepare(Some(setup.seed));
    let (_table, free) = table(&ring, &[&source], server)?;
    let expected = Expected::Pattern(setup.seed);
    let source_loan = borrowed(&mut source, path, Direction::Write, expected);
    let loan = lend(server, &ring, free, [source_loan])?;

    // Each pass has a stream of its own; the parts of a stream come in turn.
    let passes = setup.depth.clamp(1, SLOTS) as u32;
    let mut summed = Summed {
        bytes: source.len(),
        sleepable: program.sleepable(),
        ..Summed::default()
    };
    for part in parts {
        let view = source.view(&part)?;
        let request = Request {
            from: view.descriptor,
            from_arena: source.address(part.start),
            len: part.end - part.start,
            position: part.start,
            ..Request::default()
        };
        let submissions: Vec<Submission> = (0..passes)
            .map(|stream| Submission {
                id: program.id(&op),
                request: Request { stream, ..request },
                after_previous: false,
            })
            .collect();
        let outcomes = submit(&ring, &program, &submissions, &setup.sqe, setup.depth)?;
        for outcome in &outcomes {
            let what = format!("{algorithm} of bytes {}..{}", part.start, part.end);
            check_outcome(&what, outcome, part.end - part.start)?;
            if !from.is_arena() {
                let chunks = outcome.request.source_chunks;
                check_chunks(&what, "source", chunks, source.chunks(&part))?;
            }
            let digest = outcome.request.digest;
            if digest != outcomes[0].request.digest {
                return Err(Failure::mismatch(format!(
                    "{what}: two requests in flight disagree: {digest:#x} and {:#x}",
                    outcomes[0].request.digest
                )));
            }
            summed.digest = digest;
            summed.requests += 1;
        }
        summed.chunks += u64::from(outcomes[0].request.source_chunks);
    }
    if let Some(loan) = loan {
        loan.give_back()?;
    }
    if let Some(wrong) = source.compare(|position, bytes| expected.write(position, bytes)) {
        return Err(Failure::mismatch(format!("source: {wrong}")));
    }
    Ok(summed)
}
