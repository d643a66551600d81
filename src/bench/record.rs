// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a case came to: the object that is printed, drawn and compared.

use serde::{Deserialize, Serialize};

use super::case::Case;
use super::rounds::Rounds;
use super::statistics::{Ratio, Summary, WIDEST_SPREAD};
use crate::units;

/// One measured case. The JSON object of `uringbpf bench --format json` has
/// these keys; those about throughput are null where no bytes are moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Unique within a run; runs are compared by it.
    pub name: String,
    pub work: String,
    /// Bytes of a request.
    pub size: u64,
    /// Requests submitted together.
    pub depth: usize,
    pub linked: bool,
    pub rings: usize,
    /// Nanoseconds per request, of all rings together.
    pub nanoseconds: Summary,
    pub bytes_per_second: Option<f64>,
    pub baseline: String,
    pub baseline_nanoseconds: Summary,
    pub baseline_bytes_per_second: Option<f64>,
    /// Time of the request, divided by that of the baseline.
    pub ratio: Option<Summary>,
    /// Why there is none.
    pub ratio_refused: Option<String>,
}

impl Record {
    pub fn new(case: &Case, rounds: &Rounds) -> Self {
        let requests = (case.depth * case.rings) as f64;
        let nanoseconds = Summary::of(&rounds.measured).scaled(1.0 / requests);
        let baseline_nanoseconds = Summary::of(&rounds.baseline).scaled(1.0 / requests);
        let throughput = |time: &Summary| {
            let per_second = case.size as f64 / time.median * 1e9;
            (case.work.moves_bytes() && per_second.is_finite()).then_some(per_second)
        };
        let ratio = Ratio::of(&rounds.measured, &rounds.baseline);
        let ratio_refused = match ratio {
            Ratio::Known(_) => None,
            Ratio::Meaningless { spread, rounds } => Some(format!(
                "{rounds} rounds spread by {:.0} %, more than {:.0} %",
                spread * 100.0,
                WIDEST_SPREAD * 100.0
            )),
        };
        Record {
            name: case.to_string(),
            work: case.work.to_string(),
            size: case.size,
            depth: case.depth,
            linked: case.linked,
            rings: case.rings,
            nanoseconds,
            bytes_per_second: throughput(&nanoseconds),
            baseline: case.work.baseline(),
            baseline_nanoseconds,
            baseline_bytes_per_second: throughput(&baseline_nanoseconds),
            ratio: ratio.known(),
            ratio_refused,
        }
    }

    /// Of the table that people read, which fits 80 columns.
    pub fn heading() -> String {
        row([
            "work",
            "size",
            "depth",
            "a request",
            "through",
            "time/baseline",
        ])
    }

    pub fn line(&self) -> String {
        let mut depth = self.depth.to_string();
        if self.linked {
            depth.push('L');
        }
        if self.rings > 1 {
            depth = format!("{depth} x{}", self.rings);
        }
        let ratio = match &self.ratio {
            Some(ratio) => format!(
                "{} ({:.0} %)",
                units::digits(ratio.median),
                ratio.spread() * 100.0
            ),
            None => format!("spread >{:.0} %", WIDEST_SPREAD * 100.0),
        };
        let throughput = self
            .bytes_per_second
            .map_or_else(|| "-".to_string(), units::rate);
        row([
            &self.work,
            &size(self.size),
            &depth,
            &time(self.nanoseconds.median),
            &throughput,
            &format!("{ratio} {}", short(&self.baseline)),
        ])
    }
}

fn row(columns: [&str; 6]) -> String {
    let [work, size, depth, request, through, ratio] = columns;
    // A long name leaves less room for the size, which is short then.
    let room = 27usize.saturating_sub(work.chars().count());
    format!("{work}{size:>room$} {depth:>7} {request:>9} {through:>10}  {ratio}")
}

/// A baseline in one word.
fn short(baseline: &str) -> &str {
    match baseline.split_once(", ") {
        Some(_) => "syscalls",
        None => baseline.split(' ').next().unwrap_or(baseline),
    }
}

