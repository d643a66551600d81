// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf ublk --parity`: blocks that go bad are rebuilt from their group.
//! Needs a kernel with IORING_OP_BPF and ublk zero copy.
//!
//! Random work comes from a seed, printed, and taken from URINGBPF_SEED;
//! URINGBPF_KILLS says how often the server is killed under load.

mod blockdev;
mod served;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use blockdev::*;
use uringbpf::layout::Random;

/// Bytes of the parity file before its first block.
const HEADER: u64 = 4096;

fn open_file(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(path).expect("there")
}

/// Changes a bit of a block; whose is not said.
fn flip(file: &File, block: u64, block_size: u64, random: &mut Random) {
    let place = block * block_size + random.below(block_size);
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).expect("read");
    byte[0] ^= 1 << random.below(8);
    file.write_all_at(&byte, place).expect("written");
}

fn parity_of(backing: &Path) -> PathBuf {
    PathBuf::from(format!("{}.uringbpf-parity", backing.display()))
}

/// Reads each block by itself: these are errors, and the others right.
fn check_but(device: &File, versions: &[u64], bad: &[u64]) {
    let mut buffer = Aligned::new(4096, 0);
    for block in 0..versions.len() as u64 {
        let read = device.read_exact_at(buffer.bytes(), block * 4096);
        if bad.contains(&block) {
            assert_eq!(read.expect_err("bad").raw_os_error(), EIO, "block {block}");
        } else {
            read.unwrap_or_else(|error| panic!("block {block}: {error}"));
            check(buffer.bytes(), block, 4096, versions);
        }
    }
}

fn rewrite(device: &File, block: u64, versions: &mut [u64]) {
    let mut buffer = Aligned::new(4096, 0);
    versions[block as usize] += 1;
    fill(versions[block as usize], block, buffer.bytes());
    device
        .write_all_at(buffer.bytes(), block * 4096)
        .expect("written");
}

