// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The run as people, test harnesses and programs read it.

use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::json;

use super::runner::Done;
use super::table::Table;
use super::{Case, Outcome};
use crate::cli::Format;
use crate::error::Failure;
use crate::progress;
use crate::report::{SCHEMA, print};

/// How many of each there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Count {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pass => self.passed += 1,
            Outcome::Fail(_) => self.failed += 1,
            Outcome::Skip(_) => self.skipped += 1,
        }
    }
}

/// Prints as the cases end.
pub struct Printer {
    format: Format,
    quiet: bool,
    seed: u64,
    cases: usize,
    number: usize,
    group: Option<(&'static str, Count, Duration)>,
    total: Count,
    /// Reasons for skips, and how many cases each skipped.
    skips: Vec<(String, usize)>,
    table: Table,
    start: Instant,
    bar: ProgressBar,
}

impl Printer {
    /// Prints nothing yet: whether anything can be run is known when the
    /// programs are loaded.
    pub fn new(format: Format, quiet: bool, seed: u64, cases: usize) -> Self {
        // A line for each case says as much as a bar.
        let lines = format != Format::Human && stdout().is_terminal();
        let bar = progress::steps("smoke", cases as u64, quiet || lines);
        bar.set_message("loading the programs");
        bar.tick();
        Printer {
            bar,
            format,
            quiet,
            seed,
            cases,
            number: 0,
            group: None,
            total: Count::default(),
            skips: Vec::new(),
            table: Table::default(),
            start: Instant::now(),
        }
    }

    /// The cases begin.
    pub fn begin(&mut self) -> Result<(), Failure> {
        if self.format == Format::Ktap {
            print(format!("KTAP version 1\n1..{}", self.cases))?;
        }
        self.bar.set_message("cases");
        self.bar.reset_eta();
        self.bar.tick();
        Ok(())
    }

    /// A case has ended; `repeat` is the command that shows a failure again.
    pub fn case(&mut self, case: &Case, done: &Done, repeat: Option<&str>) -> Result<(), Failure> {
        self.number += 1;
        if self.group.is_none_or(|(name, ..)| name != case.group) {
            self.end_group()?;
            self.group = Some((case.group, Count::default(), Duration::ZERO));
        }
        if let Some((_, count, took)) = &mut self.group {
            count.add(&done.outcome);
            *took += done.took;
        }
        self.total.add(&done.outcome);
        self.table.add(case, &done.outcome);
        self.bar.inc(1);
        if self.total.failed > 0 {
            let message = format!("cases, {} failed", self.total.failed);
            self.bar.set_message(message);
        }
        if let Outcome::Skip(why) = &done.outcome {
            match self.skips.iter_mut().find(|(known, _)| known == why) {
                Some((_, count)) => *count += 1,
                None => self.skips.push((why.clone(), 1)),
            }
        }
        match self.format {
            // At once: the next case may take the machine along.
            Format::Human => match &done.outcome {
                Outcome::Fail(why) => self.print(in_full(case, why, done, repeat)),
                _ => Ok(()),
            },
            Format::Ktap => self.print(ktap(self.number, case, done, repeat)),
            Format::Json => self.print(json_line(case, done, repeat)),
        }
    }

    /// With the bar out of the way.
    fn print(&self, line: impl AsRef<[u8]>) -> Result<(), Failure> {
        self.bar.suspend(|| print(line))
    }

    fn end_group(&mut self) -> Result<(), Failure> {
        let Some((name, count, took)) = self.group.take() else {
            return Ok(());
        };
        if self.format != Format::Human || self.quiet && count.failed == 0 {
            return Ok(());
        }
        let skipped = match count.skipped {
            0 => String::new(),
            skipped => format!("  {skipped:>4} skipped"),
        };
        self.print(format!(
            "{name:<10} {:>5} passed  {:>4} failed  {:>7.2} s{skipped}",
            count.passed,
            count.failed,
            took.as_secs_f64()
        ))?;
        Ok(())
    }