/// "512", "4K", "16M".
pub fn size(bytes: u64) -> String {
    match bytes {
        0 => "-".into(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// Nanoseconds in the unit that has three digits before the point at most.
pub fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.2} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

/// A number with a decimal prefix.
pub fn si(value: f64, unit: &str) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G{unit}", v / 1e9),
        v if v >= 1e6 => format!("{:.1} M{unit}", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k{unit}", v / 1e3),
        v => format!("{v:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::Work;
    use crate::bench::plan::{Selection, cases};
    use crate::spec::BufferType::{Arena, Fixed};

    fn rounds(measured: [f64; 5], baseline: [f64; 5]) -> Rounds {
        Rounds {
            measured: measured.to_vec(),
            baseline: baseline.to_vec(),
        }
    }

    #[test]
    fn figures_are_per_request_whatever_was_submitted_together() {
        let case = Case {
            depth: 4,
            ..Case::new(Work::Copy(Fixed, Arena), 4096)
        };
        let record = Record::new(&case, &rounds([4000.0; 5], [2000.0; 5]));
        assert_eq!(record.nanoseconds.median, 1000.0);
        assert_eq!(record.bytes_per_second, Some(4.096e9));
        assert_eq!(record.ratio.map(|ratio| ratio.median), Some(2.0));
        assert_eq!(record.name, "copy fixed->arena 4096 depth 4");
    }

    #[test]
    fn a_ratio_without_meaning_is_not_printed() {
        let case = Case::new(Work::Empty, 0);
        let record = Record::new(&case, &rounds([1.0, 9.0, 2.0, 7.0, 4.0], [1.0; 5]));
        assert_eq!((record.ratio, record.bytes_per_second), (None, None));
        assert!(record.ratio_refused.is_some());
        assert!(record.line().ends_with("  spread >25 % nop"));
    }

    #[test]
    fn a_record_survives_json() {
        let case = Case::new(Work::Copy(Fixed, Arena), 512);
        let record = Record::new(&case, &rounds([3.0; 5], [1.5; 5]));
        let text = serde_json::to_string(&record).expect("plain data");
        assert_eq!(
            serde_json::from_str::<Record>(&text).expect("its own text"),
            record
        );
    }

    #[test]
    fn a_line_says_how_requests_were_submitted_and_what_they_cost() {
        let case = Case {
            depth: 64,
            linked: true,
            rings: 4,
            ..Case::new(Work::Copy(Fixed, Arena), 65536)
        };
        let record = Record::new(&case, &rounds([2.56e6; 5], [1.28e6; 5]));
        assert_eq!(
            [Record::heading(), record.line()],
            [
                "work                   size   depth a request    through  time/baseline",
                "copy fixed->arena       64K  64L x4  10.00 µs 6.10 GiB/s  2.00 (0 %) memcpy",
            ]
        );
    }

    #[test]
    fn every_line_fits_eighty_columns() {
        let selection = Selection {
            sizes: vec![512, 65535, 64 << 20],
            depths: vec![64],
            linked: true,
            rings: Some(64),
            ..Selection::default()
        };
        let cases = cases(&selection);
        for case in cases {
            for (time, spread) in [(1e5, 1.0), (9.9e12, 1.0), (9.9e12, 1.2), (1e5, 3.0)] {
                let measured = [time, time, time * spread, time * spread, time];
                for baseline in [time / 3.0, time / 99_999.0] {
                    let line = Record::new(&case, &rounds(measured, [baseline; 5])).line();
                    assert!(line.chars().count() <= 80, "{line}");
                }
            }
        }
        assert!(Record::heading().chars().count() <= 80);
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!(
            [size(0), size(512), size(65536), size(16 << 20)],
            ["-", "512", "64K", "16M"]
        );
        assert_eq!(
            [time(12.0), time(1234.0), time(5e6)],
            ["12 ns", "1.23 µs", "5.00 ms"]
        );
        assert_eq!(si(2.5e9, "B"), "2.50 GB");
    }
}
