// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the other integration tests stand on: the machine that `kernel/boot`
//! makes, and the tool in it.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn guest_has_what_the_tool_needs_of_a_machine() {
    for path in [
        "/sys/kernel/btf/vmlinux",
        "/sys/kernel/debug/tracing",
        "/sys/fs/cgroup/cgroup.controllers",
        "/dev/shm",
        "/dev/null",
    ] {
        assert!(Path::new(path).exists(), "{path}");
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn guest_writes_to_its_own_tmp_and_to_the_checkout() {
    for directory in [std::env::temp_dir(), env!("CARGO_MANIFEST_DIR").into()] {
        let directory = tempfile::tempdir_in(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let file = directory.path().join("file");
        fs::write(&file, "text").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn the_tool_on_path_finds_the_opcode() {
    let output = Command::new("uringbpf").arg("probe").output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The debug kernel's thread keeps RCU-tasks grace periods from ending, which
/// the kernel then calls a hung task.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn no_thread_scans_for_leaks_on_its_own() {
    let mut names = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|process| fs::read_to_string(process.unwrap().path().join("comm")).ok());
    assert!(!names.any(|name| name == "kmemleak\n"));
}
