// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Checksums of files, in the lines that the usual tools print and check.
//! Blocks are read several at a time and taken in by the program in order.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::copy::name;
use super::input::Input;
use super::lanes::{Lanes, Stage};
use super::list::{self, Entry};
use super::with_lanes;
use crate::cli::{Algorithm, ChecksumArgs, GlobalArgs};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::oracle::Digest;
use crate::program::Family;
use crate::progress;
use crate::report::{Report, complain, count};
use crate::request::Request;

/// The stream that all files use, one after another.
const STREAM: u32 = 0;

pub fn run(global: &GlobalArgs, args: &ChecksumArgs, report: &Report) -> anyhow::Result<()> {
    let interrupt = Interrupt::catch()?;
    let algorithm = args.algorithm;
    let operation = algorithm.name();
    with_lanes(
        global,
        &args.request,
        &args.file,
        Family::Checksum,
        operation,
        |lanes| {
            let mut job = Job {
                lanes,
                algorithm,
                interrupt: &interrupt,
                quiet: global.quiet,
            };
            if args.check {
                check_lists(&mut job, args, report)
            } else {
                sum_files(&mut job, args, report)
            }
        },
    )
}

/// One line per file. A file that cannot be read does not keep the others
/// from being read; the first failure is the exit status.
fn sum_files(job: &mut Job<'_, '_>, args: &ChecksumArgs, report: &Report) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    for path in &args.files {
        let start = Instant::now();
        match job.sum(path) {
            Ok(sum) => {
                let line = list::line(sum.digest, job.algorithm, path.as_os_str());
                let digits = job.algorithm.digits();
                report.data(
                    "checksum",
                    &line,
                    json!({
                        "file": path.to_string_lossy(),
                        "algorithm": job.algorithm.name(),
                        "digest": format!("{:0digits$x}", sum.digest),
                        "bytes": sum.bytes,
                        "seconds": start.elapsed().as_secs_f64(),
                        "ok": true,
                    }),
                )?;
            }
            // Alone, it needs no summary after it.
            Err(failure) if args.files.len() == 1 => return Err(failure.into()),
            Err(failure) => failures.add(failure)?,
        }
    }
    failures.end("file")
}

/// `NAME: OK` or `NAME: FAILED` for each line of each list.
fn check_lists(job: &mut Job<'_, '_>, args: &ChecksumArgs, report: &Report) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let mut wrong = 0;
    for path in &args.files {
        let text = std::fs::read(path)
            .map_err(|error| Failure::io(format!("read {}", path.display()), &error))?;
        let entries = list::parse(&text, job.algorithm);
        if entries.entries.is_empty() {
            let (path, name) = (path.display(), job.algorithm.name());
            let failure = Failure::environment(format!("{path}: no {name} line in it"));
            return Err(failure
                .next("name the --algorithm that it was made with")
                .into());
        }
        if entries.malformed > 0 {
            complain(format!(
                "uringbpf: {}: {} not understood",
                path.display(),
                count(entries.malformed, "line")
            ));
        }
        for Entry { name, digest } in &entries.entries {
            let verdict = match job.sum(Path::new(name)) {
                Ok(sum) if sum.digest == *digest => "OK",
                Ok(_) => {
                    wrong += 1;
                    "FAILED"
                }
                Err(failure) => {
                    failures.add(failure)?;
                    "FAILED open or read"
                }
            };
            let mut human = list::escape(name).0;
            human.extend_from_slice(format!(": {verdict}").as_bytes());
            let keys = json!({
                "file": name.to_string_lossy(),
                "algorithm": job.algorithm.name(),
                "ok": verdict == "OK",
            });
            match verdict {
                "OK" => report.result("checksum", &human, keys)?,
                _ => report.data("checksum", &human, keys)?,
            }
        }
    }
    if wrong > 0 {
        failures
            .end("listed file")
            .unwrap_or_else(|summary| complain(format!("uringbpf: {summary}")));
        let what = format!("{} did not match", count(wrong, "computed checksum"));
        return Err(Failure::mismatch(what).into());
    }
    failures.end("listed file")
}

