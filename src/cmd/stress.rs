// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf stress`

use serde_json::json;

use super::{kernel, new_seed};
use crate::cli::{Format, GlobalArgs, StressArgs};
use crate::error::Failure;
use crate::permission;
use crate::progress;
use crate::report::{Report, complain, count};
use crate::stress::plan::{Place, operation};
use crate::stress::{self, MOST_THREADS, Options};

pub fn run(global: &GlobalArgs, args: &StressArgs) -> Result<(), Failure> {
    let report = match args.json {
        true => Report::new(&GlobalArgs {
            format: Format::Json,
            ..global.clone()
        })?,
        false => Report::new(global)?,
    };
    let (processes, threads) = (args.processes.into(), args.threads.into());
    if processes * threads > MOST_THREADS {
        return Err(Failure::usage(format!(
            "{processes} processes of {threads} threads: {MOST_THREADS} threads are the most"
        )));
    }
    if let Some((place, _)) = args.only
        && (place.process >= processes || place.thread >= threads)
    {
        return Err(Failure::usage(format!(
            "--only {place}: there are {processes} processes of {threads} threads, from 0 on"
        )));
    }
    let options = Options {
        seed: args.seed.unwrap_or_else(new_seed),
        seconds: args.seconds,
        processes,
        threads,
        only: args.only,
        chunks_lock: Default::default(),
        faults: false,
        devices: false,
    };
    if let Some(first) = args.list {
        return list(&report, &options, first);
    }
    let kernel = kernel(global)?;
    if !report.is_json() && !global.quiet {
        complain(format!(
            "stress: seed {}, {} s",
            options.seed, options.seconds
        ));
    }
    permission::check()?;
    let bar = progress::steps("stress", options.seconds, global.quiet);
    let summary = stress::run(kernel, options, &|elapsed, operations| {
        bar.set_position(elapsed.as_secs());
        bar.set_message(format!("s, {}", count(operations, "operation")));
    })?;
    bar.finish_and_clear();
    let failure = summary.failure();
    let (human, keys) = (summary.lines().join("\n"), summary.json());
    match &failure {
        Some(_) => report.data("stress", human, keys)?,
        None => report.result("stress", human, keys)?,
    }
    failure.map_or(Ok(()), Err)
}

/// The first operations of every thread.
fn list(report: &Report, options: &Options, first: u64) -> Result<(), Failure> {
    for process in 0..options.processes {
        for thread in 0..options.threads {
            let place = Place { process, thread };
            for number in 0..first {
                let operation = operation(options.seed, place, number);
                let keys = json!({
                    "event": "listed", "seed": options.seed, "process": process,
                    "thread": thread, "number": number,
                    "kind": operation.kind().name(), "operation": operation.to_string(),
                });
                report.data("stress", format!("{place}.{number} {operation}"), keys)?;
            }
        }
    }
    Ok(())
}
