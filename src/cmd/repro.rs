// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf repro`

use serde_json::json;

use crate::cli::{Format, GlobalArgs, ReproAction, ReproArgs};
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::progress;
use crate::report::{Report, count, wrapped};
use crate::repro::catalog::{DEFECTS, Defect};
use crate::repro::{self, Finding, Verdict};

pub fn run(global: &GlobalArgs, args: &ReproArgs) -> Result<(), Failure> {
    let report = match args.json {
        true => Report::new(&GlobalArgs {
            format: Format::Json,
            ..global.clone()
        })?,
        false => Report::new(global)?,
    };
    let defects: Vec<&Defect> = match args.defects.is_empty() {
        true => DEFECTS.iter().collect(),
        false => args.defects.clone(),
    };
    match args.action {
        ReproAction::List => list(&report, &defects),
        ReproAction::Run => reproduce(&report, global, &defects, args.dangerous),
    }
}

fn list(report: &Report, defects: &[&Defect]) -> Result<(), Failure> {
    for defect in defects {
        let human = format!(
            "{:<4} {}\n     {}\n     {}",
            defect.name, defect.what, defect.follows, defect.looked_for
        );
        let keys = json!({
            "event": "listed",
            "defect": defect.name,
            "what": defect.what,
            "follows": defect.follows,
            "looked_for": defect.looked_for,
        });
        report.data("repro", human, keys)?;
    }
    Ok(())
}

fn reproduce(
    report: &Report,
    global: &GlobalArgs,
    defects: &[&'static Defect],
    dangerous: bool,
) -> Result<(), Failure> {
    let kernel = Kernel::read(global.overrides());
    let mut findings: Vec<Finding> = Vec::new();
    let bar = progress::steps("repro", defects.len() as u64, global.quiet);
    bar.set_message("defects");
    bar.tick();
    repro::run(&kernel, defects, dangerous, &mut |finding| {
        bar.inc(1);
        bar.suspend(|| print(report, &kernel, &finding))?;
        findings.push(finding);
        Ok(())
    })?;
    bar.finish_and_clear();
    let named = |wanted: &str| -> Vec<&str> {
        let found = findings.iter().filter(|f| f.verdict.name() == wanted);
        found.map(|finding| finding.defect.name).collect()
    };
    let present = named("present");
    let human = format!(
        "{} present, {} absent, {} cannot be told",
        present.len(),
        named("absent").len(),
        named("cannot tell").len()
    );
    let keys = json!({
        "event": "summary",
        "kernel": kernel.release,
        "present": present,
        "absent": named("absent"),
        "cannot_tell": named("cannot tell"),
    });
    report.result("repro", human, keys)?;
    if !present.is_empty() {
        let number = count(present.len() as u64, "known defect");
        let present = present.join(", ");
        return Err(Failure::mismatch(format!("repro: {number}: {present}")));
    }
    match kernel.missing() {
        missing if missing.is_empty() => Ok(()),
        missing => Err(Failure::missing(missing)),
    }
}

fn print(report: &Report, kernel: &Kernel, finding: &Finding) -> Result<(), Failure> {
    let Finding {
        defect,
        verdict,
        log,
        took,
    } = finding;
    let mut lines = wrapped(
        &format!("{:<4} {:<12}", defect.name, verdict.name()),
        defect.what,
    );
    lines.extend(wrapped(&" ".repeat(17), verdict.why()));
    let human = lines.join("\n");
    let keys = json!({
        "event": "defect",
        "kernel": kernel.release,
        "defect": defect.name,
        "what": defect.what,
        "verdict": verdict.name(),
        "why": verdict.why(),
        "log": log,
        "seconds": took.as_secs_f64(),
    });
    match verdict {
        Verdict::Present(_) => report.data("repro", human, keys),
        _ => report.result("repro", human, keys),
    }
}
