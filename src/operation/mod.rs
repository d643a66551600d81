// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The main jobs over buffers: copy, checksum, fill, chunks. Each is one call
//! from shapes to a verified result, and knows nothing of arguments or output.

pub mod check;
pub mod checksum;
pub mod chunks;
pub mod copy;
pub mod fill;

use std::ops::Range;
use std::path::PathBuf;

use crate::block_layout;
use crate::buffer::Buffer;
use crate::errno::Errno;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::kernel_buffer::{Borrowed, Direction, Expected, Loan, Server};
use crate::layout::{Layout, Shape};
use crate::memory::{Memory, Region};
use crate::program;
use crate::registration::{self, Table};
use crate::request::{SLOTS, stage_name};
use crate::ring::Ring;
use crate::spec::{BufferType, PageKind, RingOptions, SqeOptions};
use crate::submission::{MAX_REQUEST, Outcome};
use crate::ublk::Registration;

/// What all jobs are run with.
#[derive(Debug, Clone)]
pub struct Setup {
    pub kernel: Kernel,
    pub ring: RingOptions,
    pub sqe: SqeOptions,
    /// Requests in flight.
    pub depth: usize,
    /// Decides the pattern, the order of segments and the gaps between them.
    pub seed: u64,
    /// Programs that may not sleep even where the kernel lets them.
    pub non_sleepable: bool,
    /// Who puts a block request's pages into the ring's table.
    pub registration: Registration,
}

/// One side of a job.
#[derive(Debug, Clone)]
pub struct Operand {
    pub shape: Shape,
    pub pages: PageKind,
}

impl Operand {
    fn is_arena(&self) -> bool {
        self.shape.kind == BufferType::Arena
    }

    /// Whether its bytes lie in the pages of block requests.
    pub fn is_kernel(&self) -> bool {
        self.pages == PageKind::Kernel
    }

    /// `parts` are those that one request each handles.
    fn layout(&self, seed: u64, parts: &[Range<u64>]) -> Result<Layout, Failure> {
        if self.is_kernel() {
            return Layout::in_requests(&self.shape, seed, parts);
        }
        Ok(Layout::new(&self.shape, seed))
    }

    /// The most that one request handles of it.
    fn most(&self) -> u64 {
        let in_parts = self.shape.kind == BufferType::Kfixed && self.shape.segments.len() == 1;
        match self.is_kernel() && in_parts {
            // Each part is a block request.
            true => block_layout::capacity(&self.shape).max(1),
            false => MAX_REQUEST,
        }
    }

    /// Table slots that it takes with these parts.
    pub fn slots(&self, parts: usize) -> usize {
        match self.shape.kind {
            BufferType::Kfixed if self.shape.segments.len() == 1 => parts,
            BufferType::Fixed | BufferType::Kfixed | BufferType::RegVec => 1,
            _ => 0,
        }
    }

    /// Memory for the layout, unless it lies in the arena.
    fn memory(&self, layout: &Layout) -> Result<Option<Memory>, Failure> {
        if self.is_arena() {
            return Ok(None);
        }
        Memory::anonymous(layout.size as usize, self.pages).map(Some)
    }

    fn arena_bytes(&self, layout: &Layout) -> usize {
        if self.is_arena() {
            layout.size as usize
        } else {
            0
        }
    }
}

/// Refuses buffers that no block request, no table or no arena holds, before
/// anything is made of them: they are wrong on any kernel.
pub fn check(operands: &[&Operand], depth: usize, seed: u64) -> Result<(), Failure> {
    let parts = parts(operands, depth);
    let mut arena = 0;
    for operand in operands {
        let layout = operand.layout(seed, &parts)?;
        if let Some(registered) = &layout.registered {
            registration::check_len(registered.end - registered.start)?;
        }
        arena += operand.arena_bytes(&layout) as u64;
    }
    program::check_arena(arena)
}

/// The operand's buffer: in its own memory, or at the arena's beginning.
fn place<'m>(
    operand: &Operand,
    layout: Layout,
    memory: Option<&'m mut Memory>,
    arena: &mut Option<Region<'m>>,
) -> Result<Buffer<'m>, Failure> {
    let region = match memory {
        Some(memory) => memory.region(),
        None => take(arena, layout.size as usize)?,
    };
    Ok(Buffer::new(operand.shape.clone(), layout, region))
}

/// A buffer for a loan, where it is the kernel's.
fn borrowed<'b, 'm>(
    buffer: &'b mut Buffer<'m>,
    memory: Option<PathBuf>,
    direction: Direction,
    expected: Expected,
) -> Option<Borrowed<'b, 'm>> {
    let memory = memory.filter(|_| buffer.is_kernel())?;
    Some(Borrowed {
        buffer,
        memory,
        direction,
        expected,
    })
}

