// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A run as one SVG picture: for each operation throughput over size and cost
//! over size, a line for each of its variants, dashed for the baseline.

use std::fmt::Write as _;

use super::record::{Record, si, size, time};

const COLOURS: [&str; 8] = [
    "#4477aa", "#ee6677", "#228833", "#aa7700", "#66aadd", "#aa3377", "#555555", "#994455",
];
const PANEL: (f64, f64) = (380.0, 220.0);
const MARGIN: (f64, f64) = (76.0, 34.0);
const LEGEND: f64 = 190.0;

/// One line: a name, and points of size and value.
struct Line {
    name: String,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// Both panels of one operation.
struct Row {
    title: String,
    throughput: Vec<Line>,
    cost: Vec<Line>,
}

/// The picture of a run; what has no size, or is submitted in other ways than
/// alone, is left to the table.
pub fn svg(records: &[Record]) -> String {
    let rows = rows(records);
    let width = 2.0 * (PANEL.0 + MARGIN.0) + LEGEND;
    let height = rows.len() as f64 * (PANEL.1 + 2.0 * MARGIN.1) + MARGIN.1;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, row) in rows.iter().enumerate() {
        let top = number as f64 * (PANEL.1 + 2.0 * MARGIN.1) + MARGIN.1;
        let left = [MARGIN.0, 2.0 * MARGIN.0 + PANEL.0];
        let bytes = |value: f64| si(value, "B/s");
        panel(
            &mut out,
            &format!("{}: throughput", row.title),
            (left[0], top),
            &row.throughput,
            &bytes,
        );
        panel(
            &mut out,
            &format!("{}: time per request", row.title),
            (left[1], top),
            &row.cost,
            &time,
        );
        legend(&mut out, (left[1] + PANEL.0 + 10.0, top), &row.cost);
    }
    out.push_str("</svg>\n");
    out
}

fn rows(records: &[Record]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for record in records {
        if record.size == 0 || record.depth != 1 || record.rings != 1 {
            continue;
        }
        let (title, variant) = record
            .work
            .split_once(' ')
            .unwrap_or((&record.work, "file"));
        let index = rows.iter().position(|row| row.title == title);
        let index = index.unwrap_or_else(|| {
            rows.push(Row {
                title: title.to_string(),
                throughput: Vec::new(),
                cost: Vec::new(),
            });
            rows.len() - 1
        });
        let row = &mut rows[index];
        let x = record.size as f64;
        // The first variant's baseline stands for all: they do the same.
        let first = row.cost.first().is_none_or(|line| line.name == variant);
        add(
            &mut row.cost,
            variant,
            false,
            (x, record.nanoseconds.median),
        );
        if let Some(value) = record.bytes_per_second {
            add(&mut row.throughput, variant, false, (x, value));
        }
        if first {
            let baseline = &record.baseline;
            add(
                &mut row.cost,
                baseline,
                true,
                (x, record.baseline_nanoseconds.median),
            );
            if let Some(value) = record.baseline_bytes_per_second {
                add(&mut row.throughput, baseline, true, (x, value));
            }
        }
    }
    rows
}

fn add(lines: &mut Vec<Line>, name: &str, dashed: bool, point: (f64, f64)) {
    if let Some(line) = lines
        .iter_mut()
        .find(|line| line.name == name && line.dashed == dashed)
    {
        line.points.push(point);
        return;
    }
    lines.push(Line {
        name: name.to_string(),
        dashed,
        points: vec![point],
    });
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

/// A mark on a point of a line. Colours and marks have no common divisor, so that
/// forty lines differ in one or the other, and each from its neighbours without
/// colour.
fn mark(out: &mut String, number: usize, x: f64, y: f64) {
    let shape = match number % 5 {
        0 => "m-3,0 a3,3 0 1,0 6,0 a3,3 0 1,0 -6,0",
        1 => "m-2.6,-2.6 h5.2 v5.2 h-5.2 z",
        2 => "m0,-3.8 l3.8,3.8 l-3.8,3.8 l-3.8,-3.8 z",
        3 => "m0,-3.6 l3.4,6 h-6.8 z",
        _ => "m0,3.6 l3.4,-6 h-6.8 z",
    };
    let _ = writeln!(
        out,
        "<path fill=\"{}\" d=\"M{x:.1},{y:.1} {shape}\"/>",
        colour(number)
    );
}

fn style(line: &Line) -> &'static str {
    if line.dashed {
        " stroke-dasharray=\"5 3\""
    } else {
        ""
    }
}