    /// The summary.
    pub fn end(mut self) -> Result<Count, Failure> {
        self.end_group()?;
        self.bar.finish_and_clear();
        let Count {
            passed,
            failed,
            skipped,
        } = self.total;
        let took = self.start.elapsed().as_secs_f64();
        let seed = self.seed;
        match self.format {
            Format::Human => {
                if !self.quiet {
                    for line in self.table.lines() {
                        print(line)?;
                    }
                    print("")?;
                    for (why, count) in &self.skips {
                        print(format!("skipped {count}: {why}"))?;
                    }
                }
                if !self.quiet || failed > 0 {
                    print(format!(
                        "{passed} passed, {failed} failed, {skipped} skipped in {took:.1} s \
                         (seed {seed})"
                    ))?;
                }
            }
            Format::Ktap => print(format!(
                "# Totals: pass:{passed} fail:{failed} xfail:0 xpass:0 skip:{skipped} error:0\n\
                 # seed {seed}"
            ))?,
            Format::Json => print(
                json!({
                    "schema": SCHEMA, "command": "smoke", "event": "summary",
                    "passed": passed, "failed": failed, "skipped": skipped,
                    "seconds": took, "seed": seed,
                })
                .to_string(),
            )?,
        }
        Ok(self.total)
    }
}

fn in_full(case: &Case, why: &str, done: &Done, repeat: Option<&str>) -> String {
    let mut text = format!("  FAIL {}\n       {why}", case.title());
    for line in done.log.iter().flat_map(|log| log.lines()) {
        text += &format!("\n       | {line}");
    }
    if let Some(repeat) = repeat {
        text += &format!("\n       repeat: {repeat}");
    }
    text
}

/// A result line, and what is to be said about a failure as diagnostics.
fn ktap(number: usize, case: &Case, done: &Done, repeat: Option<&str>) -> String {
    // A '#' would begin a directive.
    let name = format!("{}: {}", case.group, case.name).replace('#', "");
    let mut text = match &done.outcome {
        Outcome::Pass => format!("ok {number} {name}"),
        Outcome::Skip(why) => format!("ok {number} {name} # SKIP {why}"),
        Outcome::Fail(_) => format!("not ok {number} {name}"),
    };
    if let Outcome::Fail(why) = &done.outcome {
        let log = done.log.iter().flat_map(|log| log.lines());
        for line in why.lines().chain(log) {
            text += &format!("\n# {line}");
        }
        if let Some(repeat) = repeat {
            text += &format!("\n# repeat: {repeat}");
        }
    }
    text
}

fn json_line(case: &Case, done: &Done, repeat: Option<&str>) -> String {
    let (outcome, why) = match &done.outcome {
        Outcome::Pass => ("pass", None),
        Outcome::Fail(why) => ("fail", Some(why)),
        Outcome::Skip(why) => ("skip", Some(why)),
    };
    json!({
        "schema": SCHEMA, "command": "smoke", "event": "case",
        "group": case.group, "case": case.title(), "outcome": outcome,
        "why": why, "log": done.log, "repeat": repeat,
        "seconds": done.took.as_secs_f64(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(outcome: Outcome) -> Done {
        Done {
            outcome,
            took: Duration::from_millis(1),
            log: Some("BUG: x\nCPU: 0".into()),
            hung: false,
        }
    }

    fn case() -> Case {
        Case::transfer("copy from=user to=vec len=3".parse().expect("a case"))
    }

    #[test]
    fn a_result_line_is_what_test_harnesses_read() {
        assert_eq!(
            ktap(3, &case(), &done(Outcome::Pass), None),
            "ok 3 copy: copy from=user to=vec len=3"
        );
        assert_eq!(
            ktap(4, &case(), &done(Outcome::Skip("no swap".into())), None),
            "ok 4 copy: copy from=user to=vec len=3 # SKIP no swap"
        );
        let failed = ktap(
            5,
            &case(),
            &done(Outcome::Fail("res is 0".into())),
            Some("x"),
        );
        let lines: Vec<&str> = failed.lines().collect();
        assert_eq!(lines[0], "not ok 5 copy: copy from=user to=vec len=3");
        assert!(
            lines[1..].iter().all(|line| line.starts_with("# ")),
            "{failed}"
        );
        assert!(lines.contains(&"# repeat: x"), "{failed}");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let line = json_line(&case(), &done(Outcome::Fail("a\nb".into())), None);
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["outcome"], "fail");
        assert_eq!(value["schema"], SCHEMA);
        assert!(value["repeat"].is_null());
    }
}
