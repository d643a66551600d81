// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A ublk zero-copy block device whose requests' pages BPF programs work on.
//!
//! The control side (add, parameters, start, stop, delete) is libublk's. The
//! queues are served on a [`Ring`](crate::ring::Ring), because the buffer of a
//! block request is registered in the table of the ring that asks for it, and
//! only that ring's BPF requests can name it.
//!
//! How a device is served:
//!
//! 1. [`Device::add`], before any ring: what is dropped last must be made
//!    first.
//! 2. In the thread of each queue: a ring with room for the queue's depth, a
//!    [`Table`](crate::registration::Table) on it, the BPF programs, and
//!    [`Queue::open`], which fetches the first requests.
//! 3. [`Device::start`], once every queue is open: `/dev/ublkbN` appears, and
//!    the kernel looks for partitions on it. A kernel that does so before this
//!    returns (7.2 does not) wants the queues served meanwhile.
//! 4. Every completion of the ring goes to [`Queue::event`]. What it does not
//!    know is the caller's own. A [`Event::Request`] is answered at any later
//!    time by [`Queue::complete`], in any order, from the queue's thread.
//! 5. [`Device::stop`] from another thread (or [`Device::stopper`]) writes
//!    back what the page cache holds and ends with an [`Event::Gone`] for each
//!    tag: the queues are served until then.
//! 6. Dropping queue, ring and device, in this order, deletes it, whether it
//!    was stopped or not; requests that nobody answered fail with EIO.
//!
//! What a process that was killed leaves behind is removed by [`cleanup`],
//! which [`Device::add`] calls, too.

mod command;
mod control;
mod device;
mod driver;
mod queue;
mod record;

pub use command::DEVICE;
pub use device::{Device, DeviceOptions, Registration, Stopper};
pub use queue::{BlockOperation, BlockRequest, Event, Queue};

use crate::error::Failure;

/// Whether this machine serves devices whose requests' pages can be
/// registered, and lets this user do so; else what is in the way.
pub fn check() -> Result<(), Failure> {
    control::check(Registration::Manual)
}

/// Whether [`Device::add`] can be expected to do what is asked of it: for those
/// who have much to prepare first.
pub fn check_for(registration: Registration) -> Result<(), Failure> {
    record::check()?;
    control::check(registration)
}

/// Removes the devices that a `uringbpf` which has ended left behind, and none
/// of anybody else. Returns their ids. Where there is nothing to remove, it
/// needs neither driver nor privileges.
pub fn cleanup() -> Result<Vec<u32>, Failure> {
    let mut removed = Vec::new();
    cleanup_with(|id| removed.push(id)).map(|()| removed)
}

/// [`cleanup`], telling of each device that is removed. One that cannot be
/// removed, or not be told from somebody else's, is the error, after all others
/// have been looked at; its record stays for the next time.
pub fn cleanup_with(mut removed: impl FnMut(u32)) -> Result<(), Failure> {
    let mut result = Ok(());
    for abandoned in record::abandoned()? {
        match control::remove(&abandoned) {
            Ok(id) => {
                id.into_iter().for_each(&mut removed);
                abandoned.retire();
            }
            Err(failure) => result = result.and(Err(failure)),
        }
    }
    result
}
