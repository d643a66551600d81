// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where a device's blocks and their checksums are, and the BPF maps that the
//! programs of all its queues share.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapHandle, MapType};

use super::file_lock::{PATIENCE, lock};
use super::groups::{Bad, Blocks, Groups, Place, Redundancy};
use super::parity::{ParityFile, Shape, refused};
use super::sums::{Geometry, Recovered, Sums, digest, next_data};
use super::{Backing, LARGEST_REQUEST, Options};
use crate::error::Failure;
use crate::memory::{Memory, SharedWords};
use crate::proc;
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
    redundancy: Option<Redundancy>,
    medium: Medium,
}

/// What had to be done before a device could start.
#[derive(Debug, Default)]
pub struct Opened {
    /// When the last server did not end by itself.
    pub recovered: Option<Recovered>,
    /// Checksums were made of data that was there: as it is, good or bad.
    pub sums_made: bool,
    /// Parity was made of data that was there.
    pub parity_made: bool,
    /// Blocks that were found not to be what was written.
    pub bad: Vec<Bad>,
}

enum Medium {
    Memory {
        map: MapHandle,
        memory: std::sync::Mutex<Memory>,
        address: u64,
    },
    File {
        file: File,
        sums: Sums,
        parity: Option<ParityFile>,
    },
}

impl Store {
    /// The blocks and their checksums, as they are to be served after
    /// [`Store::begin`]. `scan` is told of the bytes of a backing file that
    /// were looked at, and of how many; an error of it ends the work.
    pub fn open(
        options: &Options,
        scan: &dyn Fn(u64, u64) -> Result<(), Failure>,
    ) -> Result<(Self, Opened), Failure> {
        match &options.backing {
            Backing::Memory(bytes) => Ok((Self::in_memory(options, *bytes)?, Opened::default())),
            Backing::File(path, bytes) => Self::on_file(options, path, *bytes, scan),
        }
    }

    fn in_memory(options: &Options, bytes: u64) -> Result<Self, Failure> {
        let all = arena_bytes(options, bytes)?;
        proc::require_memory(&format!("--size {bytes}"), all)?;
        let pages = all.div_ceil(sys::page_size() as u64) as u32;
        let map = map(MapType::Arena, "arena", 0, 0, pages)?;
        let mut memory = Memory::of_map(map.as_fd(), all as usize)?;
        memory.region().populate()?;
        let address = memory.region().address();
        let medium = Medium::Memory {
            map,
            memory: std::sync::Mutex::new(memory),
            address,
        };
        let zero = digest(options.algorithm, &vec![0; options.block_size as usize]);
        let store = Self::new(options, bytes, zero, medium)?;
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
    ) -> Result<(Self, Opened), Failure> {
        let sums_path = beside(path, ".uringbpf-sums");
        let (file, bytes, new) = open_backing(path, bytes, &sums_path)?;
        whole_blocks(options, bytes)?;
        let parity_path = beside(path, ".uringbpf-parity");
        let found = ParityFile::shape(&parity_path)?;
        if let Some(found) = found.filter(|_| options.parity == 0) {
            // What is written without it, it would not be the parity of.
            return Err(refused(&parity_path, &found.to_string()));
        }
        let geometry = Geometry {
            algorithm: options.algorithm,
            block_size: options.block_size,
            blocks: bytes / u64::from(options.block_size),
        };
        let redundancy = redundancy(options, bytes);
        let parity = redundancy.map(|Redundancy { groups, .. }| {
            let shape = Shape {
                group: groups.size,
                block_size: options.block_size.into(),
                blocks: groups.blocks,
            };
            ParityFile::open(&parity_path, shape, found)
        });
        let parity = parity.transpose()?;
        let log = (
            log_entries(options),
            (LARGEST_REQUEST / options.block_size) as usize,
        );
        let tick = |at| scan(at, bytes);
        let (sums, recovered) = Sums::open(&sums_path, &file, geometry, log, &tick)?;
        let zero = sums.zero();
        let mut opened = Opened {
            recovered,
            sums_made: !new && sums.of_data(),
            ..Opened::default()
        };
        let medium = Medium::File { file, sums, parity };
        let store = Self::new(options, bytes, zero, medium)?;
        if let Medium::File { sums, .. } = &store.medium {
            for block in 0..store.blocks() {
                store.words.store(block as usize, sums.get(block));
            }
        }
        if let Some(redundancy) = &redundancy {
            store.bring_parity(redundancy, &tick, &mut opened)?;
        }
        Ok((store, opened))
    }

    /// From here on a file is in use, until [`Store::close`]. Whoever cannot
    /// serve it must not get here: the next server would take it for one whose
    /// server died.
    pub fn begin(&mut self, options: &Options) -> Result<(), Failure> {
        match &mut self.medium {
            Medium::File { sums, .. } => sums.begin(log_entries(options)),
            Medium::Memory { .. } => Ok(()),
        }
    }

