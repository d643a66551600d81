// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where a device's blocks and their checksums are, and the BPF maps that the
//! programs of all its queues share.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapHandle, MapType};

use super::sums::{Geometry, Recovered, Sums, digest};
use super::{Backing, LARGEST_REQUEST, Options};
use crate::error::Failure;
use crate::memory::{Memory, SharedWords};
use crate::sys;

/// What the kernel takes: src/bpf/kernel.h has the same.
const BPF_F_MMAPABLE: u32 = 1 << 10;
/// kernel/bpf/arena.c: programs address an arena with 32 bits.
const LARGEST_ARENA: u64 = 4 << 30;

/// A device's blocks.
pub struct Store {
    bytes: u64,
    block_size: u32,
    zero: u64,
    /// The checksum of each block, as the programs see it.
    words: SharedWords,
    map: MapHandle,
    place: Place,
}

enum Place {
    Memory {
        map: MapHandle,
        memory: std::sync::Mutex<Memory>,
        address: u64,
    },
    File {
        file: File,
        sums: Sums,
    },
}

impl Store {
    /// `scan` is told of the bytes of a backing file that were looked at, and
    /// of how many; an error of it ends the work.
    pub fn open(
        options: &Options,
        scan: &dyn Fn(u64, u64) -> Result<(), Failure>,
    ) -> Result<(Self, Option<Recovered>), Failure> {
        match &options.backing {
            Backing::Memory(bytes) => Ok((Self::in_memory(options, *bytes)?, None)),
            Backing::File(path, bytes) => Self::on_file(options, path, *bytes, scan),
        }
    }

    fn in_memory(options: &Options, bytes: u64) -> Result<Self, Failure> {
        whole_blocks(options, bytes)?;
        if bytes > LARGEST_ARENA {
            return Err(Failure::usage(format!(
                "--size {bytes}: an arena is at most 4 GiB; --backing takes a file of any size"
            )));
        }
        let pages = bytes.div_ceil(sys::page_size() as u64) as u32;
        let map = map(MapType::Arena, "arena", 0, 0, pages)?;
        let mut memory = Memory::of_map(map.as_fd(), bytes as usize)?;
        // A program cannot make a page that is not there.
        memory.region().bytes_mut().fill(0);
        let address = memory.region().address();
        let place = Place::Memory {
            map,
            memory: std::sync::Mutex::new(memory),
            address,
        };
        let zero = digest(options.algorithm, &vec![0; options.block_size as usize]);
        let store = Self::new(options, bytes, zero, place)?;
        for block in 0..store.blocks() {
            store.words.store(block as usize, zero);
        }
        Ok(store)
    }

    fn on_file(
        options: &Options,
        path: &Path,
        bytes: Option<u64>,
        scan: &dyn Fn(u64, u64) -> Result<(), Failure>,
    ) -> Result<(Self, Option<Recovered>), Failure> {
        let (file, bytes) = open_backing(path, bytes)?;
        whole_blocks(options, bytes)?;
        let geometry = Geometry {
            algorithm: options.algorithm,
            block_size: options.block_size,
            blocks: bytes / u64::from(options.block_size),
        };
        let log = (
            usize::from(options.queues) * usize::from(options.depth),
            (LARGEST_REQUEST / options.block_size) as usize,
        );
        let tick = |at| scan(at, bytes);
        let (sums, recovered) = Sums::open(&sums_path(path), &file, geometry, log, &tick)?;
        let zero = sums.zero();
        let store = Self::new(options, bytes, zero, Place::File { file, sums })?;
        if let Place::File { sums, .. } = &store.place {
            for block in 0..store.blocks() {
                store.words.store(block as usize, sums.get(block));
            }
        }
        Ok((store, recovered))
    }

    fn new(options: &Options, bytes: u64, zero: u64, place: Place) -> Result<Self, Failure> {
        let blocks = bytes / u64::from(options.block_size);
        let entries = u32::try_from(blocks).map_err(|_| {
            Failure::usage(format!(
                "{blocks} blocks: a BPF map has less than 2^32 entries; take larger blocks"
            ))
        })?;
        let map = map(MapType::Array, "sums", 4, 8, entries)?;
        Ok(Store {
            bytes,
            block_size: options.block_size,
            zero,
            words: SharedWords::new(map.as_fd(), entries as usize)?,
            map,
            place,
        })
    }

