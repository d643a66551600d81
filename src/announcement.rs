// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a kernel tells applications of the opcode, by each of the ways that it
//! has.

use std::ffi::c_void;
use std::fmt;
use std::os::fd::AsFd;

use crate::error::Failure;
use crate::kernel::{FEATURE_BIT, Kernel};
use crate::ring::Ring;
use crate::sys;

/// Whether each of them says that the opcode is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    opcode: u8,
    /// IORING_FEAT_BPF in the parameters of a ring.
    feature: bool,
    /// IORING_REGISTER_PROBE.
    probe: bool,
    /// `struct uring_bpf_ops` is a struct_ops type.
    ops: bool,
    /// The feature in the answer of the query interface, where there is one
    /// (6.18 and later).
    query: Option<bool>,
}

impl Announcement {
    pub fn of(kernel: &Kernel, ring: &Ring, opcode: u8) -> Result<Self, Failure> {
        let query = kernel.query;
        Ok(Announcement {
            opcode,
            feature: ring.features() & 1 << FEATURE_BIT != 0,
            probe: is_supported(ring, opcode)?,
            ops: kernel.ops_registered,
            query: query.map(|query| query.features & 1 << FEATURE_BIT != 0),
        })
    }

    /// All say the same.
    pub fn is_consistent(&self) -> bool {
        let others = [Some(self.probe), Some(self.ops), self.query];
        others.iter().flatten().all(|other| *other == self.feature)
    }

    /// All say that it is there.
    pub fn is_complete(&self) -> bool {
        self.feature && self.is_consistent()
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let either = |is: bool, yes: &'static str, no: &'static str| if is { yes } else { no };
        write!(
            f,
            "IORING_FEAT_BPF is {}, the probe {} opcode {}, BTF {} uring_bpf_ops",
            either(self.feature, "set", "not set"),
            either(self.probe, "knows", "does not know"),
            self.opcode,
            either(self.ops, "has", "has no"),
        )?;
        match self.query {
            Some(query) if query != self.feature => write!(
                f,
                ", and the query interface says that the feature is {}",
                either(query, "there", "not there")
            ),
            _ => Ok(()),
        }
    }
}

/// Whether IORING_REGISTER_PROBE knows the opcode.
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

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Announcement = Announcement {
        opcode: 65,
        feature: true,
        probe: true,
        ops: true,
        query: Some(true),
    };

    #[test]
    fn what_all_say_is_complete() {
        for query in [None, Some(true)] {
            let announced = Announcement { query, ..WHOLE };
            assert!(announced.is_consistent() && announced.is_complete());
            assert_eq!(
                announced.to_string(),
                "IORING_FEAT_BPF is set, the probe knows opcode 65, BTF has uring_bpf_ops"
            );
        }
    }

    #[test]
    fn what_nobody_says_is_consistent_and_not_complete() {
        let announced = Announcement {
            feature: false,
            probe: false,
            ops: false,
            query: Some(false),
            ..WHOLE
        };
        assert!(announced.is_consistent() && !announced.is_complete());
    }

    #[test]
    fn one_that_differs_is_neither() {
        let differing = [
            Announcement {
                feature: false,
                ..WHOLE
            },
            Announcement {
                probe: false,
                ..WHOLE
            },
            Announcement {
                ops: false,
                ..WHOLE
            },
            Announcement {
                query: Some(false),
                ..WHOLE
            },
        ];
        for announced in differing {
            assert!(!announced.is_consistent() && !announced.is_complete());
            let text = announced.to_string();
            assert!(text.contains(" no"), "{text}");
        }
    }
}
