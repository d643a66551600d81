// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A buffer of a request: memory, descriptor, guards.

use std::ops::Range;

use crate::block_layout::BlockLayout;
use crate::error::Failure;
use crate::layout::{Layout, Segment, Shape};
use crate::memory::Region;
use crate::pattern;
use crate::request::Descriptor;
use crate::spec::BufferType;

const PAGE: u64 = 4096;

/// What lies around the segments, and in a destination before it is written.
const GUARD_SEED: u64 = 0x6775_6172_6473_2121;

/// A shape laid out in memory.
#[derive(Debug)]
pub struct Buffer<'m> {
    shape: Shape,
    layout: Layout,
    region: Region<'m>,
    /// Nobody wrote to the memory: the guards are zeros.
    blank: bool,
    /// Of each block request, where it is registered by the kernel.
    slots: Vec<u16>,
}

/// A part of a buffer as one request names it. The iovecs must stay where they
/// are until the request has completed.
#[derive(Debug)]
pub struct View {
    pub descriptor: Descriptor,
    iovecs: Vec<libc::iovec>,
}

impl View {
    pub fn iovecs(&self) -> usize {
        self.iovecs.len()
    }
}

/// The first byte that is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongByte {
    /// Inside the buffer.
    Inside {
        position: u64,
        expected: u8,
        got: u8,
        segment: usize,
        place: u64,
    },
    /// Outside of every segment: `distance` bytes after the end of one
    /// (positive) or before the beginning of one (negative).
    Outside {
        segment: usize,
        distance: i64,
        expected: u8,
        got: u8,
    },
}

impl<'m> Buffer<'m> {
    pub fn new(shape: Shape, layout: Layout, region: Region<'m>) -> Self {
        assert!(
            region.len() as u64 >= layout.size,
            "the memory fits the layout"
        );
        let slots = (0..layout.requests.len() as u16)
            .map(|request| shape.index.saturating_add(request))
            .collect();
        Buffer {
            shape,
            layout,
            region,
            blank: false,
            slots,
        }
    }

    /// Leaves the memory as it came, without touching a page of it: zeros.
    pub fn leave_blank(&mut self) {
        self.blank = true;
    }

    /// Whether it lies in the pages of block requests.
    pub fn is_kernel(&self) -> bool {
        !self.layout.requests.is_empty()
    }