    /// Makes the parity of groups for which there may be none, or that of
    /// other data.
    fn bring_parity(
        &self,
        redundancy: &Redundancy,
        tick: &dyn Fn(u64) -> Result<(), Failure>,
        opened: &mut Opened,
    ) -> Result<(), Failure> {
        let Medium::File {
            file,
            sums,
            parity: Some(parity),
        } = &self.medium
        else {
            return Ok(());
        };
        let groups = redundancy.groups;
        let new = !parity.finished();
        let ranges = match new || !sums.were_there() || sums.machine_died() {
            true => std::iter::once(0..groups.blocks).collect(),
            false => sums.in_flight()?,
        };
        let size = u64::from(self.block_size);
        for range in ranges {
            let mut group = groups.of(range.start);
            let end = groups.touched(&range).end;
            while group < end {
                let start = groups.members(group).start;
                if new {
                    // It is all zeros: which is the parity of holes.
                    let data = next_data(file, start * size)
                        .map_or(end, |at| groups.of((at / size).min(groups.blocks)));
                    if data > group {
                        group = data;
                        continue;
                    }
                }
                tick(start * size)?;
                opened.bad.extend(redundancy.renew(self, group)?);
                group += 1;
            }
        }
        opened.parity_made = new && sums.were_there();
        match new {
            true => parity.finish(),
            false => Ok(()),
        }
    }

    fn new(options: &Options, bytes: u64, zero: u64, medium: Medium) -> Result<Self, Failure> {
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
            redundancy: redundancy(options, bytes),
            medium,
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
        matches!(self.medium, Medium::File { .. })
    }

    /// How blocks are protected.
    pub fn redundancy(&self) -> Option<&Redundancy> {
        self.redundancy.as_ref()
    }

    /// The backing file and its checksums.
    pub fn file(&self) -> Option<(&File, &Sums)> {
        match &self.medium {
            Medium::File { file, sums, .. } => Some((file, sums)),
            Medium::Memory { .. } => None,
        }
    }

    /// The parity of a backing file.
    pub fn parity(&self) -> Option<&ParityFile> {
        match &self.medium {
            Medium::File { parity, .. } => parity.as_ref(),
            Medium::Memory { .. } => None,
        }
    }

    /// Where the arena begins, for requests.
    pub fn arena(&self) -> u64 {
        match &self.medium {
            Medium::Memory { address, .. } => *address,
            Medium::File { .. } => 0,
        }
    }

    /// The maps that stand in for those of a queue's programs.
    pub fn maps(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        let mut maps = vec![("sums", self.map.as_fd())];
        if let Medium::Memory { map, .. } = &self.medium {
            maps.push(("arena", map.as_fd()));
        }
        maps
    }

    /// A block of the backing file has been written.
    pub fn set_sum(&self, block: u64, sum: u64) {
        if let Medium::File { sums, .. } = &self.medium {
            sums.set(block, sum);
        }
        self.words.store(block as usize, sum);
    }

    /// Blocks have become zeros.
    pub fn set_zeros(&self, blocks: Range<u64>) {
        for block in blocks {
            self.set_sum(block, self.zero);
        }
    }

    /// The parity of groups that have become zeros.
    pub fn clear_parity(&self, groups: &Range<u64>) -> Result<(), Failure> {
        match &self.medium {
            Medium::Memory { .. } => {
                let size = u64::from(self.block_size);
                self.zero(self.bytes + groups.start * size..self.bytes + groups.end * size);
                Ok(())
            }
            Medium::File { parity, .. } => {
                let parity = parity.as_ref().expect("there with the redundancy");
                parity.clear(groups)
            }
        }
    }

    /// Writes zeros to blocks in memory; a file is punched by its own request.
    pub fn clear(&self, blocks: &Range<u64>) {
        let size = u64::from(self.block_size);
        self.zero(blocks.start * size..blocks.end * size);
    }

    /// Bytes of the arena.
    fn zero(&self, bytes: Range<u64>) {
        self.with_memory(|memory| memory[bytes.start as usize..bytes.end as usize].fill(0));
    }

    fn with_memory(&self, work: impl FnOnce(&mut [u8])) {
        if let Medium::Memory { memory, .. } = &self.medium {
            let mut memory = memory
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            work(memory.region().bytes_mut());
        }
    }

    /// Where a block lies in the arena.
    fn in_arena(&self, place: Place) -> Range<usize> {
        let size = self.block_size as usize;
        let start = match place {
            Place::Block(block) => block as usize * size,
            Place::Parity(group) => self.bytes as usize + group as usize * size,
        };
        start..start + size
    }

