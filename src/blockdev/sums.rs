// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The checksums of a backing file's blocks, in a file beside it, and a log of
//! the writes in flight, so that after a crash of the server each block's
//! checksum is that of what was last written to it.
//!
//! The file is mapped: a store into it is the kernel's from then on and
//! outlives this process. For each write the server stores, in this order,
//! the new checksums into the log, the data into the backing file, the
//! checksums into the table, and clears the log's entry; then it answers. So
//! at any moment the table holds the checksum of an answered write, or the log
//! holds both what the block may have become and that the write was not
//! answered. docs/ublk.md says what that promises.
//!
//! Layout, in little-endian 64-bit words: a page of header, the table (one
//! word per block), the log (entries of `LOG_HEADER` words and a word per block
//! of the largest request).

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::BlockAlgorithm;
use super::file_lock::{PATIENCE, lock};
use crate::error::Failure;
use crate::memory::SharedWords;
use crate::oracle::Digest;

/// "uringbpf" in little-endian bytes.
const MAGIC: u64 = u64::from_le_bytes(*b"uringbpf");
const VERSION: u64 = 1;

/// Words of the header, a page with room for more.
const HEADER: usize = 512;
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 1;
const AT_STATE: usize = 2;
const AT_ALGORITHM: usize = 3;
const AT_BLOCK_SIZE: usize = 4;
const AT_BLOCKS: usize = 5;
const AT_LOG_ENTRIES: usize = 6;
const AT_LOG_BLOCKS: usize = 7;
/// Since which start of the machine the file is in use.
const AT_BOOT: usize = 8;

/// The table is being made, and says nothing yet.
const NEW: u64 = 0;
/// A server has the file, or had it when it died.
const IN_USE: u64 = 1;
/// Everything is in the table.
const CLEAN: u64 = 2;

/// Words before the checksums of a log entry: kind, first block, blocks.
const LOG_HEADER: usize = 3;
const FREE: u64 = 0;
const WRITE: u64 = 1;
/// Blocks that become zeros: their checksum needs no place in the log.
const ZEROS: u64 = 2;

/// What must be the same in every run on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub algorithm: BlockAlgorithm,
    pub block_size: u32,
    pub blocks: u64,
}

/// What the log of a server that died said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Blocks of writes in flight that hold what was to be written …
    pub new: u64,
    /// … what stood there before …
    pub old: u64,
    /// … and neither: reading them is an error until they are written.
    pub torn: u64,
}

/// The open file.
#[derive(Debug)]
pub struct Sums {
    file: File,
    path: PathBuf,
    words: SharedWords,
    geometry: Geometry,
    zero: u64,
    log_blocks: usize,
    /// Not all of the backing file was a hole when they were made of it.
    of_data: bool,
    /// Entries of our own log: none before [`Sums::begin`].
    log_entries: usize,
    /// Entries and blocks per entry of the log as it was found.
    old_log: Option<(usize, usize)>,
}

