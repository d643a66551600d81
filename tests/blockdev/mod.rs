// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the tests of `uringbpf ublk` have in common: a server, and what its
//! device must hold.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use uringbpf::layout::Random;
use uringbpf::pattern;

#[path = "../served/tasks.rs"]
pub mod tasks;

pub use crate::served::{Identity, ended, start};
use tasks::stuck;
pub use tasks::wait_until;

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
    pub identity: Identity,
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
        let identity = Identity::of(&path);
        Server {
            child,
            path,
            identity,
            said,
        }
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
        assert!(self.identity.is_gone(), "{:?} has gone", self.identity);
        said
    }

    /// Ends it at once; which device it leaves, and what it had said.
    pub fn kill(mut self) -> (Identity, String) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
        (self.identity, self.said.join().expect("it reads"))
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

/// include/uapi/linux/fs.h
const BLKDISCARD: u64 = 0x1277;
const BLKZEROOUT: u64 = 0x127f;

fn range_request(file: &File, request: u64, start: u64, len: u64) -> io::Result<()> {
    let range = [start, len];
    // SAFETY: a request that reads two words, which are there.
    match unsafe { libc::ioctl(file.as_raw_fd(), request, range.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub fn discard(file: &File, start: u64, len: u64) {
    range_request(file, BLKDISCARD, start, len).expect("discarded");
}

pub fn zero_out(file: &File, start: u64, len: u64) {
    range_request(file, BLKZEROOUT, start, len).expect("zeroed");
}

/// A write that is answered when it is on the disk: with FUA.
fn write_through(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: the bytes live through the call, which only reads them.
    let written = unsafe {
        libc::pwritev2(
            file.as_raw_fd(),
            &raw const part,
            1,
            at as i64,
            libc::RWF_DSYNC,
        )
    };
    match written {
        0.. if written as usize == bytes.len() => Ok(()),
        0.. => Err(io::ErrorKind::WriteZero.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a writer knows of a block: the version that was answered last, and the
/// one on its way.
#[derive(Default)]
pub struct Block {
    pub answered: AtomicU64,
    pub flying: AtomicU64,
}

/// Blocks of the longest write of [`write_until_it_fails`].
const RUN: u64 = 16;

/// Writes versions to its own blocks until the device fails, and discards some:
/// one block or several, with FUA or with flushes in between.
pub fn write_until_it_fails(path: &Path, blocks: &[Block], first: u64, mut random: Random) {
    let device = open_direct(path);
    let mut buffer = Aligned::new(RUN as usize * 4096, 512);
    for version in (random.next() >> 1).. {
        let start = random.below(blocks.len() as u64);
        let most = RUN.min(blocks.len() as u64 - start);
        let count = if random.below(2) == 0 {
            1
        } else {
            1 + random.below(most)
        };
        let at = (first + start) * 4096;
        let own = &blocks[start as usize..(start + count) as usize];
        let kind = random.below(10);
        let version = if kind == 0 { 0 } else { version };
        let bytes = &mut buffer.bytes()[..count as usize * 4096];
        for (number, bytes) in (first + start..).zip(bytes.chunks_mut(4096)) {
            fill(version, number, bytes);
        }
        for block in own {
            block.flying.store(version, Ordering::Relaxed);
        }
        let done = match kind {
            0 => range_request(&device, BLKDISCARD, at, count * 4096),
            1 => write_through(&device, bytes, at),
            2 => device
                .write_all_at(bytes, at)
                .and_then(|()| device.sync_data()),
            _ => device.write_all_at(bytes, at),
        };
        if done.is_err() {
            return;
        }
        for block in own {
            block.answered.store(version, Ordering::Relaxed);
        }
    }
}

/// Writes to all blocks from many threads, and kills the server under it.
pub fn kill_under_load(
    server: Server,
    blocks: &[Block],
    random: &mut Random,
) -> (Identity, String) {
    const WRITERS: usize = 8;
    let path = server.path.clone();
    std::thread::scope(|scope| {
        let path = &path;
        let each = blocks.len() / WRITERS;
        for (index, own) in blocks.chunks(each).enumerate() {
            let random = Random(random.next());
            scope.spawn(move || write_until_it_fails(path, own, (index * each) as u64, random));
        }
        std::thread::sleep(Duration::from_millis(200 + random.below(800)));
        server.kill()
    })
}

/// Nothing waits any more for a server that is dead, and its device has gone
/// once the next one has started.
pub fn check_nothing_is_left(dead: &Identity) {
    wait_until("the device of a dead server goes", || dead.is_gone());
    wait_until("no task waits for a dead server", || stuck().is_empty());
}

/// What is there after a kill, from block `start` on: each has the version that was answered, or
/// the one on its way; where these are not the same it may be unreadable, with
/// `torn`. Returns the versions; what is unreadable is taken for the old.
pub fn settle(server: &Server, blocks: &[Block], start: u64, torn: bool, kill: u32) -> Vec<u64> {
    const AT_ONCE: usize = 256;
    let device = server.open();
    let mut buffer = Aligned::new(AT_ONCE * 4096, 0);
    let mut wanted = vec![0; 4096];
    let mut versions = Vec::with_capacity(blocks.len());
    for (some, first) in blocks.chunks(AT_ONCE).zip((start..).step_by(AT_ONCE)) {
        let buffer = &mut buffer.bytes()[..some.len() * 4096];
        let all = device.read_exact_at(buffer, first * 4096);
        for ((block, number), bytes) in some.iter().zip(first..).zip(buffer.chunks_mut(4096)) {
            let answered = block.answered.load(Ordering::Relaxed);
            let flying = block.flying.load(Ordering::Relaxed);
            // One bad block fails the whole read.
            let read = match &all {
                Ok(()) => Ok(()),
                Err(_) => device.read_exact_at(bytes, number * 4096),
            };
            if let Err(error) = read {
                assert_eq!(error.raw_os_error(), EIO, "kill {kill}, block {number}");
                assert!(
                    torn && answered != flying,
                    "kill {kill}, block {number}: {error}"
                );
                versions.push(answered);
                continue;
            }
            let found = [answered, flying].into_iter().find(|version| {
                fill(*version, number, &mut wanted);
                bytes == wanted
            });
            let version = found.unwrap_or_else(|| {
                panic!("kill {kill}, block {number}: neither {answered} nor {flying}")
            });
            block.answered.store(version, Ordering::Relaxed);
            block.flying.store(version, Ordering::Relaxed);
            versions.push(version);
        }
    }
    versions
}
