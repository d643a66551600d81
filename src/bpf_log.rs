// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What libbpf and the verifier say: kept, and shown only where it helps.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use libbpf_rs::{PrintLevel, set_print};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static VERBOSITY: AtomicU8 = AtomicU8::new(0);

/// How much of the verifier's log `-vv` shows.
const SHOWN: usize = 40;

/// Takes libbpf's messages away from stderr; `verbosity` counts the `-v`.
pub fn capture(verbosity: u8) {
    VERBOSITY.store(verbosity, Ordering::Relaxed);
    set_print(Some((PrintLevel::Info, keep)));
}

fn keep(_level: PrintLevel, message: String) {
    if VERBOSITY.load(Ordering::Relaxed) == 1 {
        eprint!("{message}");
    }
    if let Ok(mut lines) = LINES.lock() {
        lines.extend(message.lines().map(str::to_string));
    }
}

/// Forgets what was said about the object before.
pub(crate) fn clear() {
    if VERBOSITY.load(Ordering::Relaxed) == 0 {
        // Library users who never called `capture` get the same silence.
        set_print(Some((PrintLevel::Info, keep)));
    }
    if let Ok(mut lines) = LINES.lock() {
        lines.clear();
    }
}

/// The verifier's verdict: its last line before the statistics.
pub(crate) fn verdict() -> Option<String> {
    let lines = LINES.lock().ok()?;
    let end = lines
        .iter()
        .rposition(|line| line.starts_with("processed "))?;
    lines[..end].last().map(|line| line.trim().to_string())
}

/// With `-vv`, the end of the log on stderr.
pub(crate) fn show() {
    if VERBOSITY.load(Ordering::Relaxed) < 2 {
        return;
    }
    let Ok(lines) = LINES.lock() else { return };
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        eprintln!("{line}");
    }
}
