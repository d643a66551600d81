// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Checksums of a buffer, computed by the BPF program.

use super::{Operand, Setup, check_chunks, check_outcome, entries, parts, place, table};
use crate::error::Failure;
use crate::pattern;
use crate::program::{Family, Plan, Program, Storage};
use crate::request::Request;
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
    let layout = from.layout(setup.seed);
    let arena_bytes = from.arena_bytes(&layout);
    let mut memory = from.memory(&layout)?;
    let ring = Ring::open(&setup.kernel, &setup.ring, entries(setup.depth))?;
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
    let mut arena = program.arena();
    let mut source = place(from, layout, memory.as_mut(), &mut arena)?;
    source.prepare(Some(setup.seed));
    let _table = table(&ring, &[&source])?;

    // Each pass has a stream of its own; the parts of a stream come in turn.
    let passes = entries(setup.depth).min(setup.depth as u32).max(1);
    let mut summed = Summed {
        bytes: source.len(),
        sleepable: program.sleepable(),
        ..Summed::default()
    };
    for part in parts(source.len(), 1) {
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
    let expected = |position, bytes: &mut [u8]| pattern::fill(setup.seed, position, bytes);
    if let Some(wrong) = source.compare(expected) {
        return Err(Failure::mismatch(format!("source: {wrong}")));
    }
    Ok(summed)
}
