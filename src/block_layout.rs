// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where the bytes of a buffer lie that the kernel registers: in the pages of
//! block requests, whose memory the client lays out like this.
//!
//! Block I/O moves whole sectors to and from memory that begins at a multiple
//! of [`SECTOR`]. The buffer's own bytes begin and end anywhere inside.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::layout::{GAP, Layout, PAGE, Random, Segment, Shape};
use crate::spec::BufferType;

/// Block I/O begins and ends at multiples of this.
pub const SECTOR: u64 = 512;
/// Bytes of the largest block request: what the block layer sends at once
/// without being asked for more (BLK_DEF_MAX_SECTORS_CAP).
pub const LARGEST_REQUEST: u64 = 4 << 20;
/// More gap between the requests' memory, so that no place in a page repeats.
const SPREAD: u64 = 9;

/// A block request that holds part of a buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLayout {
    /// The part of the buffer.
    pub positions: Range<u64>,
    /// Bytes of the request before the part.
    pub head: u64,
    /// The request's memory in the order of its bytes: the iovecs of the I/O.
    pub iovecs: Vec<Range<u64>>,
}

impl BlockLayout {
    pub fn len(&self) -> u64 {
        self.iovecs
            .iter()
            .map(|iovec| iovec.end - iovec.start)
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of the byte of the request that lies at a place in the memory; for a
    /// request of one iovec.
    pub fn offset_of(&self, place: u64) -> u64 {
        place - self.iovecs[0].start
    }
}

/// The most that one request holds of a buffer of this shape, beside the bytes
/// around it.
pub fn capacity(shape: &Shape) -> u64 {
    LARGEST_REQUEST.saturating_sub(2 * (shape.at + SECTOR))
}

impl Layout {
    /// Lays out a shape whose bytes come in block requests: with one request
    /// for each of `parts`, or with one for all where the shape has iovecs.
    pub fn in_requests(shape: &Shape, seed: u64, parts: &[Range<u64>]) -> Result<Self, Failure> {
        let layout = match shape.kind {
            BufferType::RegVec => Layout::in_one_request(shape, |shape| Layout::new(shape, seed)),
            _ if shape.segments.len() > 1 => in_iovecs(shape, seed),
            _ => in_parts(shape, seed, parts),
        };
        let longest = layout.requests.iter().map(BlockLayout::len).max();
        match longest {
            Some(longest) if longest > LARGEST_REQUEST => Err(Failure::usage(format!(
                "{}: a block request of {longest} bytes, with what lies around the buffer; \
                 the device takes {LARGEST_REQUEST}",
                shape.kind
            ))),
            _ => Ok(layout),
        }
    }
}

impl Layout {
    /// Puts segments that lie anywhere into one request. `lay_out` places
    /// those of a registered buffer of ours, with room around them.
    pub fn in_one_request(shape: &Shape, lay_out: impl FnOnce(&Shape) -> Layout) -> Layout {
        let plain = Shape {
            at: shape.at + SECTOR,
            ..shape.clone()
        };
        let mut layout = lay_out(&plain);
        let registered = layout.registered.take().expect("REG_VEC is registered");
        let low = registered.start + plain.at;
        let high = registered.end - plain.at;
        let start = low - head(shape, low);
        let end = tail(shape, high).max(start + SECTOR);
        layout.requests = vec![BlockLayout {
            positions: 0..layout.len(),
            head: low - start,
            iovecs: std::iter::once(start..end).collect(),
        }];
        layout
    }
}

/// Bytes of the request before the buffer's first one, which lies at `start`.
fn head(shape: &Shape, start: u64) -> u64 {
    shape.at + (start - shape.at) % SECTOR
}

/// The end of a request whose last byte of the buffer ends at `end`.
fn tail(shape: &Shape, end: u64) -> u64 {
    (end + shape.at).next_multiple_of(SECTOR)
}

/// One request for each part, in some order in the memory.
fn in_parts(shape: &Shape, seed: u64, parts: &[Range<u64>]) -> Layout {
    let mut random = Random(seed);
    let mut free = 0;
    let mut placed = vec![None; parts.len()];
    for index in random.permutation(parts.len()) {
        let earliest = free + GAP + shape.at + SECTOR;
        let start = if index == 0 {
            earliest.next_multiple_of(PAGE) + shape.offset
        } else {
            earliest + random.below(SPREAD * SECTOR)
        };
        let part = parts[index].clone();
        let first = start - head(shape, start);
        let last = tail(shape, start + (part.end - part.start)).max(first + SECTOR);
        placed[index] = Some((start, first..last));
        free = last;
    }
    let placed: Vec<(u64, Range<u64>)> = placed.into_iter().flatten().collect();
    let requests = parts
        .iter()
        .zip(&placed)
        .map(|(part, (start, memory))| BlockLayout {
            positions: part.clone(),
            head: start - memory.start,
            iovecs: std::iter::once(memory.clone()).collect(),
        });
    let segments = parts.iter().zip(&placed).map(|(part, (start, _))| Segment {
        position: part.start,
        start: *start,
        len: part.end - part.start,
    });
    Layout {
        segments: segments.collect(),
        size: (free + GAP).next_multiple_of(PAGE) + PAGE,
        registered: None,
        requests: requests.collect(),
    }
}

/// One request of several iovecs: all but the ends are whole sectors.
fn in_iovecs(shape: &Shape, seed: u64) -> Layout {
    let mut random = Random(seed);
    let last = shape.segments.len() - 1;
    let mut free = 0;
    let mut placed = vec![(0, 0..0); shape.segments.len()];
    for index in random.permutation(shape.segments.len()) {
        let earliest = free + GAP;
        let (start, first) = if index == 0 {
            let start = (earliest + shape.at + SECTOR).next_multiple_of(PAGE) + shape.offset;
            (start, start - head(shape, start))
        } else {
            let start = earliest.next_multiple_of(SECTOR) + random.below(SPREAD) * SECTOR;
            (start, start)
        };
        let end = start + shape.segments[index];
        let end = if index == last { tail(shape, end) } else { end };
        placed[index] = (start, first..end);
        free = end;
    }
    let mut position = 0;
    let mut segments = Vec::new();
    for (len, (start, _)) in shape.segments.iter().zip(&placed) {
        segments.push(Segment {
            position,
            start: *start,
            len: *len,
        });
        position += len;
    }
    Layout {
        segments,
        size: (free + GAP).next_multiple_of(PAGE) + PAGE,
        registered: None,
        requests: vec![BlockLayout {
            positions: 0..position,
            head: placed[0].0 - placed[0].1.start,
            iovecs: placed.into_iter().map(|(_, memory)| memory).collect(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn shape(kind: BufferType, segments: &[u64], offset: u64, at: u64) -> Shape {
        Shape {
            kind,
            segments: segments.to_vec(),
            offset,
            index: 0,
            at,
        }
    }

    /// What every layout in requests keeps.
    fn check(layout: &Layout, shape: &Shape) {
        let mut memory: Vec<Range<u64>> = Vec::new();
        for request in &layout.requests {
            assert!(
                request.len() >= SECTOR && request.len() % SECTOR == 0,
                "{request:?}"
            );
            assert!(request.head >= shape.at, "{request:?}");
            for iovec in &request.iovecs {
                assert_eq!(
                    (iovec.start % SECTOR, iovec.end % SECTOR),
                    (0, 0),
                    "{request:?}"
                );
                memory.push(iovec.clone());
            }
        }
        memory.sort_by_key(|range| range.start);
        let apart = |pair: &[Range<u64>]| pair[1].start - pair[0].end >= GAP;
        assert!(memory.windows(2).all(apart), "{memory:?}");
        assert!(memory[0].start >= GAP && memory[memory.len() - 1].end + GAP <= layout.size);
        for segment in &layout.segments {
            let holds = |range: &Range<u64>| {
                range.start <= segment.start && segment.start + segment.len <= range.end
            };
            assert!(memory.iter().any(holds), "{segment:?} in {memory:?}");
        }
        let covered: u64 = layout.segments.iter().map(|segment| segment.len).sum();
        assert_eq!(covered, shape.len());
        assert_eq!(layout.segments[0].start % PAGE, shape.offset);
    }

    #[test]
    fn parts_lie_in_whole_sectors_and_the_first_one_at_its_place() {
        for seed in 0..20 {
            for (offset, at) in [(0, 0), (511, 0), (1536, 5), (4095, 9000)] {
                let shape = shape(BufferType::Kfixed, &[10_000], offset, at);
                for parts in [from_ref(&(0..10_000)), &[0..1, 1..700, 700..10_000]] {
                    let layout = Layout::in_requests(&shape, seed, parts).expect("small");
                    check(&layout, &shape);
                    assert_eq!(layout.requests.len(), parts.len());
                }
            }
        }
    }

    #[test]
    fn an_empty_buffer_still_has_a_request() {
        let empty = shape(BufferType::Kfixed, &[0], 0, 0);
        let layout = Layout::in_requests(&empty, 0, from_ref(&(0..0))).expect("small");
        check(&layout, &empty);
    }

    #[test]
    fn iovecs_of_the_block_request_are_whole_sectors_apart_from_each_other() {
        for seed in 0..20 {
            let shape = shape(BufferType::Kfixed, &[412, 512, 4096, 513], 100, 700);
            let layout = Layout::in_requests(&shape, seed, from_ref(&(0..5533))).expect("small");
            check(&layout, &shape);
            assert_eq!(layout.requests[0].iovecs.len(), 4);
        }
    }

    #[test]
    fn segments_of_reg_vec_lie_in_one_request() {
        for seed in 0..20 {
            let shape = shape(BufferType::RegVec, &[1, 4096, 77, 9000], 511, 3);
            let layout = Layout::in_requests(&shape, seed, from_ref(&(0..1))).expect("small");
            check(&layout, &shape);
            assert_eq!(layout.requests.len(), 1);
        }
    }

    #[test]
    fn what_is_more_than_the_device_takes_is_refused() {
        let shape = shape(BufferType::RegVec, &[LARGEST_REQUEST + 1], 0, 0);
        assert!(Layout::in_requests(&shape, 0, from_ref(&(0..1))).is_err());
    }
}
