// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Which blocks are being worked on: requests that touch a block in different
//! ways go one after the other, or a checksum and its block would come from
//! different ones. Requests of all queues, in the order that they came.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;

/// A request that wants blocks, or has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub queue: u16,
    pub tag: u16,
    pub blocks: Range<u64>,
    /// It changes the blocks, so nobody else may look at them meanwhile.
    pub exclusive: bool,
}

impl Claim {
    fn collides(&self, other: &Claim) -> bool {
        (self.exclusive || other.exclusive)
            && self.blocks.start < other.blocks.end
            && other.blocks.start < self.blocks.end
    }
}

#[derive(Debug, Default)]
struct Claims {
    held: Vec<Claim>,
    waiting: VecDeque<Claim>,
}

/// The claims of a device.
#[derive(Debug, Default)]
pub struct Locks(Mutex<Claims>);

impl Locks {
    /// Whether the claim is granted at once; else [`Locks::release`] grants it
    /// to whoever it names.
    pub fn claim(&self, claim: Claim) -> bool {
        let mut claims = self.claims();
        let free = !claims
            .held
            .iter()
            .chain(&claims.waiting)
            .any(|other| other.collides(&claim));
        if free {
            claims.held.push(claim);
        } else {
            claims.waiting.push_back(claim);
        }
        free
    }

    /// Gives up what a request has. Returns the queues and tags of those that
    /// have got theirs by it.
    pub fn release(&self, queue: u16, tag: u16) -> Vec<(u16, u16)> {
        let mut claims = self.claims();
        let before = claims.held.len();
        claims
            .held
            .retain(|claim| (claim.queue, claim.tag) != (queue, tag));
        assert_eq!(before, claims.held.len() + 1, "it was held once");
        let mut granted = Vec::new();
        let waiting = std::mem::take(&mut claims.waiting);
        for claim in waiting {
            let mut before = claims.held.iter().chain(&claims.waiting);
            if before.any(|other| other.collides(&claim)) {
                claims.waiting.push_back(claim);
            } else {
                granted.push((claim.queue, claim.tag));
                claims.held.push(claim);
            }
        }
        granted
    }

    fn claims(&self) -> std::sync::MutexGuard<'_, Claims> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(tag: u16, blocks: Range<u64>, exclusive: bool) -> Claim {
        Claim {
            queue: 0,
            tag,
            blocks,
            exclusive,
        }
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let locks = Locks::default();
        assert!(locks.claim(claim(0, 0..4, false)));
        assert!(locks.claim(claim(1, 3..8, false)));
        assert!(!locks.claim(claim(2, 7..9, true)));
        assert!(locks.claim(claim(3, 9..10, true)));
        assert_eq!(locks.release(0, 0), []);
        assert_eq!(locks.release(0, 1), [(0, 2)]);
    }

    #[test]
    fn nobody_overtakes_a_claim_that_it_collides_with() {
        let locks = Locks::default();
        assert!(locks.claim(claim(0, 0..1, false)));
        assert!(!locks.claim(claim(1, 0..2, true)));
        // It could share block 0, but the writer came first.
        assert!(!locks.claim(claim(2, 0..1, false)));
        assert!(!locks.claim(claim(3, 1..2, false)));
        assert_eq!(locks.release(0, 0), [(0, 1)]);
        assert_eq!(locks.release(0, 1), [(0, 2), (0, 3)]);
    }

    #[test]
    fn neighbouring_ranges_do_not_collide() {
        let locks = Locks::default();
        assert!(locks.claim(claim(0, 0..4, true)));
        assert!(locks.claim(claim(1, 4..5, true)));
    }
}
