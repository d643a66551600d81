// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Two runs, figure by figure: what changed, and whether it is more than
//! noise.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::record::Record;
use super::statistics::Summary;
use crate::error::Failure;

/// Two runs under instruction counting agree within this part: what is less is
/// never called a change.
pub const REPEATABLE: f64 = 0.01;

/// A figure of a run under the name that it keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub name: String,
    pub value: Summary,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    Same,
    /// By this part of what it was.
    Slower(f64),
    Faster(f64),
    /// In one of the runs only.
    Missing,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub name: String,
    pub before: Option<Summary>,
    pub after: Option<Summary>,
    pub verdict: Verdict,
}

/// Reads the figures of a run: the JSON lines of `bench`, or the one object of
/// `bench --yardstick`.
pub fn read(path: &Path) -> Result<Vec<Figure>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::io(format!("read {}", path.display()), &error))?;
    parse(&text).map_err(|reason| Failure::usage(format!("{}: {reason}", path.display())))
}

fn parse(text: &str) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let at = |what: String| format!("line {}: {what}", number + 1);
        let value: Value = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
        let Value::Object(object) = &value else {
            return Err(at("no JSON object".into()));
        };
        if object.contains_key("nanoseconds") {
            let record: Record =
                serde_json::from_value(value).map_err(|error| at(error.to_string()))?;
            figures.push(Figure {
                name: record.name,
                value: record.nanoseconds,
            });
            continue;
        }
        for (name, value) in object {
            if value.is_null() {
                continue;
            }
            let exact = value
                .as_f64()
                .ok_or_else(|| at(format!("{name} is no number")))?;
            figures.push(Figure {
                name: name.clone(),
                value: Summary {
                    median: exact,
                    low: exact,
                    high: exact,
                    rounds: 1,
                },
            });
        }
    }
    if figures.is_empty() {
        return Err("no figures of uringbpf bench --format json".into());
    }
    Ok(figures)
}

/// Every figure of either run, in the order of the first, then of the second.
pub fn compare(before: &[Figure], after: &[Figure]) -> Vec<Change> {
    let index = |figures: &[Figure]| -> HashMap<String, Summary> {
        let pairs = figures
            .iter()
            .map(|figure| (figure.name.clone(), figure.value));
        pairs.collect()
    };
    let (old, new) = (index(before), index(after));
    let only_after = after
        .iter()
        .filter(|figure| !old.contains_key(&figure.name));
    before
        .iter()
        .chain(only_after)
        .map(|figure| {
            let (before, after) = (old.get(&figure.name), new.get(&figure.name));
            Change {
                name: figure.name.clone(),
                before: before.copied(),
                after: after.copied(),
                verdict: match (before, after) {
                    (Some(before), Some(after)) => verdict(before, after),
                    _ => Verdict::Missing,
                },
            }
        })
        .collect()
}

/// More than noise is what is more than repeats, with the middle halves of the
/// two runs apart.
fn verdict(before: &Summary, after: &Summary) -> Verdict {
    let part = (after.median - before.median) / before.median.abs();
    let apart = after.low > before.high || after.high < before.low;
    if !apart || part.abs() <= REPEATABLE {
        Verdict::Same
    } else if part > 0.0 {
        Verdict::Slower(part)
    } else {
        Verdict::Faster(-part)
    }
}

impl Change {
    /// The line that people read.
    pub fn line(&self) -> String {
        let value = |summary: Option<Summary>| {
            summary.map_or_else(
                || "-".to_string(),
                |summary| format!("{:.1}", summary.median),
            )
        };
        let verdict = match self.verdict {
            Verdict::Same => "no difference".to_string(),
            Verdict::Slower(part) => format!("slower by {:.1} %", part * 100.0),
            Verdict::Faster(part) => format!("faster by {:.1} %", part * 100.0),
            Verdict::Missing => "in one run only".to_string(),
        };
        format!(
            "{:<38} {:>10} {:>10}  {verdict}",
            self.name,
            value(self.before),
            value(self.after)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::{Selection, cases};

    fn summary(low: f64, median: f64, high: f64) -> Summary {
        Summary {
            median,
            low,
            high,
            rounds: 11,
        }
    }

    #[test]
    fn every_line_of_a_whole_run_fits_eighty_columns() {
        for case in cases(&Selection::default()) {
            let value = Some(exact(12_345_678.9));
            let change = Change {
                name: case.to_string(),
                before: value,
                after: value,
                verdict: Verdict::Slower(1.234),
            };
            assert!(change.line().len() <= 80, "{}", change.line());
        }
    }

    fn exact(value: f64) -> Summary {
        summary(value, value, value)
    }

    #[test]
    fn ten_percent_of_an_exact_figure_is_a_change() {
        assert_eq!(verdict(&exact(100.0), &exact(110.0)), Verdict::Slower(0.1));
        assert_eq!(verdict(&exact(100.0), &exact(90.0)), Verdict::Faster(0.1));
    }

    #[test]
    fn less_than_what_repeats_is_none() {
        assert_eq!(verdict(&exact(1000.0), &exact(1009.0)), Verdict::Same);
        assert_eq!(verdict(&exact(0.0), &exact(0.0)), Verdict::Same);
    }

    #[test]
    fn ten_percent_within_the_spread_is_noise() {
        let noisy = |median: f64| summary(median * 0.9, median, median * 1.1);
        assert_eq!(verdict(&noisy(100.0), &noisy(110.0)), Verdict::Same);
    }

    #[test]
    fn a_figure_of_one_run_only_is_named() {
        let figure = |name: &str| Figure {
            name: name.into(),
            value: exact(1.0),
        };
        let changes = compare(&[figure("a"), figure("b")], &[figure("b"), figure("c")]);
        let verdicts: Vec<(&str, Verdict)> = changes
            .iter()
            .map(|change| (change.name.as_str(), change.verdict))
            .collect();
        assert_eq!(
            verdicts,
            [
                ("a", Verdict::Missing),
                ("b", Verdict::Same),
                ("c", Verdict::Missing)
            ]
        );
    }

    #[test]
    fn the_yardstick_and_the_lines_of_a_run_are_read() {
        let figures = parse(r#"{"iterate_fixed_page": 60.5, "crc32c_kfunc_page": null}"#);
        let figures = figures.expect("a yardstick");
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].value.median, 60.5);
    }

    #[test]
    fn what_is_no_run_is_refused_in_one_line() {
        for text in ["", "[1]", "{\"a\": \"x\"}", "{", "{\"nanoseconds\": 3}"] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
