// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A case's buffers: where their bytes lie, in what memory, and what state
//! that is brought into before the request.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::case::{Side, Split, State};
use super::{Machine, Stop};
use crate::block_layout::SECTOR;
use crate::buffer::Buffer;
use crate::error::Failure;
use crate::layout::{Layout, Random, Segment, Shape};
use crate::memory::{Memory, Protection, Region};
use crate::spec::{BufferType, PageKind};

const PAGE: u64 = 4096;

/// Sizes of the iovecs.
fn sizes(side: &Side, len: u64, seed: u64) -> Vec<u64> {
    let Side { split, kind, .. } = *side;
    let n = split.count() as u64;
    match split {
        _ if kind == BufferType::Kfixed => sectors(side.offset, len, n, seed),
        // REG_VEC takes no empty iovec, but no iovec at all.
        Split::One if len == 0 && kind == BufferType::RegVec => Vec::new(),
        Split::One => vec![len],
        Split::Equal(_) | Split::Overlap(_) => {
            let mut sizes = vec![len / n; n as usize];
            sizes[0] += len % n;
            sizes
        }
        Split::Ragged(_) => ragged(len, n, seed),
        Split::Empty(_) => {
            let full = n / 2;
            let mut parts = ragged(len, full.clamp(1, len.max(1)), seed).into_iter();
            let every = (0..n).map(|i| {
                if i % 2 == 1 {
                    parts.next().unwrap_or(0)
                } else {
                    0
                }
            });
            every.collect()
        }
    }
}

/// At most `n` sizes of which all but the last end at a multiple of
/// [`SECTOR`], where the first begins at `offset`: as block I/O has it.
fn sectors(offset: u64, len: u64, n: u64, seed: u64) -> Vec<u64> {
    let first = SECTOR - offset % SECTOR;
    if n == 1 || len <= first {
        return vec![len];
    }
    // Whole ones before the last, which has a byte at the least.
    let whole = (len - first - 1) / SECTOR;
    let between = whole.min(n - 2);
    let taken = match between {
        0 => 0,
        _ => between + Random(seed).below(whole - between + 1),
    };
    let mut sizes = vec![first];
    if between > 0 {
        sizes.extend(ragged(taken, between, seed).iter().map(|n| n * SECTOR));
    }
    sizes.push(len - first - taken * SECTOR);
    sizes
}

/// `n` sizes, none of them 0 unless there is nothing to share out.
fn ragged(len: u64, n: u64, seed: u64) -> Vec<u64> {
    let least = u64::from(len >= n);
    let mut random = Random(seed ^ len);
    let free = len - least * n;
    let mut cuts: Vec<u64> = (1..n).map(|_| random.below(free + 1)).collect();
    cuts.extend([0, free]);
    cuts.sort_unstable();
    let sizes = cuts.windows(2).map(|pair| pair[1] - pair[0] + least);
    sizes.collect()
}

/// What the interface sees of a side, and where its bytes lie.
pub fn lay_out(side: &Side, len: u64, index: u16, seed: u64) -> (Shape, Layout) {
    let mut random = Random(seed ^ 0x5a);
    let segments = sizes(side, len, seed);
    let around = side.is_registered() && !segments.is_empty();
    let shape = Shape {
        kind: side.kind,
        segments,
        offset: side.offset,
        index,
        at: match (around, side.pages) {
            // Behind the first huge page, too.
            (true, PageKind::Thp | PageKind::Huge) => {
                [0, 9999, 2 << 20, (2 << 20) + 9999][random.below(4) as usize]
            }
            (true, _) => [0, 1, 4096, 9999][random.below(4) as usize],
            (false, _) => 0,
        },
    };
    let layout = match (side.is_kernel(), side.kind) {
        (true, BufferType::RegVec) => {
            Layout::in_one_request(&shape, |shape| in_memory(side.split, shape, seed))
        }
        (true, _) => Layout::in_requests(&shape, seed, std::slice::from_ref(&(0..len)))
            .expect("no case is longer than a block request"),
        (false, _) => in_memory(side.split, &shape, seed),
    };
    (shape, layout)
}

