// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where the bytes of a buffer lie in its memory: segments out of order, apart
//! from each other, with guard bytes on both sides of each.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::block_layout::BlockLayout;
use crate::spec::BufferType;

pub(crate) const PAGE: u64 = 4096;
/// Guard bytes between segments, at the least.
pub(crate) const GAP: u64 = 64;
/// Gaps differ by up to this much, so that no alignment repeats.
const GAP_SPREAD: u64 = 193;

/// What a buffer looks like to the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub kind: BufferType,
    /// Bytes of each segment: one for a plain buffer, any number for iovecs.
    /// Of KFIXED they are the iovecs of the block I/O, and more than one make
    /// the whole buffer one block request.
    pub segments: Vec<u64>,
    /// Of the first segment into its page.
    pub offset: u64,
    /// Slot in the table of registered buffers.
    pub index: u16,
    /// Bytes of the registered buffer before the range.
    pub at: u64,
}

impl Shape {
    pub fn len(&self) -> u64 {
        self.segments.iter().sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn has_iovecs(&self) -> bool {
        matches!(self.kind, BufferType::Vec | BufferType::RegVec)
    }

    pub fn is_registered(&self) -> bool {
        matches!(self.kind, BufferType::Fixed | BufferType::RegVec)
    }
}

/// One contiguous part of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Of its first byte in the buffer.
    pub position: u64,
    /// Of its first byte in the memory.
    pub start: u64,
    pub len: u64,
}

impl Segment {
    pub fn in_memory(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// The segments of a buffer, in the buffer's order, and the memory they take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub segments: Vec<Segment>,
    /// Bytes of memory, whole pages, guards included.
    pub size: u64,
    /// What is registered of the memory, for registered buffers.
    pub registered: Option<Range<u64>>,
    /// The block requests that its bytes come in, where the kernel registers
    /// it; else none.
    pub requests: Vec<BlockLayout>,
}

impl Layout {
    /// Lays the shape out; the seed decides order and gaps.
    pub fn new(shape: &Shape, seed: u64) -> Self {
        let mut random = Random(seed);
        let order = random.permutation(shape.segments.len());
        let mut starts = vec![0; shape.segments.len()];
        // The first segment decides the place in the page, wherever in memory
        // it comes to lie.
        let first = (PAGE + shape.at).next_multiple_of(PAGE);
        let mut free = first;
        for index in order {
            let start = if index == 0 {
                free.next_multiple_of(PAGE) + shape.offset
            } else {
                free
            };
            starts[index] = start;
            free = start + shape.segments[index] + GAP + random.next() % GAP_SPREAD;
        }
        let mut position = 0;
        let segments: Vec<Segment> = shape
            .segments
            .iter()
            .zip(&starts)
            .map(|(len, start)| {
                let segment = Segment {
                    position,
                    start: *start,
                    len: *len,
                };
                position += len;
                segment
            })
            .collect();
        let low = starts.iter().copied().min().unwrap_or(first);
        let high = segments
            .iter()
            .map(|segment| segment.start + segment.len)
            .max()
            .unwrap_or(first);
        // An empty range needs a registered buffer all the same; one that lies
        // inside its buffer has bytes of it on both sides.
        let registered = shape
            .is_registered()
            .then(|| low - shape.at..(high + shape.at).max(low + 1));
        Layout {
            segments,
            size: (high + shape.at + 1).next_multiple_of(PAGE) + PAGE,
            registered,
            requests: Vec::new(),
        }
    }

