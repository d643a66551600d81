// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the kernel tells of itself and of this process in /proc.

use std::fs;
use std::os::unix::fs::FileExt;

use indicatif::HumanBytes;

use crate::error::Failure;

/// Adds the counters of each CPU up when it is read
/// (Documentation/admin-guide/sysctl/vm.rst). For root.
const STAT_REFRESH: &str = "/proc/sys/vm/stat_refresh";

/// A number of /proc/self/status or /proc/meminfo, in the unit that stands
/// there (mostly KiB).
pub fn number(file: &str, name: &str) -> Option<u64> {
    number_in(&fs::read_to_string(file).ok()?, name)
}

/// The same of a file's text, or of one like /proc/vmstat.
pub fn number_in(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.split([' ', ':']).next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// How many pins of user pages the kernel holds, all processes together. None
/// where it does not count them, or not for this user.
pub fn pins() -> Option<u64> {
    // The counters stand per CPU and reach /proc/vmstat by the dozen, unless
    // they are told to.
    fs::read(STAT_REFRESH).ok()?;
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    let acquired = number_in(&text, "nr_foll_pin_acquired")?;
    acquired.checked_sub(number_in(&text, "nr_foll_pin_released")?)
}

/// Fails where so many bytes can only be had from other processes: `what`
/// needs them all at once, and they are never swapped out.
pub fn require_memory(what: &str, bytes: u64) -> Result<(), Failure> {
    match available_memory() {
        Some(available) if available < bytes => Err(Failure::environment(format!(
            "{what}: needs {} of memory, and {} are available",
            HumanBytes(bytes),
            HumanBytes(available)
        ))
        .next("free memory, or ask for less")),
        _ => Ok(()),
    }
}

/// Bytes that can be had without taking them from anybody but the page cache.
fn available_memory() -> Option<u64> {
    number("/proc/meminfo", "MemAvailable").map(|kib| kib << 10)
}

/// Whether the page is marked dirty itself; its page table entry does not count.
pub fn is_dirty(address: u64) -> Result<bool, String> {
    /// include/uapi/linux/kernel-page-flags.h
    const KPF_DIRTY: u32 = 4;
    /// Documentation/admin-guide/mm/pagemap.rst
    const FRAME: u64 = (1 << 55) - 1;
    let word = |path: &str, index: u64| {
        let why = |error| format!("{path}: {error} (CONFIG_PROC_PAGE_MONITOR, and root, show it)");
        let file = fs::File::open(path).map_err(why)?;
        let mut word = [0; 8];
        file.read_exact_at(&mut word, index * 8).map_err(why)?;
        Ok::<_, String>(u64::from_ne_bytes(word))
    };
    let frame = word(
        "/proc/self/pagemap",
        address / crate::sys::page_size() as u64,
    )? & FRAME;
    if frame == 0 {
        return Err("/proc/self/pagemap hides page frames: run as root".to_string());
    }
    Ok(word("/proc/kpageflags", frame)? & 1 << KPF_DIRTY != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_one() {
        let text = "MemFree:   12 kB\nMemAvailable:  34 kB\nnr_pins 5\nHugePages_Free:    7\n";
        assert_eq!(number_in(text, "MemAvailable"), Some(34));
        assert_eq!(number_in(text, "nr_pins"), Some(5));
        assert_eq!(number_in(text, "HugePages_Free"), Some(7));
        assert_eq!(number_in(text, "Mem"), None);
    }

    #[test]
    fn some_memory_is_available_and_no_exbibyte() {
        require_memory("a page", 4096).expect("a page");
        let failure = require_memory("a disk", 1 << 60).expect_err("not on this machine");
        let line = failure.to_string();
        assert!(
            line.starts_with("a disk: needs 1.00 EiB of memory, and "),
            "{line}"
        );
        assert!(
            line.ends_with(" are available: free memory, or ask for less"),
            "{line}"
        );
        assert_eq!(failure.exit_status(), 3);
    }
}