impl Sums {
    /// Opens the checksums of `backing`, or makes them from what stands in it
    /// where there are none. What the log says is in the table then, and still
    /// in the log, until [`Sums::begin`]. Writes will be of `log_blocks`
    /// blocks, `log_entries` of them at once.
    ///
    /// `tick` is called now and then with the bytes that were looked at; an
    /// error of it ends the work.
    pub fn open(
        path: &Path,
        backing: &File,
        geometry: Geometry,
        (log_entries, log_blocks): (usize, usize),
        tick: &dyn Fn(u64) -> Result<(), Failure>,
    ) -> Result<(Self, Option<Recovered>), Failure> {
        let failed = |what: &str, error: &io::Error| {
            Failure::io(format!("{what} {}", path.display()), error)
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| failed("open", &error))?;
        lock(&file, PATIENCE).map_err(|error| {
            failed("lock", &error).next("another uringbpf ublk serves this file")
        })?;
        let zero = digest(geometry.algorithm, &vec![0; geometry.block_size as usize]);
        let old_log = read_log_shape(&file, path, &geometry)?;
        let table = HEADER + geometry.blocks as usize;
        let log_words = log_entries * (LOG_HEADER + log_blocks);
        let old_words = old_log.map_or(0, |(entries, blocks)| entries * (LOG_HEADER + blocks));
        let count = table + log_words.max(old_words);
        // Every byte is really there: a store into a mapped hole for which the
        // disk has no room is SIGBUS.
        // SAFETY: an open descriptor and no memory.
        let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, count as i64 * 8) };
        if error != 0 {
            let error = io::Error::from_raw_os_error(error);
            return Err(failed("allocate", &error));
        }
        let mut sums = Sums {
            words: SharedWords::new(file.as_fd(), count)?,
            file,
            path: path.to_path_buf(),
            geometry,
            zero,
            log_blocks,
            log_entries: 0,
            of_data: false,
            old_log,
        };
        let recovered = match old_log {
            None => {
                sums.of_data = sums.make(backing, tick)?;
                None
            }
            Some(_) => match sums.words.load(AT_STATE) {
                CLEAN => None,
                _ => Some(sums.recover(backing, tick)?),
            },
        };
        Ok((sums, recovered))
    }

    /// Whether they were made of blocks that somebody else wrote.
    pub fn of_data(&self) -> bool {
        self.of_data
    }

    /// Whether they were there already.
    pub fn were_there(&self) -> bool {
        self.old_log.is_some()
    }

    /// Whether it was the machine that ended the last server.
    pub fn machine_died(&self) -> bool {
        self.old_log.is_some()
            && self.words.load(AT_STATE) != CLEAN
            && (boot() == 0 || self.words.load(AT_BOOT) != boot())
    }

    /// The blocks of the writes that were in flight when the last server
    /// ended.
    pub fn in_flight(&self) -> Result<Vec<Range<u64>>, Failure> {
        let entries = self.logged()?;
        Ok(entries.into_iter().map(|entry| entry.blocks).collect())
    }

    /// Empties the log, and marks the file as in use.
    pub fn begin(&mut self, log_entries: usize) -> Result<(), Failure> {
        // A backing file that is found without its checksums has new ones made.
        sync_directory(&self.path)?;
        self.words.store(AT_BOOT, boot());
        for word in self.table_end()..self.words.len() {
            self.words.store(word, 0);
        }
        self.words.store(AT_LOG_ENTRIES, log_entries as u64);
        self.words.store(AT_LOG_BLOCKS, self.log_blocks as u64);
        self.words.store(AT_STATE, IN_USE);
        self.old_log = None;
        self.log_entries = log_entries;
        self.sync()
    }

    /// Of a block of zeros.
    pub fn zero(&self) -> u64 {
        self.zero
    }

    pub fn get(&self, block: u64) -> u64 {
        self.words.load(HEADER + block as usize)
    }

    pub fn set(&self, block: u64, sum: u64) {
        self.words.store(HEADER + block as usize, sum);
    }

    /// Notes in a log entry of its own what is about to be written. Before it.
    pub fn announce(&self, entry: usize, first: u64, sums: impl ExactSizeIterator<Item = u64>) {
        let at = self.entry(entry);
        assert!(sums.len() <= self.log_blocks, "a request fits the log");
        self.words.store(at + 1, first);
        self.words.store(at + 2, sums.len() as u64);
        for (index, sum) in sums.enumerate() {
            self.words.store(at + LOG_HEADER + index, sum);
        }
        self.words.store(at, WRITE);
    }

    /// The same for blocks that become zeros.
    pub fn announce_zeros(&self, entry: usize, blocks: &Range<u64>) {
        let at = self.entry(entry);
        self.words.store(at + 1, blocks.start);
        self.words.store(at + 2, blocks.end - blocks.start);
        self.words.store(at, ZEROS);
    }

    /// Forgets the log entry: the table has what it said, or the write failed.
    pub fn settle(&self, entry: usize) {
        self.words.store(self.entry(entry), FREE);
    }

    /// The file, for fsync.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Everything is in the table and on the disk; the backing file's data
    /// must be there already. A write that the log still has may have got to
    /// the data or not: then the next server has to look, as after a crash.
    pub fn close(self) -> Result<(), Failure> {
        self.sync()?;
        if (0..self.log_entries).all(|entry| self.words.load(self.entry(entry)) == FREE) {
            self.words.store(AT_STATE, CLEAN);
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), Failure> {
        self.file
            .sync_data()
            .map_err(|error| Failure::io(format!("sync {}", self.path.display()), &error))
    }

    fn entry(&self, entry: usize) -> usize {
        self.table_end() + entry * (LOG_HEADER + self.log_blocks)
    }

    fn table_end(&self) -> usize {
        HEADER + self.geometry.blocks as usize
    }

    /// The table of what stands in the backing file; holes are not read.
    /// Whether there was anything else.
    fn make(
        &self,
        backing: &File,
        tick: &dyn Fn(u64) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut of_data = false;
        self.words.store(AT_STATE, NEW);
        let size = u64::from(self.geometry.block_size);
        let mut block = 0;
        while block < self.geometry.blocks {
            let data =
                next_data(backing, block * size).map_or(self.geometry.blocks, |at| at / size);
            for hole in block..data {
                self.set(hole, self.zero);
            }
            let end = next_hole(backing, data * size)
                .map_or(self.geometry.blocks, |at| at.div_ceil(size))
                .min(self.geometry.blocks);
            of_data |= data < end;
            for at in data..end {
                if at.is_multiple_of(1024) {
                    tick(at * size)?;
                }
                self.set(at, self.digest_of(backing, at)?);
            }
            block = end.max(data);
        }
        for (at, value) in [
            (AT_MAGIC, MAGIC),
            (AT_VERSION, VERSION),
            (AT_ALGORITHM, self.geometry.algorithm.number()),
            (AT_BLOCK_SIZE, size),
            (AT_BLOCKS, self.geometry.blocks),
        ] {
            self.words.store(at, value);
        }
        Ok(of_data)
    }

    /// Looks at every block that was being written when the server died.
    fn recover(
        &self,
        backing: &File,
        tick: &dyn Fn(u64) -> Result<(), Failure>,
    ) -> Result<Recovered, Failure> {
        let mut recovered = Recovered::default();
        for Logged { at, kind, blocks } in self.logged()? {
            for (index, block) in blocks.enumerate() {
                let wanted = match kind {
                    WRITE => self.words.load(at + LOG_HEADER + index),
                    _ => self.zero,
                };
                tick(block * u64::from(self.geometry.block_size))?;
                let found = self.digest_of(backing, block)?;
                if found == wanted {
                    self.set(block, wanted);
                    recovered.new += 1;
                } else if found == self.get(block) {
                    recovered.old += 1;
                } else {
                    recovered.torn += 1;
                }
            }
        }
        Ok(recovered)
    }

    /// What stands in the log as it was found.
    fn logged(&self) -> Result<Vec<Logged>, Failure> {
        let (entries, most) = self.old_log.unwrap_or_default();
        let mut logged = Vec::new();
        for entry in 0..entries {
            let at = self.table_end() + entry * (LOG_HEADER + most);
            let kind = self.words.load(at);
            if kind == FREE {
                continue;
            }
            let first = self.words.load(at + 1);
            let count = self.words.load(at + 2);
            match first.checked_add(count) {
                Some(end)
                    if end <= self.geometry.blocks && (kind != WRITE || count <= most as u64) =>
                {
                    let blocks = first..end;
                    logged.push(Logged { at, kind, blocks });
                }
                _ => {
                    return Err(Failure::mismatch(format!(
                        "{}: the log is damaged: {count} blocks from {first}",
                        self.path.display()
                    )));
                }
            }
        }
        Ok(logged)
    }

    fn digest_of(&self, backing: &File, block: u64) -> Result<u64, Failure> {
        let size = u64::from(self.geometry.block_size);
        let mut bytes = vec![0; size as usize];
        backing
            .read_exact_at(&mut bytes, block * size)
            .map_err(|error| {
                Failure::io(format!("read block {block} of the backing file"), &error)
            })?;
        Ok(digest(self.geometry.algorithm, &bytes))
    }
}