    pub fn len(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts of the segments that lie in a range of the buffer. Empty
    /// segments belong to the range that they are inside of.
    pub fn part(&self, range: &Range<u64>) -> Vec<Segment> {
        self.segments
            .iter()
            .filter_map(|segment| {
                let end = segment.position + segment.len;
                let from = segment.position.max(range.start);
                let to = end.min(range.end);
                let inside = from < to
                    || (segment.len == 0 && range.contains(&segment.position))
                    || (segment.len == 0 && range.end == self.len() && from == to);
                inside.then(|| Segment {
                    position: from,
                    start: segment.start + (from - segment.position),
                    len: to.saturating_sub(from),
                })
            })
            .collect()
    }

    /// Stretches of the memory that belong to no segment, in memory order.
    pub fn guards(&self) -> Vec<Range<usize>> {
        let mut used: Vec<Range<usize>> = self
            .segments
            .iter()
            .filter(|segment| segment.len > 0)
            .map(Segment::in_memory)
            .collect();
        used.sort_by_key(|range| range.start);
        let mut guards = Vec::new();
        let mut end = 0;
        for range in used {
            // Overlapping segments have nothing between them.
            guards.push(end..range.start.max(end));
            end = end.max(range.end);
        }
        guards.push(end..self.size as usize);
        guards
    }
}

/// SplitMix64: layouts repeat from their seed, on any machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless source, not an iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// 0 … count-1 in some order.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kind: BufferType, segments: &[u64]) -> Shape {
        Shape {
            kind,
            segments: segments.to_vec(),
            offset: 511,
            index: 0,
            at: 0,
        }
    }

    #[test]
    fn segments_never_touch_each_other_or_the_ends_of_the_memory() {
        for seed in 0..50 {
            let layout = Layout::new(&shape(BufferType::Vec, &[1, 0, 4096, 7, 9000, 1]), seed);
            let guards = layout.guards();
            assert!(
                guards.iter().all(|guard| guard.len() >= GAP as usize),
                "{guards:?}"
            );
            let covered: usize = guards.iter().map(ExactSizeIterator::len).sum();
            assert_eq!(covered as u64 + layout.len(), layout.size);
        }
    }

    #[test]
    fn the_first_segment_lies_at_the_offset_in_its_page() {
        for seed in 0..10 {
            let layout = Layout::new(&shape(BufferType::RegVec, &[5, 4096]), seed);
            assert_eq!(layout.segments[0].start % PAGE, 511);
        }
    }

    #[test]
    fn parts_add_up_to_the_whole_with_empty_segments_kept_once() {
        let layout = Layout::new(&shape(BufferType::Vec, &[3, 0, 5, 0, 8, 0]), 1);
        let parts: Vec<Segment> = [0..4, 4..16]
            .iter()
            .flat_map(|range| layout.part(range))
            .collect();
        assert_eq!(parts.iter().map(|part| part.len).sum::<u64>(), 16);
        assert_eq!(parts.iter().filter(|part| part.len == 0).count(), 3);
    }

    #[test]
    fn a_registered_buffer_holds_the_range_and_what_lies_around_it() {
        let mut inside = shape(BufferType::Fixed, &[100]);
        inside.at = 5000;
        let layout = Layout::new(&inside, 0);
        let start = layout.segments[0].start;
        assert_eq!(layout.registered, Some(start - 5000..start + 5100));
        assert_eq!(start % PAGE, 511);
    }

    #[test]
    fn a_registered_buffer_lies_in_its_memory() {
        let mut random = Random(1);
        for kind in [BufferType::Fixed, BufferType::RegVec] {
            for count in [0, 1, 2, 9] {
                for _ in 0..100 {
                    let segments: Vec<u64> = (0..count)
                        .map(|_| random.below(3) * random.below(9000))
                        .collect();
                    let mut inside = shape(kind, &segments);
                    inside.offset = random.below(PAGE);
                    inside.at = random.below(20_000);
                    let layout = Layout::new(&inside, random.next());
                    let registered = layout.registered.expect("a registered buffer");
                    assert!(
                        registered.start < registered.end && registered.end <= layout.size,
                        "{inside:?}: {registered:?} of {}",
                        layout.size
                    );
                }
            }
        }
    }

    #[test]
    fn an_empty_range_still_has_a_registered_buffer() {
        let layout = Layout::new(&shape(BufferType::Fixed, &[0]), 0);
        let registered = layout.registered.expect("FIXED is registered");
        assert_eq!(registered.end - registered.start, 1);
    }
}
