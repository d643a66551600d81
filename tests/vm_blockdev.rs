// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf ublk`, used as a disk: needs a kernel with IORING_OP_BPF and ublk
//! zero copy.
//!
//! Random work comes from a seed, printed, and taken from URINGBPF_SEED;
//! URINGBPF_KILLS says how often the server is killed under load.

mod blockdev;
mod served;

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use blockdev::tasks::PATIENCE;
use blockdev::*;
use served::line;
use uringbpf::layout::Random;

/// What a server says of the one before it.
const NOT_BY_ITSELF: &str = "the last server did not end by itself";

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn every_kind_of_device_keeps_what_is_written() {
    let mut random = Random(seed());
    let directory = directory();
    let backing = directory.path().join("backing");
    let backing = backing.to_str().expect("text");
    let memory = ["--size", "8M"];
    let file = ["--size", "8M", "--backing", backing];
    let kinds: [(&[&str], &[&str], usize); 4] = [
        (&memory, &["--queues", "2"], 4096),
        (
            &memory,
            &["--block", "512", "-a", "xxh64", "--register"],
            512,
        ),
        (
            &file,
            &["--block", "1K", "--queues", "2", "--register"],
            1024,
        ),
        (
            &file,
            &["--non-sleepable", "-a", "xxh64", "--depth", "3"],
            4096,
        ),
    ];
    for (place, more, block_size) in kinds {
        let server = Server::start(&[place, more].concat());
        let device = server.open();
        let mut versions = vec![0; (8 << 20) / block_size];
        exercise(&device, block_size, &mut versions, &mut random);
        device.sync_all().expect("flushed");
        discard(&device, 1 << 20, 1 << 20);
        versions[(1 << 20) / block_size..(2 << 20) / block_size].fill(0);
        zero_out(&device, 5 << 20, (1 << 20) + 4096);
        versions[(5 << 20) / block_size..((6 << 20) + 4096) / block_size].fill(0);
        check_all(&device, block_size, &versions);
        exercise(&device, block_size, &mut versions, &mut random);
        check_all(&device, block_size, &versions);
        drop(device);
        let said = server.end();
        assert_eq!(said, "uringbpf: interrupted\n", "{more:?}");
        // A file and its checksums are there for the next server.
        if place.len() > 2 {
            let server = Server::start(&[place, more].concat());
            check_all(&server.open(), block_size, &versions);
            server.end();
            for path in [backing.to_string(), format!("{backing}.uringbpf-sums")] {
                std::fs::remove_file(path).expect("removed");
            }
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn a_byte_that_was_changed_is_an_error_that_names_its_block() {
    let mut random = Random(seed());
    let directory = directory();
    let backing = directory.path().join("backing");
    let server = Server::on(&backing, &["--size", "4M"]);
    let mut versions = vec![0; 1024];
    exercise(&server.open(), 4096, &mut versions, &mut random);
    server.end();

    let place = random.below(4 << 20);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&backing)
        .expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).expect("read");
    byte[0] ^= 1 << random.below(8);
    file.write_all_at(&byte, place).expect("written");
    drop(file);

    let server = Server::on(&backing, &[]);
    let device = server.open();
    let mut buffer = Aligned::new(4096, 0);
    let bad = place / 4096;
    for block in 0..1024 {
        let read = device.read_exact_at(buffer.bytes(), block * 4096);
        if block == bad {
            assert_eq!(read.expect_err("changed").raw_os_error(), EIO);
        } else {
            read.expect("as it was");
            check(buffer.bytes(), block, 4096, &versions);
        }
    }
    // What is written anew is good again.
    fill(77, bad, buffer.bytes());
    device
        .write_all_at(buffer.bytes(), bad * 4096)
        .expect("written");
    versions[bad as usize] = 77;
    check_all(&device, 4096, &versions);
    drop(device);
    let said = server.end();
    assert!(said.contains(&format!("block {bad} (bytes ")), "{said}");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn a_log_that_nobody_reads_stops_no_request() {
    const READS: u64 = 400;
    let directory = directory();
    let backing = directory.path().join("backing");
    Server::on(&backing, &["--size", "4M"]).end();
    let file = OpenOptions::new().write(true).open(&backing);
    let file = file.expect("there");
    file.write_all_at(&[1; 4 << 20], 0).expect("written");
    drop(file);

    // Every block is bad: some 30 KiB of lines, and the pipe holds 4.
    let (mut server, path) = start(&["--backing", backing.to_str().expect("text")]);
    let identity = Identity::of(&path);
    let stderr = server.stderr.as_ref().expect("piped").as_raw_fd();
    // SAFETY: takes no memory.
    let held = unsafe { libc::fcntl(stderr, libc::F_SETPIPE_SZ, 4096) };
    assert_eq!(held, 4096);
    let device = path.clone();
    let (done, reads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let device = open_direct(&device);
        let mut buffer = Aligned::new(4096, 0);
        let failed = (0..READS)
            .map(|block| device.read_exact_at(buffer.bytes(), block * 4096))
            .filter(|read| {
                read.as_ref()
                    .is_err_and(|error| error.raw_os_error() == EIO)
            })
            .count();
        drop(device);
        done.send(failed).expect("the test waits");
    });
    let failed = reads.recv_timeout(PATIENCE);
    // Until the server has tried to show how it stands.
    std::thread::sleep(Duration::from_secs(3));
    // SAFETY: our own child, which nobody has waited for yet.
    unsafe { libc::kill(server.id() as i32, libc::SIGTERM) };
    wait_until("the device goes", || identity.is_gone());
    // Its last line waits for a reader, who goes.
    drop(server.stderr.take());
    let status = server.wait().expect("it is ours").code();
    assert_eq!(failed, Ok(READS as usize));
    assert_eq!(status, Some(143));
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn what_was_answered_is_there_after_the_server_was_killed() {
    let kills: u32 = std::env::var("URINGBPF_KILLS").map_or(3, |kills| {
        kills.parse().expect("URINGBPF_KILLS is a number")
    });
    let mut random = Random(seed());
    let directory = directory();
    let backing = directory.path().join("backing");
    let blocks: Vec<Block> = (0..1024).map(|_| Block::default()).collect();
    let words = ["--size", "4M", "--queues", "2"];
    let mut server = Server::on(&backing, &words);
    for kill in 0..kills {
        let (dead, said) = kill_under_load(server, &blocks, &mut random);
        server = Server::on(&backing, &words);
        check_nothing_is_left(&dead);
        settle(&server, &blocks, 0, true, kill);
        assert_eq!(said.contains(NOT_BY_ITSELF), kill > 0, "kill {kill}");
    }
    let said = server.end();
    assert!(said.contains(NOT_BY_ITSELF), "{said}");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn what_cannot_be_served_is_an_error_and_leaves_nothing() {
    let directory = directory();
    let path = |name: &str| {
        directory
            .path()
            .join(name)
            .to_str()
            .expect("text")
            .to_string()
    };
    let (file, odd, none) = (path("file"), path("odd"), path("none"));
    std::fs::write(&odd, [0; 4097]).expect("written");
    Server::on(Path::new(&file), &["--size", "1M"]).end();
    let serving = Server::on(Path::new(&file), &[]);
    let table: [(&[&str], i32, &str); 7] = [
        (&["--size", "1M", "--queues", "64"], 2, "one for each CPU"),
        (&["--backing", &none], 3, "ENOENT"),
        (&["--backing", &odd], 2, "no whole blocks of 4096"),
        (&["--backing", &file], 3, "somebody else uses this file"),
        (&["--size", "5000"], 2, "no whole blocks of 4096"),
        (&["--size", "5G"], 2, "at most 4 GiB"),
        (
            &["--size", "2M", "--backing", "/proc/self/status"],
            3,
            "/proc/self/status",
        ),
    ];
    let run = |words: &[&str], status: i32, what: &str| {
        let child = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
            .arg("ublk")
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let (ended, said) = ended(child);
        assert_eq!(ended, Some(status), "{words:?}: {said}");
        assert!(said.contains(what), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
    };
    for (words, status, what) in table {
        run(words, status, what);
    }
    assert!(!Path::new(&none).exists());
    serving.end();
    run(
        &["--backing", &file, "-a", "xxh64"],
        3,
        "its checksums are crc32c",
    );
    // A start that fails after all is no server that died.
    run(
        &["--backing", &file, "--queues", "64"],
        2,
        "one for each CPU",
    );
    assert_eq!(
        Server::on(Path::new(&file), &[]).end(),
        "uringbpf: interrupted\n"
    );
    // A new file is not what the old checksums are of.
    std::fs::remove_file(&file).expect("removed");
    run(
        &["--backing", &file, "--size", "1M"],
        3,
        "the checksums of another file",
    );
    assert!(!Path::new(&file).exists());
    std::fs::remove_file(format!("{file}.uringbpf-sums")).expect("it stays");
    // Nor can anybody say what was meant to be in an old file without any.
    std::fs::write(&file, [7; 1 << 20]).expect("written");
    let said = Server::on(Path::new(&file), &[]).end();
    assert!(
        said.contains("there were no checksums of these data"),
        "{said}"
    );
    assert_eq!(
        Server::on(Path::new(&file), &[]).end(),
        "uringbpf: interrupted\n"
    );
}

fn signal(server: &Child, signal: i32) {
    // SAFETY: our own child, which nobody has waited for yet.
    let sent = unsafe { libc::kill(server.id() as i32, signal) };
    assert_eq!(sent, 0);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn the_counters_come_when_they_are_asked_for_and_at_the_end() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
        .args(["--format", "json", "ublk", "--size", "1M"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let event = |server: &mut Child, event: &str| {
        let line = line(server);
        let keys: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(keys["event"], event, "{line}");
        keys
    };
    let ready = event(&mut server, "ready");
    let path = Path::new(ready["device"].as_str().expect("text")).to_path_buf();
    let device = open_direct(&path);
    let mut buffer = Aligned::new(8192, 0);
    for at in 0..3 {
        device
            .write_all_at(buffer.bytes(), at * 8192)
            .expect("written");
    }
    discard(&device, 1 << 19, 4096);
    signal(&server, libc::SIGUSR1);
    let counters = event(&mut server, "counters");
    let number = |keys: &serde_json::Value, name: &str| keys[name].as_u64().expect("a number");
    let names = [
        "writes",
        "bytes_written",
        "discards",
        "mismatches",
        "errors",
    ];
    assert_eq!(
        names.map(|name| number(&counters, name)),
        [3, 3 * 8192, 1, 0, 0]
    );
    let reads = number(&counters, "reads");
    device.read_exact_at(buffer.bytes(), 0).expect("read");
    drop(device);
    signal(&server, libc::SIGHUP);
    let counters = event(&mut server, "ended");
    assert_eq!(
        names.map(|name| number(&counters, name)),
        [3, 3 * 8192, 1, 0, 0]
    );
    assert!(number(&counters, "reads") > reads);
    assert_eq!(ended(server).0, Some(129));
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn counters_that_nobody_reads_do_not_keep_the_server() {
    let (mut server, path) = start(&["--size", "1M"]);
    let identity = Identity::of(&path);
    let stdout = server.stdout.as_ref().expect("piped").as_raw_fd();
    // SAFETY: takes no memory.
    let held = unsafe { libc::fcntl(stdout, libc::F_SETPIPE_SZ, 4096) };
    assert_eq!(held, 4096);
    let waiting = || {
        let mut count = 0;
        // SAFETY: it writes the number.
        let result = unsafe { libc::ioctl(stdout, libc::FIONREAD, &raw mut count) };
        assert_eq!(result, 0);
        count
    };
    // Until a line does not fit any more.
    wait_until("the pipe is full", || {
        let before = waiting();
        signal(&server, libc::SIGUSR1);
        std::thread::sleep(Duration::from_millis(100));
        before > 3000 && waiting() == before
    });
    signal(&server, libc::SIGTERM);
    wait_until("the device goes", || identity.is_gone());
    drop(server.stdout.take());
    assert_eq!(
        ended(server),
        (Some(143), "uringbpf: interrupted\n".to_string())
    );
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn a_server_outlives_its_terminal_under_nohup() {
    let mut server = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$0\" ublk --size 1M"])
        .arg(env!("CARGO_BIN_EXE_uringbpf"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let path = line(&mut server);
    let identity = Identity::of(Path::new(path.trim_end()));
    signal(&server, libc::SIGHUP);
    std::thread::sleep(Duration::from_secs(2));
    assert!(!identity.is_gone());
    signal(&server, libc::SIGINT);
    assert_eq!(ended(server).0, Some(130));
}

/// A file system of this many bytes, in memory, until it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Self {
        let directory = directory();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(directory.path())
            .status();
        assert!(mounted.expect("mount").success());
        Small(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: after a failure a server may still be there.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn a_full_disk_is_an_error_and_never_good_data() {
    for more in [&[] as &[&str], &["--parity", "4"]] {
        let mut random = Random(seed());
        let disk = Small::new("6M");
        let backing = disk.0.path().join("backing");
        let words = [&["--size", "16M", "--depth", "8"], more].concat();
        let server = Server::on(&backing, &words);
        let device = server.open();
        let blocks: Vec<Block> = (0..4096).map(|_| Block::default()).collect();
        let mut failed = 0;
        for version in 1..400 {
            let count = if random.below(3) == 0 { 64 } else { 1 };
            let first = random.below(4096 - count + 1);
            let mut buffer = Aligned::new(count as usize * 4096, 0);
            let own = &blocks[first as usize..(first + count) as usize];
            for ((number, bytes), block) in (first..).zip(buffer.bytes().chunks_mut(4096)).zip(own)
            {
                fill(version, number, bytes);
                block.flying.store(version, Ordering::Relaxed);
            }
            match device.write_all_at(buffer.bytes(), first * 4096) {
                Ok(()) => own
                    .iter()
                    .for_each(|block| block.answered.store(version, Ordering::Relaxed)),
                Err(error) => {
                    let errno = error.raw_os_error();
                    assert!([Some(libc::ENOSPC), EIO].contains(&errno), "{error}");
                    failed += 1;
                    // A block may be the old or the new: what it is counts.
                    settle(&server, own, first, true, version as u32);
                }
            }
        }
        assert!(failed > 0, "the disk got full");
        settle(&server, &blocks, 0, true, 1000);
        // What makes room makes it work again.
        discard(&device, 0, 8 << 20);
        let mut buffer = Aligned::new(4096, 0);
        fill(1000, 0, buffer.bytes());
        device
            .write_all_at(buffer.bytes(), 0)
            .expect("there is room");
        device.read_exact_at(buffer.bytes(), 4096).expect("zeros");
        assert!(buffer.bytes().iter().all(|byte| *byte == 0));
        drop(device);
        for block in &blocks[..2048] {
            block.answered.store(0, Ordering::Relaxed);
            block.flying.store(0, Ordering::Relaxed);
        }
        blocks[0].answered.store(1000, Ordering::Relaxed);
        blocks[0].flying.store(1000, Ordering::Relaxed);
        let said = server.end();
        assert!(said.contains("ENOSPC"), "{more:?}: {said}");
        let server = Server::on(&backing, &words);
        settle(&server, &blocks, 0, true, 1001);
        let said = server.end();
        assert!(!said.contains(NOT_BY_ITSELF), "{more:?}: {said}");
    }
}