    /// Bytes of the device.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn blocks(&self) -> u64 {
        self.bytes / u64::from(self.block_size)
    }

    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    pub fn is_file(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }

    /// The backing file and its checksums.
    pub fn file(&self) -> Option<(&File, &Sums)> {
        match &self.place {
            Place::File { file, sums } => Some((file, sums)),
            Place::Memory { .. } => None,
        }
    }

    /// Where the arena begins, for requests.
    pub fn arena(&self) -> u64 {
        match &self.place {
            Place::Memory { address, .. } => *address,
            Place::File { .. } => 0,
        }
    }

    /// The maps that stand in for those of a queue's programs.
    pub fn maps(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        let mut maps = vec![("sums", self.map.as_fd())];
        if let Place::Memory { map, .. } = &self.place {
            maps.push(("arena", map.as_fd()));
        }
        maps
    }

    /// What a block must have.
    pub fn sum(&self, block: u64) -> u64 {
        self.words.load(block as usize)
    }

    /// A block of the backing file has been written.
    pub fn set_sum(&self, block: u64, sum: u64) {
        if let Place::File { sums, .. } = &self.place {
            sums.set(block, sum);
        }
        self.words.store(block as usize, sum);
    }

    /// Blocks have become zeros.
    pub fn set_zeros(&self, blocks: std::ops::Range<u64>) {
        for block in blocks {
            self.set_sum(block, self.zero);
        }
    }

    /// Writes zeros to blocks in memory; a file is punched by its own request.
    pub fn clear(&self, blocks: &std::ops::Range<u64>) {
        if let Place::Memory { memory, .. } = &self.place {
            let size = u64::from(self.block_size);
            let bytes = (blocks.start * size) as usize..(blocks.end * size) as usize;
            let mut memory = memory
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            memory.region().bytes_mut()[bytes].fill(0);
        }
    }

    /// Everything is on the disk when this has succeeded.
    pub fn close(self) -> Result<(), Failure> {
        if let Place::File { file, sums } = self.place {
            file.sync_data()
                .map_err(|error| Failure::io("sync the backing file", &error))?;
            sums.close()?;
        }
        Ok(())
    }
}

fn whole_blocks(options: &Options, bytes: u64) -> Result<(), Failure> {
    if bytes == 0 || !bytes.is_multiple_of(u64::from(options.block_size)) {
        return Err(Failure::usage(format!(
            "{bytes} bytes are no whole blocks of {}",
            options.block_size
        )));
    }
    Ok(())
}

/// The file, made with `bytes` where it is missing, and its length.
fn open_backing(path: &Path, bytes: Option<u64>) -> Result<(File, u64), Failure> {
    let failed = |what: &str, error: &std::io::Error| {
        Failure::io(format!("{what} {}", path.display()), error)
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(bytes.is_some())
        .truncate(false)
        .open(path)
        .map_err(|error| failed("open", &error))?;
    let metadata = file.metadata().map_err(|error| failed("look at", &error))?;
    if !metadata.is_file() {
        return Err(Failure::environment(format!(
            "{}: not a regular file",
            path.display()
        )));
    }
    // SAFETY: an open descriptor and no memory.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(failed("lock", &error).next("somebody else uses this file"));
    }
    match (metadata.len(), bytes) {
        (0, Some(bytes)) => {
            file.set_len(bytes)
                .map_err(|error| failed("set the size of", &error))?;
            Ok((file, bytes))
        }
        (0, None) => Err(Failure::usage(format!(
            "{}: an empty file; --size says how large the device is to be",
            path.display()
        ))),
        (len, Some(bytes)) if len != bytes => Err(Failure::usage(format!(
            "{}: has {len} bytes, not the {bytes} of --size",
            path.display()
        ))),
        (len, _) => Ok((file, len)),
    }
}

/// The file of checksums, beside the backing file.
fn sums_path(backing: &Path) -> PathBuf {
    let mut path = OsString::from(backing);
    path.push(".uringbpf-sums");
    path.into()
}

fn map(
    kind: MapType,
    name: &str,
    key_size: u32,
    value_size: u32,
    entries: u32,
) -> Result<MapHandle, Failure> {
    let options = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as _,
        map_flags: BPF_F_MMAPABLE,
        ..Default::default()
    };
    MapHandle::create(kind, Some(name), key_size, value_size, entries, &options).map_err(|error| {
        let errno = crate::program::errno(&error);
        let failure = Failure::os(
            format!("make the BPF map {name} of {entries} entries"),
            errno,
        );
        match errno {
            libc::EPERM => failure.next(crate::permission::needed()),
            _ => failure,
        }
    })
}
