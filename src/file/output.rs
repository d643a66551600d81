// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A file that appears under its name only when it is complete.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::input::Input;
use super::lanes::{Lanes, Stage};
use crate::error::Failure;
use crate::sys;

/// Without a name until [`Output::commit`] where the file system can do that;
/// then even SIGKILL leaves nothing. Elsewhere under a temporary name that is
/// removed unless committed.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    draft: Draft,
}

#[derive(Debug)]
enum Draft {
    Unnamed(File),
    Named(NamedTempFile),
}

impl Output {
    /// A source that is its own destination would be read while it is
    /// replaced.
    pub fn refuse_same(input: &Input, dest: &Path) -> Result<(), Failure> {
        let same = std::fs::metadata(dest).is_ok_and(|dest| {
            (dest.dev(), dest.ino()) == (input.metadata.dev(), input.metadata.ino())
        });
        if same {
            let (from, to) = (input.path.display(), dest.display());
            return Err(Failure::usage(format!("{from} and {to} are the same file")));
        }
        Ok(())
    }

    /// Starts a file that is going to be `path`, with the permissions of the
    /// file that is there, else those of `like`.
    pub fn create(path: &Path, like: Option<&Metadata>) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::io(format!("create {}", path.display()), error);
        let existing = std::fs::metadata(path).ok();
        if existing.as_ref().is_some_and(Metadata::is_dir) {
            return Err(Failure::os(
                format!("create {}", path.display()),
                libc::EISDIR,
            ));
        }
        if existing.as_ref().is_some_and(|there| !there.is_file()) {
            let path = path.display();
            return Err(Failure::environment(format!(
                "{path} is there and no regular file: it would be replaced by one"
            )));
        }
        // The file that a symbolic link names is the one to replace.
        let path = match existing {
            Some(_) => path.canonicalize().map_err(|error| failed(&error))?,
            None => path.to_path_buf(),
        };
        let directory = directory(&path);
        std::fs::metadata(directory).map_err(|error| failed(&error))?;
        let draft = unnamed(directory)
            .map(Draft::Unnamed)
            .or_else(|_| NamedTempFile::with_prefix_in(".uringbpf-", directory).map(Draft::Named))
            .map_err(|error| failed(&error))?;
        let output = Output { path, draft };
        let mode = match (&existing, like) {
            (Some(there), _) => there.mode() & 0o7777,
            (None, Some(like)) => like.mode() & 0o777 & !sys::umask(),
            (None, None) => 0o666 & !sys::umask(),
        };
        output
            .file()
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|error| output.failed("set the permissions of", &error))?;
        Ok(output)
    }

    pub fn file(&self) -> &File {
        match &self.draft {
            Draft::Unnamed(file) => file,
            Draft::Named(file) => file.as_file(),
        }
    }

    /// Bytes that a write has taken.
    pub fn count(&self, result: i32) -> Result<usize, Failure> {
        usize::try_from(result)
            .map_err(|_| Failure::os(format!("write {}", self.path.display()), -result))
    }

    /// Writes on until `len` bytes of the lane's output are in the file.
    pub fn write_on(
        &self,
        lanes: &mut Lanes<'_>,
        lane: usize,
        offset: u64,
        written: usize,
        len: usize,
    ) -> Result<(), Failure> {
        let mut written = written;
        while written < len {
            let rest = (offset + written as u64, len - written);
            lanes.write(lane, self.file(), written, rest)?;
            match self.count(lanes.wait(lane, Stage::Write)?)? {
                0 => {
                    return Err(Failure::os(
                        format!("write {}", self.path.display()),
                        libc::ENOSPC,
                    ));
                }
                more => written += more,
            }
        }
        Ok(())
    }

    /// Writes all of it, and gives the file its name.
    pub fn finish(self, content: &[u8]) -> Result<(), Failure> {
        let written = self.file().write_all(content);
        written.map_err(|error| self.failed("write", &error))?;
        self.commit(content.len() as u64)
    }

    /// Cuts the file to `len` bytes, makes it durable, and gives it its name.
    pub fn commit(self, len: u64) -> Result<(), Failure> {
        let file = self.file();
        file.set_len(len)
            .and_then(|()| file.sync_all())
            .map_err(|error| self.failed("write", &error))?;
        let path = self.path.clone();
        let failed = |error: &io::Error| Failure::io(format!("name {}", path.display()), error);
        match self.draft {
            Draft::Named(file) => file
                .persist(&path)
                .map(drop)
                .map_err(|error| failed(&error.error)),
            Draft::Unnamed(file) => give_name(&file, &path).map_err(|error| failed(&error)),
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failure {
        Failure::io(format!("{what} {}", self.path.display()), error)
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn unnamed(directory: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(directory)?;
    // Some file systems open it and cannot name it later.
    std::fs::metadata(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(file)
}

/// Links the file to its name; over one that exists by way of a second name,
/// since a link replaces nothing.
fn give_name(file: &File, path: &Path) -> io::Result<()> {
    let link = |to: &Path| sys::link_open_file(file, to);
    match link(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let temporary = tempfile::Builder::new()
                .prefix(".uringbpf-")
                .make_in(directory(path), link)?;
            temporary.persist(path).map_err(|error| error.error)
        }
        result => result,
    }
}