    /// Everything is on the disk when this has succeeded. After a failure it
    /// may not be: then the store is dropped instead, and what is in the log is
    /// for the next server.
    pub fn close(self) -> Result<(), Failure> {
        if let Medium::File { file, sums, parity } = self.medium {
            file.sync_data()
                .map_err(|error| Failure::io("sync the backing file", &error))?;
            if let Some(parity) = parity {
                parity.sync()?;
            }
            sums.close()?;
        }
        Ok(())
    }
}

impl Blocks for Store {
    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), Failure> {
        match (&self.medium, place) {
            (Medium::Memory { .. }, _) => {
                self.with_memory(|memory| bytes.copy_from_slice(&memory[self.in_arena(place)]));
                Ok(())
            }
            (Medium::File { file, .. }, Place::Block(block)) => file
                .read_exact_at(bytes, block * u64::from(self.block_size))
                .map_err(|error| Failure::io(format!("read block {block}"), &error)),
            (Medium::File { parity, .. }, Place::Parity(group)) => parity
                .as_ref()
                .expect("there with the redundancy")
                .read(group, bytes),
        }
    }

    fn write(&self, place: Place, bytes: &[u8]) -> Result<(), Failure> {
        match (&self.medium, place) {
            (Medium::Memory { .. }, _) => {
                self.with_memory(|memory| memory[self.in_arena(place)].copy_from_slice(bytes));
                Ok(())
            }
            (Medium::File { file, .. }, Place::Block(block)) => file
                .write_all_at(bytes, block * u64::from(self.block_size))
                .map_err(|error| Failure::io(format!("write block {block}"), &error)),
            (Medium::File { parity, .. }, Place::Parity(group)) => parity
                .as_ref()
                .expect("there with the redundancy")
                .write(group, bytes),
        }
    }

    fn sum(&self, block: u64) -> u64 {
        self.words.load(block as usize)
    }
}

fn redundancy(options: &Options, bytes: u64) -> Option<Redundancy> {
    let groups = Groups {
        size: options.parity.into(),
        blocks: bytes / u64::from(options.block_size),
    };
    (options.parity > 0).then_some(Redundancy {
        groups,
        algorithm: options.algorithm,
        block_size: options.block_size,
    })
}

/// Refuses a size that makes no device, whatever the kernel and the disk have.
pub fn check_size(options: &Options) -> Result<(), Failure> {
    match options.backing {
        Backing::Memory(bytes) => arena_bytes(options, bytes).map(drop),
        Backing::File(_, Some(bytes)) => whole_blocks(options, bytes),
        Backing::File(_, None) => Ok(()),
    }
}

/// Bytes of the arena for a device of so many, with their parity.
fn arena_bytes(options: &Options, bytes: u64) -> Result<u64, Failure> {
    whole_blocks(options, bytes)?;
    let parity = redundancy(options, bytes).map_or(0, |redundancy| {
        redundancy.groups.count() * u64::from(options.block_size)
    });
    let all = bytes.saturating_add(parity);
    if all > LARGEST_ARENA {
        let with = if parity > 0 { ", parity included" } else { "" };
        return Err(Failure::usage(format!(
            "--size {bytes}: an arena is at most 4 GiB{with}; --backing takes a file of any size"
        )));
    }
    Ok(all)
}

/// One for each request that can be on its way.
fn log_entries(options: &Options) -> usize {
    usize::from(options.queues) * usize::from(options.depth)
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

/// The file, made with `bytes` where it is missing or empty, its length, and
/// whether it was made.
fn open_backing(
    path: &Path,
    bytes: Option<u64>,
    sums: &Path,
) -> Result<(File, u64, bool), Failure> {
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
    lock(&file, PATIENCE)
        .map_err(|error| failed("lock", &error).next("somebody else uses this file"))?;
    match (metadata.len(), bytes) {
        (0, Some(bytes)) => {
            // Every block would be an error.
            if std::fs::metadata(sums).is_ok_and(|metadata| metadata.len() > 0) {
                let what = format!(
                    "{}: the checksums of another file than {}, which is new",
                    sums.display(),
                    path.display()
                );
                return Err(Failure::environment(what)
                    .next("remove it, or put the file that it belongs to back"));
            }
            file.set_len(bytes)
                .map_err(|error| failed("set the size of", &error))?;
            Ok((file, bytes, true))
        }
        (0, None) => Err(Failure::usage(format!(
            "{}: an empty file; --size says how large the device is to be",
            path.display()
        ))),
        (len, Some(bytes)) if len != bytes => Err(Failure::usage(format!(
            "{}: has {len} bytes, not the {bytes} of --size",
            path.display()
        ))),
        (len, _) => Ok((file, len, false)),
    }
}

/// A file of ours, beside the backing file.
fn beside(backing: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(backing);
    path.push(ending);
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
