// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf copy`

use serde_json::json;

use super::{check_buffer, operand, setup, sleepability};
use crate::cli::{CopyArgs, GlobalArgs};
use crate::error::Failure;
use crate::file;
use crate::operation;
use crate::report::{Report, count};
use crate::spec::{BufferSpec, BufferType, DEFAULT_LEN};

pub fn run(global: &GlobalArgs, args: &CopyArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    match (&args.from, &args.to, &args.source, &args.dest) {
        (Some(from), Some(to), ..) => Ok(buffers(global, args, &report, from, to)?),
        (_, _, Some(source), Some(dest)) => file::copy(global, args, &report, source, dest),
        _ => Err(Failure::usage("copy: name two buffers (--from, --to) or two files").into()),
    }
}

fn buffers(
    global: &GlobalArgs,
    args: &CopyArgs,
    report: &Report,
    from: &BufferSpec,
    to: &BufferSpec,
) -> Result<(), Failure> {
    check_buffer(from)?;
    check_buffer(to)?;
    let len = match (from.len(), to.len()) {
        (Some(from), Some(to)) if from != to => {
            return Err(Failure::usage(format!(
                "copy: the source is {from} bytes, the destination {to}"
            )));
        }
        (from, to) => from.or(to).unwrap_or(DEFAULT_LEN),
    };
    let via = args.via.is_some();
    if via
        && [from, to]
            .iter()
            .any(|spec| spec.kind() == BufferType::Arena)
    {
        return Err(Failure::usage(
            "copy: --via arena is between two buffers, neither of which is the arena",
        ));
    }
    let registered =
        |spec: &BufferSpec| matches!(spec.kind(), BufferType::Fixed | BufferType::RegVec);
    // Slots that were not asked for keep clear of those that were.
    let to_index = u16::from(from.index() != Some(1));
    let from_index = u16::from(to.index() == Some(0));
    let same_slot = from.index().unwrap_or(from_index) == to.index().unwrap_or(to_index);
    if registered(from) && registered(to) && same_slot {
        return Err(Failure::usage(
            "copy: both buffers ask for the same table slot",
        ));
    }
    let seed_for_shapes = args.request.seed;
    // Shapes are checked before the kernel is looked at: wrong arguments are
    // wrong on any kernel.
    operand(from, len, from_index, seed_for_shapes.unwrap_or(0))?;
    operand(to, len, to_index, seed_for_shapes.unwrap_or(0))?;

    let setup = setup(global, &args.request)?;
    let source = operand(from, len, from_index, setup.seed)?;
    let dest = operand(to, len, to_index, setup.seed.wrapping_add(1))?;
    let copied = operation::copy::run(&setup, &source, &dest, via)
        .map_err(|failure| repeatable(failure, setup.seed))?;
    let human = format!(
        "copy {} -> {}{}: {}, {}, {} + {}, verified{} (seed {})",
        from.kind(),
        to.kind(),
        if via { " via arena" } else { "" },
        count(copied.bytes, "byte"),
        count(copied.requests as u64, "request"),
        copied.source_chunks,
        count(copied.dest_chunks, "chunk"),
        sleepability(copied.sleepable),
        setup.seed
    );
    report.result(
        "copy",
        &human,
        json!({
            "from": from.to_string(),
            "to": to.to_string(),
            "via": via.then_some("arena"),
            "bytes": copied.bytes,
            "requests": copied.requests,
            "source_chunks": copied.source_chunks,
            "dest_chunks": copied.dest_chunks,
            "sleepable": copied.sleepable,
            "seed": setup.seed,
            "ok": true,
        }),
    )
}

/// A wrong result is worth more with what repeats it.
pub(super) fn repeatable(failure: Failure, seed: u64) -> Failure {
    match failure {
        Failure::Mismatch(what) => Failure::mismatch(format!("{what} (--seed {seed})")),
        other => other,
    }
}
