// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Entries that are submitted together, again and again. Everything is made
//! once: a run allocates nothing.

use crate::errno::Errno;
use crate::error::Failure;
use crate::ring::Ring;
use crate::submission::{self, IOSQE_IO_LINK};

/// UAPI: the first opcode there ever was.
const OP_NOP: u8 = 0;

/// An entry and the result that it must have.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub bytes: [u8; 64],
    pub expected: i32,
}

/// Entries for one ring.
#[derive(Debug)]
pub struct Batch<'r> {
    ring: &'r Ring,
    entries: Vec<Entry>,
}

impl<'r> Batch<'r> {
    /// Numbers the entries: their completions are known by it.
    pub fn new(ring: &'r Ring, mut entries: Vec<Entry>) -> Self {
        assert!(entries.len() <= ring.capacity(), "a batch fits the queue");
        for (number, entry) in entries.iter_mut().enumerate() {
            entry.bytes[32..40].copy_from_slice(&(number as u64).to_ne_bytes());
        }
        Batch { ring, entries }
    }

    /// Requests of operation `id`, one for each slot.
    pub fn of_requests(ring: &'r Ring, id: u8, count: usize, linked: bool, expected: i32) -> Self {
        let entries = (0..count).map(|slot| Entry {
            bytes: submission::entry(ring.opcode(), id, slot, link(linked, slot, count), 0),
            expected,
        });
        Self::new(ring, entries.collect())
    }

    /// As many requests that do nothing at all.
    pub fn of_nops(ring: &'r Ring, count: usize, linked: bool) -> Self {
        let entries = (0..count).map(|slot| {
            let mut bytes = [0; 64];
            bytes[0] = OP_NOP;
            bytes[1] = link(linked, slot, count);
            Entry { bytes, expected: 0 }
        });
        Self::new(ring, entries.collect())
    }

    /// Submits all of them with one call and takes their completions.
    pub fn run(&self) -> Result<(), Failure> {
        for entry in &self.entries {
            assert!(self.ring.push_bytes(&entry.bytes), "a batch fits the queue");
        }
        self.ring.submit_and_wait(self.entries.len() as u32)?;
        let mut taken = 0;
        while taken < self.entries.len() {
            let Some(completion) = self.ring.completion() else {
                self.ring.submit_and_wait(1)?;
                continue;
            };
            taken += 1;
            let entry = self.entries.get(completion.user_data as usize);
            let expected = entry.map(|entry| entry.expected);
            if expected != Some(completion.result) {
                return Err(unexpected(
                    completion.user_data,
                    completion.result,
                    expected,
                ));
            }
        }
        Ok(())
    }
}

#[cold]
fn unexpected(number: u64, result: i32, expected: Option<i32>) -> Failure {
    let name = Errno::from_result(result).map_or_else(String::new, |errno| format!(" ({errno})"));
    let expected = expected.map_or("no completion".into(), |expected| expected.to_string());
    Failure::mismatch(format!(
        "request {number} of a batch: res is {result}{name}, expected {expected}"
    ))
}

/// The flags of one entry of a chain.
fn link(linked: bool, slot: usize, count: usize) -> u8 {
    if linked && slot + 1 < count {
        IOSQE_IO_LINK
    } else {
        0
    }
}
