// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Allocations of the kernel that fail: failslab and fail_page_alloc, for one
//! thread at a time (`/proc/thread-self/fail-nth`).

use std::fs;
use std::path::PathBuf;

/// Attributes of Documentation/fault-injection: what allocations may fail at
/// all, and whether each failure prints a stack.
const ATTRIBUTES: [(&str, &str); 5] = [
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
];
const DEBUGFS: &str = "/sys/kernel/debug";
const FAIL_NTH: &str = "/proc/thread-self/fail-nth";

/// Fault injection, made ready; as it was before when dropped.
#[derive(Debug)]
pub struct FaultInjection {
    before: Vec<(PathBuf, String)>,
}

impl FaultInjection {
    /// What is missing where it cannot be used.
    pub fn prepare() -> Result<Self, String> {
        let mut injection = FaultInjection { before: Vec::new() };
        for (name, value) in ATTRIBUTES {
            let path = PathBuf::from(DEBUGFS).join(name);
            let missing = |error| format!("fault injection: {}: {error}", path.display());
            let before = fs::read_to_string(&path).map_err(missing)?;
            fs::write(&path, value).map_err(missing)?;
            injection.before.push((path, before));
        }
        match fs::metadata(FAIL_NTH) {
            Ok(_) => Ok(injection),
            Err(error) => Err(format!("fault injection: {FAIL_NTH}: {error}")),
        }
    }
}

impl Drop for FaultInjection {
    fn drop(&mut self) {
        for (path, before) in self.before.drain(..).rev() {
            let _ = fs::write(path, before.trim());
        }
    }
}

/// The `nth` allocation of this thread fails, until this is dropped.
pub struct Failing;

impl Failing {
    /// `None` where the kernel has no fault injection.
    pub fn nth(nth: u64) -> Option<Self> {
        fs::write(FAIL_NTH, nth.to_string()).ok()?;
        Some(Failing)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // Writing may itself be what fails.
        while fs::write(FAIL_NTH, "0").is_err() {}
    }
}
