// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! SIGINT and SIGTERM as a wish that is looked at between blocks, so that what
//! is half done can be cleaned up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
