// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A file of a pattern: for each block a chain of BPF fill and write.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::copy::name;
use super::lanes::{Lanes, Stage};
use super::output::Output;
use super::{amount, with_lanes, wrong};
use crate::cli::{FillArgs, GlobalArgs};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::oracle::Fill;
use crate::program::Family;
use crate::progress;
use crate::report::Report;
use crate::request::Request;

pub fn run(
    global: &GlobalArgs,
    args: &FillArgs,
    report: &Report,
    path: &Path,
    len: u64,
    fill: Fill,
) -> anyhow::Result<()> {
    let interrupt = Interrupt::catch()?;
    let operation = fill.operation();
    let took = with_lanes(
        global,
        &args.request,
        &args.files,
        Family::Fill,
        operation,
        |lanes| {
            let start = Instant::now();
            let output = Output::create(path, None)?;
            let bar = progress::bytes(&name(path), len, global.quiet);
            write_blocks(lanes, &output, len, fill, |done| {
                bar.set_position(done);
                interrupt.check()
            })?;
            bar.finish_and_clear();
            interrupt.check()?;
            output.commit(len)?;
            Ok(start.elapsed())
        },
    )?;
    let human = format!(
        "fill {} {} {:#x}: {}, verified",
        path.display(),
        fill.name(),
        fill.argument(),
        amount(len, took)
    );
    report.result(
        "fill",
        &human,
        json!({
            "to": path.to_string_lossy(),
            "pattern": fill.name(),
            "argument": fill.argument(),
            "bytes": len,
            "seconds": took.as_secs_f64(),
            "ok": true,
        }),
    )?;
    Ok(())
}

fn write_blocks(
    lanes: &mut Lanes<'_>,
    output: &Output,
    size: u64,
    fill: Fill,
    step: impl Fn(u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut idle: VecDeque<usize> = (0..lanes.count()).collect();
    let mut flying = VecDeque::new();
    let mut expected = vec![0; lanes.block()];
    let mut next = 0;
    loop {
        step(next)?;
        while next < size && !idle.is_empty() {
            let lane = idle.pop_front().expect("one is idle");
            let len = (size - next).min(lanes.block() as u64) as usize;
            let request = Request {
                to: lanes.dest(lane, len),
                len: len as u64,
                position: next,
                word: fill.argument(),
                ..Request::default()
            };
            lanes.bpf(lane, request, true)?;
            lanes.write(lane, output.file(), 0, (next, len))?;
            flying.push_back((lane, next, len));
            next += len as u64;
        }
        let Some((lane, offset, len)) = flying.pop_front() else {
            return Ok(());
        };
        let result = lanes.wait(lane, Stage::Bpf)?;
        let written = lanes.wait(lane, Stage::Write)?;
        lanes.check_bpf(lane, "fill", offset, len, result)?;
        fill.write(offset, &mut expected[..len]);
        let got = &lanes.output(lane)[..len];
        if let Some(at) = (0..len).find(|at| got[*at] != expected[*at]) {
            let (got, expected) = (got[at], expected[at]);
            let place = offset + at as u64;
            let detail = format!("byte {place} is {got:#04x}, expected {expected:#04x}");
            return Err(wrong("fill", offset, detail));
        }
        let written = output.count(written)?;
        output.write_on(lanes, lane, offset, written, len)?;
        idle.push_back(lane);
    }
}
