// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The steps that parity adds to a request.
//!
//! A write to a file: the old blocks and the parity of their groups are read
//! into the arena, where the program makes the new parity; that is written
//! when the data are. A bad block that anybody meets is rebuilt: by a writer
//! before the program takes it out of the parity, by a reader once it has the
//! whole group for itself.

use std::ops::Range;
use std::os::fd::AsRawFd;

use io_uring::{opcode, types};

use super::{Kind, Server};
use crate::blockdev::LARGEST_REQUEST;
use crate::blockdev::groups::{Bad, Redundancy};
use crate::error::Failure;
use crate::request::Parity;
use crate::ublk::BlockOperation;

/// Room in the arena for the old blocks of one request and their parity.
pub fn room(redundancy: &Redundancy) -> u64 {
    let blocks = u64::from(LARGEST_REQUEST / redundancy.block_size);
    u64::from(LARGEST_REQUEST) + redundancy.most_touched(blocks) * u64::from(redundancy.block_size)
}

/// Where a write finds, in the arena …
struct Places {
    /// … the blocks as they are …
    old: u64,
    /// … and the parity of their groups, …
    parity: u64,
    /// … so much of it, …
    len: u32,
    /// … the first of which is this one's.
    group: u64,
}

impl Server<'_, '_> {
    fn places(&self, tag: u16, redundancy: &Redundancy) -> Places {
        let store = self.shared.store;
        let size = u64::from(redundancy.block_size);
        let blocks = self.blocks(tag);
        let groups = redundancy.groups.touched(&blocks);
        let (old, parity) = match store.is_file() {
            true => {
                let old = self.scratch + u64::from(tag) * room(redundancy);
                (old, old + u64::from(LARGEST_REQUEST))
            }
            false => (
                store.arena() + blocks.start * size,
                store.arena() + store.bytes() + groups.start * size,
            ),
        };
        Places {
            old,
            parity,
            len: ((groups.end - groups.start) * size) as u32,
            group: groups.start,
        }
    }

    /// Tells the program where a write's parity is; returns where the old
    /// blocks are.
    pub(super) fn prepare_parity(&self, tag: u16, redundancy: &Redundancy) -> u64 {
        let places = self.places(tag, redundancy);
        let parity = Parity {
            blocks: places.parity,
            unchecked: self.held[usize::from(tag)]
                .expect("it is held")
                .mended
                .into(),
            group: redundancy.groups.size as u32,
        };
        let parities = self.parities.as_ref().expect("there with the redundancy");
        parities.set(tag.into(), parity);
        places.old
    }

    /// Reads what a write to a file has to know.
    pub(super) fn gather(&mut self, tag: u16, redundancy: &Redundancy) -> Result<(), Failure> {
        let places = self.places(tag, redundancy);
        let held = self.at(tag);
        (held.done, held.parts) = (0, 2);
        let request = held.request;
        let (file, _) = self.shared.store.file().expect("the device is on a file");
        let parity = self.shared.store.parity().expect("there with a redundancy");
        let old = opcode::Read::new(
            types::Fd(file.as_raw_fd()),
            std::ptr::with_exposed_provenance_mut(places.old as usize),
            request.bytes,
        )
        .offset(request.sector << 9);
        let parity = opcode::Read::new(
            types::Fd(parity.file().as_raw_fd()),
            std::ptr::with_exposed_provenance_mut(places.parity as usize),
            places.len,
        )
        .offset(parity.place(places.group));
        self.push(old.build(), Kind::Gather, tag)?;
        self.push(parity.build(), Kind::Gather, tag)
    }

    pub(super) fn gathered(&mut self, tag: u16, result: i32) -> Result<(), Failure> {
        let held = self.at(tag);
        held.parts -= 1;
        match result {
            0.. => held.done += result as u32,
            _ => held.result = result,
        }
        if held.parts > 0 {
            return Ok(());
        }
        let done = std::mem::take(&mut held.done);
        let (bytes, result) = (held.request.bytes, held.result);
        let redundancy = self.shared.store.redundancy().expect("it was gathered for");
        if done == bytes + self.places(tag, redundancy).len {
            return self.run_program(tag);
        }
        // A file that has become shorter ends early.
        let errno = if result < 0 { result } else { -libc::EIO };
        self.trouble(tag, "read what stands there", errno);
        self.finish(tag, errno)
    }

