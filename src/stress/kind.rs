// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The lines of the summary.

/// What an operation is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Copy,
    Checksum,
    Fill,
    Chunks,
    Batch,
    Protect,
    Unmap,
    Register,
    Detach,
    Attach,
    Descriptors,
    Fork,
    Abandon,
    Pressure,
    Fault,
    Device,
    Load,
    Kill,
}

impl Kind {
    pub const ALL: [Kind; 18] = [
        Kind::Copy,
        Kind::Checksum,
        Kind::Fill,
        Kind::Chunks,
        Kind::Batch,
        Kind::Protect,
        Kind::Unmap,
        Kind::Register,
        Kind::Detach,
        Kind::Attach,
        Kind::Descriptors,
        Kind::Fork,
        Kind::Abandon,
        Kind::Pressure,
        Kind::Fault,
        Kind::Device,
        Kind::Load,
        Kind::Kill,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Copy => "copy",
            Kind::Checksum => "checksum",
            Kind::Fill => "fill",
            Kind::Chunks => "chunks",
            Kind::Batch => "batch",
            Kind::Protect => "mprotect",
            Kind::Unmap => "munmap",
            Kind::Register => "register",
            Kind::Detach => "detach",
            Kind::Attach => "attach",
            Kind::Descriptors => "descriptors",
            Kind::Fork => "fork",
            Kind::Abandon => "abandon",
            Kind::Pressure => "pressure",
            Kind::Fault => "fault",
            Kind::Device => "device",
            Kind::Load => "load",
            Kind::Kill => "kill",
        }
    }
}
