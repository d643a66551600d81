// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Lends the pages of block requests to one job after the other, on whatever
//! ring it has: one device and one client for all of them.
//!
//! A [`Loan`](super::Loan) is served on the ring of its job. Here the queue has
//! a ring of its own, and only the registrations are made on the job's.

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{opcode, types};

use super::held::{Held, Stage, Told, awaited, succeeded, told};
use super::message::{Order, Part, Report};
use super::zeros::{self, Zeros};
use super::{Client, MARGIN, SPARE, judge};
use crate::block_layout::{LARGEST_REQUEST, SECTOR};
use crate::error::Failure;
use crate::queue::Completion;
use crate::registration::Table;
use crate::ring::{self, Ring};
use crate::ublk::{BlockRequest, DEVICE, Device, DeviceOptions, Event, Queue, Registration};

/// Buffers that one job borrows at the most, each of one request.
const BUFFERS: u16 = 8;
/// Of the device, which keeps nothing: room for the requests of one job.
const BYTES: u64 = 1 << 30;
/// `user_data` of the poll: the client says something.
const CLIENT_SPEAKS: u64 = DEVICE | 2;
/// Block I/O that has not come or not ended by then does not.
const LIMIT: Duration = Duration::from_secs(15);

/// The device, its queue's ring and the client's process.
#[derive(Debug)]
pub struct Depot {
    // In this order: the client may wait for the device.
    ring: Ring,
    device: Device,
    client: RefCell<Client>,
}

/// The open queue of a [`Depot`].
#[derive(Debug)]
pub struct Lender<'a> {
    queue: Queue<'a>,
    zeros: RefCell<Zeros>,
    /// The slot of [`Zeros`].
    _table: Table<'a>,
    depot: &'a Depot,
    /// Requests are with somebody.
    lent: Cell<bool>,
}

/// Block requests in the table of a job's ring. Dropping it answers none of
/// them: they fail when the depot goes.
#[derive(Debug)]
pub struct Lent<'l> {
    lender: &'l Lender<'l>,
    ring: &'l Ring,
    held: Vec<Held>,
    report: Option<Report>,
}

impl Depot {
    pub fn new() -> Result<Self, Failure> {
        let device = Device::add(DeviceOptions {
            bytes: BYTES,
            block_size: SECTOR as u32,
            queues: 1,
            depth: BUFFERS + SPARE,
            largest_request: LARGEST_REQUEST as u32,
            registration: Registration::Manual,
            write_cache: false,
            discard: false,
        })?;
        let ring = Ring::with_flags(0, 64, 0).map_err(|error| ring::setup_failure(&error))?;
        let client = RefCell::new(Client::start()?);
        Ok(Depot {
            ring,
            device,
            client,
        })
    }

    /// Opens the queue, once. The thread that does so is the one that lends.
    pub fn open(&self) -> Result<Lender<'_>, Failure> {
        let lender = Lender {
            queue: Queue::open(&self.device, &self.ring, 0, 0)?,
            zeros: RefCell::new(Zeros::new(0)?),
            _table: Table::new(&self.ring, 1)?,
            depot: self,
            lent: Cell::new(false),
        };
        self.device.start()?;
        Ok(lender)
    }
}

