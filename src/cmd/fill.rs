// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf fill`

use serde_json::json;

use super::copy::repeatable;
use super::{check_buffer, length, operand, setup, sleepability};
use crate::cli::{FillArgs, GlobalArgs, PatternArgs};
use crate::error::Failure;
use crate::file;
use crate::operation;
use crate::oracle::Fill;
use crate::report::{Report, count};
use crate::spec::BufferSpec;
use crate::units;

/// Neither 0 nor all ones nor what memory holds by itself.
const DEFAULT_BYTE: u8 = 0xa5;

pub fn run(global: &GlobalArgs, args: &FillArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    let fill = chosen(&args.pattern);
    match (&args.to, &args.file, args.len) {
        (Some(to), ..) => Ok(buffer(global, args, &report, to, fill)?),
        (_, Some(file), Some(len)) => file::fill(global, args, &report, file, len, fill),
        _ => Err(Failure::usage("fill: name a buffer (--to) or a file and --len").into()),
    }
}

fn chosen(pattern: &PatternArgs) -> Fill {
    let words = [
        pattern.word.map(Fill::Word),
        pattern.counter.map(Fill::Counter),
        pattern.random.map(Fill::Random),
    ];
    let byte = Fill::Byte(pattern.byte.unwrap_or(DEFAULT_BYTE));
    words.into_iter().flatten().next().unwrap_or(byte)
}

fn buffer(
    global: &GlobalArgs,
    args: &FillArgs,
    report: &Report,
    to: &BufferSpec,
    fill: Fill,
) -> Result<(), Failure> {
    check_buffer(to, &args.request)?;
    let len = length(to);
    operand(to, len, 0, &args.request, args.request.seed.unwrap_or(0))?;

    let setup = setup(global, &args.request)?;
    let dest = operand(to, len, 0, &args.request, setup.seed)?;
    let filled = operation::fill::run(
        &setup,
        &dest,
        fill.operation(),
        fill.argument(),
        |position, bytes| fill.write(position, bytes),
    )
    .map_err(|failure| repeatable(failure, setup.seed))?;
    let human = format!(
        "fill {} {} {:#x}: {}, {}, {}, verified{} (seed {})",
        to.kind(),
        fill.name(),
        fill.argument(),
        units::exact(filled.bytes),
        count(filled.requests as u64, "request"),
        count(filled.chunks, "chunk"),
        sleepability(filled.sleepable),
        setup.seed
    );
    report.result(
        "fill",
        &human,
        json!({
            "to": to.to_string(),
            "pattern": fill.name(),
            "argument": fill.argument(),
            "bytes": filled.bytes,
            "requests": filled.requests,
            "dest_chunks": filled.chunks,
            "sleepable": filled.sleepable,
            "seed": setup.seed,
            "ok": true,
        }),
    )
}
