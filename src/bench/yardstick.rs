// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The figures that repeat: instructions of the guest, where its clock counts
//! them (qemu -icount shift=0: a nanosecond is an instruction).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::case::{Case, Work};
use super::rounds::{Rounds, Stop, Timing, alternate};
use super::stage::with_case;
use super::statistics::Summary;
use crate::cli::Algorithm;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::oracle::Fill;
use crate::spec::BufferType::{Arena, Fixed, User};

const PAGE: u64 = 4096;
/// Pages of the requests that figures per page are taken from.
const PAGES: u64 = 256;
/// Requests submitted together for figures per request.
const DEPTH: usize = 32;
/// Enough that a tick of the timer in some of them moves no median.
const TIMING: Timing = Timing {
    rounds: 31,
    round: Duration::from_micros(100),
};

/// One figure, under the name that it keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    /// Instructions; `None` where the kernel lacks what it measures.
    pub value: Option<f64>,
}

impl Figure {
    /// The line that people read.
    pub fn line(&self) -> String {
        let value = |value: f64| format!("{value:>10.1}");
        let missing = || format!("{:>10}", "missing");
        let whole = self.value.map_or_else(missing, value);
        if self.name.ends_with("_page") {
            let byte = self.value.map(|value| value / PAGE as f64);
            let byte = byte.map_or_else(String::new, |byte| format!("{byte:>8.3} a byte"));
            format!("{:<24} {whole} a page    {byte}", self.name)
        } else {
            format!("{:<24} {whole} a request", self.name)
        }
    }
}

/// What each figure per page measures.
const PER_PAGE: [(&str, Work); 8] = [
    ("iterate_fixed_page", Work::Iterate(Fixed)),
    ("iterate_user_page", Work::Iterate(User)),
    ("copy_fixed_arena_page", Work::Copy(Fixed, Arena)),
    ("xxh64_fixed_page", Work::Checksum(Algorithm::Xxh64, Fixed)),
    ("fill_fixed_page", Work::Fill(Fill::Byte(0xa5), Fixed)),
    ("crc32c_table_page", Work::TableCrc32c(Fixed)),
    ("copy_fixed_fixed_page", Work::Copy(Fixed, Fixed)),
    (
        "crc32c_kfunc_page",
        Work::Checksum(Algorithm::Crc32c, Fixed),
    ),
];

/// How many figures there are.
pub const FIGURES: usize = 1 + PER_PAGE.len();

/// All figures, in the order of docs/performance.md; `begin` is told the name
/// of each before it is measured.
pub fn measure(
    kernel: &Kernel,
    stop: Stop<'_>,
    begin: impl Fn(&'static str),
) -> Result<Vec<Figure>, Failure> {
    const EMPTY: &str = "empty_minus_nop";
    begin(EMPTY);
    let mut figures = vec![Figure {
        name: EMPTY,
        value: Some(empty_minus_nop(kernel, stop)?),
    }];
    for (name, work) in PER_PAGE {
        begin(name);
        let value = if name == "crc32c_kfunc_page"
            && (kernel.overrides.without_kfuncs
                || !kernel.functions.contains_key("bpf_uring_buf_crc32c"))
        {
            None
        } else {
            Some(per_page(kernel, work, stop)?)
        };
        figures.push(Figure { name, value });
    }
    Ok(figures)
}

fn rounds(kernel: &Kernel, case: &Case, stop: Stop<'_>) -> Result<Rounds, Failure> {
    with_case(kernel, case, |measured, baseline| {
        alternate(&TIMING, stop, measured, baseline)
    })
}

fn empty_minus_nop(kernel: &Kernel, stop: Stop<'_>) -> Result<f64, Failure> {
    let case = Case {
        depth: DEPTH,
        ..Case::new(Work::Empty, 0)
    };
    let rounds = rounds(kernel, &case, stop)?;
    let median = |values: &[f64]| Summary::of(values).median / DEPTH as f64;
    Ok(median(&rounds.measured) - median(&rounds.baseline))
}

/// A request of 1 MiB, divided by its pages: what it costs once is in there,
/// too.
fn per_page(kernel: &Kernel, work: Work, stop: Stop<'_>) -> Result<f64, Failure> {
    let rounds = rounds(kernel, &Case::new(work, PAGES * PAGE), stop)?;
    Ok(Summary::of(&rounds.measured).median / PAGES as f64)
}

/// The figures as one JSON object, rounded to what repeats.
pub fn json(figures: &[Figure]) -> Value {
    let mut object = Map::new();
    for figure in figures {
        let value = figure.value.map(|value| (value * 10.0).round() / 10.0);
        object.insert(figure.name.into(), json!(value));
    }
    Value::Object(object)
}

/// Pages of the requests that show that costs grow with nothing but them.
const SCALE: [u64; 5] = [1, 16, 256, 4096, 16384];
/// Everything else that a cost might grow with: the table of registered
/// buffers, and the ops attached to the ring.
const CROWDED: (u32, usize) = (1 << 14, 16);

/// Instructions per page over requests of one page to 64 MiB, and then with a
/// full ring.
pub fn scaling(
    kernel: &Kernel,
    stop: Stop<'_>,
    begin: impl Fn(&'static str),
    print: impl Fn(String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let sizes = SCALE.map(|pages| super::record::size(pages * PAGE));
    let titles = sizes.into_iter().chain(["1M, full".to_string()]);
    print(scaling_row("instructions a page", titles))?;
    for (name, work) in PER_PAGE {
        begin(name);
        let mut values = Vec::new();
        let crowded = Case {
            table: CROWDED.0,
            ops: CROWDED.1,
            ..Case::new(work, PAGES * PAGE)
        };
        let sizes = SCALE.map(|pages| Case::new(work, pages * PAGE));
        for case in sizes.into_iter().chain([crowded]) {
            let timing = Timing {
                rounds: if case.size > PAGES * PAGE {
                    3
                } else {
                    TIMING.rounds
                },
                ..TIMING
            };
            let rounds = with_case(kernel, &case, |measured, _| {
                alternate(&timing, stop, measured, &mut || Ok(()))
            })?;
            let pages = (case.size / PAGE) as f64;
            let value = Summary::of(&rounds.measured).median / pages;
            values.push(format!("{value:.1}"));
        }
        print(scaling_row(name, values))?;
    }
    print(format!(
        "(full: a table of {} buffers, {} ops attached)",
        CROWDED.0, CROWDED.1
    ))
}

/// A name and six figures, in 80 columns.
fn scaling_row(name: &str, figures: impl IntoIterator<Item = String>) -> String {
    let figures = figures.into_iter().map(|figure| format!(" {figure:>8}"));
    format!("{name:<22}{}", figures.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_eighty_columns() {
        for (name, _) in PER_PAGE {
            let row = scaling_row(name, vec!["123456.7".to_string(); SCALE.len() + 1]);
            assert!(row.len() <= 80, "{row}");
            assert!(row.starts_with(&format!("{name} ")), "{row}");
            let value = Some(1_234_567.8);
            let line = Figure { name, value }.line();
            assert!(line.len() <= 80, "{line}");
        }
    }
}