/// The first `len` bytes of what is left of the arena.
fn take<'m>(arena: &mut Option<Region<'m>>, len: usize) -> Result<Region<'m>, Failure> {
    let whole = arena
        .take()
        .ok_or_else(|| Failure::environment("libbpf mapped no arena"))?;
    let (mine, rest) = whole.split_at(len);
    *arena = Some(rest);
    Ok(mine)
}

/// A table that has a slot for each registered operand, if there is one, and
/// those that a server needs; with the first of the latter.
fn table<'t>(
    ring: &'t Ring,
    buffers: &[&Buffer<'t>],
    server: Option<&Server>,
) -> Result<(Option<Table<'t>>, u16), Failure> {
    let registered = buffers.iter().filter_map(|buffer| buffer.registration());
    let mut used: Vec<u16> = registered.map(|(index, ..)| index).collect();
    if server.is_some_and(Server::takes_any_slot) {
        used.extend(buffers.iter().flat_map(|buffer| buffer.slots()));
    }
    used.sort_unstable();
    let more = server.map_or(0, Server::slots);
    // The first gap that is large enough.
    let free = used.iter().fold(0, |free, slot| match slot - free {
        gap if gap >= more => free,
        _ => slot + 1,
    });
    let behind = used.last().map_or(0, |last| last + 1);
    let slots = behind.max(free + more);
    if slots == 0 {
        return Ok((None, free));
    }
    let table = Table::new(ring, u32::from(slots))?;
    for buffer in buffers {
        table.add(buffer)?;
    }
    Ok((Some(table), free))
}

/// Has a server get hold of those buffers that are the kernel's.
fn lend<'a, 'b, 'm: 'b>(
    server: Option<&'a Server>,
    ring: &'a Ring,
    free: u16,
    borrowed: impl IntoIterator<Item = Option<Borrowed<'b, 'm>>>,
) -> Result<Option<Loan<'a>>, Failure> {
    let take = |server| Loan::take(server, ring, free, borrowed.into_iter().flatten().collect());
    server.map(take).transpose()
}

/// Entries that a ring needs for this many requests at once, and for a server.
fn entries(depth: usize, server: Option<&Server>) -> u32 {
    let requests = depth.clamp(2, SLOTS) as u32;
    requests.max(server.map_or(0, Server::entries))
}

/// Parts of the operands that one request each handles: at least `depth` of
/// them where there are as many bytes, none longer than a request may be.
pub fn parts(operands: &[&Operand], depth: usize) -> Vec<Range<u64>> {
    let len = operands[0].shape.len();
    let most = operands.iter().map(|operand| operand.most()).min();
    cut(len, depth, most.unwrap_or(MAX_REQUEST))
}

fn cut(len: u64, depth: usize, most: u64) -> Vec<Range<u64>> {
    let step = len.div_ceil(depth.max(1) as u64).clamp(1, most);
    let mut parts: Vec<Range<u64>> = (0..len)
        .step_by(step as usize)
        .map(|start| start..(start + step).min(len))
        .collect();
    if parts.is_empty() {
        parts.push(0..0);
    }
    parts
}

/// Checks `res` and what the program itself counted.
fn check_outcome(what: &str, outcome: &Outcome, expected: u64) -> Result<(), Failure> {
    let request = &outcome.request;
    if let Some(errno) = Errno::from_result(outcome.result) {
        let stage = if request.error == outcome.result {
            format!(" from {}", stage_name(request.stage))
        } else {
            String::new()
        };
        return Err(Failure::mismatch(format!(
            "{what}: res is {} ({errno}){stage}, expected {expected}",
            outcome.result
        )));
    }
    if outcome.result as u64 != expected {
        return Err(Failure::mismatch(format!(
            "{what}: res is {}, expected {expected}",
            outcome.result
        )));
    }
    if request.bytes != expected {
        return Err(Failure::mismatch(format!(
            "{what}: the program counted {} bytes, expected {expected}",
            request.bytes
        )));
    }
    Ok(())
}

fn check_chunks(what: &str, side: &str, got: u32, expected: u64) -> Result<(), Failure> {
    if u64::from(got) != expected {
        return Err(Failure::mismatch(format!(
            "{what}: the iterator handed out {got} chunks of the {side}, expected {expected}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_buffer_and_none_is_longer_than_a_request() {
        for (len, depth) in [(0, 1), (1, 4), (100, 3), (MAX_REQUEST * 2 + 1, 1)] {
            let parts = cut(len, depth, MAX_REQUEST);
            assert_eq!(parts[0].start, 0);
            assert_eq!(parts[parts.len() - 1].end, len);
            assert!(
                parts
                    .iter()
                    .all(|part| part.end - part.start <= MAX_REQUEST)
            );
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
        assert_eq!(cut(MAX_REQUEST, 1, MAX_REQUEST).len(), 1);
        assert_eq!(cut(100, 4, MAX_REQUEST).len(), 4);
        assert_eq!(cut(100, 1, 30).len(), 4);
    }
}
