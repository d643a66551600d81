// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The kernel's log, read while the cases run: trouble in it fails the case
//! that was running.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// What the kernel says when something is wrong with itself.
const TROUBLE: [&str; 26] = [
    "Oops",
    "BUG:",
    "BUG at ",
    "WARNING:",
    "KASAN:",
    "UBSAN:",
    "KCSAN:",
    "new suspected memory leaks",
    "possible recursive locking",
    "possible circular locking",
    "lock inversion",
    "inconsistent lock state",
    "bad unlock balance",
    "lock held when returning to user space",
    "suspicious RCU usage",
    "rcu: INFO:",
    "self-detected stall",
    "blocked for more than",
    "lockup",
    "sleeping function called from invalid context",
    "general protection fault",
    "unable to handle",
    "refcount_t:",
    "ODEBUG:",
    "Invalid wait context",
    "Bad page state",
];
/// A fault of a user process, and a killed one: no words about the kernel.
const HARMLESS: [&str; 2] = ["traps: ", "virtme"];
/// Lines of one report that are kept.
const KEPT: usize = 40;

/// The log from where it stood when this was opened.
pub struct KernelLog {
    file: File,
}

impl KernelLog {
    /// `None` where it may not be read.
    pub fn open() -> Option<Self> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let mut file = options.open("/dev/kmsg").ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(KernelLog { file })
    }

    /// The trouble among what was said since the last call, with the lines
    /// that follow it.
    pub fn trouble(&mut self) -> Option<String> {
        let mut lines = Vec::new();
        // One record for each read.
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => break,
                Ok(len) => lines.push(text(&String::from_utf8_lossy(&record[..len]))),
                // Overwritten before we came to it: go on with what is there.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        find(&lines)
    }
}

/// A record is "priority,number,time,flags;text", and continuations.
fn text(record: &str) -> String {
    let line = record.lines().next().unwrap_or_default();
    line.split_once(';')
        .map_or("", |(_, text)| text)
        .to_string()
}

fn find(lines: &[String]) -> Option<String> {
    let is_trouble = |line: &String| {
        TROUBLE.iter().any(|what| line.contains(what))
            && !HARMLESS.iter().any(|what| line.contains(what))
    };
    let first = lines.iter().position(is_trouble)?;
    let kept = &lines[first..lines.len().min(first + KEPT)];
    Some(kept.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_found_with_what_follows() {
        let lines: Vec<String> = ["loop0: detected", "BUG: sleeping function", "CPU: 0"]
            .map(String::from)
            .to_vec();
        assert_eq!(find(&lines), Some("BUG: sleeping function\nCPU: 0".into()));
        assert_eq!(find(&lines[..1]), None);
        assert_eq!(find(&["traps: x general protection fault".into()]), None);
    }

    #[test]
    fn a_record_is_its_text() {
        assert_eq!(text("4,71,99,-;BUG: x\n SUBSYSTEM=y\n"), "BUG: x");
        assert_eq!(text("garbage"), "");
    }
}
