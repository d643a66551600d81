// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Buffer specifications and ring options: valid when they exist.

/// The buffer types of the interface, and the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BufferType {
    User,
    Fixed,
    Vec,
    Kfixed,
    RegVec,
    Arena,
}

/// What pages a buffer's memory is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PageKind {
    #[default]
    Base,
    Huge,
    Thp,
}

/// How a ring is set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingOptions {
    pub sqpoll: bool,
    pub defer_taskrun: bool,
    pub single_issuer: bool,
    pub no_sqarray: bool,
    pub sqe128: bool,
    pub cqe32: bool,
    pub coop: bool,
}

/// How a request is submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SqeOptions {
    pub asynchronous: bool,
    pub link: bool,
    pub hardlink: bool,
    pub drain: bool,
}
