// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where every thread of every process stands: in memory that all of them
//! share, so that it outlives whoever is killed.

use std::os::fd::AsFd;

use super::kind::Kind;
use crate::error::Failure;
use crate::memory::SharedWords;
use crate::sys;

/// Set by the parent: finish what you are at, and end.
const STOP: usize = 0;
const FIRST_THREAD: usize = 1;
/// Of a thread: the number of its next operation, when it began the one that
/// is running (0: none is), then three counts for each kind.
const NEXT: usize = 0;
const BEGAN: usize = 1;
const COUNTS: usize = 2;
const WORDS: usize = COUNTS + 3 * Kind::ALL.len();

/// How an operation ended that was not wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything as it must be.
    Right = 0,
    /// With an error that the disturbance allows; nothing was wrong.
    Refused = 1,
    /// This machine cannot do it.
    LeftOut = 2,
}

/// Counts of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub right: u64,
    pub refused: u64,
    pub left_out: u64,
}

#[derive(Debug)]
pub struct Board {
    words: SharedWords,
    threads: usize,
}

impl Board {
    pub fn new(threads: usize) -> Result<Self, Failure> {
        let words = FIRST_THREAD + threads * WORDS;
        let file = sys::memory_file(c"stress", words * 8)
            .map_err(|error| Failure::io("make shared memory", &error))?;
        Ok(Board {
            words: SharedWords::new(file.as_fd(), words)?,
            threads,
        })
    }

    fn at(thread: usize, word: usize) -> usize {
        FIRST_THREAD + thread * WORDS + word
    }

    pub fn stop(&self) {
        self.words.store(STOP, 1);
    }

    pub fn is_stopped(&self) -> bool {
        self.words.load(STOP) != 0
    }

    /// The thread's next operation. Begun by whoever asks.
    pub fn begin(&self, thread: usize, now: u64) -> u64 {
        let number = self.words.load(Self::at(thread, NEXT));
        self.words.store(Self::at(thread, BEGAN), now.max(1));
        self.words.store(Self::at(thread, NEXT), number + 1);
        number
    }

    pub fn end(&self, thread: usize, kind: Kind, ended: Ended) {
        self.count(thread, kind, ended);
        self.idle(thread);
    }

    pub fn count(&self, thread: usize, kind: Kind, ended: Ended) {
        let word = Self::at(thread, COUNTS + 3 * kind as usize + ended as usize);
        self.words.store(word, self.words.load(word) + 1);
    }

    /// It runs nothing: it has finished, or its process is gone.
    pub fn idle(&self, thread: usize) {
        self.words.store(Self::at(thread, BEGAN), 0);
    }

    /// The operation that a thread is at, and since when.
    pub fn running(&self, thread: usize) -> Option<(u64, u64)> {
        let began = self.words.load(Self::at(thread, BEGAN));
        let next = self.words.load(Self::at(thread, NEXT));
        (began != 0).then(|| (next.saturating_sub(1), began))
    }

    pub fn started(&self) -> u64 {
        let next = |thread| self.words.load(Self::at(thread, NEXT));
        (0..self.threads).map(next).sum()
    }

    pub fn total(&self, kind: Kind) -> Count {
        let sum = |ended: Ended| -> u64 {
            let word = COUNTS + 3 * kind as usize + ended as usize;
            (0..self.threads)
                .map(|thread| self.words.load(Self::at(thread, word)))
                .sum()
        };
        Count {
            right: sum(Ended::Right),
            refused: sum(Ended::Refused),
            left_out: sum(Ended::LeftOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_on_where_it_stood() {
        let board = Board::new(2).expect("shared memory");
        assert_eq!(board.running(1), None);
        assert_eq!(board.begin(1, 5), 0);
        assert_eq!(board.running(1), Some((0, 5)));
        board.end(1, Kind::Copy, Ended::Right);
        assert_eq!(board.running(1), None);
        assert_eq!(board.begin(1, 9), 1);
        board.idle(1);
        assert_eq!(board.begin(1, 9), 2);
        assert_eq!(board.running(0), None);
        assert_eq!(board.started(), 3);
        let count = board.total(Kind::Copy);
        assert_eq!((count.right, count.refused), (1, 0));
        assert_eq!(board.total(Kind::Fill), Count::default());
    }
}
