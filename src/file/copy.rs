// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A file made identical to another: for each block a chain of read, BPF copy
//! and write.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::input::Input;
use super::lanes::{Lanes, Stage};
use super::output::Output;
use super::{amount, with_lanes, wrong};
use crate::cli::{CopyArgs, GlobalArgs};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::program::Family;
use crate::progress;
use crate::report::Report;
use crate::request::Request;

pub fn run(
    global: &GlobalArgs,
    args: &CopyArgs,
    report: &Report,
    source: &Path,
    dest: &Path,
) -> anyhow::Result<()> {
    let input = Input::open(source)?;
    Output::refuse_same(&input, dest)?;
    let interrupt = Interrupt::catch()?;
    let (bytes, took) = with_lanes(
        global,
        &args.request,
        &args.files,
        Family::Copy,
        "between",
        |lanes| {
            let start = Instant::now();
            let output = Output::create(dest, Some(&input.metadata))?;
            let bar = progress::bytes(&name(source), input.size, global.quiet);
            let mut job = Job {
                lanes,
                input: &input,
                output: &output,
                interrupt: &interrupt,
            };
            let bytes = job.run(|done| bar.set_position(done))?;
            bar.finish_and_clear();
            interrupt.check()?;
            output.commit(bytes)?;
            Ok((bytes, start.elapsed()))
        },
    )?;
    let human = format!(
        "copy {} -> {}: {}, verified",
        source.display(),
        dest.display(),
        amount(bytes, took)
    );
    report.result(
        "copy",
        &human,
        json!({
            "from": source.to_string_lossy(),
            "to": dest.to_string_lossy(),
            "bytes": bytes,
            "seconds": took.as_secs_f64(),
            "ok": true,
        }),
    )?;
    Ok(())
}

pub(super) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

struct Job<'j, 'm> {
    lanes: &'j mut Lanes<'m>,
    input: &'j Input,
    output: &'j Output,
    interrupt: &'j Interrupt,
}

/// A block in flight.
#[derive(Debug, Clone, Copy)]
struct Block {
    lane: usize,
    offset: u64,
    len: usize,
}

impl Job<'_, '_> {
    /// Copies until the file ends; returns how many bytes that were.
    fn run(&mut self, progress: impl Fn(u64)) -> Result<u64, Failure> {
        let mut idle: VecDeque<usize> = (0..self.lanes.count()).collect();
        let mut flying = VecDeque::new();
        let mut next = 0;
        let mut done = 0;
        let mut ended = false;
        loop {
            self.interrupt.check()?;
            while !ended && next < self.input.size && !idle.is_empty() {
                let lane = idle.pop_front().expect("one is idle");
                let len = (self.input.size - next).min(self.lanes.block() as u64) as usize;
                let block = Block {
                    lane,
                    offset: next,
                    len,
                };
                self.start(block)?;
                flying.push_back(block);
                next += len as u64;
            }
            let Some(block) = flying.pop_front() else {
                break;
            };
            let copied = self.finish(block, ended)?;
            if !ended {
                done = block.offset + copied as u64;
                ended = copied < block.len;
            }
            idle.push_back(block.lane);
            progress(done);
        }
        // The file may have grown, or never said how long it is.
        let want = self.lanes.block();
        while !ended {
            self.interrupt.check()?;
            let have = self.input.read_on(self.lanes, 0, done, 0, want)?;
            self.copy_and_write(0, done, have)?;
            done += have as u64;
            ended = have < want;
        }
        Ok(done)
    }

    fn request(&self, block: Block) -> Request {
        Request {
            from: self.lanes.source(block.lane, block.len),
            to: self.lanes.dest(block.lane, block.len),
            len: block.len as u64,
            position: block.offset,
            ..Request::default()
        }
    }

    /// Submits the chain.
    fn start(&mut self, block: Block) -> Result<(), Failure> {
        let range = (block.offset, block.len);
        self.lanes
            .read(block.lane, &self.input.file, 0, range, true)?;
        let request = self.request(block);
        self.lanes.bpf(block.lane, request, true)?;
        self.lanes.write(block.lane, self.output.file(), 0, range)
    }

    /// Waits for the chain and checks it. A read or write that fell short cut
    /// it: the rest is done step by step. After the end nothing more is
    /// written, and what was is cut off when the file is complete.
    fn finish(&mut self, block: Block, ended: bool) -> Result<usize, Failure> {
        let Block { lane, offset, len } = block;
        let read = self.lanes.wait(lane, Stage::Read)?;
        let bpf = self.lanes.wait(lane, Stage::Bpf)?;
        let written = self.lanes.wait(lane, Stage::Write)?;
        if ended {
            return Ok(0);
        }
        let have = self.input.count(read)?;
        if have < len {
            let have = self.input.read_on(self.lanes, lane, offset, have, len)?;
            self.copy_and_write(lane, offset, have)?;
            return Ok(have);
        }
        if self.lanes.would_wait(bpf) {
            self.copy_and_write(lane, offset, len)?;
            return Ok(len);
        }
        self.lanes.check_bpf(lane, "copy", offset, len, bpf)?;
        self.compare(lane, offset, len)?;
        let written = self.output.count(written)?;
        self.output
            .write_on(self.lanes, lane, offset, written, len)?;
        Ok(len)
    }

    /// One block, step by step.
    fn copy_and_write(&mut self, lane: usize, offset: u64, len: usize) -> Result<(), Failure> {
        if len == 0 {
            return Ok(());
        }
        let request = self.request(Block { lane, offset, len });
        self.lanes.bpf(lane, request, false)?;
        self.lanes.wait_bpf(lane, "copy", offset, len)?;
        self.compare(lane, offset, len)?;
        self.output.write_on(self.lanes, lane, offset, 0, len)
    }

    fn compare(&self, lane: usize, offset: u64, len: usize) -> Result<(), Failure> {
        let (from, to) = (
            &self.lanes.input(lane)[..len],
            &self.lanes.output(lane)[..len],
        );
        if from == to {
            return Ok(());
        }
        let at = from.iter().zip(to).position(|(a, b)| a != b).unwrap_or(0);
        let detail = format!(
            "byte {} is {:#04x}, expected {:#04x}",
            offset + at as u64,
            to[at],
            from[at]
        );
        Err(wrong("copy", offset, detail))
    }
}
