// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Groups of blocks, each with one parity block: the XOR of all of them, from
//! which any one of them can be rebuilt. Nothing that comes of it is believed
//! unless its checksum says so.

use std::ops::Range;

use super::BlockAlgorithm;
use super::sums::digest;
use crate::error::Failure;

/// Blocks of the largest group.
pub const LARGEST_GROUP: u32 = 64;

/// Which blocks are a group. The last one may have fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Blocks of a group.
    pub size: u64,
    /// Of the device.
    pub blocks: u64,
}

impl Groups {
    /// Of the whole device.
    pub fn count(&self) -> u64 {
        self.blocks.div_ceil(self.size)
    }

    pub fn of(&self, block: u64) -> u64 {
        block / self.size
    }

    pub fn members(&self, group: u64) -> Range<u64> {
        group * self.size..((group + 1) * self.size).min(self.blocks)
    }

    /// The groups that have a block among these.
    pub fn touched(&self, blocks: &Range<u64>) -> Range<u64> {
        blocks.start / self.size..blocks.end.div_ceil(self.size)
    }

    /// The blocks of all of these groups.
    pub fn around(&self, blocks: &Range<u64>) -> Range<u64> {
        let groups = self.touched(blocks);
        groups.start * self.size..(groups.end * self.size).min(self.blocks)
    }

    /// The groups that have all their blocks among these …
    pub fn whole(&self, blocks: &Range<u64>) -> Range<u64> {
        let start = blocks.start.div_ceil(self.size);
        let end = match blocks.end == self.blocks {
            true => self.count(),
            false => blocks.end / self.size,
        };
        start..end.max(start)
    }

    /// … and those that have some of them.
    pub fn edges(&self, blocks: &Range<u64>) -> impl Iterator<Item = u64> {
        let whole = self.whole(blocks);
        self.touched(blocks)
            .filter(move |group| !whole.contains(group))
    }
}

/// Where a block lies: its number, or that of the group whose parity it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Block(u64),
    Parity(u64),
}

/// Blocks and their parity, wherever they are.
pub trait Blocks {
    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), Failure>;
    fn write(&self, place: Place, bytes: &[u8]) -> Result<(), Failure>;
    /// The checksum that a block must have.
    fn sum(&self, block: u64) -> u64;
}

/// A block that is not what was written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    pub block: u64,
    /// Its checksum as it was found.
    pub found: u64,
    /// It is again what was written; `None` without parity.
    pub rebuilt: Option<bool>,
}

/// How blocks are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redundancy {
    pub groups: Groups,
    pub algorithm: BlockAlgorithm,
    pub block_size: u32,
}

impl Redundancy {
    /// Blocks of parity that a request of so many blocks touches at most.
    pub fn most_touched(&self, blocks: u64) -> u64 {
        blocks.div_ceil(self.groups.size) + 1
    }

    /// Writes a block as it follows from the others of its group, if that has
    /// its checksum; says whether it had.
    pub fn rebuild(&self, blocks: &dyn Blocks, block: u64) -> Result<bool, Failure> {
        let group = self.groups.of(block);
        let mut rebuilt = self.buffer();
        let mut other = self.buffer();
        blocks.read(Place::Parity(group), &mut rebuilt)?;
        for member in self.groups.members(group).filter(|one| *one != block) {
            blocks.read(Place::Block(member), &mut other)?;
            fold(&mut rebuilt, &other);
        }
        let right = digest(self.algorithm, &rebuilt) == blocks.sum(block);
        if right {
            blocks.write(Place::Block(block), &rebuilt)?;
        }
        Ok(right)
    }

    /// Rebuilds those of these blocks that are not what was written; returns
    /// them all, and whether that could be done.
    pub fn mend(&self, blocks: &dyn Blocks, range: Range<u64>) -> Result<Vec<Bad>, Failure> {
        let mut bytes = self.buffer();
        let mut bad = Vec::new();
        for block in range {
            blocks.read(Place::Block(block), &mut bytes)?;
            let found = digest(self.algorithm, &bytes);
            if found != blocks.sum(block) {
                let rebuilt = Some(self.rebuild(blocks, block)?);
                bad.push(Bad {
                    block,
                    found,
                    rebuilt,
                });
            }
        }
        Ok(bad)
    }

    /// Mends a group, and has its parity be that of its blocks if they are all
    /// what was written then. Else parity stays as it is.
    pub fn renew(&self, blocks: &dyn Blocks, group: u64) -> Result<Vec<Bad>, Failure> {
        let bad = self.mend(blocks, self.groups.members(group))?;
        if bad.iter().any(|bad| bad.rebuilt == Some(false)) {
            return Ok(bad);
        }
        let mut parity = self.buffer();
        let mut bytes = self.buffer();
        for block in self.groups.members(group) {
            blocks.read(Place::Block(block), &mut bytes)?;
            fold(&mut parity, &bytes);
        }
        blocks.read(Place::Parity(group), &mut bytes)?;
        if bytes != parity {
            blocks.write(Place::Parity(group), &parity)?;
        }
        Ok(bad)
    }

    fn buffer(&self) -> Vec<u8> {
        vec![0; self.block_size as usize]
    }
}

