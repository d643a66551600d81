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
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use blockdev::*;
use uringbpf::layout::Random;

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
    let failed = reads.recv_timeout(Duration::from_secs(60));
    // SAFETY: our own child, which nobody has waited for yet.
    unsafe { libc::kill(server.id() as i32, libc::SIGTERM) };
    let until = Instant::now() + Duration::from_secs(30);
    while path.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let is_gone = !path.exists();
    // Its last line waits for a reader, who goes.
    drop(server.stderr.take());
    let status = server.wait().expect("it is ours").code();
    assert_eq!(failed, Ok(READS as usize));
    assert!(is_gone, "{} has gone", path.display());
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
    for kill in 0..kills {
        let mut server = Server::on(&backing, &["--size", "4M", "--queues", "2"]);
        std::thread::scope(|scope| {
            let path = &server.path;
            for (index, own) in blocks.chunks(256).enumerate() {
                let random = Random(random.next());
                scope.spawn(move || write_until_it_fails(path, own, index as u64 * 256, random));
            }
            std::thread::sleep(Duration::from_millis(200 + random.below(800)));
            server.child.kill().expect("it is ours");
            server.child.wait().expect("it is ours");
        });

        let server = Server::on(&backing, &["--queues", "2"]);
        let device = server.open();
        let mut buffer = Aligned::new(4096, 0);
        let mut wanted = vec![0; 4096];
        for (number, block) in blocks.iter().enumerate() {
            let number = number as u64;
            let answered = block.answered.load(Ordering::Relaxed);
            let flying = block.flying.load(Ordering::Relaxed);
            let read = device.read_exact_at(buffer.bytes(), number * 4096);
            if let Err(error) = read {
                assert_ne!(answered, flying, "kill {kill}, block {number}: {error}");
                continue;
            }
            fill(answered, number, &mut wanted);
            if buffer.bytes() != wanted {
                fill(flying, number, &mut wanted);
                assert!(buffer.bytes() == wanted, "kill {kill}, block {number}");
                block.answered.store(flying, Ordering::Relaxed);
            }
            block
                .flying
                .store(block.answered.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        drop(device);
        let said = server.end();
        assert!(
            said.contains("the last server did not end by itself"),
            "{said}"
        );
    }
    let left: Vec<_> = std::fs::read_dir("/sys/block")
        .expect("sysfs is mounted")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|name| name.starts_with("ublk"))
        .collect();
    assert_eq!(left, [""; 0], "devices that are left");
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
    let table: [(&[&str], i32, &str); 6] = [
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
}
