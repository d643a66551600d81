// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Defects that show without running a request: D7 and D11 in the verifier,
//! D13 in what the kernel says it has.

use super::Verdict;
use super::child::Attempt;
use crate::announcement::Announcement;
use crate::bpf_log;
use crate::error::Failure;
use crate::kernel::{FEATURE_BIT, Kernel};
use crate::ring::Ring;
use crate::smoke::verifier::load;

/// D7
pub fn keeps_dynptrs(_: &Kernel, _: &Attempt) -> Result<Verdict, Failure> {
    let pairs = [
        ("a dynptr", "good_dynptr_next", "bad_dynptr_next"),
        ("a slice", "good_slice_next", "bad_slice_next"),
    ];
    Ok(verdict(&pairs, "used behind bpf_iter_uring_buf_next"))
}

/// D11
pub fn iterates_anywhere(_: &Kernel, _: &Attempt) -> Result<Verdict, Failure> {
    let pairs = [
        ("an iterator in fail_fn", "good_fail", "bad_iterator_fail"),
        (
            "an iterator in cleanup_fn",
            "good_cleanup",
            "bad_iterator_cleanup",
        ),
    ];
    Ok(verdict(&pairs, "is one"))
}

/// What is wrong, a program that is right, and one that differs in that alone.
fn verdict(pairs: &[(&str, &str, &str)], how: &str) -> Verdict {
    let mut taken = Vec::new();
    for (what, good, bad) in pairs {
        if let Err(error) = load(good) {
            let why = bpf_log::verdict().unwrap_or_else(|| error.to_string());
            return Verdict::cannot_tell(format!(
                "a program that is right does not load ({good}): {why}"
            ));
        }
        if load(bad).is_ok() {
            taken.push(*what);
        }
    }
    match taken.is_empty() {
        true => Verdict::absent("the verifier refuses such programs"),
        false => Verdict::present(format!(
            "a program loads in which {} {how}",
            taken.join(" and ")
        )),
    }
}

/// D13
pub fn promises_too_much(kernel: &Kernel, _: &Attempt) -> Result<Verdict, Failure> {
    let ring = Ring::with_flags(0, 1, 0).map_err(|error| Failure::io("io_uring_setup", &error))?;
    let feature = ring.features() & 1 << FEATURE_BIT != 0;
    let Some(opcode) = kernel.opcode else {
        return Ok(match feature {
            false => Verdict::absent("neither the feature nor the opcode is there"),
            true => Verdict::cannot_tell(
                "feature bit 18 is set, but BTF knows no IORING_OP_BPF: \
                 it may stand for something else on this kernel",
            ),
        });
    };
    let announced = Announcement::of(kernel, &ring, opcode)?;
    match announced.is_consistent() {
        true => Ok(Verdict::absent(announced.to_string())),
        false => Ok(Verdict::present(announced.to_string())),
    }
}
