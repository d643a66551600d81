// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Answers what others than the client ask of the device, the search for
//! partitions for one: to them it is a disk of zeros.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;

use io_uring::{opcode, types};

use crate::error::Failure;
use crate::ring::Ring;
use crate::ublk::{BlockOperation, BlockRequest, DEVICE, Queue};

/// `user_data` of the reads from /dev/zero.
pub const READ: u64 = DEVICE | 1;

/// Requests of others, answered one at a time.
#[derive(Debug)]
pub struct Zeros {
    zero: File,
    /// The slot for pages that the kernel does not register by itself.
    slot: u16,
    /// The first is being answered.
    waiting: VecDeque<BlockRequest>,
}

impl Zeros {
    pub fn new(slot: u16) -> Result<Self, Failure> {
        let zero =
            File::open("/dev/zero").map_err(|error| Failure::io("open /dev/zero", &error))?;
        Ok(Zeros {
            zero,
            slot,
            waiting: VecDeque::new(),
        })
    }

    /// A request came that is nobody else's.
    pub fn take(
        &mut self,
        request: BlockRequest,
        ring: &Ring,
        queue: &Queue<'_>,
    ) -> Result<(), Failure> {
        if request.operation != BlockOperation::Read {
            // Nothing to keep, and nothing to flush.
            return queue.complete(request.tag, request.bytes as i32);
        }
        self.waiting.push_back(request);
        if self.waiting.len() == 1 {
            return self.begin(ring, queue);
        }
        Ok(())
    }

    fn begin(&mut self, ring: &Ring, queue: &Queue<'_>) -> Result<(), Failure> {
        match self.waiting.front() {
            Some(request) if request.slot.is_some() => self.registered(ring),
            Some(request) => queue.register(request.tag, self.slot),
            None => Ok(()),
        }
    }

    /// Its pages are in the table.
    pub fn registered(&mut self, ring: &Ring) -> Result<(), Failure> {
        let Some(request) = self.waiting.front() else {
            return Ok(());
        };
        let slot = request.slot.unwrap_or(self.slot);
        let file = types::Fd(self.zero.as_raw_fd());
        // Of a buffer of the kernel, the address is the offset into it.
        let read = opcode::ReadFixed::new(file, std::ptr::null_mut(), request.bytes, slot)
            .build()
            .user_data(READ);
        while !ring.push(&read) {
            ring.submit_and_wait(0)?;
        }
        Ok(())
    }

    /// Its pages are zeroed.
    pub fn read(&mut self, ring: &Ring, queue: &Queue<'_>) -> Result<(), Failure> {
        match self.waiting.front() {
            Some(request) if request.slot.is_none() => queue.unregister(request.tag, self.slot),
            _ => self.end(ring, queue),
        }
    }

    /// It can be answered.
    pub fn end(&mut self, ring: &Ring, queue: &Queue<'_>) -> Result<(), Failure> {
        if let Some(request) = self.waiting.pop_front() {
            queue.complete(request.tag, request.bytes as i32)?;
        }
        self.begin(ring, queue)
    }
}
