// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The files of a device that never came to be: removed again.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Backing;
use crate::sys;

/// Which files of a device were not there before it. Dropped without
/// [`Fresh::keep`] it removes those that are there now.
#[derive(Debug)]
pub struct Fresh {
    backing: PathBuf,
    files: Vec<PathBuf>,
    keep: AtomicBool,
}

impl Fresh {
    /// To be called before anything of the device is opened.
    pub fn of(backing: &Backing) -> Self {
        let Backing::File(path, _) = backing else {
            return Fresh {
                backing: PathBuf::new(),
                files: Vec::new(),
                keep: AtomicBool::new(true),
            };
        };
        let beside = |suffix: &str| {
            let mut path = OsString::from(path);
            path.push(suffix);
            PathBuf::from(path)
        };
        let suffixes = ["", ".uringbpf-sums", ".uringbpf-parity"];
        let is_new = |path: &PathBuf| std::fs::symlink_metadata(path).is_err();
        Fresh {
            backing: path.clone(),
            files: suffixes.map(beside).into_iter().filter(is_new).collect(),
            keep: AtomicBool::new(false),
        }
    }

    /// The device is there, and the files are its data.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.keep.load(Ordering::Relaxed) {
            return;
        }
        // Whoever has the lock made them in between, or is about to use them.
        let Some(_lock) = locked(&self.backing) else {
            return;
        };
        for file in &self.files {
            // The error that brought us here is the one to tell.
            let _ = std::fs::remove_file(file);
        }
    }
}

fn locked(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    sys::try_lock(&file).ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = std::fs::read_dir(directory).expect("it is there");
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    }

    /// What is left when a device ends before it begins.
    fn left(prepare: &[&str], during: impl FnOnce(&Path, &Fresh)) -> Vec<OsString> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        for name in prepare {
            std::fs::write(directory.path().join(name), "data").expect("written");
        }
        let fresh = Fresh::of(&Backing::File(path.clone(), Some(4096)));
        for name in ["x", "x.uringbpf-sums"] {
            std::fs::write(directory.path().join(name), "made").expect("written");
        }
        during(&path, &fresh);
        drop(fresh);
        names(directory.path())
    }

    #[test]
    fn only_what_was_not_there_before_is_removed() {
        assert_eq!(left(&[], |_, _| ()), [""; 0]);
        assert_eq!(left(&["x"], |_, _| ()), ["x"]);
        let both = ["x", "x.uringbpf-sums"];
        assert_eq!(left(&both, |_, _| ()), both);
    }

    #[test]
    fn files_of_a_device_or_of_somebody_else_stay() {
        let both = ["x", "x.uringbpf-sums"];
        assert_eq!(left(&[], |_, fresh| fresh.keep()), both);
        let mut other = None;
        let take = |path: &Path, _: &Fresh| {
            let file = File::open(path).expect("it is there");
            sys::try_lock(&file).expect("nobody has it");
            other = Some(file);
        };
        assert_eq!(left(&[], take), both);
    }
}
