// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! SIGINT and SIGTERM as a wish that is looked at between blocks, so that what
//! is half done can be cleaned up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::Failure;

/// Whether somebody asked us to stop.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// From here on the two signals no longer end the process by themselves.
    pub fn catch() -> Result<Self, Failure> {
        let seen = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_usize(signal, Arc::clone(&seen), signal as usize)
                .map_err(|error| Failure::io("catch signals", &error))?;
        }
        Ok(Interrupt(seen))
    }

    /// Fails once a signal has come.
    pub fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Failure::Interrupted(signal as i32)),
        }
    }
}

/// A time during which the two signals wake whoever waits on a descriptor,
/// and do not end the process. Before and after they do what they always did.
#[derive(Debug)]
pub struct Watch(&'static Watching);

#[derive(Debug)]
struct Watching {
    /// Nobody watches: the signals have their default effect.
    idle: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    wake: UnixStream,
}

impl Watch {
    pub fn begin() -> Result<Self, Failure> {
        // Handlers stay for the life of the process, so they are made once.
        static WATCHING: Mutex<Option<&'static Watching>> = Mutex::new(None);
        let mut watching = WATCHING.lock().unwrap_or_else(|lock| lock.into_inner());
        let watching = match *watching {
            Some(watching) => watching,
            None => {
                let new = install().map_err(|error| Failure::io("catch signals", &error))?;
                watching.insert(Box::leak(Box::new(new)))
            }
        };
        watching.idle.store(false, Ordering::SeqCst);
        Ok(Watch(watching))
    }

    /// Readable once a signal has come.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }

    /// Fails once a signal has come.
    pub fn check(&self) -> Result<(), Failure> {
        match self.0.seen.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Failure::Interrupted(signal as i32)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.idle.store(true, Ordering::SeqCst);
    }
}

fn install() -> io::Result<Watching> {
    let (wake, waker) = UnixStream::pair()?;
    let watching = Watching {
        idle: Arc::default(),
        seen: Arc::default(),
        wake,
    };
    for signal in [SIGINT, SIGTERM] {
        let (idle, seen) = (Arc::clone(&watching.idle), Arc::clone(&watching.seen));
        signal_hook::flag::register_conditional_default(signal, idle)?;
        signal_hook::flag::register_usize(signal, seen, signal as usize)?;
        signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
    }
    Ok(watching)
}