/// The segments of a split, in memory of ours.
fn in_memory(split: Split, shape: &Shape, seed: u64) -> Layout {
    match split {
        Split::Equal(_) => by_steps(shape, |len| len),
        Split::Overlap(_) => by_steps(shape, |len| len / 2),
        _ => Layout::new(shape, seed),
    }
}

/// Segments in the order of the buffer, each so far behind the one before.
fn by_steps(shape: &Shape, step: impl Fn(u64) -> u64) -> Layout {
    let mut start = (PAGE + shape.at).next_multiple_of(PAGE) + shape.offset;
    let mut position = 0;
    let mut segments = Vec::new();
    for len in &shape.segments {
        segments.push(Segment {
            position,
            start,
            len: *len,
        });
        position += len;
        start += step(*len);
    }
    let low = segments.first().map_or(PAGE, |segment| segment.start);
    let ends = segments.iter().map(|segment| segment.start + segment.len);
    let high = ends.max().unwrap_or(PAGE);
    Layout {
        segments,
        size: (high + shape.at + 1).next_multiple_of(PAGE) + PAGE,
        registered: shape
            .is_registered()
            .then(|| low - shape.at..(high + shape.at).max(low + 1)),
        requests: Vec::new(),
    }
}

/// A side's memory, and the file behind it.
pub struct Holder {
    pub memory: Option<Memory>,
    pub file: Option<File>,
}

impl Holder {
    pub fn new(side: &Side, layout: &Layout) -> Result<Self, Stop> {
        let len = layout.size as usize;
        let mut holder = Holder {
            memory: None,
            file: None,
        };
        holder.memory = match side.state {
            _ if side.kind == BufferType::Arena => None,
            State::Untouched => Some(Memory::untouched(len)?),
            State::Absent => {
                let file = memory_file(len)?;
                let memory = Memory::of_file(file.as_fd(), len)?;
                holder.file = Some(file);
                Some(memory)
            }
            State::File => {
                let file = tempfile::tempfile()
                    .map_err(|error| Failure::io("make a temporary file", &error))?;
                file.set_len(len as u64)
                    .map_err(|error| Failure::io("lengthen a temporary file", &error))?;
                let memory = Memory::of_file(file.as_fd(), len)?;
                holder.file = Some(file);
                Some(memory)
            }
            State::Swapped if !Machine::look().swap => {
                return Err(Stop::Skip("no swap device is in use".into()));
            }
            _ => Some(
                Memory::anonymous(len, side.pages).map_err(|failure| match side.pages {
                    PageKind::Huge => Stop::Skip("no huge pages are free".into()),
                    _ => failure.into(),
                })?,
            ),
        };
        Ok(holder)
    }
}

/// The first byte of a file that is not what its mapping shows.
pub fn first_difference(file: &File, buffer: &Buffer<'_>) -> Result<Option<usize>, Failure> {
    let mut content = vec![0; buffer.region().len()];
    file.read_exact_at(&mut content, 0)
        .map_err(|error| Failure::io("read a mapped file", &error))?;
    let mapped = buffer.region().bytes();
    Ok(content.iter().zip(mapped).position(|(a, b)| a != b))
}

pub(crate) fn memory_file(len: usize) -> Result<File, Failure> {
    crate::sys::memory_file(c"smoke", len)
        .map_err(|error| Failure::io("make a memory file", &error))
}

/// Has the pages written to swap, and says whether any was. A page that was
/// touched a moment ago can be on a list of the CPU where that happened, which
/// a thread on another one cannot take it from.
fn swap_out(region: &Region<'_>) -> Result<bool, Failure> {
    let out = || {
        region.page_out()?;
        Ok::<_, Failure>(region.resident()? < region.len())
    };
    if out()? {
        return Ok(true);
    }
    crate::sys::on_each_cpu(|| out().unwrap_or(false))
        .map_err(|error| Failure::io("move to another CPU", &error))
}

