// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The tool as a machine's first process: from an initramfs that holds nothing
//! else, so that any kernel can be tried without a root file system.
//!
//! The kernel hands over what follows `--` on its command line. Somebody has to
//! mount the file systems that the kernel tells of itself through, and to
//! switch the machine off; here that is us.

use std::ffi::{CStr, OsString};
use std::path::Path;
use std::process::Command;

/// What the last line on the console says; scripts look for it.
const LAST_LINE: &str = "uringbpf: exit status";

/// Type, and where: the directories of the rootfs are made where they miss.
const MOUNTS: [(&CStr, &CStr); 4] = [
    (c"proc", c"/proc"),
    (c"sysfs", c"/sys"),
    (c"devtmpfs", c"/dev"),
    (c"tmpfs", c"/tmp"),
];

/// Whether nothing ran before us. In a container the first process finds procfs
/// mounted, and is a command like any other.
pub fn is_it() -> bool {
    std::process::id() == 1 && !Path::new("/proc/self").exists()
}

/// Runs the command line in a child, says how it ended, switches the machine
/// off. Returns only where that is refused.
pub fn run(words: impl Iterator<Item = OsString>) -> u8 {
    for (kind, directory) in MOUNTS {
        mount(kind, directory);
    }
    let status = Command::new("/proc/self/exe").args(words).status();
    let status = match status {
        Ok(status) => status.code().unwrap_or(EXIT_KILLED),
        Err(error) => {
            eprintln!("uringbpf: start a child of the first process: {error}");
            3
        }
    };
    println!("{LAST_LINE} {status}");
    // SAFETY: takes a command and no memory.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
    status as u8
}

/// A child that a signal ended is something else that failed.
const EXIT_KILLED: i32 = 3;

/// What cannot be mounted shows in the command's own error.
fn mount(kind: &CStr, directory: &CStr) {
    // SAFETY: strings that end in NUL, and no options.
    unsafe {
        libc::mkdir(directory.as_ptr(), 0o755);
        libc::mount(
            kind.as_ptr(),
            directory.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        );
    }
}
