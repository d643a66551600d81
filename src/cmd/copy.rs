// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf copy`

use serde_json::json;

use super::{check_buffer, operand, setup, sleepability};
use crate::cli::{CopyArgs, GlobalArgs};
use crate::error::Failure;
use crate::file;
use crate::operation::{self, Operand};
use crate::report::{Report, count};
use crate::spec::{BufferSpec, BufferType, DEFAULT_LEN};
use crate::units;

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
    check_buffer(from, &args.request)?;
    check_buffer(to, &args.request)?;
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
    // Shapes are checked before the kernel is looked at: wrong arguments are
    // wrong on any kernel.
    let seed_for_shapes = args.request.seed.unwrap_or(0);
    let request = &args.request;
    let source = operand(from, len, 0, request, seed_for_shapes)?;
    let dest = operand(to, len, 0, request, seed_for_shapes)?;
    operation::check(&[&source, &dest], request.depth(), seed_for_shapes)?;
    let parts = operation::parts(&[&source, &dest], request.depth()).len();
    let slots = |operand: &Operand| match request.auto_buf_reg && operand.is_kernel() {
        true => 0,
        false => operand.slots(parts),
    };
    let (from_index, to_index) =
        table_slots((from.index(), slots(&source)), (to.index(), slots(&dest)))?;

    let setup = setup(global, &args.request)?;
    let source = operand(from, len, from_index, request, setup.seed)?;
    let dest = operand(to, len, to_index, request, setup.seed.wrapping_add(1))?;
    let copied = operation::copy::run(&setup, &source, &dest, via)
        .map_err(|failure| repeatable(failure, setup.seed))?;
    let human = format!(
        "copy {} -> {}{}: {}, {}, {} + {}, verified{} (seed {})",
        from.kind(),
        to.kind(),
        if via { " via arena" } else { "" },
        units::exact(copied.bytes),
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

/// Where in the table both buffers lie: at the slots that were asked for, and
/// clear of each other. Each is given as that slot and the number of slots.
fn table_slots(
    from: (Option<u16>, usize),
    to: (Option<u16>, usize),
) -> Result<(u16, u16), Failure> {
    let behind = |(index, count): (u16, usize), needs: usize| match usize::from(index) < needs {
        true => u16::try_from(usize::from(index) + count).unwrap_or(u16::MAX),
        false => 0,
    };
    let (from_index, to_index) = match (from.0, to.0) {
        (Some(from_index), Some(to_index)) => (from_index, to_index),
        (Some(index), None) => (index, behind((index, from.1), to.1)),
        (None, Some(index)) => (behind((index, to.1), from.1), index),
        (None, None) => (0, from.1 as u16),
    };
    let (first, second) = (usize::from(from_index), usize::from(to_index));
    if from.1 > 0 && to.1 > 0 && first < second + to.1 && second < first + from.1 {
        return Err(Failure::usage(
            "copy: both buffers ask for the same table slot",
        ));
    }
    Ok((from_index, to_index))
}

/// A wrong result is worth more with what repeats it.
pub(super) fn repeatable(failure: Failure, seed: u64) -> Failure {
    match failure {
        Failure::Mismatch(what) => Failure::mismatch(format!("{what} (--seed {seed})")),
        other => other,
    }
}
