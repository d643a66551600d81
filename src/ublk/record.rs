// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Whose devices are whose: a file for each device that this process makes,
//! locked for as long as the process lives.
//!
//! The file holds a random token, which the device carries in the driver
//! (`ublksrv_flags`, immutable from its first moment on). The file is there,
//! locked, before the device. So a device belongs to a dead `uringbpf` exactly
//! if its token stands in a file that nobody holds the lock of; which device
//! number it got is only a shortcut. A lock goes with its process, whatever
//! ends that, and means the same in every PID namespace.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::sys::{link_open_file, try_lock};

/// The record of a device of this process.
#[derive(Debug)]
pub struct Record {
    file: File,
    path: PathBuf,
    token: u64,
}

impl Record {
    pub fn create() -> Result<Self, Failure> {
        let directory = directory(true)?;
        let token = new_token()?;
        let path = directory.join(format!("{token:016x}"));
        let failed =
            |error| Failure::io(format!("make a record in {}", directory.display()), &error);
        // Nobody sees it before it is written and locked.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(&directory)
            .map_err(failed)?;
        try_lock(&file).map_err(failed)?;
        writeln!(file, "token {token:016x}\npid {}", std::process::id()).map_err(failed)?;
        link_open_file(&file, &path).map_err(failed)?;
        Ok(Record { file, path, token })
    }

    pub fn token(&self) -> u64 {
        self.token
    }

    /// Writes down which device carries the token. A failure costs whoever
    /// cleans up a longer search, and nothing else.
    pub fn note_device(&mut self, id: u32) {
        let _ = writeln!(self.file, "device {id}");
    }

    /// Removes it: no device carries the token any more. Where it is dropped
    /// instead, the next `uringbpf` looks for the device.
    pub fn retire(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The record of a process that has ended, locked by us.
#[derive(Debug)]
pub struct Abandoned {
    path: PathBuf,
    token: u64,
    device: Option<u32>,
    // Held until the record is gone, so that nobody else cleans up after it.
    _file: File,
}

impl Abandoned {
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The device, where the process lived to write it down.
    pub fn device(&self) -> Option<u32> {
        self.device
    }

    /// Removes the record: no device carries its token any more.
    pub fn retire(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    fn read(path: PathBuf) -> Option<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let mut file = options.open(&path).ok()?;
        if !file.metadata().ok()?.is_file() || try_lock(&file).is_err() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let token = u64::from_str_radix(value("token ")?, 16).ok()?;
        Some(Abandoned {
            path,
            token,
            device: value("device ").and_then(|id| id.parse().ok()),
            _file: file,
        })
    }
}

/// Whether there is a place for a record.
pub fn check() -> Result<(), Failure> {
    directory(false).map(drop)
}

/// Every record whose process has ended.
pub fn abandoned() -> Result<Vec<Abandoned>, Failure> {
    let Ok(directory) = directory(false) else {
        return Ok(Vec::new());
    };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io(format!("read {}", directory.display()), &error)),
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| Abandoned::read(entry.path()))
        .collect())
}

/// `/run/uringbpf/ublk` for root, else in the user's own run-time directory:
/// both begin empty after a boot, and nobody else writes there.
fn directory(create: bool) -> Result<PathBuf, Failure> {
    // SAFETY: takes no pointer and cannot fail.
    let user = unsafe { libc::geteuid() };
    let base = match user {
        0 => PathBuf::from("/run"),
        _ => std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .ok_or_else(|| {
                Failure::environment(
                    "ublk: no directory for the record of the device: \
                     set XDG_RUNTIME_DIR or run as root",
                )
            })?,
    };
    let directory = base.join("uringbpf").join("ublk");
    if create {
        make(&directory, user)?;
    }
    Ok(directory)
}

fn make(directory: &Path, user: u32) -> Result<(), Failure> {
    let failed = |error| Failure::io(format!("make {}", directory.display()), &error);
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    let found = std::fs::symlink_metadata(directory).map_err(failed)?;
    if !found.is_dir() || found.uid() != user {
        return Err(Failure::environment(format!(
            "{}: not a directory of user {user}: remove it",
            directory.display()
        )));
    }
    Ok(())
}

/// Never 0, which is what other servers leave there.
fn new_token() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|error| Failure::io("read /dev/urandom", &error))?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}
