// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a device has done.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::units;

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

impl Counters {
    /// What people read: work, then trouble, each in 80 columns.
    pub fn lines(&self) -> [String; 2] {
        let moved = |count: &Counter, bytes: &Counter| {
            format!("{} ({})", count.get(), units::size(bytes.get()))
        };
        [
            format!(
                "read {}, written {}, {} flushes",
                moved(&self.reads, &self.bytes_read),
                moved(&self.writes, &self.bytes_written),
                self.flushes.get(),
            ),
            format!(
                "{} discards, {} mismatches, {} rebuilt, {} errors",
                self.discards.get(),
                self.mismatches.get(),
                self.rebuilt.get(),
                self.errors.get(),
            ),
        ]
    }

    /// The same, as far as it fits one line that is written over and over.
    pub fn status(&self) -> String {
        format!(
            "read {}, written {}, {} mismatches, {} errors",
            units::size(self.bytes_read.get()),
            units::size(self.bytes_written.get()),
            self.mismatches.get(),
            self.errors.get(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_did_in_years_fits_eighty_columns() {
        let counters = Counters::default();
        let read = "read 0 (0 B), written 0 (0 B), 0 flushes";
        let trouble = "0 discards, 0 mismatches, 0 rebuilt, 0 errors";
        assert_eq!(counters.lines(), [read, trouble]);
        for counter in [&counters.reads, &counters.writes, &counters.flushes] {
            counter.add(9_999_999_999);
        }
        for bytes in [&counters.bytes_read, &counters.bytes_written] {
            bytes.add(999 << 40);
        }
        for trouble in [&counters.discards, &counters.mismatches, &counters.errors] {
            trouble.add(999_999_999);
        }
        let [work, trouble] = counters.lines();
        for line in [work, trouble, counters.status()] {
            assert!(line.len() < 80, "{line}");
        }
    }
}
