// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a run was and how it ended: for people and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::board::Count;
use super::plan::Place;
use super::process::Outcome;
use super::worker::Wrong;
use super::{Kind, Options};
use crate::error::Failure;

#[derive(Debug)]
pub struct Summary {
    pub options: Options,
    pub took: Duration,
    pub operations: u64,
    pub counts: Vec<(Kind, Count)>,
    pub(super) outcome: Outcome,
    /// What this machine cannot do.
    pub left_out: Vec<String>,
    /// What is there that was not before.
    pub left: Vec<String>,
}

impl Summary {
    /// The command that repeats the run.
    pub fn command(&self) -> String {
        let Options {
            seed,
            seconds,
            processes,
            threads,
            ..
        } = self.options;
        format!(
            "uringbpf stress --seed {seed} --seconds {seconds} --processes {processes} \
             --threads {threads}"
        )
    }

    /// The command that runs one operation alone.
    fn only(&self, wrong: &Wrong) -> String {
        let place = Place {
            process: wrong.process,
            thread: wrong.thread,
        };
        format!("{} --only {place}.{}", self.command(), wrong.number)
    }

    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for wrong in &self.outcome.wrong {
            lines.push(format!(
                "wrong: seed {} process {} thread {} operation {} ({}): {}",
                self.options.seed,
                wrong.process,
                wrong.thread,
                wrong.number,
                wrong.operation,
                wrong.what
            ));
            lines.push(format!("  alone: {}", self.only(wrong)));
        }
        if let Some(log) = &self.outcome.log {
            lines.push(format!("the kernel says:\n{log}"));
        }
        for left in &self.left {
            lines.push(format!("left behind: {left}"));
        }
        lines.push(format!(
            "{:<12} {:>9} {:>9} {:>9}",
            "operation", "right", "refused", "left out"
        ));
        for (kind, count) in &self.counts {
            lines.push(format!(
                "{:<12} {:>9} {:>9} {:>9}",
                kind.name(),
                count.right,
                count.refused,
                count.left_out
            ));
        }
        for left_out in &self.left_out {
            lines.push(format!("left out: {left_out}"));
        }
        let verdict = match self.failure() {
            None => "nothing wrong, nothing left behind",
            Some(Failure::Interrupted(_)) => "interrupted; nothing wrong until then",
            Some(_) => "WRONG",
        };
        lines.push(format!(
            "{} operations of {} threads of {} processes in {:.1} s, {} kills: {verdict}",
            self.operations,
            self.options.threads,
            self.options.processes,
            self.took.as_secs_f64(),
            self.outcome.kills
        ));
        lines.push(format!("repeat: {}", self.command()));
        lines
    }

    pub fn json(&self) -> Value {
        let counts: serde_json::Map<String, Value> = self
            .counts
            .iter()
            .map(|(kind, count)| {
                let value = json!({"right": count.right, "refused": count.refused,
                    "left_out": count.left_out});
                (kind.name().to_string(), value)
            })
            .collect();
        let wrong: Vec<Value> = self
            .outcome
            .wrong
            .iter()
            .map(|wrong| {
                json!({"process": wrong.process, "thread": wrong.thread,
                    "number": wrong.number, "operation": wrong.operation, "what": wrong.what,
                    "only": self.only(wrong)})
            })
            .collect();
        json!({
            "event": "summary",
            "seed": self.options.seed,
            "seconds": self.took.as_secs_f64(),
            "processes": self.options.processes,
            "threads": self.options.threads,
            "operations": self.operations,
            "kills": self.outcome.kills,
            "counts": counts,
            "left_out": self.left_out,
            "wrong": wrong,
            "left": self.left,
            "log": self.outcome.log,
            "command_line": self.command(),
        })
    }

    /// Why the run ends with a status other than 0.
    pub fn failure(&self) -> Option<Failure> {
        let outcome = &self.outcome;
        let first = outcome.wrong.first().map(|wrong| {
            format!(
                "operation {}.{}.{} ({}): {}",
                wrong.process, wrong.thread, wrong.number, wrong.operation, wrong.what
            )
        });
        let log = || {
            let line = outcome.log.as_ref()?.lines().next()?;
            Some(format!("the kernel says: {line}"))
        };
        let left = || {
            let left = &self.left;
            (!left.is_empty()).then(|| format!("left behind: {}", left.join(", ")))
        };
        match first.or_else(log).or_else(left) {
            Some(what) => Some(Failure::mismatch(format!(
                "stress, seed {}: {what}",
                self.options.seed
            ))),
            None => outcome.interrupted.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(outcome: Outcome) -> Summary {
        Summary {
            options: Options {
                seed: 7,
                seconds: 3,
                processes: 2,
                threads: 1,
                only: None,
                chunks_lock: Default::default(),
                faults: false,
                devices: false,
            },
            took: Duration::from_secs(3),
            operations: 1,
            counts: Vec::new(),
            outcome,
            left_out: Vec::new(),
            left: Vec::new(),
        }
    }

    #[test]
    fn a_wrong_operation_is_named_with_the_commands_that_repeat_it() {
        let summary = summary(Outcome {
            wrong: vec![Wrong {
                process: 1,
                thread: 0,
                number: 42,
                operation: "copy from=user".into(),
                what: "not done within 180 s".into(),
            }],
            ..Outcome::default()
        });
        let text = summary.lines().join("\n");
        for part in [
            "seed 7 process 1 thread 0 operation 42 (copy from=user): not done",
            "uringbpf stress --seed 7 --seconds 3 --processes 2 --threads 1 --only 1.0.42",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(
            summary.failure().map(|failure| failure.exit_status()),
            Some(1)
        );
    }

    #[test]
    fn trouble_outweighs_a_signal_and_a_signal_success() {
        let interrupted = Some(Failure::Interrupted(libc::SIGINT));
        let status = |summary: &Summary| summary.failure().map(|failure| failure.exit_status());
        let mut run = summary(Outcome::default());
        assert_eq!(status(&run), None);
        run.outcome.interrupted = interrupted;
        assert_eq!(status(&run), Some(130));
        run.left.push("1 struct_ops links".into());
        assert_eq!(status(&run), Some(1));
    }
}
