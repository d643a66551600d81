// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What this process may do, and what to tell somebody who was refused.

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapHandle, MapType};

use crate::error::Failure;
use crate::program::errno;
use crate::ring::{self, Ring};
use crate::sys;

/// Capabilities that loading and attaching takes, with their bit (UAPI).
const CAPABILITIES: [(&str, u32); 2] = [("CAP_BPF", 39), ("CAP_PERFMON", 38)];
/// Stands for both (kernel/bpf, since 5.8).
const CAP_SYS_ADMIN: u32 = 21;

/// The effective capabilities, as /proc says them.
fn effective() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// The capabilities for BPF programs that this process lacks.
pub fn lacking() -> Vec<&'static str> {
    lacking_of(effective())
}

fn lacking_of(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    CAPABILITIES
        .iter()
        .filter(|(_, bit)| !has(*bit) && !has(CAP_SYS_ADMIN))
        .map(|(name, _)| *name)
        .collect()
}

/// What to tell somebody whose program was refused for want of permission.
pub fn needed() -> String {
    let lacking = lacking();
    match (lacking.is_empty(), lockdown()) {
        (false, _) => format!("run as root, or with {}", lacking.join(", ")),
        (true, Some(mode)) => format!(
            "all capabilities are there, but the kernel is locked down ({mode}); or seccomp or \
             a security module forbids it"
        ),
        (true, None) => {
            "all capabilities are there, so seccomp, a security module or lockdown forbids it"
                .to_string()
        }
    }
}

/// How far the kernel is locked down, where it is and securityfs is mounted.
pub fn lockdown() -> Option<String> {
    let modes = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    lockdown_of(&modes)
}

/// The mode in force is in brackets: `none [integrity] confidentiality`.
fn lockdown_of(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    (mode != "none").then(|| mode.to_string())
}

/// Whether this process may make rings and load programs at all, for commands
/// that would take a refusal for a fault of the kernel's opcode.
pub fn check() -> Result<(), Failure> {
    Ring::with_flags(0, 1, 0).map_err(|error| ring::setup_failure(&error))?;
    let refused = |errno| Failure::os("load BPF programs", errno).next(needed());
    if !lacking().is_empty() {
        return Err(refused(libc::EPERM));
    }
    let options = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as _,
        ..Default::default()
    };
    match MapHandle::create(MapType::Array, Some("permission"), 4, 4, 1, &options) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(errno(&error))),
    }
}

/// What to tell somebody who was refused a ring with EPERM.
pub fn ring_needed() -> &'static str {
    match sys::io_uring_disabled() {
        Some(2) => "sysctl kernel.io_uring_disabled is 2, which forbids it to all: set it to 0",
        Some(1) => {
            "sysctl kernel.io_uring_disabled is 1: run as root, or in the group that \
             kernel.io_uring_group names"
        }
        _ => "seccomp (of a container?) or a security module forbids it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_is_what_stands_in_brackets() {
        let of = |modes| lockdown_of(modes);
        assert_eq!(of("[none] integrity confidentiality\n"), None);
        let integrity = of("none [integrity] confidentiality\n");
        assert_eq!(integrity.as_deref(), Some("integrity"));
        assert_eq!(of(""), None);
    }

    #[test]
    fn the_administrator_needs_neither_capability() {
        assert_eq!(lacking_of(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(lacking_of(1 << 39), ["CAP_PERFMON"]);
        assert_eq!(lacking_of(1 << CAP_SYS_ADMIN), [""; 0]);
    }
}
