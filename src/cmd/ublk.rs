// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf ublk`

use std::io::{IsTerminal, stdout};
use std::sync::Once;

use indicatif::ProgressBar;
use serde_json::json;

use crate::blockdev::{Backing, Counters, Fresh, Observer, Opened, Options, Recovered, serve};
use crate::cli::{GlobalArgs, UblkArgs};
use crate::complaints::{Complaints, Latest};
use crate::error::Failure;
use crate::progress;
use crate::report::{Report, complain};
use crate::sys;
use crate::ublk::{Device, Registration, cleanup_with};

pub fn run(global: &GlobalArgs, args: &UblkArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    if args.cleanup {
        return Ok(clean_up(&report)?);
    }
    let backing = match (&args.backing, args.size) {
        (Some(path), size) => Backing::File(path.clone(), size),
        (None, Some(size)) => Backing::Memory(size),
        (None, None) => return Err(Failure::usage("ublk: name --size or --backing").into()),
    };
    let options = Options {
        backing,
        block_size: args.block,
        algorithm: args.algorithm,
        parity: args.parity,
        queues: args.queues,
        depth: args.depth,
        registration: if args.register {
            Registration::Manual
        } else {
            Registration::Auto
        },
        non_sleepable: args.non_sleepable,
    };
    options.check()?;
    // Before a thread is started that would take them.
    sys::block_signals();
    let status = progress::line(global.quiet);
    let teller = Teller {
        report,
        complaints: complaints(status.clone()),
        line: status_line(status.clone()),
        status,
        scan: Once::new(),
        fresh: Fresh::of(&options.backing),
    };
    Ok(serve(&super::kernel(global)?, &options, &teller)?)
}

fn clean_up(report: &Report) -> Result<(), Failure> {
    let mut removed = Vec::new();
    let cleaned = cleanup_with(|id| removed.push(id));
    for id in &removed {
        let human = format!("removed ublk device {id}, whose server has ended");
        report.result("ublk", &human, json!({"event": "removed", "id": id}))?;
    }
    cleaned?;
    if removed.is_empty() {
        report.result("ublk", "nothing to remove", json!({"event": "clean"}))?;
    }
    Ok(())
}

/// Says what the server has to say.
struct Teller {
    report: Report,
    complaints: Complaints,
    status: ProgressBar,
    /// Moves the status, which may wait for the terminal.
    line: Latest,
    /// Done where the status has become the scan's bar.
    scan: Once,
    fresh: Fresh,
}

impl Teller {
    fn counters(&self, event: &str, counters: &Counters) {
        let mut keys = counters.json();
        keys["event"] = json!(event);
        let print = || self.report.data("ublk", counters.lines().join("\n"), keys);
        // Who reads this may have gone: no reason to take the disk away.
        let _ = self.beside(print);
    }

    /// Prints to stdout. Only a terminal shows it beside the status; and a
    /// reader who does not read would keep that.
    fn beside<R>(&self, print: impl FnOnce() -> R) -> R {
        match stdout().is_terminal() {
            true => progress::beside(&self.status, print),
            false => print(),
        }
    }
}

impl Observer for Teller {
    fn scanned(&self, bytes: u64, of: u64) {
        self.scan
            .call_once(|| progress::show_bytes(&self.status, "checksums", of));
        self.status.set_position(bytes);
    }

    fn ready(&self, device: &Device, opened: &Opened) -> Result<(), Failure> {
        self.fresh.keep();
        progress::show_line(&self.status);
        self.line.show(String::new());
        let recovered = opened.recovered;
        if let Some(Recovered { new, old, torn }) = recovered {
            self.trouble(&format!(
                "the last server did not end by itself: of the blocks being written {new} are new, \
                 {old} old, {torn} neither"
            ));
        }
        if opened.sums_made {
            self.trouble(
                "there were no checksums of these data: they are made of what stands there",
            );
        }
        if opened.parity_made {
            self.trouble("there was no parity of these data: it is made from what stands there");
        }
        let path = device.path().display().to_string();
        let keys = json!({
            "event": "ready",
            "device": path,
            "id": device.id(),
            "bytes": device.options().bytes,
            "recovered": recovered.map(|recovered| json!({
                "new": recovered.new,
                "old": recovered.old,
                "torn": recovered.torn,
            })),
            "sums_made": opened.sums_made,
            "parity_made": opened.parity_made,
        });
        self.beside(|| self.report.data("ublk", path, keys))
    }

    fn trouble(&self, what: &str) {
        self.complaints.add(what.to_string());
    }

    fn tick(&self, counters: &Counters) {
        self.line.show(counters.status());
    }

    fn asked(&self, counters: &Counters) {
        self.counters("counters", counters);
    }

    fn ended(&self, counters: &Counters) {
        self.status.finish_and_clear();
        self.counters("ended", counters);
    }
}

/// What the queues' threads have to say: they wait for nobody.
fn complaints(status: ProgressBar) -> Complaints {
    Complaints::new(move |line| {
        progress::beside(&status, || complain(format!("uringbpf: {line}")));
    })
}

fn status_line(status: ProgressBar) -> Latest {
    Latest::new(move |line| {
        status.set_message(line);
        status.tick();
    })
}