/// Brings the memory into the state that the case asks for. Registered buffers
/// are registered by then.
pub fn enter(side: &Side, buffer: &Buffer<'_>) -> Result<(), Stop> {
    let region = buffer.region();
    match side.state {
        State::Absent => region.drop_pages()?,
        State::Swapped => {
            if side.is_registered() {
                region.page_out()?;
            } else if !swap_out(region)? {
                return Err(Stop::Skip("the kernel swapped nothing out".into()));
            }
        }
        State::ReadOnly => region.protect(0..region.len(), Protection::Read)?,
        State::Revoked => region.protect(0..region.len(), Protection::None)?,
        State::Hole => {
            let last = buffer.layout().segments.iter().rfind(|s| s.len > 0);
            if let Some(last) = last {
                let end = (last.start + last.len) as usize;
                region.protect(end - 1..end, Protection::None)?;
            }
        }
        State::Present | State::Untouched | State::File => {}
    }
    Ok(())
}

/// Makes the memory readable again.
pub fn leave(side: &Side, buffer: &Buffer<'_>) -> Result<(), Failure> {
    let region = buffer.region();
    match side.state {
        State::ReadOnly | State::Revoked | State::Hole => {
            region.protect(0..region.len(), Protection::ReadWrite)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shapes::LARGEST_OF_KERNEL;
    use super::*;
    use crate::block_layout::LARGEST_REQUEST;

    #[test]
    fn sizes_add_up_and_are_as_many_as_asked_for() {
        for (split, len) in [
            (Split::Equal(8), 4097),
            (Split::Ragged(255), 255),
            (Split::Ragged(3), 65537),
            (Split::Empty(7), 1),
            (Split::Empty(1024), 0),
            (Split::Empty(3), 4096),
            (Split::Overlap(2), 513),
        ] {
            let mut side = Side::plain(BufferType::Vec);
            side.split = split;
            let sizes = sizes(&side, len, 9);
            assert_eq!(sizes.iter().sum::<u64>(), len, "{split}");
            assert_eq!(sizes.len(), split.count(), "{split}");
            if matches!(split, Split::Ragged(_)) {
                assert!(sizes.iter().all(|size| *size > 0), "{split}");
            }
        }
    }

    #[test]
    fn block_io_is_cut_at_sectors_whatever_its_length() {
        for offset in [0, 1, 511, 512, 4095] {
            for len in [0, 1, 511, 512, 513, 4097, 65537] {
                for n in [1, 2, 3, 255] {
                    let sizes = sectors(offset, len, n, len + n);
                    assert_eq!(sizes.iter().sum::<u64>(), len);
                    assert!(sizes.len() as u64 <= n, "{sizes:?}");
                    assert!(len == 0 || !sizes.contains(&0), "{sizes:?}");
                    let mut end = offset;
                    for size in &sizes[..sizes.len() - 1] {
                        end += size;
                        assert_eq!(end % SECTOR, 0, "{sizes:?} at {offset}");
                    }
                }
            }
        }
    }

    #[test]
    fn buffers_of_the_kernel_lie_in_one_request() {
        for split in [
            Split::One,
            Split::Ragged(255),
            Split::Overlap(2),
            Split::Equal(8),
        ] {
            for kind in [BufferType::Kfixed, BufferType::RegVec] {
                let mut side = Side::plain(kind);
                (side.pages, side.split, side.offset) = (PageKind::Kernel, split, 511);
                for len in [0, 1, 4097, LARGEST_OF_KERNEL] {
                    let (_, layout) = lay_out(&side, len, 0, len);
                    let [request] = &layout.requests[..] else {
                        panic!("{:?}", layout.requests);
                    };
                    assert!(request.len() <= LARGEST_REQUEST && request.len() % SECTOR == 0);
                    for segment in &layout.segments {
                        let (start, end) = (segment.start, segment.start + segment.len);
                        let mut iovecs = request.iovecs.iter();
                        assert!(iovecs.any(|iovec| iovec.start <= start && end <= iovec.end));
                    }
                }
            }
        }
    }

    #[test]
    fn overlapping_segments_share_memory_and_equal_ones_touch() {
        let mut side = Side::plain(BufferType::Vec);
        side.split = Split::Overlap(2);
        let (_, layout) = lay_out(&side, 4096, 0, 1);
        assert_eq!(layout.segments[1].start, layout.segments[0].start + 1024);
        side.split = Split::Equal(2);
        let (_, layout) = lay_out(&side, 4096, 0, 1);
        assert_eq!(layout.segments[1].start, layout.segments[0].start + 2048);
    }
}
