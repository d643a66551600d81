// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the tests of `uringbpf ublk` have in common: a server, and what its
//! device must hold.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tempfile::TempDir;
use uringbpf::layout::Random;
use uringbpf::pattern;

pub use crate::served::{ended, start};

pub const EIO: Option<i32> = Some(libc::EIO);

pub fn seed() -> u64 {
    let seed = match std::env::var("URINGBPF_SEED") {
        Ok(text) => text.parse().expect("URINGBPF_SEED is a number"),
        Err(_) => u64::from(std::process::id()) << 16,
    };
    println!("URINGBPF_SEED={seed}");
    seed
}

/// Files of the tests lie in memory: the guest's disk is the host's.
pub fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a directory")
}

/// A server, and the device that it serves.
pub struct Server {
    pub child: Child,
    pub path: PathBuf,
    /// What it says on stderr: read all the time, or a full pipe would stop it.
    said: JoinHandle<String>,
}

impl Server {
    pub fn start(words: &[&str]) -> Self {
        let (mut child, path) = start(words);
        let mut stderr = child.stderr.take().expect("piped");
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).expect("readable");
            said
        });
        Server { child, said, path }
    }

    pub fn on(backing: &Path, more: &[&str]) -> Self {
        let backing = backing.to_str().expect("text");
        Self::start(&[&["--backing", backing], more].concat())
    }

    pub fn open(&self) -> File {
        open_direct(&self.path)
    }

    /// Ends it by a signal; what it said on stderr.
    pub fn end(mut self) -> String {
        // SAFETY: our own child, which nobody has waited for yet.
        let killed = unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        assert_eq!(killed, 0);
        let said = self.said.join().expect("it reads");
        let status = self.child.wait().expect("it is ours").code();
        assert_eq!(status, Some(130), "{said}");
        assert!(!self.path.exists(), "{} has gone", self.path.display());
        said
    }
}

pub fn open_direct(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .expect("the device opens")
}

/// Memory that O_DIRECT takes, at any multiple of 512 bytes in its page.
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize, offset: usize) -> Self {
        let memory = vec![0; len + offset + 4096];
        let start = memory.as_ptr().align_offset(4096) + offset;
        Aligned { memory, start, len }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// A version of a block: what a pattern's seed makes of it.
pub fn fill(version: u64, block: u64, bytes: &mut [u8]) {
    match version {
        0 => bytes.fill(0),
        _ => pattern::fill(version, block * bytes.len() as u64, bytes),
    }
}

/// Random reads and writes against what must be there.
pub fn exercise(file: &File, block_size: usize, versions: &mut [u64], random: &mut Random) {
    let blocks = versions.len() as u64;
    for round in 0..60 {
        let first = random.below(blocks);
        let most = (1 << 20) / block_size as u64;
        let reach = if random.below(4) == 0 { most } else { 9 };
        let count = 1 + random.below(reach.min(blocks - first));
        let offset = random.below(8) as usize * 512;
        let mut buffer = Aligned::new(count as usize * block_size, offset);
        let at = first * block_size as u64;
        if round % 2 == 0 {
            let version = 1 + random.next() / 2;
            for (index, bytes) in buffer.bytes().chunks_mut(block_size).enumerate() {
                fill(version, first + index as u64, bytes);
                versions[first as usize + index] = version;
            }
            file.write_all_at(buffer.bytes(), at).expect("written");
        } else {
            file.read_exact_at(buffer.bytes(), at).expect("read");
            check(buffer.bytes(), first, block_size, versions);
        }
    }
}

pub fn check(bytes: &[u8], first: u64, block_size: usize, versions: &[u64]) {
    let mut wanted = vec![0; block_size];
    for (index, got) in bytes.chunks(block_size).enumerate() {
        let block = first + index as u64;
        fill(versions[block as usize], block, &mut wanted);
        assert!(got == wanted, "block {block}");
    }
}

pub fn check_all(file: &File, block_size: usize, versions: &[u64]) {
    let mut buffer = Aligned::new(1 << 20, 0);
    let blocks = (1 << 20) / block_size;
    for first in (0..versions.len()).step_by(blocks) {
        let count = blocks.min(versions.len() - first);
        let bytes = &mut buffer.bytes()[..count * block_size];
        file.read_exact_at(bytes, (first * block_size) as u64)
            .expect("read");
        check(bytes, first as u64, block_size, versions);
    }
}

pub fn discard(file: &File, start: u64, len: u64) {
    const BLKDISCARD: u64 = 0x1277;
    let range = [start, len];
    // SAFETY: a request that reads two words, which are there.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD, range.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// What a writer knows of a block: the version that was answered last, and the
/// one on its way.
#[derive(Default)]
pub struct Block {
    pub answered: AtomicU64,
    pub flying: AtomicU64,
}

/// Writes versions to its own blocks until the device fails.
pub fn write_until_it_fails(path: &Path, blocks: &[Block], first: u64, mut random: Random) {
    let device = open_direct(path);
    let mut buffer = Aligned::new(4096, 512);
    for version in (random.next() >> 1).. {
        let index = random.below(blocks.len() as u64);
        let block = &blocks[index as usize];
        let number = first + index;
        fill(version, number, buffer.bytes());
        block.flying.store(version, Ordering::Relaxed);
        if device.write_all_at(buffer.bytes(), number * 4096).is_err() {
            return;
        }
        block.answered.store(version, Ordering::Relaxed);
    }
}