/// The blocks that a server's lines name after this word.
fn named(said: &str, word: &str) -> BTreeSet<u64> {
    said.lines()
        .filter_map(|line| {
            line.strip_prefix("uringbpf: ")
                .unwrap_or(line)
                .strip_prefix(word)
        })
        .map(|rest| rest.split(' ').next().expect("a word"))
        .map(|number| number.parse().expect("a block"))
        .collect()
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn a_bad_block_of_each_group_is_rebuilt_and_mended_in_the_file() {
    let mut random = Random(seed());
    let directory = directory();
    let kinds: [(u64, u64, &[&str]); 4] = [
        (4, 4096, &["--queues", "2"]),
        (7, 512, &["-a", "xxh64", "--register"]),
        (64, 1024, &["--non-sleepable", "--depth", "3"]),
        (1, 2048, &["--register", "--queues", "2"]),
    ];
    for (group, block_size, more) in kinds {
        let backing = directory.path().join(format!("backing-{group}"));
        let (number, size) = (group.to_string(), block_size.to_string());
        let words = [
            &["--parity", &number, "--block", &size, "--size", "1M"],
            more,
        ]
        .concat();
        let blocks = (1 << 20) / block_size;
        let mut versions = vec![0; blocks as usize];
        let server = Server::on(&backing, &words);
        let device = server.open();
        exercise(&device, block_size as usize, &mut versions, &mut random);
        for _ in 0..4 {
            let start = random.below(blocks);
            let count = 1 + random.below((blocks - start).min(3 * group));
            let zeros = if random.below(2) == 0 {
                discard
            } else {
                zero_out
            };
            zeros(&device, start * block_size, count * block_size);
            versions[start as usize..(start + count) as usize].fill(0);
        }
        exercise(&device, block_size as usize, &mut versions, &mut random);
        drop(device);
        assert_eq!(server.end(), "uringbpf: interrupted\n", "{words:?}");

        let file = open_file(&backing);
        let bad: BTreeSet<u64> = (0..blocks.div_ceil(group))
            .map(|at| at * group + random.below(group.min(blocks - at * group)))
            .collect();
        for block in &bad {
            flip(&file, *block, block_size, &mut random);
        }
        let server = Server::on(&backing, &words);
        check_all(&server.open(), block_size as usize, &versions);
        let said = server.end();
        assert_eq!(named(&said, "rebuilt block "), bad, "{words:?}: {said}");
        assert_eq!(said.lines().count(), bad.len() + 1, "{words:?}: {said}");
        check_all(&file, block_size as usize, &versions);
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn two_bad_blocks_of_a_group_are_errors_until_they_are_written() {
    let mut random = Random(seed());
    let directory = directory();
    let backing = directory.path().join("backing");
    let words = ["--parity", "5", "--size", "1M"];
    let server = Server::on(&backing, &words);
    let mut versions = vec![0; 256];
    exercise(&server.open(), 4096, &mut versions, &mut random);
    server.end();
    let file = open_file(&backing);
    let group = random.below(256 / 5);
    let first = group * 5 + random.below(4);
    let bad = [first, first + 1];
    for block in bad {
        flip(&file, block, 4096, &mut random);
    }
    let server = Server::on(&backing, &words);
    let device = server.open();
    check_but(&device, &versions, &bad);
    // A member that is good is written: that changes nothing.
    let good = (group * 5..group * 5 + 5).find(|block| !bad.contains(block));
    rewrite(&device, good.expect("three of them"), &mut versions);
    rewrite(&device, bad[0], &mut versions);
    check_but(&device, &versions, &bad[1..]);
    rewrite(&device, bad[1], &mut versions);
    check_but(&device, &versions, &[]);
    drop(device);
    let said = server.end();
    assert!(
        named(&said, "block ").is_superset(&BTreeSet::from(bad)),
        "{said}"
    );

    // The group has parity again.
    flip(&file, bad[0], 4096, &mut random);
    let server = Server::on(&backing, &words);
    check_all(&server.open(), 4096, &versions);
    assert_eq!(
        named(&server.end(), "rebuilt block "),
        BTreeSet::from([bad[0]])
    );
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn bad_parity_is_no_data_and_bad_data_gets_into_no_parity() {
    let mut random = Random(seed());
    let directory = directory();
    let backing = directory.path().join("backing");
    let words = ["--parity", "8", "--size", "1M"];
    let server = Server::on(&backing, &words);
    let mut versions = vec![0; 256];
    exercise(&server.open(), 4096, &mut versions, &mut random);
    server.end();
    let (file, parity) = (open_file(&backing), open_file(&parity_of(&backing)));
    let group = random.below(32);
    flip(&parity, HEADER / 4096 + group, 4096, &mut random);
    let server = Server::on(&backing, &words);
    check_all(&server.open(), 4096, &versions);
    assert_eq!(server.end(), "uringbpf: interrupted\n");

    let bad = group * 8 + random.below(8);
    flip(&file, bad, 4096, &mut random);
    // In another group: it is written over before anybody reads it.
    let other = (bad + 8) % 256;
    flip(&file, other, 4096, &mut random);
    let server = Server::on(&backing, &words);
    let device = server.open();
    rewrite(&device, other, &mut versions);
    check_but(&device, &versions, &[bad]);
    rewrite(&device, bad, &mut versions);
    check_but(&device, &versions, &[]);
    drop(device);
    let said = server.end();
    assert_eq!(
        named(&said, "rebuilt block "),
        BTreeSet::from([other]),
        "{said}"
    );
    assert_eq!(named(&said, "block "), BTreeSet::from([bad]), "{said}");

    // Both groups have the right parity now.
    let next = |block: u64| block / 8 * 8 + (block + 1) % 8;
    flip(&file, next(bad), 4096, &mut random);
    flip(&file, next(other), 4096, &mut random);
    let server = Server::on(&backing, &words);
    check_all(&server.open(), 4096, &versions);
    let rebuilt = BTreeSet::from([next(bad), next(other)]);
    assert_eq!(named(&server.end(), "rebuilt block "), rebuilt);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn parity_is_right_after_the_server_was_killed() {
    let kills: u32 = std::env::var("URINGBPF_KILLS").map_or(2, |kills| {
        kills.parse().expect("URINGBPF_KILLS is a number")
    });
    let mut random = Random(seed());
    let directory = directory();
    let backing = directory.path().join("backing");
    let words = ["--parity", "4", "--size", "1M", "--queues", "2"];
    let blocks: Vec<Block> = (0..256).map(|_| Block::default()).collect();
    for kill in 0..kills {
        let server = Server::on(&backing, &words);
        let (dead, _) = kill_under_load(server, &blocks, &mut random);
        // Recovery makes parity of the groups that were being written.
        let server = Server::on(&backing, &words);
        check_nothing_is_left(&dead);
        let versions = settle(&server, &blocks, 0, false, kill);
        server.end();
        check_rebuilt(&backing, &words, &versions, &mut random);
    }

    // As if the machine had died, and parity not got to the disk.
    Server::on(&backing, &words).kill();
    let sums = open_file(&PathBuf::from(format!(
        "{}.uringbpf-sums",
        backing.display()
    )));
    sums.write_all_at(&[0x55; 8], 8 * 8).expect("written");
    let parity = open_file(&parity_of(&backing));
    parity
        .write_all_at(&[0x55; 64 * 4096], HEADER)
        .expect("written");
    let server = Server::on(&backing, &words);
    let versions = settle(&server, &blocks, 0, false, kills);
    server.end();
    check_rebuilt(&backing, &words, &versions, &mut random);
}

/// One block of each group of four goes bad: all are rebuilt.
fn check_rebuilt(backing: &Path, words: &[&str], versions: &[u64], random: &mut Random) {
    let file = open_file(backing);
    let bad: BTreeSet<u64> = (0..64).map(|group| group * 4 + random.below(4)).collect();
    for block in &bad {
        flip(&file, *block, 4096, random);
    }
    let server = Server::on(backing, words);
    check_all(&server.open(), 4096, versions);
    let said = server.end();
    assert_eq!(named(&said, "rebuilt block "), bad, "{said}");
}

/// The memory of a server where its device begins, found by what the device
/// holds: the bytes of a block.
fn find_in_memory(process: u32, block: u64, bytes: &[u8]) -> Vec<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("readable");
    let memory = File::open(format!("/proc/{process}/mem")).expect("ours to read");
    let arenas = maps.lines().filter(|line| line.contains("bpf-map"));
    let starts = arenas.filter_map(|line| {
        let (start, _) = line.split_once('-')?;
        u64::from_str_radix(start, 16).ok()
    });
    starts
        .filter(|start| {
            let mut found = vec![0; bytes.len()];
            let place = start + block * bytes.len() as u64;
            memory.read_exact_at(&mut found, place).is_ok() && found == bytes
        })
        .collect()
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn a_bad_block_in_memory_is_rebuilt() {
    let mut random = Random(seed());
    let kinds: [(&[&str], u64); 2] = [
        (&["--parity", "4", "--queues", "2"], 4096),
        (
            &[
                "--parity",
                "9",
                "--block",
                "512",
                "-a",
                "xxh64",
                "--register",
            ],
            512,
        ),
    ];
    for (words, block_size) in kinds {
        let group: u64 = words[1].parse().expect("a number");
        let server = Server::start(&[&["--size", "2M"], words].concat());
        let device = server.open();
        let blocks = (2 << 20) / block_size;
        let mut versions = vec![0; blocks as usize];
        exercise(&device, block_size as usize, &mut versions, &mut random);
        let zeros: Range<usize> = 11..42;
        discard(&device, 11 * block_size, 31 * block_size);
        versions[zeros].fill(0);
        let known = (0..blocks).find(|block| versions[*block as usize] != 0);
        let known = known.expect("something was written");
        let mut bytes = vec![0; block_size as usize];
        fill(versions[known as usize], known, &mut bytes);
        let starts = find_in_memory(server.child.id(), known, &bytes);
        assert!(!starts.is_empty(), "the arena is mapped");
        let start = starts[0];
        let memory = open_file(Path::new(&format!("/proc/{}/mem", server.child.id())));

        let mut bad = BTreeSet::new();
        for at in 0..blocks.div_ceil(group) {
            let block = at * group + random.below(group.min(blocks - at * group));
            bad.insert(block);
            let place = start + block * block_size + random.below(block_size);
            let mut byte = [0];
            memory.read_exact_at(&mut byte, place).expect("read");
            memory.write_all_at(&[!byte[0]], place).expect("written");
        }
        check_all(&device, block_size as usize, &versions);
        // They are as they were, in memory, too.
        for block in 0..blocks {
            let place = start + block * block_size;
            let mut found = vec![0; block_size as usize];
            memory.read_exact_at(&mut found, place).expect("read");
            check(&found, block, block_size as usize, &versions);
        }
        // Two of a group are too many.
        for block in [0, 1] {
            let place = start + block * block_size;
            memory.write_all_at(&[0x99; 100], place).expect("written");
        }
        let mut buffer = Aligned::new(block_size as usize, 0);
        for block in [0, 1] {
            let read = device.read_exact_at(buffer.bytes(), block * block_size);
            assert_eq!(read.expect_err("bad").raw_os_error(), EIO);
        }
        drop(device);
        let said = server.end();
        assert_eq!(named(&said, "rebuilt block "), bad, "{said}");
        assert_eq!(named(&said, "block "), BTreeSet::from([0, 1]), "{said}");
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn parity_of_another_geometry_is_refused_and_made_where_there_is_none() {
    let mut random = Random(seed());
    let directory = directory();
    let backing = directory.path().join("backing");
    // Data that were there before parity.
    let server = Server::on(&backing, &["--size", "1M"]);
    let mut versions = vec![0; 256];
    exercise(&server.open(), 4096, &mut versions, &mut random);
    server.end();
    let server = Server::on(&backing, &["--parity", "4"]);
    let said = server.end();
    assert!(said.contains("parity of these data"), "{said}");
    check_rebuilt(&backing, &["--parity", "4"], &versions, &mut random);

    let refused = |words: &[&str], status: i32, what: &str| {
        let child = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
            .args(["ublk", "--backing"])
            .arg(&backing)
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let (ended, said) = ended(child);
        assert_eq!(ended, Some(status), "{words:?}: {said}");
        assert!(said.contains(what), "{words:?}: {said}");
    };
    refused(
        &["--parity", "5"],
        3,
        "groups of 4 of 256 blocks of 4096 bytes",
    );
    refused(
        &["--parity", "4", "--block", "512"],
        3,
        "256 blocks of 4096 bytes",
    );
    refused(&[], 3, "groups of 4 of 256 blocks of 4096 bytes");
    refused(&["--parity", "65"], 2, "from 1 to 64");
    let parity = parity_of(&backing);
    let mut whole = Vec::new();
    open_file(&parity).read_to_end(&mut whole).expect("read");
    std::fs::write(&parity, &whole[..whole.len() - 1]).expect("written");
    refused(&["--parity", "4"], 3, "shorter than its header says");
    std::fs::remove_file(&parity).expect("removed");
    let server = Server::on(&backing, &[]);
    check_all(&server.open(), 4096, &versions);
    server.end();
}
