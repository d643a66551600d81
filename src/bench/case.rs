// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is measured.

use std::fmt;

use crate::cli::Algorithm;
use crate::oracle::Fill;
use crate::spec::BufferType;

/// The work of one request; each has a baseline that does the same without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Callbacks that do nothing; baseline: `IORING_OP_NOP`.
    Empty,
    /// A `prep_fn` that keeps its slot; baseline: `IORING_OP_NOP`.
    Prepare,
    /// Every chunk, untouched; baseline: `IORING_OP_NOP`.
    Iterate(BufferType),
    /// Every chunk of a destination; baseline: `IORING_OP_NOP`.
    IterateDest(BufferType),
    /// Baseline: memcpy.
    Copy(BufferType, BufferType),
    /// Baseline: the crate that the oracle uses.
    Checksum(Algorithm, BufferType),
    /// CRC-32C through the program's tables even where the kernel offers its own.
    TableCrc32c(BufferType),
    /// Baseline: memset, or a loop of stores.
    Fill(Fill, BufferType),
    /// READ, copy, WRITE in one chain; baseline: read, memcpy, write, one by one.
    ReadCopyWrite,
    /// READ, checksum in one chain; baseline: read, then the crate.
    ReadChecksum(Algorithm),
    /// Fill, WRITE in one chain; baseline: memset, then write.
    FillWrite(Fill),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Empty => f.write_str("empty"),
            Work::Prepare => f.write_str("prepare"),
            Work::Iterate(kind) => write!(f, "iterate {kind}"),
            Work::IterateDest(kind) => write!(f, "iterate-dest {kind}"),
            Work::Copy(from, to) => write!(f, "copy {from}->{to}"),
            Work::Checksum(algorithm, kind) => write!(f, "{} {kind}", algorithm.name()),
            Work::TableCrc32c(kind) => write!(f, "crc32c-table {kind}"),
            Work::Fill(fill, kind) => write!(f, "fill-{} {kind}", fill.name()),
            Work::ReadCopyWrite => f.write_str("read+copy+write"),
            Work::ReadChecksum(algorithm) => write!(f, "read+{}", algorithm.name()),
            Work::FillWrite(fill) => write!(f, "fill-{}+write", fill.name()),
        }
    }
}

impl Work {
    /// What the baseline is called.
    pub fn baseline(self) -> String {
        match self {
            Work::Empty | Work::Prepare | Work::Iterate(_) | Work::IterateDest(_) => "nop".into(),
            Work::Copy(..) => "memcpy".into(),
            Work::Checksum(algorithm, _) => format!("crate {}", algorithm.name()),
            Work::TableCrc32c(_) => "crate crc32c".into(),
            Work::Fill(Fill::Byte(_), _) => "memset".into(),
            Work::Fill(..) => "stores".into(),
            Work::ReadCopyWrite => "read, memcpy, write".into(),
            Work::ReadChecksum(algorithm) => format!("read, crate {}", algorithm.name()),
            Work::FillWrite(_) => "memset, write".into(),
        }
    }

    /// Whether bytes go through it, so that throughput means something.
    pub fn moves_bytes(self) -> bool {
        self.baseline() != "nop"
    }
}

/// One measurement: the work, and how it is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub work: Work,
    /// Bytes of each request.
    pub size: u64,
    /// Segments of a VEC or REG_VEC buffer, all of one size.
    pub segments: u64,
    /// Requests submitted together.
    pub depth: usize,
    /// Each request but the last is linked to the next (`IOSQE_IO_LINK`).
    pub linked: bool,
    /// Rings, each with a thread of its own.
    pub rings: usize,
    /// Slots of the table of registered buffers.
    pub table: u32,
    /// Ops attached to the ring, this one among them.
    pub ops: usize,
}

impl Case {
    pub fn new(work: Work, size: u64) -> Self {
        Case {
            work,
            size,
            segments: 1,
            depth: 1,
            linked: false,
            rings: 1,
            table: 2,
            ops: 1,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.work, self.size)?;
        if self.depth != 1 {
            write!(f, " depth {}", self.depth)?;
        }
        if self.linked {
            f.write_str(" linked")?;
        }
        if self.rings != 1 {
            write!(f, " rings {}", self.rings)?;
        }
        Ok(())
    }
}
