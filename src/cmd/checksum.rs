// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf checksum`

use serde_json::json;

use super::copy::repeatable;
use super::{check_buffer, length, operand, setup, sleepability};
use crate::cli::{ChecksumArgs, GlobalArgs};
use crate::error::Failure;
use crate::file;
use crate::operation;
use crate::oracle::digest_of_pattern;
use crate::report::{Report, count};
use crate::spec::BufferSpec;
use crate::units;

pub fn run(global: &GlobalArgs, args: &ChecksumArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    match &args.from {
        Some(from) => Ok(buffer(global, args, &report, from)?),
        None => file::checksum(global, args, &report),
    }
}

fn buffer(
    global: &GlobalArgs,
    args: &ChecksumArgs,
    report: &Report,
    from: &BufferSpec,
) -> Result<(), Failure> {
    check_buffer(from, &args.request)?;
    let len = length(from);
    operand(from, len, 0, &args.request, args.request.seed.unwrap_or(0))?;

    let algorithm = args.algorithm;
    let setup = setup(global, &args.request)?;
    let source = operand(from, len, 0, &args.request, setup.seed)?;
    let summed = operation::checksum::run(&setup, &source, algorithm.name())
        .map_err(|failure| repeatable(failure, setup.seed))?;
    let expected = digest_of_pattern(algorithm, setup.seed, len);
    let digits = algorithm.digits();
    if summed.digest != expected {
        let failure = Failure::mismatch(format!(
            "{} of {from}: {:0digits$x}, expected {expected:0digits$x}",
            algorithm.name(),
            summed.digest
        ));
        return Err(repeatable(failure, setup.seed));
    }
    let human = format!(
        "{} {}: {:0digits$x}, {}, {}, {}, verified{} (seed {})",
        algorithm.name(),
        from.kind(),
        summed.digest,
        units::exact(summed.bytes),
        count(summed.requests as u64, "request"),
        count(summed.chunks, "chunk"),
        sleepability(summed.sleepable),
        setup.seed
    );
    report.result(
        "checksum",
        &human,
        json!({
            "from": from.to_string(),
            "algorithm": algorithm.name(),
            "digest": format!("{:0digits$x}", summed.digest),
            "bytes": summed.bytes,
            "requests": summed.requests,
            "source_chunks": summed.chunks,
            "sleepable": summed.sleepable,
            "seed": setup.seed,
            "ok": true,
        }),
    )
}
