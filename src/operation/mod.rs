// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The main jobs over buffers: copy, checksum, fill, chunks. Each is one call
//! from shapes to a verified result, and knows nothing of arguments or output.

pub mod check;
pub mod checksum;
pub mod chunks;
pub mod copy;
pub mod fill;

use std::ops::Range;

use crate::buffer::Buffer;
use crate::errno::Errno;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::layout::{Layout, Shape};
use crate::memory::{Memory, Region};
use crate::registration::Table;
use crate::request::{SLOTS, stage_name};
use crate::ring::Ring;
use crate::spec::{BufferType, PageKind, RingOptions, SqeOptions};
use crate::submission::{MAX_REQUEST, Outcome};

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

    fn layout(&self, seed: u64) -> Layout {
        Layout::new(&self.shape, seed)
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

/// The first `len` bytes of what is left of the arena.
fn take<'m>(arena: &mut Option<Region<'m>>, len: usize) -> Result<Region<'m>, Failure> {
    let whole = arena
        .take()
        .ok_or_else(|| Failure::environment("libbpf mapped no arena"))?;
    let (mine, rest) = whole.split_at(len);
    *arena = Some(rest);
    Ok(mine)
}

/// A table that has a slot for each registered operand, if there is one.
fn table<'t>(ring: &'t Ring, buffers: &[&Buffer<'t>]) -> Result<Option<Table<'t>>, Failure> {
    let highest = buffers
        .iter()
        .filter_map(|buffer| buffer.registration())
        .map(|(index, ..)| index);
    let Some(highest) = highest.max() else {
        return Ok(None);
    };
    let table = Table::new(ring, u32::from(highest) + 1)?;
    for buffer in buffers {
        table.add(buffer)?;
    }
    Ok(Some(table))
}

/// Entries that a ring needs for this many requests at once.
fn entries(depth: usize) -> u32 {
    depth.clamp(2, SLOTS) as u32
}

/// Parts of a buffer that one request each handles: at least `depth` of them
/// where there are as many bytes, none longer than a request may be.
fn parts(len: u64, depth: usize) -> Vec<Range<u64>> {
    let step = len.div_ceil(depth.max(1) as u64).clamp(1, MAX_REQUEST);
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
            let parts = parts(len, depth);
            assert_eq!(parts[0].start, 0);
            assert_eq!(parts[parts.len() - 1].end, len);
            assert!(
                parts
                    .iter()
                    .all(|part| part.end - part.start <= MAX_REQUEST)
            );
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
        assert_eq!(parts(MAX_REQUEST, 1).len(), 1);
        assert_eq!(parts(100, 4).len(), 4);
    }
}