/// Failures of single files: said at once, counted for the end.
#[derive(Default)]
struct Failures(u64);

impl Failures {
    /// Only what is about one file is survived.
    fn add(&mut self, failure: Failure) -> Result<(), Failure> {
        if !matches!(failure, Failure::Environment(_)) {
            return Err(failure);
        }
        complain(format!("uringbpf: {failure}"));
        self.0 += 1;
        Ok(())
    }

    fn end(&self, what: &str) -> anyhow::Result<()> {
        match self.0 {
            0 => Ok(()),
            failed => {
                let what = format!("{} could not be summed", count(failed, what));
                Err(Failure::environment(what).into())
            }
        }
    }
}

struct Sum {
    digest: u64,
    bytes: u64,
}

struct Job<'j, 'm> {
    lanes: &'j mut Lanes<'m>,
    algorithm: Algorithm,
    interrupt: &'j Interrupt,
    quiet: bool,
}

impl Job<'_, '_> {
    /// The file's digest by the BPF program, checked in user space.
    fn sum(&mut self, path: &Path) -> Result<Sum, Failure> {
        let input = Input::open(path)?;
        let bar = progress::bytes(&name(path), input.size, self.quiet);
        let mut oracle = Digest::new(self.algorithm);
        let mut sum = Sum {
            digest: 0,
            bytes: 0,
        };
        let mut idle: VecDeque<usize> = (0..self.lanes.count()).collect();
        let mut flying = VecDeque::new();
        let mut next = 0;
        let mut ended = false;
        loop {
            self.interrupt.check()?;
            while !ended && next < input.size && !idle.is_empty() {
                let lane = idle.pop_front().expect("one is idle");
                let len = (input.size - next).min(self.lanes.block() as u64) as usize;
                self.lanes.read(lane, &input.file, 0, (next, len), false)?;
                flying.push_back((lane, next, len));
                next += len as u64;
            }
            let Some((lane, offset, len)) = flying.pop_front() else {
                break;
            };
            let result = self.lanes.wait(lane, Stage::Read)?;
            if !ended {
                let have = input.count(result)?;
                let have = input.read_on(self.lanes, lane, offset, have, len)?;
                self.take(lane, have, &mut sum, &mut oracle)?;
                ended = have < len;
            }
            idle.push_back(lane);
            bar.set_position(sum.bytes);
        }
        // The file may have grown, or never said how long it is; and a stream
        // of nothing has a digest, too.
        let want = self.lanes.block();
        while !ended {
            self.interrupt.check()?;
            let have = input.read_on(self.lanes, 0, sum.bytes, 0, want)?;
            if have > 0 || sum.bytes == 0 {
                self.take(0, have, &mut sum, &mut oracle)?;
            }
            ended = have < want;
        }
        bar.finish_and_clear();
        let expected = oracle.finish();
        if sum.digest != expected {
            let digits = self.algorithm.digits();
            return Err(Failure::mismatch(format!(
                "{} of {}: the program says {:0digits$x}, expected {expected:0digits$x}",
                self.algorithm.name(),
                path.display(),
                sum.digest
            )));
        }
        Ok(sum)
    }

    /// Runs the program on what the lane has read.
    fn take(
        &mut self,
        lane: usize,
        len: usize,
        sum: &mut Sum,
        oracle: &mut Digest,
    ) -> Result<(), Failure> {
        let request = Request {
            from: self.lanes.source(lane, len),
            len: len as u64,
            position: sum.bytes,
            stream: STREAM,
            ..Request::default()
        };
        self.lanes.bpf(lane, request, false)?;
        // The user-space sum runs while the requests do.
        oracle.update(&self.lanes.input(lane)[..len]);
        let request = self
            .lanes
            .wait_bpf(lane, self.algorithm.name(), sum.bytes, len)?;
        sum.digest = request.digest;
        sum.bytes += len as u64;
        Ok(())
    }
}
