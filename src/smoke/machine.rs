// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What cases need of the machine beside the opcode: swap, huge pages, and a
//! driver whose requests' pages can be registered.

use std::fs;

/// Pages of 2 MiB that the cases use at the most, two buffers at once.
const HUGE_PAGES: u64 = 8;
const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    pub swap: bool,
    pub huge_pages: bool,
    /// ublk with zero copy: buffers that the kernel registers.
    pub ublk: bool,
}

/// Gives back the huge pages that were reserved, when dropped.
pub struct HugePages {
    before: Option<u64>,
}

impl Machine {
    /// One that lacks nothing.
    #[cfg(test)]
    pub const WHOLE: Machine = Machine {
        swap: true,
        huge_pages: true,
        ublk: true,
    };

    pub fn look() -> Self {
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        // Reserving takes root, and the setting to be there.
        // SAFETY: takes no memory.
        let root = unsafe { libc::geteuid() } == 0;
        Machine {
            swap: swaps.lines().count() > 1,
            huge_pages: root && reserved().is_some() || free() >= HUGE_PAGES,
            ublk: crate::ublk::check().is_ok(),
        }
    }

    /// What cannot be tried: a name and the reason.
    pub fn lacks(self) -> Vec<(&'static str, &'static str)> {
        let mut lacks = Vec::new();
        if !self.swap {
            lacks.push(("state=swapped", "no swap device is in use"));
        }
        if !self.huge_pages {
            lacks.push(("pages=huge", "no huge pages can be reserved"));
        }
        if !self.ublk {
            let why = "no ublk driver with zero copy (Linux 6.15), or not for this user";
            lacks.push(("kfixed, and reg-vec:pages=kernel", why));
        }
        lacks
    }

    /// Reserves what is missing of the huge pages that the cases use.
    pub fn reserve_huge_pages(self) -> HugePages {
        let missing = HUGE_PAGES.saturating_sub(free());
        let before = reserved().filter(|_| missing > 0);
        if let Some(before) = before {
            // Where it fails the cases that need them are skipped.
            let _ = fs::write(RESERVED, (before + missing).to_string());
        }
        HugePages { before }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = fs::write(RESERVED, before.to_string());
        }
    }
}

fn reserved() -> Option<u64> {
    fs::read_to_string(RESERVED).ok()?.trim().parse().ok()
}

/// Huge pages that nobody uses.
fn free() -> u64 {
    crate::proc::number("/proc/meminfo", "HugePages_Free").unwrap_or(0)
}
