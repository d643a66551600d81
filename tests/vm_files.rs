// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Whole files through the real binary: needs a kernel with IORING_OP_BPF.
//!
//! Random sizes come from a seed, printed, and taken from URINGBPF_SEED.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use uringbpf::layout::Random;
use uringbpf::pattern;

fn uringbpf(directory: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uringbpf"))
        .current_dir(directory)
        .args(words)
        .output()
        .expect("the binary runs")
}

/// Runs it, insists on a status, and gives stdout and stderr.
fn run(directory: &Path, words: &[&str], status: i32) -> (String, String) {
    let output = uringbpf(directory, words);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(
        output.status.code(),
        Some(status),
        "{words:?}: {stdout}{stderr}"
    );
    (stdout, stderr)
}

fn seed() -> u64 {
    let seed = match std::env::var("URINGBPF_SEED") {
        Ok(text) => text.parse().expect("URINGBPF_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    };
    eprintln!("URINGBPF_SEED={seed}");
    seed
}

fn content(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    pattern::fill(seed, 0, &mut bytes);
    bytes
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("the directory is there")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

const SIZES: [u64; 9] = [
    0,
    1,
    4095,
    4096,
    4097,
    262_143,
    262_145,
    (1 << 20) + 1,
    9_000_001,
];

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_copy_is_identical_at_any_size_block_and_depth() {
    let directory = directory();
    let mut random = Random(seed());
    let mut sizes = SIZES.to_vec();
    sizes.extend((0..3).map(|_| random.below(20 << 20)));
    for (number, size) in sizes.into_iter().enumerate() {
        let bytes = content(number as u64, size);
        fs::write(directory.path().join("a"), &bytes).expect("a written");
        let (block, depth) = [("256K", "8"), ("4096", "1"), ("5001", "3")][number % 3];
        run(
            directory.path(),
            &["copy", "a", "b", "--block", block, "--depth", depth],
            0,
        );
        let copy = fs::read(directory.path().join("b")).expect("b is there");
        assert!(copy == bytes, "{size} bytes, block {block}, depth {depth}");
        assert_eq!(names(directory.path()), ["a", "b"]);
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn every_ring_option_copies_files() {
    let directory = directory();
    let bytes = content(1, 3_000_001);
    fs::write(directory.path().join("a"), &bytes).expect("a written");
    for options in [
        &["--ring", "sqpoll"][..],
        &["--ring", "defer-taskrun,no-sqarray"],
        &["--ring", "sqe128,cqe32"],
        &["--async"],
        &["--hardlink"],
        &["--non-sleepable"],
    ] {
        run(
            directory.path(),
            &[&["copy", "a", "b"], options].concat(),
            0,
        );
        assert!(
            fs::read(directory.path().join("b")).expect("b") == bytes,
            "{options:?}"
        );
        run(directory.path(), &[&["checksum", "a"], options].concat(), 0);
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_copy_keeps_permissions_and_replaces_what_is_there() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("a"), content(1, 5000)).expect("a written");
    fs::set_permissions(path("a"), fs::Permissions::from_mode(0o750)).expect("chmod");
    run(directory.path(), &["copy", "a", "new"], 0);
    let mode = |name: &str| {
        fs::metadata(path(name))
            .expect("there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("new"), 0o750);

    fs::write(path("old"), "old content that is longer".repeat(1000)).expect("old written");
    fs::set_permissions(path("old"), fs::Permissions::from_mode(0o604)).expect("chmod");
    std::os::unix::fs::symlink("old", path("link")).expect("symlink");
    run(directory.path(), &["copy", "a", "link"], 0);
    assert_eq!(fs::read(path("old")).expect("old"), content(1, 5000));
    assert_eq!(mode("old"), 0o604);
    assert!(
        fs::symlink_metadata(path("link"))
            .expect("link")
            .is_symlink()
    );
    assert_eq!(names(directory.path()), ["a", "link", "new", "old"]);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn checksums_are_the_lines_of_the_usual_tools() {
    let directory = directory();
    for (number, size) in SIZES.iter().enumerate() {
        let bytes = content(number as u64, *size);
        fs::write(directory.path().join("f"), &bytes).expect("f written");
        let expected = [
            ("crc32c", format!("{:08x}", crc32c::crc32c(&bytes))),
            ("adler32", format!("{:08x}", adler2::adler32_slice(&bytes))),
            (
                "xxh64",
                format!("{:016x}", xxhash_rust::xxh64::xxh64(&bytes, 0)),
            ),
        ];
        for (algorithm, digest) in expected {
            let words = ["checksum", "-a", algorithm, "f", "--block", "100001"];
            let (stdout, _) = run(directory.path(), &words, 0);
            assert_eq!(
                stdout,
                format!("{digest}  f\n"),
                "{algorithm} of {size} bytes"
            );
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn xxhsum_reads_our_lines_and_we_read_its() {
    let directory = directory();
    for name in ["a", "b c", "back\\slash"] {
        fs::write(directory.path().join(name), content(3, 70_000)).expect("written");
    }
    let files = ["a", "b c", "back\\slash"];
    let words = [&["checksum", "-a", "xxh64"][..], &files].concat();
    let (ours, _) = run(directory.path(), &words, 0);
    let output = Command::new("xxhsum")
        .arg("-H1")
        .args(files)
        .current_dir(directory.path())
        .stderr(Stdio::null())
        .output()
        .expect("xxhsum is one of the packages that make deps installs");
    let theirs = String::from_utf8(output.stdout).expect("UTF-8");
    let plain = |text: &str| text.lines().take(2).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(plain(&ours), plain(&theirs));
    fs::write(directory.path().join("list"), &ours).expect("list written");
    let (stdout, _) = run(
        directory.path(),
        &["checksum", "-a", "xxh64", "--check", "list"],
        0,
    );
    assert_eq!(stdout, "a: OK\nb c: OK\nback\\\\slash: OK\n");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_changed_file_fails_its_check() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    for name in ["good", "bad", "gone"] {
        fs::write(path(name), content(9, 100_000)).expect("written");
    }
    let (list, _) = run(directory.path(), &["checksum", "good", "bad", "gone"], 0);
    fs::write(path("list"), list).expect("list written");
    let mut bytes = content(9, 100_000);
    bytes[65_537] ^= 1;
    fs::write(path("bad"), bytes).expect("changed");
    fs::remove_file(path("gone")).expect("removed");
    let (stdout, stderr) = run(directory.path(), &["checksum", "--check", "list"], 1);
    assert_eq!(stdout, "good: OK\nbad: FAILED\ngone: FAILED open or read\n");
    assert!(
        stderr.contains("1 computed checksum did not match"),
        "{stderr}"
    );
    assert!(stderr.contains("gone: ENOENT"), "{stderr}");
    assert!(
        stderr.contains("1 listed file could not be summed"),
        "{stderr}"
    );
    let (stdout, _) = run(directory.path(), &["-q", "checksum", "--check", "list"], 1);
    assert_eq!(stdout, "bad: FAILED\ngone: FAILED open or read\n");
    let (stdout, stderr) = run(directory.path(), &["checksum", "gone", "good"], 3);
    assert!(stdout.ends_with("  good\n"), "{stdout}");
    assert!(stderr.contains("gone: ENOENT"), "{stderr}");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_name_that_is_no_text_comes_back_as_it_was() {
    let directory = directory();
    let name = OsStr::from_bytes(b"\xff\xfe name");
    fs::write(directory.path().join(name), content(5, 4097)).expect("written");
    let sum = |words: &[&OsStr]| {
        let output = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
            .arg("checksum")
            .args(words)
            .current_dir(directory.path())
            .output()
            .expect("uringbpf starts");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let list = sum(&[name]);
    assert!(list.ends_with(b"  \xff\xfe name\n"), "{list:?}");
    fs::write(directory.path().join("list"), &list).expect("list written");
    let checked = sum(&[OsStr::new("--check"), OsStr::new("list")]);
    assert_eq!(checked, b"\xff\xfe name: OK\n");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_filled_file_holds_the_pattern() {
    let directory = directory();
    run(
        directory.path(),
        &["fill", "f", "--len", "300005", "--counter", "7"],
        0,
    );
    let bytes = fs::read(directory.path().join("f")).expect("f is there");
    let expected: Vec<u8> = (7u64..).flat_map(u64::to_le_bytes).take(300_005).collect();
    assert!(bytes == expected);
    run(directory.path(), &["fill", "f", "--len", "0"], 0);
    assert_eq!(
        fs::metadata(directory.path().join("f")).expect("f").len(),
        0
    );
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn what_cannot_be_copied_is_an_error_that_names_it() {
    let directory = directory();
    fs::write(directory.path().join("a"), "x").expect("a written");
    for (words, status, part) in [
        (["copy", "a", "a"], 2, "same file"),
        (["copy", "gone", "b"], 3, "ENOENT"),
        (["copy", ".", "b"], 3, "EISDIR"),
        (["copy", "a", "."], 3, "EISDIR"),
        (["copy", "a", "/dev/null"], 3, "no regular file"),
        (["copy", "a", "no/where"], 3, "ENOENT"),
        (["copy", "/dev/zero", "b"], 3, "neither a regular file"),
    ] {
        let (_, stderr) = run(directory.path(), &words, status);
        assert!(stderr.contains(part), "{words:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert_eq!(names(directory.path()), ["a"]);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_full_disk_leaves_no_file_behind() {
    let directory = directory();
    let small = directory.path().join("small");
    fs::create_dir(&small).expect("mkdir");
    let mount = |words: &[&str]| {
        let status = Command::new(words[0])
            .args(&words[1..])
            .arg(&small)
            .status();
        assert!(status.expect("it runs").success(), "{words:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=1M", "none"]);
    fs::write(directory.path().join("a"), content(2, 3 << 20)).expect("a written");
    fs::write(small.join("b"), "precious").expect("b written");
    let (_, stderr) = run(directory.path(), &["copy", "a", "small/b"], 3);
    let left = (
        names(&small),
        fs::read_to_string(small.join("b")).expect("b is there"),
    );
    mount(&["umount"]);
    assert!(stderr.contains("ENOSPC"), "{stderr}");
    assert_eq!(left, (vec!["b".to_string()], "precious".to_string()));
}

/// Before that a signal has its default effect, which leaves nothing either,
/// but ends the process without a status.
fn wait_until_it_catches_signals(pid: u32) {
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    let both = 1 << (libc::SIGINT - 1) | 1 << (libc::SIGTERM - 1);
    for _ in 0..3000 {
        if caught().is_some_and(|mask| mask & both == both) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("process {pid} catches no signals");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn an_interrupted_copy_leaves_no_file_under_the_name() {
    let directory = directory();
    fs::write(directory.path().join("a"), content(2, 200 << 20)).expect("a written");
    let mut random = Random(seed());
    for (signal, status) in [
        (libc::SIGINT, Some(130)),
        (libc::SIGTERM, Some(143)),
        (libc::SIGKILL, None),
    ] {
        for _ in 0..3 {
            let mut child = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
                .args(["copy", "a", "b", "--block", "4096", "--depth", "1"])
                .current_dir(directory.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the binary runs");
            wait_until_it_catches_signals(child.id());
            std::thread::sleep(Duration::from_millis(random.below(1500)));
            // SAFETY: our own child, which nobody has waited for yet.
            assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
            let ended = child.wait().expect("it ends");
            assert_eq!(ended.code(), status, "{signal}");
            assert_eq!(names(directory.path()), ["a"], "{signal}");
        }
    }
}
