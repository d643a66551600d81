// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Block requests of the client, from when they are ordered until they are
//! answered.

use super::message::{Direction, Order};
use crate::error::Failure;
use crate::queue::Completion;
use crate::ublk::{BlockOperation, BlockRequest, Event, Queue};

/// Where a request of the client's stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Awaited,
    /// Here, and on its way into the table, or out of it.
    Here,
    InTable,
    Answered,
}

/// A request that the client was told to make.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    operation: BlockOperation,
    sector: u64,
    pub bytes: u32,
    /// Which buffer it is of, and which of that one's requests.
    pub buffer: usize,
    pub request: usize,
    pub slot: u16,
    pub tag: u16,
    pub stage: Stage,
}

impl Held {
    pub fn is(&self, request: &BlockRequest) -> bool {
        self.stage == Stage::Awaited
            && self.operation == request.operation
            && self.sector == request.sector
            && self.bytes == request.bytes
    }

    pub fn is_under(&self, tag: u16) -> bool {
        self.tag == tag && matches!(self.stage, Stage::Here | Stage::InTable)
    }
}

/// The requests of an order; `slots` are the table slots of a buffer's.
pub fn awaited<'s>(order: &Order, slots: impl Fn(usize) -> &'s [u16]) -> Vec<Held> {
    let mut held = Vec::new();
    for (buffer, part) in order.parts.iter().enumerate() {
        for (request, (layout, sector)) in part.requests().enumerate() {
            held.push(Held {
                operation: match part.direction {
                    Direction::Write => BlockOperation::Write,
                    Direction::Read => BlockOperation::Read,
                },
                sector,
                bytes: layout.len() as u32,
                buffer,
                request,
                slot: slots(buffer)[request],
                tag: 0,
                stage: Stage::Awaited,
            });
        }
    }
    held
}

/// What a command of ours, or a transfer, came to.
pub fn succeeded(what: &str, result: i32) -> Result<(), Failure> {
    match result {
        0.. => Ok(()),
        errno => Err(Failure::os(what, -errno)),
    }
}

/// What a queue tells of a request.
pub enum Told {
    Arrived(BlockRequest),
    /// In the table now, under this tag.
    Registered(u16),
    /// Out of it again.
    Unregistered(u16),
}

/// What a completion of the queue's ring tells; an error where it is one, or
/// none of the queue's.
pub fn told(queue: &Queue<'_>, completion: &Completion) -> Result<Told, Failure> {
    let event = queue.event(completion).ok_or_else(|| {
        Failure::mismatch(format!(
            "a completion that nobody asked for: user_data {:#x}, res {}",
            completion.user_data, completion.result
        ))
    })?;
    match event {
        Event::Request(request) => Ok(Told::Arrived(request)),
        Event::Registered { tag, result, .. } => {
            succeeded("UBLK_U_IO_REGISTER_IO_BUF", result)?;
            Ok(Told::Registered(tag))
        }
        Event::Unregistered { tag, result, .. } => {
            succeeded("UBLK_U_IO_UNREGISTER_IO_BUF", result)?;
            Ok(Told::Unregistered(tag))
        }
        Event::Gone(_) => Err(Failure::environment("the ublk device was taken away")),
        Event::Refused { result, .. } => Err(Failure::os("fetch the next ublk request", -result)),
    }
}
