// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What this process may do, and what it lacks to run BPF programs.

/// Capabilities that loading and attaching takes, with their bit (UAPI).
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_SYS_ADMIN", 21)];

/// The effective capabilities, as /proc says them.
fn effective() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// The capabilities of the three that this process lacks.
pub fn lacking() -> Vec<&'static str> {
    let effective = effective();
    CAPABILITIES
        .iter()
        .filter(|(_, bit)| effective & (1 << bit) == 0)
        .map(|(name, _)| *name)
        .collect()
}

/// What to tell somebody whose program was refused for want of permission.
pub fn needed() -> String {
    let lacking = lacking();
    if lacking.is_empty() {
        return "all capabilities are there, so a security module or lockdown forbids it \
                (/sys/kernel/security/lsm)"
            .to_string();
    }
    format!("run as root, or with {}", lacking.join(", "))
}
