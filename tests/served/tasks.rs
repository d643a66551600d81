// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the tasks of this machine are doing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For what must happen: a kernel with KASAN and lockdep on a busy machine
/// takes its time, and only a failure waits for all of it.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Waits for it, and fails with what it is not yet.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not yet");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The fields of a process behind its name in /proc/ID/stat: state, parent, …
pub fn stat(process: &Path) -> Option<(String, Vec<String>)> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let (name, rest) = stat.rsplit_once(") ")?;
    let fields = rest.split_whitespace().map(str::to_string);
    Some((name.to_string(), fields.collect()))
}

pub fn processes() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Tasks that wait for I/O, which may be some that nobody will do.
pub fn stuck() -> Vec<String> {
    let states = processes().into_iter().filter_map(|path| stat(&path));
    states
        .filter(|(_, fields)| fields[0] == "D")
        .map(|(name, _)| name)
        .collect()
}