impl Lender<'_> {
    /// Has the client do the parts' block I/O, and returns once each request
    /// is registered in the ring's table: in the slot that `slots` names for
    /// the part.
    ///
    /// A failure leaves requests behind, as does who does not give them back:
    /// nothing is lent then any more.
    pub fn lend<'l>(
        &'l self,
        ring: &'l Ring,
        parts: Vec<Part>,
        slots: &[u16],
    ) -> Result<Lent<'l>, Failure> {
        if self.lent.replace(true) {
            return Err(Failure::environment(
                "block requests that were lent before are still out",
            ));
        }
        let order = Order::new(self.depot.device.path(), parts, MARGIN);
        let mut lent = Lent {
            lender: self,
            ring,
            held: awaited(&order, |part| std::slice::from_ref(&slots[part])),
            report: None,
        };
        self.order(&order)?;
        while lent.held.iter().any(|held| held.stage == Stage::Awaited) {
            lent.turn()?;
            if let Some(report) = lent.report.take() {
                judge(report)?;
                return Err(Failure::environment(
                    "the block layer cut a request of the client into several",
                ));
            }
        }
        Ok(lent)
    }

    /// Whether requests are out.
    pub fn lends(&self) -> bool {
        self.lent.get()
    }

    fn order(&self, order: &Order) -> Result<(), Failure> {
        let mut client = self.depot.client.borrow_mut();
        client.order(order)?;
        let fd = types::Fd(client.answers.get_ref().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32);
        let poll = poll.build().user_data(CLIENT_SPEAKS);
        while !self.depot.ring.push(&poll) {
            self.depot.ring.submit_and_wait(0)?;
        }
        Ok(())
    }

    /// What a registration, or its end, came to: on the job's ring, between
    /// its requests.
    fn command(&self, ring: &Ring) -> Result<i32, Failure> {
        let mut others = Vec::new();
        let result = loop {
            let Some(completion) = ring.completion() else {
                if ring.submit_and_wait_for(LIMIT)? {
                    continue;
                }
                return Err(late("register pages of a block request"));
            };
            match self.queue.event(&completion) {
                Some(Event::Registered { result, .. } | Event::Unregistered { result, .. }) => {
                    break result;
                }
                _ => others.push(completion),
            }
        };
        for completion in others {
            ring.set_aside(completion);
        }
        Ok(result)
    }
}

impl Lent<'_> {
    /// Answers the requests and returns when the client has seen that, and
    /// verified its side.
    pub fn give_back(mut self) -> Result<(), Failure> {
        let Lender { queue, .. } = self.lender;
        for held in &mut self.held {
            queue.unregister_on(self.ring, held.tag, held.slot)?;
            let result = self.lender.command(self.ring)?;
            succeeded("UBLK_U_IO_UNREGISTER_IO_BUF", result)?;
            queue.complete(held.tag, held.bytes as i32)?;
            held.stage = Stage::Answered;
        }
        loop {
            if let Some(report) = self.report.take() {
                self.lender.lent.set(false);
                return judge(report);
            }
            self.turn()?;
        }
    }

    /// Waits for one completion of the queue's ring and does what follows.
    fn turn(&mut self) -> Result<(), Failure> {
        let Lender { depot, zeros, .. } = self.lender;
        let completion = loop {
            match depot.ring.completion() {
                Some(completion) => break completion,
                None if depot.ring.submit_and_wait_for(LIMIT)? => {}
                None => return Err(self.overdue()),
            }
        };
        match completion.user_data {
            CLIENT_SPEAKS => {
                self.report = Some(depot.client.borrow_mut().report()?);
                Ok(())
            }
            zeros::READ => {
                succeeded("READ_FIXED from /dev/zero", completion.result)?;
                zeros.borrow_mut().read(&depot.ring, &self.lender.queue)
            }
            _ => self.event(&completion),
        }
    }

    fn overdue(&self) -> Failure {
        let answered = |held: &Held| held.stage == Stage::Answered;
        match self.held.iter().all(answered) {
            true => Failure::environment(format!(
                "the client's block I/O has not ended within {} s of its answer: \
                 somebody still holds its pages",
                LIMIT.as_secs()
            )),
            false => late("block I/O of the client"),
        }
    }

    /// What a completion says of the device. Its own ring only registers what
    /// is nobody's.
    fn event(&mut self, completion: &Completion) -> Result<(), Failure> {
        let Lender {
            depot,
            queue,
            zeros,
            ..
        } = self.lender;
        match told(queue, completion)? {
            Told::Arrived(request) => self.arrived(request),
            Told::Registered(_) => zeros.borrow_mut().registered(&depot.ring),
            Told::Unregistered(_) => zeros.borrow_mut().end(&depot.ring, queue),
        }
    }

    fn arrived(&mut self, request: BlockRequest) -> Result<(), Failure> {
        let Lender {
            depot,
            queue,
            zeros,
            ..
        } = self.lender;
        let Some(held) = self.held.iter_mut().find(|held| held.is(&request)) else {
            return zeros.borrow_mut().take(request, &depot.ring, queue);
        };
        held.tag = request.tag;
        queue.register_on(self.ring, held.tag, held.slot)?;
        succeeded("UBLK_U_IO_REGISTER_IO_BUF", self.lender.command(self.ring)?)?;
        held.stage = Stage::InTable;
        Ok(())
    }
}

fn late(what: &str) -> Failure {
    Failure::environment(format!("{what}: nothing within {} s", LIMIT.as_secs()))
}