fn fold(into: &mut [u8], bytes: &[u8]) {
    for (into, byte) in into.iter_mut().zip(bytes) {
        *into ^= byte;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const SIZE: usize = 512;

    /// Ten blocks in groups of four: the last group has two.
    struct Device {
        blocks: RefCell<Vec<[u8; SIZE]>>,
        parity: RefCell<Vec<[u8; SIZE]>>,
        sums: Vec<u64>,
    }

    const REDUNDANCY: Redundancy = Redundancy {
        groups: Groups {
            size: 4,
            blocks: 10,
        },
        algorithm: BlockAlgorithm::Crc32c,
        block_size: SIZE as u32,
    };

    impl Device {
        fn new() -> Self {
            let blocks: Vec<_> = (0..10).map(|block| [block as u8 * 17; SIZE]).collect();
            let sum = |block: &[u8; SIZE]| digest(BlockAlgorithm::Crc32c, block);
            let device = Device {
                sums: blocks.iter().map(sum).collect(),
                blocks: RefCell::new(blocks),
                parity: RefCell::new(vec![[0; SIZE]; 3]),
            };
            for group in 0..3 {
                assert_eq!(REDUNDANCY.renew(&device, group).expect("memory"), []);
            }
            device
        }

        fn flip(&self, block: usize) {
            self.blocks.borrow_mut()[block][99] ^= 4;
        }

        fn is_as_written(&self, block: u64) -> bool {
            let bytes = &self.blocks.borrow()[block as usize];
            digest(BlockAlgorithm::Crc32c, bytes) == self.sums[block as usize]
        }
    }

    impl Blocks for Device {
        fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), Failure> {
            bytes.copy_from_slice(&match place {
                Place::Block(block) => self.blocks.borrow()[block as usize],
                Place::Parity(group) => self.parity.borrow()[group as usize],
            });
            Ok(())
        }

        fn write(&self, place: Place, bytes: &[u8]) -> Result<(), Failure> {
            let bytes = bytes.try_into().expect("a block");
            match place {
                Place::Block(block) => self.blocks.borrow_mut()[block as usize] = bytes,
                Place::Parity(group) => self.parity.borrow_mut()[group as usize] = bytes,
            }
            Ok(())
        }

        fn sum(&self, block: u64) -> u64 {
            self.sums[block as usize]
        }
    }

    #[test]
    fn ranges_are_rounded_to_groups() {
        let groups = REDUNDANCY.groups;
        assert_eq!(groups.count(), 3);
        assert_eq!(groups.members(2), 8..10);
        assert_eq!(groups.around(&(5..6)), 4..8);
        assert_eq!(groups.around(&(3..9)), 0..10);
        assert_eq!(groups.touched(&(3..9)), 0..3);
        let edges = |blocks| groups.edges(&blocks).collect::<Vec<_>>();
        assert_eq!((edges(3..9), groups.whole(&(3..9))), (vec![0, 2], 1..2));
        assert_eq!(
            (edges(5..6), groups.whole(&(5..6)).is_empty()),
            (vec![1], true)
        );
        assert_eq!((edges(0..10), groups.whole(&(0..10))), (vec![], 0..3));
        assert_eq!((edges(4..9), groups.whole(&(4..9))), (vec![2], 1..2));
        assert_eq!((edges(8..10), groups.whole(&(8..10))), (vec![], 2..3));
    }

    #[test]
    fn any_one_block_of_a_group_is_rebuilt() {
        for block in 0..10 {
            let device = Device::new();
            device.flip(block as usize);
            assert_eq!(REDUNDANCY.rebuild(&device, block), Ok(true));
            assert!(device.is_as_written(block));
        }
    }

    #[test]
    fn two_bad_blocks_of_a_group_stay_as_they_are() {
        let device = Device::new();
        device.flip(5);
        device.flip(7);
        let before = device.blocks.borrow().clone();
        assert_eq!(REDUNDANCY.rebuild(&device, 5), Ok(false));
        assert_eq!(REDUNDANCY.rebuild(&device, 7), Ok(false));
        let bad = REDUNDANCY.renew(&device, 1).expect("memory");
        assert_eq!(bad.iter().map(|bad| bad.block).collect::<Vec<_>>(), [5, 7]);
        assert!(bad.iter().all(|bad| bad.rebuilt == Some(false)));
        assert!(*device.blocks.borrow() == before);
    }

    #[test]
    fn renewing_makes_parity_right_and_rebuilds_one_block() {
        let device = Device::new();
        let right = device.parity.borrow().clone();
        device.parity.borrow_mut()[0][0] ^= 1;
        device.parity.borrow_mut()[1][0] ^= 1;
        assert_eq!(REDUNDANCY.renew(&device, 0), Ok(vec![]));
        assert!(device.parity.borrow()[0] == right[0]);
        // Wrong parity rebuilds nothing, and is not made from what is wrong.
        device.flip(4);
        let bad = REDUNDANCY.renew(&device, 1).expect("memory");
        assert_eq!((bad[0].block, bad[0].rebuilt), (4, Some(false)));
        device.flip(9);
        let bad = REDUNDANCY.renew(&device, 2).expect("memory");
        assert_eq!((bad[0].block, bad[0].rebuilt), (9, Some(true)));
        assert!(device.is_as_written(9));
    }
}
