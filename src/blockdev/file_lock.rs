// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One server at a time has a file.

use std::fs::File;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::sys::try_lock;

/// The requests in flight of a server that was killed hold its files, and the
/// locks with them, for a moment after its process has ended.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Takes the lock of an open file, if it comes free within this time.
pub fn lock(file: &File, patience: Duration) -> io::Result<()> {
    let end = Instant::now() + patience;
    loop {
        match try_lock(file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_comes_free_in_time_is_taken_and_another_is_not() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let open = || File::open(path.path()).expect("there");
        let (own, other) = (open(), open());
        lock(&other, Duration::ZERO).expect("nobody has it");
        let refused = lock(&own, Duration::from_millis(50)).expect_err("it is taken");
        assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
        let waiter = std::thread::spawn(move || lock(&own, Duration::from_secs(300)));
        sleep(Duration::from_millis(50));
        drop(other);
        assert!(waiter.join().expect("no panic").is_ok());
    }
}
