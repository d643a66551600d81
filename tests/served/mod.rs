// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A process of `uringbpf ublk`, from the line that names its device to its end.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Starts a server whose stderr nobody reads yet.
pub fn start(words: &[&str]) -> (Child, PathBuf) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
        .arg("ublk")
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("readable");
    if line.is_empty() {
        panic!("{words:?}: {}", ended(child).1);
    }
    (child, PathBuf::from(line.trim_end()))
}

/// Its status, and all that it said on stderr.
pub fn ended(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut said).expect("readable");
    (child.wait().expect("it is ours").code(), said)
}