    /// The data are in the file: so has the parity to be.
    pub(super) fn write_parity(
        &mut self,
        tag: u16,
        redundancy: &Redundancy,
    ) -> Result<(), Failure> {
        let places = self.places(tag, redundancy);
        let parity = self.shared.store.parity().expect("there with a redundancy");
        let entry = opcode::Write::new(
            types::Fd(parity.file().as_raw_fd()),
            std::ptr::with_exposed_provenance(places.parity as usize),
            places.len,
        )
        .offset(parity.place(places.group));
        self.push(entry.build(), Kind::Parity, tag)
    }

    pub(super) fn parity_written(&mut self, tag: u16, result: i32) -> Result<(), Failure> {
        let redundancy = self.shared.store.redundancy().expect("it was written for");
        if result == self.places(tag, redundancy).len as i32 {
            return self.written(tag);
        }
        let errno = if result < 0 { result } else { -libc::EIO };
        self.trouble(tag, "write its parity", errno);
        if let Some(parity) = self.shared.store.parity() {
            parity.abandon();
        }
        // The data are there.
        self.commit(tag);
        self.finish(tag, errno)
    }

    /// A program has met a bad block: says whether the request goes on.
    pub(super) fn mend(&mut self, tag: u16, block: u64, found: u64) -> Result<bool, Failure> {
        let rebuilt = self.shared.store.redundancy().map(|_| false);
        let held = self.at(tag);
        if rebuilt.is_none() || held.mended {
            self.tell(&Bad {
                block,
                found,
                rebuilt,
            });
            return Ok(false);
        }
        held.done = 0;
        let write = held.request.operation == BlockOperation::Write;
        if !write && !held.alone {
            // Others may be writing to the group.
            held.alone = true;
            self.release(tag);
            self.claim(tag)?;
            return Ok(true);
        }
        held.mended = true;
        let all = self.rebuild(block..self.blocks(tag).end);
        if !write && !all {
            return Ok(false);
        }
        // What a write goes over may be bad, but nobody knows what parity has
        // of it.
        self.at(tag).renew = !all;
        self.registered(tag)?;
        Ok(true)
    }

    /// Whether all of these blocks are what was written now.
    fn rebuild(&self, blocks: Range<u64>) -> bool {
        let store = self.shared.store;
        let redundancy = store.redundancy().expect("who rebuilds has it");
        match redundancy.mend(store, blocks) {
            Ok(bad) => {
                bad.iter().for_each(|bad| self.tell(bad));
                bad.iter().all(|bad| bad.rebuilt == Some(true))
            }
            Err(failure) => {
                self.shared.observer.trouble(&failure.to_string());
                false
            }
        }
    }

    /// Makes the parity right of groups that some blocks of have changed behind
    /// its back, or will.
    pub(super) fn renew(&self, groups: impl Iterator<Item = u64>) {
        let store = self.shared.store;
        let Some(redundancy) = store.redundancy() else {
            return;
        };
        for group in groups {
            match redundancy.renew(store, group) {
                Ok(bad) => bad.iter().for_each(|bad| self.tell(bad)),
                Err(failure) => self.no_parity(&failure),
            }
        }
    }

    /// The same where a write went over a bad block.
    pub(super) fn renew_written(&self, tag: u16) {
        let held = self.held[usize::from(tag)].expect("it is held");
        if let Some(Redundancy { groups, .. }) = self.shared.store.redundancy()
            && held.renew
        {
            self.renew(groups.touched(&self.blocks(tag)));
        }
    }

    /// The same where a request has zeroed blocks.
    pub(super) fn renew_zeros(&self, tag: u16) {
        let store = self.shared.store;
        let Some(Redundancy { groups, .. }) = store.redundancy() else {
            return;
        };
        let blocks = self.blocks(tag);
        self.renew(groups.edges(&blocks));
        let whole = groups.whole(&blocks);
        if !whole.is_empty()
            && let Err(failure) = store.clear_parity(&whole)
        {
            self.no_parity(&failure);
        }
    }

    /// Has the groups that a request will zero a part of be as written, or
    /// parity could not be made of the rest.
    pub(super) fn mend_edges(&self, tag: u16) {
        if let Some(Redundancy { groups, .. }) = self.shared.store.redundancy() {
            self.renew(groups.edges(&self.blocks(tag)));
        }
    }

    fn no_parity(&self, failure: &Failure) {
        self.shared.observer.trouble(&failure.to_string());
        if let Some(parity) = self.shared.store.parity() {
            parity.abandon();
        }
    }

    fn tell(&self, bad: &Bad) {
        self.shared.tell(bad);
    }
}
