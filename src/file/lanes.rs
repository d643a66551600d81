// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Blocks in flight: each lane has a registered buffer to read into, another
//! to write from, and a chain of up to three requests at a time.

use std::fs::File;
use std::os::fd::AsRawFd;

use io_uring::{opcode, squeue, types};

use crate::errno::Errno;
use crate::error::Failure;
use crate::memory::{MappedArray, Region};
use crate::registration::Table;
use crate::request::{Descriptor, Request, stage_name};
use crate::ring::Ring;
use crate::spec::SqeOptions;
use crate::submission::{self, IOSQE_IO_HARDLINK, IOSQE_IO_LINK};

/// `IO_BPF_BUF_FIXED`.
const FIXED: u8 = 1;

/// What a lane's request does; its place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Read,
    Bpf,
    Write,
}

/// Requests that a lane can have in flight.
pub const STAGES: usize = 4;

struct Lane<'m> {
    input: Region<'m>,
    output: Region<'m>,
    results: [Option<i32>; STAGES],
}

/// All lanes of a ring. Dropping them waits for what is still in flight: the
/// kernel writes to their memory.
pub struct Lanes<'m> {
    ring: &'m Ring,
    requests: &'m MappedArray<Request>,
    id: u8,
    options: SqeOptions,
    sleepable: bool,
    lanes: Vec<Lane<'m>>,
    block: usize,
    in_flight: usize,
}

impl<'m> Lanes<'m> {
    /// Cuts the memory into as many lanes as it holds, two blocks each.
    pub fn new(
        ring: &'m Ring,
        requests: &'m MappedArray<Request>,
        id: u8,
        options: SqeOptions,
        sleepable: bool,
        mut memory: Region<'m>,
        block: usize,
    ) -> Self {
        let mut lanes = Vec::new();
        while memory.len() >= 2 * block {
            let (input, rest) = memory.split_at(block);
            let (output, rest) = rest.split_at(block);
            memory = rest;
            lanes.push(Lane {
                input,
                output,
                results: [None; STAGES],
            });
        }
        Lanes {
            ring,
            requests,
            id,
            options,
            sleepable,
            lanes,
            block,
            in_flight: 0,
        }
    }

