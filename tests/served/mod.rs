// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A process of `uringbpf ublk`, from the line that names its device to its end.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts a server whose stderr nobody reads yet. Behind the first line its
/// stdout is there to be read.
pub fn start(words: &[&str]) -> (Child, PathBuf) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
        .arg("ublk")
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let line = line(&mut child);
    if line.is_empty() {
        panic!("{words:?}: {}", ended(child).1);
    }
    (child, PathBuf::from(line.trim_end()))
}

/// The next line that it prints.
pub fn line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    // Not a byte more than the line is taken.
    let read = BufReader::with_capacity(1, stdout).read_line(&mut line);
    read.expect("readable");
    line
}

/// Its status, and all that it said on stderr.
pub fn ended(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut said).expect("readable");
    (child.wait().expect("it is ours").code(), said)
}

/// A device by the number that the kernel gives to no other: that in its name
/// is another's as soon as it is free, and tests run beside each other.
#[derive(Debug)]
pub struct Identity {
    file: PathBuf,
    sequence: String,
}

impl Identity {
    pub fn of(device: &Path) -> Self {
        let name = device.file_name().expect("a device");
        let file = Path::new("/sys/block").join(name).join("diskseq");
        let sequence = std::fs::read_to_string(&file).expect("sysfs is mounted");
        Identity { file, sequence }
    }

    pub fn is_gone(&self) -> bool {
        std::fs::read_to_string(&self.file).ok().as_ref() != Some(&self.sequence)
    }
}