/// Has the names of new files last through the death of the machine.
fn sync_directory(of: &Path) -> Result<(), Failure> {
    let directory = match of.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Not every file system knows this, nor every directory can be read.
        Err(error)
            if error.kind() != io::ErrorKind::PermissionDenied
                && error.raw_os_error() != Some(libc::EINVAL) =>
        {
            Err(Failure::io(format!("sync {}", directory.display()), &error))
        }
        _ => Ok(()),
    }
}

/// A log entry that is not free, and where it stands.
struct Logged {
    at: usize,
    kind: u64,
    blocks: Range<u64>,
}

/// Which start of the machine this is; 0 where the kernel does not tell.
fn boot() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .get(..16)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

/// Entries and blocks per entry of the log of a file that is there; `None` for
/// one that was never finished. Refuses one of another geometry.
fn read_log_shape(
    file: &File,
    path: &Path,
    geometry: &Geometry,
) -> Result<Option<(usize, usize)>, Failure> {
    let len = file
        .metadata()
        .map_err(|error| Failure::io(format!("look at {}", path.display()), &error))?
        .len();
    if len < 8 * HEADER as u64 {
        return Ok(None);
    }
    let mut header = vec![0; 8 * HEADER];
    file.read_exact_at(&mut header, 0)
        .map_err(|error| Failure::io(format!("read {}", path.display()), &error))?;
    let word = |at: usize| {
        let bytes = header[8 * at..8 * at + 8].try_into();
        u64::from_le_bytes(bytes.expect("eight bytes"))
    };
    if word(AT_STATE) == NEW && [0, MAGIC].contains(&word(AT_MAGIC)) {
        return Ok(None);
    }
    let wrong = |what: String| {
        Err(Failure::environment(format!("{}: {what}", path.display()))
            .next("remove it to take what stands in the backing file for good"))
    };
    if word(AT_MAGIC) != MAGIC || word(AT_VERSION) != VERSION {
        return wrong("no checksums of this version".to_string());
    }
    let found = (word(AT_ALGORITHM), word(AT_BLOCK_SIZE), word(AT_BLOCKS));
    let wanted = (
        geometry.algorithm.number(),
        u64::from(geometry.block_size),
        geometry.blocks,
    );
    if found != wanted {
        let name = BlockAlgorithm::ALL
            .iter()
            .find(|algorithm| algorithm.number() == found.0)
            .map_or("unknown", |algorithm| algorithm.name());
        return wrong(format!(
            "its checksums are {name} of {} blocks of {} bytes",
            found.2, found.1
        ));
    }
    let shape = (word(AT_LOG_ENTRIES) as usize, word(AT_LOG_BLOCKS) as usize);
    let words = shape
        .1
        .checked_add(LOG_HEADER)
        .and_then(|words| words.checked_mul(shape.0));
    let needed = words.and_then(|words| words.checked_add(HEADER + geometry.blocks as usize));
    if needed.is_none_or(|needed| needed as u64 > len / 8) {
        return wrong("it is shorter than its header says".to_string());
    }
    Ok(Some(shape))
}

