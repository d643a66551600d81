// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf bench`

use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;

use super::kernel;
use crate::bench::compare::{self, Verdict};
use crate::bench::record::Record;
use crate::bench::rounds::{Timing, alternate};
use crate::bench::{allocations, chart, plan, rings, yardstick};
use crate::cli::{BenchArgs, GlobalArgs};
use crate::error::Failure;
use crate::file::Output;
use crate::interrupt::Interrupt;
use crate::progress;
use crate::report::{Report, print};

pub fn run(global: &GlobalArgs, args: &BenchArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    match args.compare.as_slice() {
        [before, after] => compare(&report, before, after)?,
        _ if args.yardstick => measure_yardstick(global, &report)?,
        _ if args.allocations => measure_allocations(global, &report)?,
        _ if args.scaling => measure_scaling(global)?,
        _ => measure(global, &report, args)?,
    }
    Ok(())
}

fn measure(global: &GlobalArgs, report: &Report, args: &BenchArgs) -> Result<(), Failure> {
    let cases = plan::cases(&args.selection());
    if cases.is_empty() {
        return Err(Failure::usage(
            "bench: no case is of all that: pipelines take --size up to 1M",
        ));
    }
    let kernel = kernel(global)?;
    let timing = Timing {
        rounds: args.rounds,
        round: Duration::from_millis(args.time),
    };
    if !report.is_json() && !global.quiet {
        print(Record::heading())?;
    }
    // What cannot be written is said before minutes of work.
    let picture = args.svg.as_deref().map(|path| Output::create(path, None));
    let picture = picture.transpose()?;
    let interrupt = Interrupt::catch()?;
    let bar = progress::steps("bench", cases.len() as u64, global.quiet);
    let mut records = Vec::new();
    for case in cases {
        bar.set_message(case.work.to_string());
        bar.tick();
        let rounds = rings::with_rings(&kernel, &case, |measured, baseline| {
            alternate(&timing, &|| interrupt.check(), measured, baseline)
        });
        let record = Record::new(&case, &rounds.map_err(|failure| named(failure, &case))?);
        let keys = serde_json::to_value(&record)
            .map_err(|error| Failure::environment(format!("write a record as JSON: {error}")))?;
        bar.suspend(|| report.data("bench", record.line(), keys))?;
        bar.inc(1);
        records.push(record);
    }
    bar.finish_and_clear();
    match picture {
        Some(picture) => picture.finish(chart::svg(&records).as_bytes()),
        None => Ok(()),
    }
}

/// A wrong result is worth more with the case that it is of.
fn named(failure: Failure, case: &crate::bench::case::Case) -> Failure {
    match failure {
        Failure::Mismatch(what) => Failure::mismatch(format!("{case}: {what}")),
        other => other,
    }
}

fn measure_yardstick(global: &GlobalArgs, report: &Report) -> Result<(), Failure> {
    let kernel = kernel(global)?;
    let interrupt = Interrupt::catch()?;
    let bar = progress::steps("bench", yardstick::FIGURES as u64, global.quiet);
    let figures = yardstick::measure(&kernel, &|| interrupt.check(), |name| begin(&bar, name))?;
    bar.finish_and_clear();
    if report.is_json() {
        // Its keys are the figures, and nothing else.
        return print(yardstick::json(&figures).to_string());
    }
    for figure in &figures {
        print(figure.line())?;
    }
    Ok(())
}

fn measure_scaling(global: &GlobalArgs) -> Result<(), Failure> {
    let kernel = kernel(global)?;
    let interrupt = Interrupt::catch()?;
    let bar = progress::steps("bench", yardstick::FIGURES as u64 - 1, global.quiet);
    let print = |line| bar.suspend(|| print(line));
    let stop = || interrupt.check();
    yardstick::scaling(&kernel, &stop, |name| begin(&bar, name), print)?;
    bar.finish_and_clear();
    Ok(())
}

/// The next figure is measured, and with it all before it have been.
fn begin(bar: &ProgressBar, name: &'static str) {
    if !bar.message().is_empty() {
        bar.inc(1);
    }
    bar.set_message(name);
    bar.tick();
}

fn measure_allocations(global: &GlobalArgs, report: &Report) -> Result<(), Failure> {
    let mut wasteful = Vec::new();
    let kernel = kernel(global)?;
    let interrupt = Interrupt::catch()?;
    allocations::measure(&kernel, &|| interrupt.check(), |work, allocated| {
        let requests = allocations::REQUESTS;
        if allocated.count > 0 {
            wasteful.push(work.to_string());
        }
        report.data(
            "bench",
            format!(
                "{:<24} {} allocations, {} bytes in {requests} requests",
                work.to_string(),
                allocated.count,
                allocated.bytes
            ),
            json!({
                "work": work.to_string(),
                "requests": requests,
                "allocations": allocated.count,
                "bytes": allocated.bytes,
            }),
        )
    })?;
    if wasteful.is_empty() {
        return Ok(());
    }
    Err(Failure::mismatch(format!(
        "the kernel allocates memory in the steady state of: {}",
        wasteful.join(", ")
    )))
}

fn compare(report: &Report, before: &Path, after: &Path) -> Result<(), Failure> {
    let changes = compare::compare(&compare::read(before)?, &compare::read(after)?);
    let mut slower = 0;
    for change in &changes {
        slower += usize::from(matches!(change.verdict, Verdict::Slower(_)));
        let part = match change.verdict {
            Verdict::Slower(part) => Some(part),
            Verdict::Faster(part) => Some(-part),
            Verdict::Same | Verdict::Missing => None,
        };
        let keys = json!({
            "name": change.name,
            "before": change.before,
            "after": change.after,
            "change": part,
            "missing": change.verdict == Verdict::Missing,
        });
        report.data("bench", change.line(), keys)?;
    }
    let different = changes
        .iter()
        .filter(|change| change.verdict != Verdict::Same);
    match (different.count(), slower) {
        (0, _) if !report.is_json() => print("no difference that is more than noise"),
        (_, 0) => Ok(()),
        _ => Err(Failure::mismatch(format!(
            "{slower} of {} figures are slower than before, by more than noise",
            changes.len()
        ))),
    }
}
