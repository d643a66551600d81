// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Defects that show without running a request: D7 and D11 in the verifier,
//! D13 in what the kernel says it has.

use std::ffi::c_void;
use std::os::fd::AsFd;

use super::Verdict;
use super::child::Attempt;
use crate::bpf_log;
use crate::error::Failure;
use crate::kernel::{FEATURE_BIT, Kernel};
use crate::ring::Ring;
use crate::smoke::verifier::load;
use crate::sys;

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
    let supported = is_supported(&ring, opcode)?;
    let queried = kernel
        .query
        .is_none_or(|query| (query.features & 1 << FEATURE_BIT != 0) == feature);
    let text = format!(
        "IORING_FEAT_BPF is {}, the probe {} opcode {opcode}, BTF {} uring_bpf_ops",
        if feature { "set" } else { "not set" },
        if supported { "knows" } else { "does not know" },
        if kernel.ops_registered {
            "has"
        } else {
            "has no"
        },
    );
    match feature == supported && feature == kernel.ops_registered && queried {
        true => Ok(Verdict::absent(text)),
        false => Ok(Verdict::present(text)),
    }
}

/// Asks for the opcode by IORING_REGISTER_PROBE.
fn is_supported(ring: &Ring, opcode: u8) -> Result<bool, Failure> {
    const REGISTER_PROBE: u32 = 8;
    const SUPPORTED: u16 = 1 << 0;
    const OPS: usize = 256;
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct ProbeOp {
        op: u8,
        reserved: u8,
        flags: u16,
        reserved2: u32,
    }
    #[repr(C)]
    struct Probe {
        last_op: u8,
        ops_len: u8,
        reserved: [u8; 14],
        ops: [ProbeOp; OPS],
    }
    let mut probe = Probe {
        last_op: 0,
        ops_len: 0,
        reserved: [0; 14],
        ops: [ProbeOp::default(); OPS],
    };
    // SAFETY: a valid io_uring_probe with as many entries as is said.
    let result = unsafe {
        sys::io_uring_register(
            Some(ring.as_fd()),
            REGISTER_PROBE,
            (&raw mut probe).cast::<c_void>(),
            OPS as u32,
        )
    };
    result.map_err(|error| Failure::io("IORING_REGISTER_PROBE", &error))?;
    let known = opcode < probe.ops_len;
    Ok(known && probe.ops[usize::from(opcode)].flags & SUPPORTED != 0)
}
