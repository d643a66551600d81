// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf chunks`

use serde_json::json;

use super::copy::repeatable;
use super::{check_buffer, length, operand, setup};
use crate::cli::{ChunksArgs, GlobalArgs};
use crate::error::Failure;
use crate::operation;
use crate::report::{Report, count, print};
use crate::spec::BufferType;
use crate::units;

pub fn run(global: &GlobalArgs, args: &ChunksArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    let spec = &args.buffer;
    check_buffer(spec, &args.request)?;
    if spec.kind() == BufferType::Arena {
        return Err(Failure::usage(
            "the arena has no iterator, so it has no chunks: name any other type",
        )
        .into());
    }
    let len = length(spec);
    operand(spec, len, 0, &args.request, args.request.seed.unwrap_or(0))?;

    let setup = setup(global, &args.request)?;
    let buffer = operand(spec, len, 0, &args.request, setup.seed)?;
    let listing = operation::chunks::run(&setup, &buffer)
        .map_err(|failure| repeatable(failure, setup.seed))?;
    if !report.is_json() && !global.quiet {
        print("index      offset  bytes  place  segment")?;
    }
    for listed in &listing.chunks {
        let chunk = &listed.chunk;
        let human = format!(
            "{:>5}  {:>10}  {:>5}  {:>5}  {:>7}{}",
            listed.index,
            chunk.offset,
            chunk.valid,
            chunk.place,
            listed.segment,
            if listed.is_as_expected() {
                ""
            } else {
                "  WRONG"
            }
        );
        report.result(
            "chunks",
            &human,
            json!({
                "index": listed.index,
                "offset": chunk.offset,
                "bytes": chunk.valid,
                "place": chunk.place,
                "segment": listed.segment,
                "ok": listed.is_as_expected(),
            }),
        )?;
    }
    let human = format!(
        "{} of {} (seed {})",
        count(listing.chunks.len() as u64, "chunk"),
        units::exact(listing.bytes),
        setup.seed
    );
    report.result(
        "chunks",
        &human,
        json!({
            "buffer": spec.to_string(),
            "chunks": listing.chunks.len(),
            "bytes": listing.bytes,
            "sleepable": listing.sleepable,
            "seed": setup.seed,
            "ok": listing.wrong.is_none(),
        }),
    )?;
    match listing.wrong {
        Some(wrong) => Err(repeatable(Failure::mismatch(wrong), setup.seed).into()),
        None => Ok(()),
    }
}
