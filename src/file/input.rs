// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A file to be read: opened, looked at, and its blocks read to the end, which
//! may be elsewhere than the size said.

use std::fs::{File, Metadata};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::lanes::{Lanes, Stage};
use crate::error::Failure;

/// A regular file or a block device, open for reading.
#[derive(Debug)]
pub struct Input {
    pub file: File,
    pub path: PathBuf,
    pub metadata: Metadata,
    /// Bytes it had when it was opened: how much to read ahead, not where to
    /// stop.
    pub size: u64,
}

impl Input {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |what: &str, error: &std::io::Error| {
            Failure::io(format!("{what} {}", path.display()), error)
        };
        // Before opening it: a FIFO would wait for a writer.
        let metadata = std::fs::metadata(path).map_err(|error| failed("open", &error))?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(Failure::os(
                format!("read {}", path.display()),
                libc::EISDIR,
            ));
        }
        if !kind.is_file() && !kind.is_block_device() {
            let path = path.display();
            return Err(Failure::environment(format!(
                "{path} is neither a regular file nor a block device"
            )));
        }
        let mut file = File::open(path).map_err(|error| failed("open", &error))?;
        let size = match kind.is_file() {
            true => metadata.len(),
            false => file
                .seek(SeekFrom::End(0))
                .map_err(|error| failed("seek", &error))?,
        };
        Ok(Input {
            file,
            path: path.to_path_buf(),
            metadata,
            size,
        })
    }

    /// Reads on, one request after another, until the lane's input holds `want`
    /// bytes or the file ends; returns how many it holds.
    pub fn read_on(
        &self,
        lanes: &mut Lanes<'_>,
        lane: usize,
        offset: u64,
        have: usize,
        want: usize,
    ) -> Result<usize, Failure> {
        let mut have = have;
        while have < want {
            let rest = (offset + have as u64, want - have);
            lanes.read(lane, &self.file, have, rest, false)?;
            match self.count(lanes.wait(lane, Stage::Read)?)? {
                0 => break,
                more => have += more,
            }
        }
        Ok(have)
    }

    /// Bytes that a read has brought.
    pub fn count(&self, result: i32) -> Result<usize, Failure> {
        usize::try_from(result)
            .map_err(|_| Failure::os(format!("read {}", self.path.display()), -result))
    }
}