/// The checksum of a block, by user space.
pub fn digest(algorithm: BlockAlgorithm, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new(algorithm.into());
    digest.update(bytes);
    digest.finish()
}

/// Where data begins, from `offset` on; `None` where there is only a hole.
pub fn next_data(file: &File, offset: u64) -> Option<u64> {
    seek(file, offset, libc::SEEK_DATA).unwrap_or_else(|errno| match errno {
        libc::ENXIO => None,
        // Not a file system that knows: all of it is data.
        _ => Some(offset),
    })
}

fn next_hole(file: &File, offset: u64) -> Option<u64> {
    seek(file, offset, libc::SEEK_HOLE).unwrap_or(None)
}

fn seek(file: &File, offset: u64, whence: i32) -> Result<Option<u64>, i32> {
    // SAFETY: an open descriptor and no memory; nobody uses its position.
    let found = unsafe { libc::lseek(file.as_raw_fd(), offset as i64, whence) };
    match found {
        0.. => Ok(Some(found as u64)),
        _ => Err(io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry {
        algorithm: BlockAlgorithm::Crc32c,
        block_size: 4096,
        blocks: 16,
    };
    const LOG: (usize, usize) = (4, 8);

    struct Files {
        directory: tempfile::TempDir,
        backing: File,
    }

    fn files() -> Files {
        let directory = tempfile::tempdir().expect("a directory");
        let backing = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(directory.path().join("backing"))
            .expect("a file");
        backing.set_len(16 * 4096).expect("a size");
        Files { directory, backing }
    }

    impl Files {
        fn open(&self) -> Result<(Sums, Option<Recovered>), Failure> {
            self.open_as(GEOMETRY)
        }

        fn open_as(&self, geometry: Geometry) -> Result<(Sums, Option<Recovered>), Failure> {
            let path = self.directory.path().join("sums");
            let opened = Sums::open(&path, &self.backing, geometry, LOG, &|_| Ok(()));
            let (mut sums, recovered) = opened?;
            sums.begin(LOG.0)?;
            Ok((sums, recovered))
        }

        fn write(&self, block: u64, byte: u8) -> u64 {
            let bytes = [byte; 4096];
            self.backing
                .write_all_at(&bytes, block * 4096)
                .expect("written");
            digest(BlockAlgorithm::Crc32c, &bytes)
        }
    }

    #[test]
    fn new_sums_are_those_of_the_data_and_of_the_holes() {
        let files = files();
        let sum = files.write(5, 0x11);
        let (sums, recovered) = files.open().expect("sums");
        assert_eq!(recovered, None);
        assert!(sums.of_data(), "of block 5");
        assert_eq!(sums.get(5), sum);
        for block in (0..16).filter(|block| *block != 5) {
            assert_eq!(sums.get(block), sums.zero(), "{block}");
        }
    }

    #[test]
    fn a_closed_file_keeps_its_sums_whatever_the_data_has_become() {
        let files = files();
        let (sums, _) = files.open().expect("sums");
        let sum = files.write(3, 0x22);
        sums.set(3, sum);
        sums.close().expect("closed");
        files.write(3, 0x23);
        let (sums, recovered) = files.open().expect("sums");
        assert_eq!((recovered, sums.get(3)), (None, sum));
    }

    #[test]
    fn a_write_in_flight_is_old_new_or_torn() {
        let files = files();
        let (sums, _) = files.open().expect("sums");
        let old = files.write(2, 1);
        sums.set(2, old);
        sums.set(1, files.write(1, 1));
        let new: Vec<u64> = (1..4)
            .map(|_| digest(BlockAlgorithm::Crc32c, &[9; 4096]))
            .collect();
        sums.announce(1, 1, new.clone().into_iter());
        sums.announce_zeros(3, &(10..12));
        // Block 1 was written, 2 was not, 3 is something else.
        files.write(1, 9);
        files.write(3, 8);
        let zero = sums.zero();
        drop(sums);
        let (sums, recovered) = files.open().expect("sums");
        let expected = Recovered {
            new: 3,
            old: 1,
            torn: 1,
        };
        assert_eq!(recovered, Some(expected));
        assert_eq!([1, 2, 3].map(|block| sums.get(block)), [new[0], old, zero]);
        drop(sums);
        let (_, recovered) = files.open().expect("sums");
        assert_eq!(recovered, Some(Recovered::default()), "the log was settled");
    }

    #[test]
    fn a_settled_write_is_not_looked_at_again() {
        let files = files();
        let (sums, _) = files.open().expect("sums");
        sums.announce(0, 7, [1u64, 2].into_iter());
        sums.settle(0);
        drop(sums);
        let (_, recovered) = files.open().expect("sums");
        assert_eq!(recovered, Some(Recovered::default()));
    }

    #[test]
    fn a_file_that_is_closed_over_a_write_in_flight_is_recovered() {
        let files = files();
        let (sums, _) = files.open().expect("sums");
        let new = digest(BlockAlgorithm::Crc32c, &[4; 4096]);
        sums.announce(3, 6, [new].into_iter());
        files.write(6, 4);
        sums.close().expect("closed");
        let (sums, recovered) = files.open().expect("sums");
        let expected = Recovered {
            new: 1,
            ..Recovered::default()
        };
        assert_eq!((recovered, sums.get(6)), (Some(expected), new));
    }

    #[test]
    fn a_server_that_never_began_leaves_the_file_as_it_was() {
        let files = files();
        let (sums, _) = files.open().expect("sums");
        sums.close().expect("closed");
        let path = files.directory.path().join("sums");
        let open = || Sums::open(&path, &files.backing, GEOMETRY, LOG, &|_| Ok(()));
        drop(open().expect("sums"));
        let (_, recovered) = open().expect("sums");
        assert_eq!(recovered, None);
    }

    #[test]
    fn sums_of_another_geometry_and_of_another_server_are_refused() {
        let files = files();
        let (sums, _) = files.open().expect("sums");
        let busy = files.open().expect_err("locked");
        assert!(busy.to_string().contains("another uringbpf ublk"), "{busy}");
        sums.close().expect("closed");
        let other = Geometry {
            algorithm: BlockAlgorithm::Xxh64,
            ..GEOMETRY
        };
        let refused = files.open_as(other).expect_err("another algorithm");
        let said = refused.to_string();
        assert!(said.contains("crc32c of 16 blocks of 4096 bytes"), "{said}");
    }
}
