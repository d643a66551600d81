// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What server and client say to each other: one JSON object a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::block_layout::{BlockLayout, SECTOR};
use crate::buffer::Buffer;
use crate::layout::{Layout, Shape};
use crate::oracle::Fill;
use crate::pattern;

/// Sectors between two requests of the client, so that the block layer does
/// not make one of them.
const APART: u64 = 8;

/// Block I/O that the client is to do, all at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The block device's node.
    pub device: PathBuf,
    pub parts: Vec<Part>,
}

/// The I/O of one buffer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// The file of the memory that both sides map.
    pub memory: PathBuf,
    pub shape: Shape,
    pub layout: Layout,
    pub direction: Direction,
    /// Of the first request on the device.
    pub sector: u64,
    /// What the buffer holds when all is done; nothing where only the server
    /// can tell.
    pub expected: Option<Expected>,
}

impl Order {
    /// The parts one behind the other on the device, from a sector on.
    pub fn new(device: PathBuf, mut parts: Vec<Part>, first: u64) -> Self {
        let mut sector = first;
        for part in &mut parts {
            part.sector = sector;
            sector = part.end();
        }
        Order { device, parts }
    }
}

impl Part {
    /// For a buffer in a file's memory; [`Order::new`] gives it a place on the
    /// device.
    pub fn new(
        buffer: &Buffer<'_>,
        memory: PathBuf,
        direction: Direction,
        expected: Option<Expected>,
    ) -> Self {
        Part {
            memory,
            shape: buffer.shape().clone(),
            layout: buffer.layout().clone(),
            direction,
            sector: 0,
            expected,
        }
    }

    /// Each request and where it goes on the device.
    pub fn requests(&self) -> impl Iterator<Item = (&BlockLayout, u64)> {
        let mut next = self.sector;
        self.layout.requests.iter().map(move |request| {
            let sector = next;
            next += sectors(request);
            (request, sector)
        })
    }

    /// The first sector behind its requests.
    pub fn end(&self) -> u64 {
        let last = self.requests().last();
        last.map_or(self.sector, |(request, sector)| sector + sectors(request))
    }
}

/// What a request takes of the device, with the distance to the next one.
pub fn sectors(request: &BlockLayout) -> u64 {
    request.len() / SECTOR + APART
}

/// Which block I/O has the buffer's memory for its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The pages of a write can be read by BPF programs: an `ITER_SOURCE`.
    Write,
    /// The pages of a read can be written: an `ITER_DEST`.
    Read,
}

/// What a buffer must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    /// The source pattern with this seed.
    Pattern(u64),
    Fill(Fill),
}

impl Expected {
    /// Its bytes from a position on.
    pub fn write(self, position: u64, bytes: &mut [u8]) {
        match self {
            Expected::Pattern(seed) => pattern::fill(seed, position, bytes),
            Expected::Fill(fill) => fill.write(position, bytes),
        }
    }
}

/// How the client fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// All I/O went well, and every byte is as expected.
    Verified,
    /// A byte is not.
    Wrong(String),
    /// Something failed, with this errno where it has one.
    Failed { what: String, errno: Option<i32> },
}