    /// Puts the lanes' buffers into the ring's table: 2n to read, 2n+1 to write.
    pub fn register(&self, table: &Table<'m>) -> Result<(), Failure> {
        for (number, lane) in self.lanes.iter().enumerate() {
            table.add_region(2 * number as u16, &lane.input)?;
            table.add_region(2 * number as u16 + 1, &lane.output)?;
        }
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    pub fn block(&self) -> usize {
        self.block
    }

    /// What the lane has read. Nothing of the lane may be in flight.
    pub fn input(&self, lane: usize) -> &[u8] {
        self.lanes[lane].input.bytes()
    }

    /// What the lane writes. Nothing of the lane may be in flight.
    pub fn output(&self, lane: usize) -> &[u8] {
        self.lanes[lane].output.bytes()
    }

    /// The descriptor of the lane's input, as a source.
    pub fn source(&self, lane: usize, len: usize) -> Descriptor {
        descriptor(2 * lane, &self.lanes[lane].input, len)
    }

    /// The descriptor of the lane's output, as a destination.
    pub fn dest(&self, lane: usize, len: usize) -> Descriptor {
        descriptor(2 * lane + 1, &self.lanes[lane].output, len)
    }

    /// Reads `len` bytes into the lane's input, from its byte `at` on.
    pub fn read(
        &mut self,
        lane: usize,
        file: &File,
        at: usize,
        range: (u64, usize),
        linked: bool,
    ) -> Result<(), Failure> {
        let (offset, len) = range;
        let address = (self.lanes[lane].input.address() + at as u64) as *mut u8;
        let entry = opcode::ReadFixed::new(
            types::Fd(file.as_raw_fd()),
            address,
            len as u32,
            2 * lane as u16,
        )
        .offset(offset)
        .build();
        self.push_io(lane, Stage::Read, entry, linked)
    }

    /// Writes `len` bytes of the lane's output, from its byte `at` on.
    pub fn write(
        &mut self,
        lane: usize,
        file: &File,
        at: usize,
        range: (u64, usize),
    ) -> Result<(), Failure> {
        let (offset, len) = range;
        let address = (self.lanes[lane].output.address() + at as u64) as *const u8;
        let entry = opcode::WriteFixed::new(
            types::Fd(file.as_raw_fd()),
            address,
            len as u32,
            2 * lane as u16 + 1,
        )
        .offset(offset)
        .build();
        self.push_io(lane, Stage::Write, entry, false)
    }

    /// Runs the BPF program on the lane's request.
    pub fn bpf(&mut self, lane: usize, request: Request, linked: bool) -> Result<(), Failure> {
        self.requests.set(lane, request);
        let mut flags = self.link_flag(linked);
        if self.options.asynchronous {
            flags |= 1 << 4;
        }
        let user_data = user_data(lane, Stage::Bpf);
        let entry = submission::entry(self.ring.opcode(), self.id, lane, flags, user_data);
        if !self.ring.push_bytes(&entry) {
            return Err(full());
        }
        self.started(lane, Stage::Bpf);
        Ok(())
    }

    fn push_io(
        &mut self,
        lane: usize,
        stage: Stage,
        entry: squeue::Entry,
        linked: bool,
    ) -> Result<(), Failure> {
        let flags = squeue::Flags::from_bits_truncate(self.link_flag(linked));
        let entry = entry.flags(flags).user_data(user_data(lane, stage));
        if !self.ring.push(&entry) {
            return Err(full());
        }
        self.started(lane, stage);
        Ok(())
    }

    fn link_flag(&self, linked: bool) -> u8 {
        match (linked, self.options.hardlink) {
            (false, _) => 0,
            (true, false) => IOSQE_IO_LINK,
            (true, true) => IOSQE_IO_HARDLINK,
        }
    }

    fn started(&mut self, lane: usize, stage: Stage) {
        self.lanes[lane].results[stage as usize] = None;
        self.in_flight += 1;
    }

    /// Waits for one of the lane's requests; `cqe.res`.
    pub fn wait(&mut self, lane: usize, stage: Stage) -> Result<i32, Failure> {
        self.ring.submit_and_wait(0)?;
        loop {
            if let Some(result) = self.lanes[lane].results[stage as usize].take() {
                return Ok(result);
            }
            self.take_completion()?;
        }
    }

    fn take_completion(&mut self) -> Result<(), Failure> {
        let completion = loop {
            match self.ring.completion() {
                Some(completion) => break completion,
                None => self.ring.submit_and_wait(1)?,
            }
        };
        let (lane, stage) = (
            (completion.user_data / STAGES as u64) as usize,
            (completion.user_data % STAGES as u64) as usize,
        );
        match self
            .lanes
            .get_mut(lane)
            .map(|lane| &mut lane.results[stage])
        {
            Some(result @ None) if self.in_flight > 0 => *result = Some(completion.result),
            _ => {
                return Err(Failure::mismatch(format!(
                    "a second completion, or one that nobody asked for: user_data {}, res {}",
                    completion.user_data, completion.result
                )));
            }
        }
        self.in_flight -= 1;
        Ok(())
    }

    /// Whether a result says only that the program would have had to wait. A
    /// request that follows another in a chain can be issued by a worker, and
    /// there a program that must not sleep cannot wait for the ring's lock.
    /// Issued by ourselves, with the lock held, it does not have to.
    pub fn would_wait(&self, result: i32) -> bool {
        !self.sleepable && result == -libc::EAGAIN
    }

    /// Waits for the lane's BPF request, which must have handled `len` bytes.
    pub fn wait_bpf(
        &mut self,
        lane: usize,
        what: &str,
        offset: u64,
        len: usize,
    ) -> Result<Request, Failure> {
        let result = self.wait(lane, Stage::Bpf)?;
        self.check_bpf(lane, what, offset, len, result)
    }

    /// As [`Lanes::wait_bpf`], of a result that is there.
    pub fn check_bpf(
        &self,
        lane: usize,
        what: &str,
        offset: u64,
        len: usize,
        result: i32,
    ) -> Result<Request, Failure> {
        let request = self.requests.get(lane);
        if result == len as i32 && request.bytes == len as u64 {
            return Ok(request);
        }
        let detail = match Errno::from_result(result) {
            Some(errno) if request.error == result => {
                format!("{errno} from {}", stage_name(request.stage))
            }
            Some(errno) => errno.to_string(),
            None => format!("{} bytes handled", request.bytes),
        };
        Err(super::wrong(
            what,
            offset,
            format!("res is {result} ({detail}), expected {len}"),
        ))
    }
}

impl Drop for Lanes<'_> {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            // Completions that make no sense are no reason to leave early; a
            // ring that cannot be entered any more has nothing in flight.
            if self.ring.submit_and_wait(1).is_err() {
                return;
            }
            while self.ring.completion().is_some() {
                self.in_flight = self.in_flight.saturating_sub(1);
            }
        }
    }
}

fn descriptor(index: usize, region: &Region<'_>, len: usize) -> Descriptor {
    Descriptor {
        kind: FIXED,
        reserved: 0,
        buf_index: index as u16,
        len: len as u32,
        addr: region.address(),
    }
}

fn user_data(lane: usize, stage: Stage) -> u64 {
    (lane * STAGES + stage as usize) as u64
}

fn full() -> Failure {
    Failure::environment("the submission queue is full")
}
