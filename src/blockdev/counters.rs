// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a device has done.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::HumanBytes;
use serde_json::{Value, json};

/// Counted by the threads of all queues.
#[derive(Debug, Default)]
pub struct Counters {
    pub reads: Counter,
    pub bytes_read: Counter,
    pub writes: Counter,
    pub bytes_written: Counter,
    pub flushes: Counter,
    /// Discards and requests to write zeros.
    pub discards: Counter,
    /// Blocks that were not what was written to them.
    pub mismatches: Counter,
    /// Those of them that were rebuilt from the others of their group.
    pub rebuilt: Counter,
    /// Requests that were answered with an error.
    pub errors: Counter,
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The keys of a JSON object.
    pub fn json(&self) -> Value {
        json!({
            "reads": self.reads.get(),
            "bytes_read": self.bytes_read.get(),
            "writes": self.writes.get(),
            "bytes_written": self.bytes_written.get(),
            "flushes": self.flushes.get(),
            "discards": self.discards.get(),
            "mismatches": self.mismatches.get(),
            "rebuilt": self.rebuilt.get(),
            "errors": self.errors.get(),
        })
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "read {} ({}), written {} ({}), {} flushes, {} discards, {} mismatches, {} rebuilt, \
             {} errors",
            self.reads.get(),
            HumanBytes(self.bytes_read.get()),
            self.writes.get(),
            HumanBytes(self.bytes_written.get()),
            self.flushes.get(),
            self.discards.get(),
            self.mismatches.get(),
            self.rebuilt.get(),
            self.errors.get(),
        )
    }
}
