// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! That `kernel/boot` carries a command's output and status exactly, and that
//! neither a hang nor a kernel's complaint passes for success.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn boot(command: &str) -> Command {
    let mut boot = Command::new(Path::new(ROOT).join("kernel/boot"));
    boot.arg(command)
        .current_dir(ROOT)
        .env_remove("ICOUNT")
        .env_remove("TIMEOUT")
        .env_remove("KLOG");
    boot
}

fn run(command: &str) -> Output {
    boot(command).output().expect("kernel/boot starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn output_and_status_come_back_byte_by_byte() {
    let output = run("printf 'a\\r\\n\\0\\377'; seq 100000; printf 'e\\tf' >&2; exit 255");
    assert_eq!(output.status.code(), Some(255), "{}", text(&output.stderr));
    let mut expected = b"a\r\n\0\xff".to_vec();
    for number in 1..=100_000 {
        expected.extend_from_slice(format!("{number}\n").as_bytes());
    }
    assert!(
        output.stdout == expected,
        "{} bytes of {}",
        output.stdout.len(),
        expected.len()
    );
    assert_eq!(text(&output.stderr), "e\tf");
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn death_by_signal_is_a_shells_status() {
    let output = run("echo before; kill -SEGV $$");
    assert_eq!(
        output.status.code(),
        Some(128 + 11),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(text(&output.stdout), "before\n");
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn the_tool_is_uringbpf_whatever_its_file_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let tool = directory.path().join("some tool");
    std::fs::write(&tool, "#!/bin/sh\necho \"the tool, $*\"\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = boot("uringbpf probe").env("TOOL", &tool).output().unwrap();
    assert_eq!(text(&output.stdout), "the tool, probe\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn what_the_command_leaves_running_does_not_keep_the_machine_up() {
    let output = run("setsid sleep 1000 & echo \"$URINGBPF_VM $(id -u) $PWD\"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("1 0 {ROOT}\n"));
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn make_keeps_every_quote_and_dollar_of_the_command() {
    let output = Command::new("make")
        .args([
            "--silent",
            "vm",
            r#"CMD=printf '%s|' "a  b" '$HOME' `echo c` "it's" $((2 + 3))"#,
        ])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert_eq!(
        text(&output.stdout),
        "a  b|$HOME|c|it's|5|",
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn a_hang_ends_at_the_time_limit_with_the_kernels_last_lines() {
    // How long a start takes here, with whatever else runs beside it.
    let begin = Instant::now();
    assert_eq!(run("true").status.code(), Some(0));
    let timeout = (30 + 3 * begin.elapsed().as_secs()).to_string();
    let output = boot("echo started; sleep 3000")
        .env("TIMEOUT", &timeout)
        .output()
        .unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{message}");
    assert_eq!(text(&output.stdout), "started\n");
    assert!(
        message.contains(&format!("TIMEOUT={timeout} ")) && message.contains("as init process"),
        "{message}"
    );
}

/// What waits in the kernel keeps the command's output open.
#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn a_task_that_cannot_be_killed_does_not_keep_the_machine_up() {
    let output = run(
        "mkfs.ext4 -q /dev/ram1 && mount /dev/ram1 /mnt && fsfreeze -f /mnt && \
         { touch /mnt/file & } && sleep 1 && echo said",
    );
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(text(&output.stdout), "said\n", "{said}");
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn a_machine_that_does_not_end_after_the_command_is_stopped() {
    // What the guest does last, but for the shutdown.
    let output = run("for port in /sys/class/virtio-ports/*; do \
         grep -q status $port/name && echo 0 >/dev/${port##*/}; done; echo said; sleep 1000");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert_eq!(text(&output.stdout), "said\n", "{said}");
    assert!(said.contains("something hangs in its kernel"), "{said}");
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn a_kernel_splat_fails_a_command_that_succeeded() {
    let output = run("echo 'BUG: made up' >/dev/kmsg; echo 'second line' >/dev/kmsg");
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{message}");
    assert!(
        message.contains("BUG: made up") && message.contains("second line"),
        "{message}"
    );
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn a_panic_is_printed() {
    let output = run("echo c >/proc/sysrq-trigger; sleep 60");
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{message}");
    assert!(
        message.contains("Kernel panic") && message.contains("sysrq_handle_crash"),
        "{message}"
    );
}

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn counting_instructions_takes_one_cpu() {
    let output = boot("nproc").env("ICOUNT", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "1\n");
}

/// A virtual environment works only where it was made: one in a cache that
/// was moved is made anew.
#[test]
#[ignore = "installs virtme-ng; make test runs it"]
fn a_moved_virtual_environment_is_replaced() {
    let cache = std::env::temp_dir().join(format!("uringbpf-moved-{}", std::process::id()));
    assert!(run("true").status.success(), "makes the usual environment");
    let usual = std::env::var_os("URINGBPF_CACHE").map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_default();
            std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| Path::new(&home).join(".cache"), Into::into)
                .join("uringbpf")
        },
        Into::into,
    );
    for entry in std::fs::read_dir(usual.join("venv")).expect("the usual cache") {
        let entry = entry.expect("an entry");
        if !entry.path().is_dir() {
            continue;
        }
        let moved = cache.join("venv").join(entry.file_name());
        std::fs::create_dir_all(moved.join("bin")).expect("a new cache");
        std::fs::write(moved.join("complete"), "").expect("a file");
        let script = moved.join("bin/virtme-run");
        std::fs::write(&script, "#!/nowhere/bin/python3\n").expect("a file");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("permissions");
    }
    let output = boot("echo booted")
        .env("URINGBPF_CACHE", &cache)
        .env("BZIMAGE", image())
        .output()
        .expect("kernel/boot starts");
    std::fs::remove_dir_all(&cache).expect("the new cache goes");
    let diagnostics = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{diagnostics}");
    assert_eq!(text(&output.stdout), "booted\n");
    assert!(
        diagnostics.contains("installing virtme-ng"),
        "{diagnostics}"
    );
}

fn image() -> String {
    let build = Command::new(Path::new(ROOT).join("kernel/build"))
        .current_dir(ROOT)
        .output()
        .expect("kernel/build starts");
    text(&build.stdout).trim_end().to_string()
}
