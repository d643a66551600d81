// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The parity of a backing file's blocks, in a file beside it: a page of
//! header, then a block for each group. Holes are parity of zeros.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Failure;

const MAGIC: u64 = u64::from_le_bytes(*b"uringxor");
const VERSION: u64 = 1;
/// Bytes of the header, of which words are used.
const HEADER: u64 = 4096;

/// What must be the same in every run on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Blocks of a group.
    pub group: u64,
    pub block_size: u64,
    /// Of the device.
    pub blocks: u64,
}

/// The open file.
#[derive(Debug)]
pub struct ParityFile {
    file: File,
    path: PathBuf,
    shape: Shape,
    /// Every group has had its parity once, and kept it.
    finished: AtomicBool,
}

impl ParityFile {
    /// What the file is for; `None` where there is none, or one that is not
    /// finished.
    pub fn shape(path: &Path) -> Result<Option<Shape>, Failure> {
        let failed = |error: &io::Error| Failure::io(format!("read {}", path.display()), error);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let len = file.metadata().map_err(|error| failed(&error))?.len();
        if len == 0 {
            return Ok(None);
        }
        let mut words = [0; 6];
        if len >= HEADER {
            let mut bytes = [0; 48];
            file.read_exact_at(&mut bytes, 0)
                .map_err(|error| failed(&error))?;
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
        }
        let [magic, version, finished, group, block_size, blocks] = words;
        if magic != MAGIC || version != VERSION {
            return Err(refused(path, "no parity of this version"));
        }
        if finished == 0 {
            return Ok(None);
        }
        let shape = Shape {
            group,
            block_size,
            blocks,
        };
        let groups = blocks.div_ceil(group.max(1));
        if groups
            .checked_mul(block_size)
            .is_none_or(|bytes| len - HEADER < bytes)
        {
            return Err(refused(path, "it is shorter than its header says"));
        }
        Ok(Some(shape))
    }

    /// Opens the file that was `found`, or makes it: as unfinished, then, and
    /// all zeros. Refuses one of another shape.
    pub fn open(path: &Path, shape: Shape, found: Option<Shape>) -> Result<Self, Failure> {
        if let Some(found) = found
            && found != shape
        {
            return Err(refused(path, &found.to_string()));
        }
        let failed = |what: &str, error: &io::Error| {
            Failure::io(format!("{what} {}", path.display()), error)
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(found.is_none())
            .open(path)
            .map_err(|error| failed("open", &error))?;
        let parity = ParityFile {
            file,
            path: path.to_path_buf(),
            shape,
            finished: AtomicBool::new(found.is_some()),
        };
        if found.is_none() {
            parity.write_header(false)?;
            let end = parity.place(shape.blocks.div_ceil(shape.group));
            parity
                .file
                .set_len(end)
                .map_err(|error| failed("set the size of", &error))?;
        }
        Ok(parity)
    }

    /// Whether every group has its parity.
    pub fn finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Every group has its parity now.
    pub fn finish(&self) -> Result<(), Failure> {
        self.sync()?;
        self.write_header(true)?;
        self.finished.store(true, Ordering::Relaxed);
        self.sync()
    }

    /// A group may have lost its parity: the next server makes all of it anew.
    pub fn abandon(&self) {
        if self.finished.swap(false, Ordering::Relaxed) {
            // What cannot be noted is found out when a block is to be rebuilt.
            let _ = self.write_header(false);
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the parity of a group lies in the file.
    pub fn place(&self, group: u64) -> u64 {
        HEADER + group * self.shape.block_size
    }

    pub fn read(&self, group: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        self.file
            .read_exact_at(bytes, self.place(group))
            .map_err(|error| self.failed("read", &error))
    }

    pub fn write(&self, group: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.file
            .write_all_at(bytes, self.place(group))
            .map_err(|error| self.failed("write", &error))
    }

    /// The blocks of these groups have become zeros.
    pub fn clear(&self, groups: &Range<u64>) -> Result<(), Failure> {
        let start = self.place(groups.start);
        let len = self.place(groups.end) - start;
        // SAFETY: an open descriptor and no memory.
        let result = unsafe {
            libc::fallocate(
                self.file.as_raw_fd(),
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                start as i64,
                len as i64,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(self.failed("punch a hole in", &io::Error::last_os_error())),
        }
    }

    pub fn sync(&self) -> Result<(), Failure> {
        self.file
            .sync_data()
            .map_err(|error| self.failed("sync", &error))
    }

    fn write_header(&self, finished: bool) -> Result<(), Failure> {
        let Shape {
            group,
            block_size,
            blocks,
        } = self.shape;
        let words = [MAGIC, VERSION, finished.into(), group, block_size, blocks];
        let mut header = words.map(u64::to_le_bytes).concat();
        header.resize(HEADER as usize, 0);
        self.file
            .write_all_at(&header, 0)
            .map_err(|error| self.failed("write", &error))
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failure {
        Failure::io(format!("{what} {}", self.path.display()), error)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape {
            group,
            block_size,
            blocks,
        } = self;
        write!(
            f,
            "it is for groups of {group} of {blocks} blocks of {block_size} bytes"
        )
    }
}

/// One that must not be used, or not be left behind.
pub fn refused(path: &Path, why: &str) -> Failure {
    Failure::environment(format!("{}: {why}", path.display())).next(
        "use --parity as before, or remove the file: parity is then made anew, or done without",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        group: 4,
        block_size: 512,
        blocks: 10,
    };

    #[test]
    fn a_file_is_known_again_once_it_is_finished() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("parity");
        assert_eq!(ParityFile::shape(&path), Ok(None));
        let parity = ParityFile::open(&path, SHAPE, None).expect("made");
        assert_eq!(ParityFile::shape(&path), Ok(None), "it is not finished");
        parity.write(2, &[7; 512]).expect("written");
        parity.finish().expect("finished");
        let found = ParityFile::shape(&path).expect("readable");
        assert_eq!(found, Some(SHAPE));
        let again = ParityFile::open(&path, SHAPE, found).expect("opened");
        let mut bytes = [0; 512];
        again.read(2, &mut bytes).expect("read");
        assert_eq!((again.finished(), bytes), (true, [7; 512]));
        again.clear(&(1..3)).expect("cleared");
        again.read(2, &mut bytes).expect("read");
        assert_eq!(bytes, [0; 512]);
        again.abandon();
        assert_eq!(ParityFile::shape(&path), Ok(None));
    }

    #[test]
    fn a_file_of_another_shape_and_one_of_somebody_else_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("parity");
        let parity = ParityFile::open(&path, SHAPE, None).expect("made");
        parity.finish().expect("finished");
        let found = ParityFile::shape(&path).expect("readable");
        for other in [
            Shape { group: 5, ..SHAPE },
            Shape {
                block_size: 1024,
                ..SHAPE
            },
            Shape {
                blocks: 11,
                ..SHAPE
            },
        ] {
            let said = ParityFile::open(&path, other, found).expect_err("refused");
            let wanted = "groups of 4 of 10 blocks of 512 bytes";
            assert!(said.to_string().contains(wanted), "{said}");
        }
        parity.file.set_len(HEADER).expect("shorter");
        let said = ParityFile::shape(&path).expect_err("shorter").to_string();
        assert!(said.contains("shorter than its header says"), "{said}");
        std::fs::write(&path, "parity").expect("written");
        let said = ParityFile::shape(&path).expect_err("text").to_string();
        assert!(said.contains("no parity of this version"), "{said}");
    }
}