/// Both axes are logarithmic; values are labelled at powers of ten.
fn panel(
    out: &mut String,
    title: &str,
    (left, top): (f64, f64),
    lines: &[Line],
    unit: &dyn Fn(f64) -> String,
) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>",
        top - 8.0,
        escape(title)
    );
    let _ = writeln!(
        out,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#999\"/>",
        PANEL.0, PANEL.1
    );
    if points().next().is_none() {
        return;
    }
    let (x_low, x_high) = bounds(points().map(|point| point.0.log2()));
    let (y_low, y_high) = bounds(points().map(|point| point.1.max(1e-9).log10()));
    let (y_low, y_high) = (y_low.floor(), y_high.ceil().max(y_low.floor() + 1.0));
    let x_of = |x: f64| left + (x.log2() - x_low) / (x_high - x_low) * PANEL.0;
    let y_of = |y: f64| top + PANEL.1 - (y.max(1e-9).log10() - y_low) / (y_high - y_low) * PANEL.1;
    let mut sizes: Vec<u64> = points().map(|point| point.0 as u64).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for bytes in sizes {
        let x = x_of(bytes as f64);
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            top + PANEL.1 + 14.0,
            size(bytes)
        );
    }
    for power in y_low as i32..=y_high as i32 {
        let y = y_of(10f64.powi(power));
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left + PANEL.0,
            left - 5.0,
            y + 4.0,
            unit(10f64.powi(power))
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"{} points=\"{}\"/>",
            colour(number),
            style(line),
            path.join(" ")
        );
        for (x, y) in &line.points {
            mark(out, number, x_of(*x), y_of(*y));
        }
    }
}

/// The least and the greatest, apart from each other.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if high > low {
        (low, high)
    } else {
        (low - 1.0, high + 1.0)
    }
}

fn legend(out: &mut String, (left, top): (f64, f64), lines: &[Line]) {
    for (number, line) in lines.iter().enumerate() {
        let y = top + 12.0 + number as f64 * 16.0;
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{}\" stroke-width=\"2\"{}/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            left + 22.0,
            colour(number),
            style(line),
            left + 28.0,
            y + 4.0,
            escape(&line.name)
        );
        mark(out, number, left + 11.0, y);
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::{Case, Work};
    use crate::bench::rounds::Rounds;
    use crate::spec::BufferType::{Arena, Fixed, User};

    fn record(work: Work, size: u64, nanoseconds: f64) -> Record {
        let rounds = Rounds {
            measured: vec![nanoseconds; 5],
            baseline: vec![nanoseconds / 2.0; 5],
        };
        Record::new(&Case::new(work, size), &rounds)
    }

    #[test]
    fn every_variant_has_a_line_in_both_panels_and_the_baseline_one() {
        let mut records = Vec::new();
        for (number, size) in [512, 4096, 65536].into_iter().enumerate() {
            let cost = 100.0 * 10f64.powi(number as i32);
            records.push(record(Work::Copy(Fixed, Arena), size, cost));
            records.push(record(Work::Copy(User, Arena), size, cost * 2.0));
            records.push(record(Work::Iterate(Fixed), size, cost));
        }
        let picture = svg(&records);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
        // Copy: two variants and memcpy, twice; iterate: one and nop, no bytes.
        assert_eq!(picture.matches("<polyline").count(), 8);
        assert!(picture.contains("fixed-&gt;arena"));
        assert_eq!(picture.matches("stroke-dasharray").count(), 3 + 2);
        // A mark on each point of the eight lines, and on the five of the legends.
        assert_eq!(picture.matches("<path").count(), 8 * 3 + 5);
    }

    #[test]
    fn forty_lines_differ_in_colour_or_mark() {
        let marks: std::collections::HashSet<String> = (0..40)
            .map(|number| {
                let mut out = String::new();
                mark(&mut out, number, 0.0, 0.0);
                out
            })
            .collect();
        assert_eq!(marks.len(), 40);
    }

    #[test]
    fn one_point_or_none_is_a_picture_all_the_same() {
        assert!(svg(&[]).ends_with("</svg>\n"));
        let picture = svg(&[record(Work::Copy(Fixed, Fixed), 4096, 5.0)]);
        assert!(!picture.contains("NaN"), "{picture}");
    }
}
