// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Block requests, held for as long as a job works on their pages.

use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use io_uring::{opcode, types};

use super::held::{Held, Stage, Told, awaited, succeeded, told};
use super::message::{Direction, Expected, Order, Part, Report};
use super::zeros::{self, Zeros};
use super::{MARGIN, Server, judge};
use crate::buffer::Buffer;
use crate::error::Failure;
use crate::queue::Completion;
use crate::ring::Ring;
use crate::ublk::{BlockRequest, DEVICE, Queue};

/// `user_data` of the polls: the client says something, a signal came.
const CLIENT_SPEAKS: u64 = DEVICE | 2;
const SIGNAL: u64 = DEVICE | 3;

/// A buffer whose bytes a job wants as pages of block requests.
#[derive(Debug)]
pub struct Borrowed<'b, 'm> {
    pub buffer: &'b mut Buffer<'m>,
    /// The file of its memory, [`Memory::path`](crate::memory::Memory::path).
    pub memory: PathBuf,
    pub direction: Direction,
    /// What the buffer holds after the job.
    pub expected: Expected,
}

/// Requests in the server's hands. Dropping it answers none of them: they fail
/// when the ring and the device go.
#[derive(Debug)]
pub struct Loan<'a> {
    server: &'a Server,
    ring: &'a Ring,
    queue: Queue<'a>,
    zeros: Zeros,
    held: Vec<Held>,
    report: Option<Report>,
    empty_slot: u16,
}

impl<'a> Loan<'a> {
    /// Has the client make the requests, and returns once each is in the
    /// ring's table, in the slots that the buffers then name. `free` is the
    /// first of [`Server::slots`] slots that nobody else uses.
    pub fn take(
        server: &'a Server,
        ring: &'a Ring,
        free: u16,
        mut borrowed: Vec<Borrowed<'_, '_>>,
    ) -> Result<Self, Failure> {
        let device = &server.device;
        let order = order(server, &borrowed);
        let mut loan = Loan {
            server,
            ring,
            queue: Queue::open(device, ring, 0, free)?,
            zeros: Zeros::new(free)?,
            held: awaited(&order, |buffer| borrowed[buffer].buffer.slots()),
            report: None,
            empty_slot: free + server.filled_slots(),
        };
        device.start()?;
        let client = server.start_client(&order)?;
        loan.poll(client, CLIENT_SPEAKS)?;
        loan.poll(server.watch.wake().as_raw_fd(), SIGNAL)?;
        while loan.held.iter().any(|held| held.stage != Stage::InTable) {
            loan.turn()?;
            if let Some(report) = loan.report.take() {
                judge(report)?;
                return Err(Failure::environment(
                    "the block layer cut a request of the client into several: \
                     see max_sectors_kb and max_segments of the device's queue",
                ));
            }
        }
        for held in &loan.held {
            borrowed[held.buffer]
                .buffer
                .set_slot(held.request, held.slot);
        }
        Ok(loan)
    }

    /// A slot of the ring's table that nobody fills.
    pub fn empty_slot(&self) -> u16 {
        self.empty_slot
    }

    /// Answers all requests and returns when the client has verified its side.
    pub fn give_back(mut self) -> Result<(), Failure> {
        for index in 0..self.held.len() {
            let held = self.held[index];
            if self.server.takes_any_slot() {
                self.held[index].stage = Stage::Here;
                self.queue.unregister(held.tag, held.slot)?;
            } else {
                self.answer(index)?;
            }
        }
        loop {
            if let Some(report) = self.report.take() {
                self.server.watch.check()?;
                return judge(report);
            }
            self.turn()?;
        }
    }

    fn poll(&self, fd: RawFd, user_data: u64) -> Result<(), Failure> {
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32);
        let entry = entry.build().user_data(user_data);
        while !self.ring.push(&entry) {
            self.ring.submit_and_wait(0)?;
        }
        Ok(())
    }

    /// Waits for one completion and does what follows from it.
    fn turn(&mut self) -> Result<(), Failure> {
        let completion = loop {
            match self.ring.completion() {
                Some(completion) => break completion,
                None => self.ring.submit_and_wait(1)?,
            }
        };
        match completion.user_data {
            CLIENT_SPEAKS => {
                self.report = Some(self.server.report()?);
                Ok(())
            }
            SIGNAL => self.server.watch.check(),
            zeros::READ => {
                succeeded("READ_FIXED from /dev/zero", completion.result)?;
                self.zeros.read(self.ring, &self.queue)
            }
            _ => self.event(&completion),
        }
    }

    fn event(&mut self, completion: &Completion) -> Result<(), Failure> {
        match told(&self.queue, completion)? {
            Told::Arrived(request) => self.arrived(request),
            Told::Registered(tag) => match self.held.iter_mut().find(|held| held.is_under(tag)) {
                Some(held) => {
                    held.stage = Stage::InTable;
                    Ok(())
                }
                None => self.zeros.registered(self.ring),
            },
            Told::Unregistered(tag) => match self.held.iter().position(|held| held.is_under(tag)) {
                Some(index) => self.answer(index),
                None => self.zeros.end(self.ring, &self.queue),
            },
        }
    }

    fn arrived(&mut self, request: BlockRequest) -> Result<(), Failure> {
        let wanted = self.held.iter_mut().find(|held| held.is(&request));
        let Some(held) = wanted else {
            return self.zeros.take(request, self.ring, &self.queue);
        };
        held.tag = request.tag;
        match request.slot {
            Some(slot) => {
                held.slot = slot;
                held.stage = Stage::InTable;
                Ok(())
            }
            None => {
                held.stage = Stage::Here;
                self.queue.register(held.tag, held.slot)
            }
        }
    }

    fn answer(&mut self, index: usize) -> Result<(), Failure> {
        let held = &mut self.held[index];
        held.stage = Stage::Answered;
        self.queue.complete(held.tag, held.bytes as i32)
    }
}

fn order(server: &Server, borrowed: &[Borrowed<'_, '_>]) -> Order {
    let parts = borrowed.iter().map(|borrowed| {
        let Borrowed {
            buffer,
            memory,
            direction,
            expected,
        } = borrowed;
        Part::new(buffer, memory.clone(), *direction, Some(*expected))
    });
    Order::new(server.device.path(), parts.collect(), MARGIN)
}