    /// The table slots of its block requests, in their order: from the shape's
    /// index on, unless something else was chosen.
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }

    pub fn set_slot(&mut self, request: usize, slot: u16) {
        self.slots[request] = slot;
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn region(&self) -> &Region<'m> {
        &self.region
    }

    pub fn len(&self) -> u64 {
        self.layout.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Guards everywhere, and `source` in the segments where there is one.
    pub fn prepare(&mut self, source: Option<u64>) {
        pattern::fill(GUARD_SEED, 0, self.region.bytes_mut());
        if let Some(seed) = source {
            for segment in self.layout.segments.clone() {
                let bytes = &mut self.region.bytes_mut()[segment.in_memory()];
                pattern::fill(seed, segment.position, bytes);
            }
        }
    }

    /// What the ring's table holds for this buffer: address and length.
    pub fn registration(&self) -> Option<(u16, u64, u64)> {
        let range = self.layout.registered.as_ref()?;
        let start = self.region.address() + range.start;
        Some((self.shape.index, start, range.end - range.start))
    }

    /// A place in the memory, as a system call takes it.
    pub fn iovec(&self, place: &Range<u64>) -> libc::iovec {
        libc::iovec {
            iov_base: (self.region.address() + place.start) as *mut _,
            iov_len: (place.end - place.start) as usize,
        }
    }

    /// Address of a buffer's byte; for the arena, where requests name it so.
    pub fn address(&self, position: u64) -> u64 {
        let first = self
            .layout
            .segments
            .first()
            .map_or(0, |segment| segment.start);
        self.region.address() + first + position
    }

    /// How many chunks the iterator must hand out for a range.
    pub fn chunks(&self, range: &Range<u64>) -> u64 {
        self.chunk_list(range).count() as u64
    }

    /// Position and length of each of them: every segment is cut where its
    /// pages end.
    pub fn chunk_list(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        let base = self.region.address();
        let parts = self.layout.part(range).into_iter();
        parts.flat_map(move |part| {
            let end = part.position + part.len;
            let page_end = move |position| {
                let address = base + part.start + (position - part.position);
                end.min(position + PAGE - address % PAGE)
            };
            let first = (part.len > 0).then_some(part.position);
            std::iter::successors(first, move |position| {
                Some(page_end(*position)).filter(|next| *next < end)
            })
            .map(move |position| (position, page_end(position) - position))
        })
    }

    fn memory_offset(&self, position: u64) -> u64 {
        let mut segments = self.layout.segments.iter();
        let holder = segments.find(|segment| position < segment.position + segment.len);
        let segment = holder.expect("a position inside the buffer");
        segment.start + (position - segment.position)
    }

    /// Of a byte of the buffer in its page.
    pub fn place(&self, position: u64) -> u64 {
        (self.region.address() + self.memory_offset(position)) % PAGE
    }

    /// The bytes of one segment.
    pub fn segment(&self, index: usize) -> &[u8] {
        &self.region.bytes()[self.layout.segments[index].in_memory()]
    }

    /// The bytes of one segment, to write.
    pub fn segment_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.region.bytes_mut()[self.layout.segments[index].in_memory()]
    }

    pub fn byte(&self, position: u64) -> u8 {
        self.region.bytes()[self.memory_offset(position) as usize]
    }

    /// All bytes of the buffer in its order, as user space sees them.
    pub fn stream(&self) -> Vec<u8> {
        let segments = self.layout.segments.iter();
        segments
            .flat_map(|segment| &self.region.bytes()[segment.in_memory()])
            .copied()
            .collect()
    }

    /// The range as a descriptor; none for the arena, which has no iterator.
    pub fn view(&self, range: &Range<u64>) -> Result<View, Failure> {
        let kind = match self.shape.kind {
            BufferType::User | BufferType::Arena => 0,
            BufferType::Fixed => 1,
            BufferType::Vec => 2,
            BufferType::Kfixed => 3,
            BufferType::RegVec => 4,
        };
        let mut view = View {
            descriptor: Descriptor {
                kind,
                buf_index: if self.shape.is_registered() {
                    self.shape.index
                } else {
                    0
                },
                ..Descriptor::default()
            },
            iovecs: Vec::new(),
        };
        let parts = self.layout.part(range);
        let request = self.request_of(range)?;
        if let Some((index, _)) = request {
            view.descriptor.buf_index = self.slots[index];
        }
        if self.shape.has_iovecs() {
            let base = |part: &Segment| match request {
                Some((_, block)) => block.offset_of(part.start),
                None => self.region.address() + part.start,
            };
            view.iovecs = parts
                .iter()
                .map(|part| libc::iovec {
                    iov_base: base(part) as *mut _,
                    iov_len: part.len as usize,
                })
                .collect();
            view.descriptor.len = view.iovecs.len() as u32;
            view.descriptor.addr = view.iovecs.as_ptr() as u64;
        } else {
            view.descriptor.addr = match request {
                Some((_, block)) => block.head + (range.start - block.positions.start),
                None => parts
                    .first()
                    .map_or(self.address(0), |part| self.region.address() + part.start),
            };
            view.descriptor.len = u32::try_from(range.end - range.start)
                .map_err(|_| Failure::usage("a request is less than 4 GiB"))?;
        }
        Ok(view)
    }

    /// The block request that holds a range, where there are any.
    fn request_of(&self, range: &Range<u64>) -> Result<Option<(usize, &BlockLayout)>, Failure> {
        let requests = &self.layout.requests;
        if requests.is_empty() {
            return Ok(None);
        }
        let holds = |block: &BlockLayout| {
            block.positions.start <= range.start && range.end <= block.positions.end
        };
        let found = requests.iter().enumerate().find(|(_, block)| holds(block));
        found.map(Some).ok_or_else(|| {
            Failure::environment(format!(
                "bytes {}..{} lie in more than one block request",
                range.start, range.end
            ))
        })
    }

    /// Compares the segments with `expected`, which writes the bytes from a
    /// position on, and everything else with the guard pattern.
    pub fn compare(&self, expected: impl Fn(u64, &mut [u8])) -> Option<WrongByte> {
        self.compare_segments(expected)
            .or_else(|| self.compare_guards())
    }

    fn compare_segments(&self, expected: impl Fn(u64, &mut [u8])) -> Option<WrongByte> {
        const BLOCK: usize = 64 << 10;
        let mut block = vec![0; BLOCK];
        for (index, segment) in self.layout.segments.iter().enumerate() {
            let bytes = &self.region.bytes()[segment.in_memory()];
            for (number, part) in bytes.chunks(BLOCK).enumerate() {
                let offset = (number * BLOCK) as u64;
                let wanted = &mut block[..part.len()];
                expected(segment.position + offset, wanted);
                if let Some(at) = first_difference(wanted, part) {
                    let start = segment.start + offset + at as u64;
                    return Some(WrongByte::Inside {
                        position: segment.position + offset + at as u64,
                        expected: wanted[at],
                        got: part[at],
                        segment: index,
                        place: (self.region.address() + start) % PAGE,
                    });
                }
            }
        }
        None
    }

    /// Compares what lies around the segments with what was put there.
    pub fn compare_guards(&self) -> Option<WrongByte> {
        let mut wanted = Vec::new();
        for guard in self.layout.guards() {
            wanted.resize(guard.len(), 0);
            match self.blank {
                true => wanted.fill(0),
                false => pattern::fill(GUARD_SEED, guard.start as u64, &mut wanted),
            }
            let got = &self.region.bytes()[guard.clone()];
            if let Some(at) = first_difference(&wanted, got) {
                let (segment, distance) = self.nearest((guard.start + at) as u64);
                return Some(WrongByte::Outside {
                    segment,
                    distance,
                    expected: wanted[at],
                    got: got[at],
                });
            }
        }
        None
    }

    /// The segment that a place in memory is nearest to, and how far from it.
    fn nearest(&self, place: u64) -> (usize, i64) {
        let distance = |segment: &Segment| {
            let place = place as i64;
            let (start, end) = (segment.start as i64, (segment.start + segment.len) as i64);
            if place < start {
                place - start
            } else {
                place - end + 1
            }
        };
        self.layout
            .segments
            .iter()
            .map(distance)
            .enumerate()
            .min_by_key(|(_, distance)| distance.abs())
            .unwrap_or((0, place as i64))
    }
}

fn first_difference(wanted: &[u8], got: &[u8]) -> Option<usize> {
    if wanted == got {
        return None;
    }
    wanted
        .iter()
        .zip(got)
        .position(|(wanted, got)| wanted != got)
}

impl std::fmt::Display for WrongByte {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WrongByte::Inside {
                position,
                expected,
                got,
                segment,
                place,
            } => write!(
                f,
                "byte {position} is {got:#04x}, expected {expected:#04x} \
                 (segment {segment}, page {}, byte {place} of the page)",
                position / 4096
            ),
            WrongByte::Outside {
                segment,
                distance,
                expected,
                got,
            } => {
                let (count, side) = match distance {
                    ..0 => (-distance, "before segment"),
                    _ => (*distance, "after segment"),
                };
                write!(
                    f,
                    "guard byte {count} {side} {segment} is {got:#04x}, expected {expected:#04x}"
                )
            }
        }
    }
}
