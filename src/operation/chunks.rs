// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the iterator hands out, chunk by chunk.

use super::{Operand, Setup, borrowed, check_outcome, entries, lend, parts, place, table};
use std::ops::Range;

use crate::buffer::Buffer;
use crate::error::Failure;
use crate::kernel_buffer::{Direction, Expected, Server};
use crate::memory::Memory;
use crate::pattern;
use crate::program::{Family, Plan, Program, Storage};
use crate::request::{Chunk, Request};
use crate::ring::Ring;
use crate::spec::BufferType;
use crate::submission::{Submission, run as submit};

/// A chunk, and what it should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    pub index: usize,
    pub chunk: Chunk,
    /// The segment that the chunk's offset falls into.
    pub segment: usize,
    /// What the layout makes of it; `None` past the expected end.
    pub expected: Option<Chunk>,
}

impl Listed {
    pub fn is_as_expected(&self) -> bool {
        self.expected == Some(self.chunk)
    }
}

/// The list, and the first thing about it that is wrong.
#[derive(Debug, Clone)]
pub struct Listing {
    pub chunks: Vec<Listed>,
    pub bytes: u64,
    pub sleepable: bool,
    pub wrong: Option<String>,
}

/// Lists the chunks of a source buffer.
pub fn run(setup: &Setup, from: &Operand) -> Result<Listing, Failure> {
    assert_ne!(
        from.shape.kind,
        BufferType::Arena,
        "the arena has no iterator"
    );
    let parts = parts(&[from], 1);
    let layout = from.layout(setup.seed, &parts)?;
    let mut memory = from.memory(&layout)?;
    let path = memory.as_ref().and_then(Memory::path);
    // Before the ring, as what it serves is gone with that.
    let server = Server::for_layouts(setup.registration, &[&layout])?;
    let server = server.as_ref();
    let ring = Ring::open(&setup.kernel, &setup.ring, entries(1, server))?;
    let mut storage = Storage::default();
    let mut source = place(from, layout, memory.as_mut(), &mut None)?;
    source.prepare(Some(setup.seed));
    // Room for a kernel that hands out too many.
    let room = 2 * source.chunks(&(0..source.len())) as usize + 16;
    let plan = Plan {
        ops: vec!["list"],
        chunks: room,
        non_sleepable: setup.non_sleepable,
        ..Plan::default()
    };
    let program = Program::attach(&ring, &mut storage, Family::Chunks, &plan)?;
    let (_table, free) = table(&ring, &[&source], server)?;
    let holds = Expected::Pattern(setup.seed);
    let source_loan = borrowed(&mut source, path, Direction::Write, holds);
    let loan = lend(server, &ring, free, [source_loan])?;

    let mut listing = Listing {
        chunks: Vec::new(),
        bytes: 0,
        sleepable: program.sleepable(),
        wrong: None,
    };
    let expected = expected_chunks(&source, setup.seed, &parts);
    for part in parts {
        let view = source.view(&part)?;
        let submission = Submission {
            id: program.id("list"),
            request: Request {
                from: view.descriptor,
                len: part.end - part.start,
                position: part.start,
                ..Request::default()
            },
            after_previous: false,
        };
        let outcome = submit(&ring, &program, &[submission], &setup.sqe, 1)?[0];
        let written = (outcome.request.source_chunks as usize).min(room);
        for mut chunk in program.chunks(written)? {
            chunk.offset += part.start;
            let index = listing.chunks.len();
            listing.bytes += u64::from(chunk.valid);
            listing.chunks.push(Listed {
                index,
                chunk,
                segment: segment_of(&source, chunk.offset),
                expected: expected.get(index).copied(),
            });
        }
        if let Err(failure) = check_outcome("chunks", &outcome, part.end - part.start) {
            listing.wrong.get_or_insert(failure.to_string());
        }
    }
    if let Some(loan) = loan {
        loan.give_back()?;
    }
    let first = listing
        .chunks
        .iter()
        .find(|listed| !listed.is_as_expected());
    if let Some(listed) = first {
        listing.wrong = Some(describe(listed));
    } else if listing.chunks.len() != expected.len() {
        let (got, wanted) = (listing.chunks.len(), expected.len());
        listing.wrong.get_or_insert(format!(
            "the iterator handed out {got} chunks, expected {wanted}"
        ));
    }
    Ok(listing)
}

fn describe(listed: &Listed) -> String {
    let show = |chunk: &Chunk| {
        format!(
            "{} bytes at {}, place {}, dynptr of {}, bytes {:#04x}…{:#04x}",
            chunk.valid, chunk.offset, chunk.place, chunk.size, chunk.first, chunk.last
        )
    };
    let expected = listed
        .expected
        .as_ref()
        .map_or("no such chunk".to_string(), show);
    format!(
        "chunk {}: {}; expected {expected}",
        listed.index,
        show(&listed.chunk)
    )
}

fn segment_of(buffer: &Buffer<'_>, offset: u64) -> usize {
    let segments = &buffer.layout().segments;
    segments
        .iter()
        .position(|segment| offset < segment.position + segment.len)
        .unwrap_or(segments.len().saturating_sub(1))
}

/// What the layout says the iterator must hand out: every segment cut where
/// its pages end, and once more where a request ends.
fn expected_chunks(buffer: &Buffer<'_>, seed: u64, parts: &[Range<u64>]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for part in parts {
        for (offset, len) in buffer.chunk_list(part) {
            chunks.push(Chunk {
                offset,
                place: buffer.place(offset),
                valid: len as u32,
                size: len as u32,
                first: pattern::byte_at(seed, offset),
                last: pattern::byte_at(seed, offset + len - 1),
                pad: [0; 6],
            });
        }
    }
    chunks
}
