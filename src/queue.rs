// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The queues of a ring, mapped: entries of 64 or 128 bytes, completions of 16
//! or 32. The io-uring crate adopts only rings of 64 and 16 bytes, and a ring
//! with a setup flag that it does not know can only be adopted.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::Params;

/// Offsets for mmap(2) on a ring (UAPI).
const OFF_SQ_RING: i64 = 0;
const OFF_CQ_RING: i64 = 0x800_0000;
const OFF_SQES: i64 = 0x1000_0000;
/// Setup flags that change the queues (UAPI).
pub const SETUP_SQE128: u32 = 1 << 10;
pub const SETUP_CQE32: u32 = 1 << 11;
pub const SETUP_NO_SQARRAY: u32 = 1 << 16;
/// 64 bytes still, unless an opcode says otherwise: none of ours does.
pub const SETUP_SQE_MIXED: u32 = 1 << 19;
/// `sq_ring.flags`: the polling thread sleeps.
pub const SQ_NEED_WAKEUP: u32 = 1 << 0;
/// `sq_ring.flags`: completions wait outside of the full queue.
pub const SQ_CQ_OVERFLOW: u32 = 1 << 1;

/// One completion: the part that all sizes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    pub user_data: u64,
    pub result: i32,
    pub flags: u32,
}

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(ring: &OwnedFd, offset: i64, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                ring.as_fd().as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED.cast() => Ok(Mapping { start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.len, "inside the mapping");
        // SAFETY: asserted above.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    /// A word that the kernel reads or writes, too.
    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: inside the mapping, aligned as the kernel lays it out, and
        // only ever accessed atomically.
        unsafe { AtomicU32::from_ptr(self.at(offset as usize)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Both queues. One thread at a time uses them: the type is not `Sync`.
#[derive(Debug)]
pub struct Queues {
    sq: Mapping,
    cq: Mapping,
    sqes: Mapping,
    params: Params,
    sqe_size: usize,
    cqe_size: usize,
    /// Our tail, ahead of the one that the kernel sees.
    tail: Cell<u32>,
}

impl Queues {
    pub fn map(ring: &OwnedFd, params: Params) -> io::Result<Self> {
        let wide = |flag: u32| if params.flags & flag != 0 { 2 } else { 1 };
        let sqe_size = 64 * wide(SETUP_SQE128);
        let cqe_size = 16 * wide(SETUP_CQE32);
        let sq_len = if params.flags & SETUP_NO_SQARRAY != 0 {
            // The header is then shared with the completion queue's.
            params.cq_off.cqes as usize
        } else {
            params.sq_off.array as usize + params.sq_entries as usize * 4
        };
        let cq_len = params.cq_off.cqes as usize + params.cq_entries as usize * cqe_size;
        let queues = Queues {
            sq: Mapping::new(ring, OFF_SQ_RING, sq_len)?,
            cq: Mapping::new(ring, OFF_CQ_RING, cq_len)?,
            sqes: Mapping::new(ring, OFF_SQES, params.sq_entries as usize * sqe_size)?,
            params,
            sqe_size,
            cqe_size,
            tail: Cell::new(0),
        };
        if params.flags & SETUP_NO_SQARRAY == 0 {
            // Entry i always stands at place i.
            for index in 0..params.sq_entries {
                queues
                    .sq
                    .word(params.sq_off.array + index * 4)
                    .store(index, Ordering::Relaxed);
            }
        }
        Ok(queues)
    }

    pub fn capacity(&self) -> usize {
        self.params.sq_entries as usize
    }

    /// Entries that can be appended before the queue is full.
    pub fn room(&self) -> usize {
        let head = self
            .sq
            .word(self.params.sq_off.head)
            .load(Ordering::Acquire);
        self.capacity() - self.tail.get().wrapping_sub(head) as usize
    }

    /// Appends an entry; false when the queue is full. The kernel sees it after
    /// [`Queues::publish`]: a polling thread that took half a chain of links
    /// would end the chain there.
    pub fn push(&self, entry: &[u8; 64]) -> bool {
        let head = self
            .sq
            .word(self.params.sq_off.head)
            .load(Ordering::Acquire);
        let at = self.tail.get();
        if at.wrapping_sub(head) >= self.params.sq_entries {
            return false;
        }
        let index = (at & (self.params.sq_entries - 1)) as usize;
        let place: *mut [u8; 64] = self.sqes.at(index * self.sqe_size);
        // SAFETY: the place is ours until the tail passes it.
        unsafe { place.write_volatile(*entry) };
        if self.sqe_size == 128 {
            let rest: *mut [u8; 64] = self.sqes.at(index * self.sqe_size + 64);
            // SAFETY: as above.
            unsafe { rest.write_volatile([0; 64]) };
        }
        self.tail.set(at.wrapping_add(1));
        true
    }

    /// Shows the kernel what was appended; returns the number of entries that
    /// it has not taken yet.
    pub fn publish(&self) -> u32 {
        let tail = self.tail.get();
        let head = self
            .sq
            .word(self.params.sq_off.head)
            .load(Ordering::Acquire);
        self.sq
            .word(self.params.sq_off.tail)
            .store(tail, Ordering::Release);
        tail.wrapping_sub(head)
    }

    pub fn flags(&self) -> u32 {
        // The tail's store must be visible before the thread's state is read.
        std::sync::atomic::fence(Ordering::SeqCst);
        self.sq
            .word(self.params.sq_off.flags)
            .load(Ordering::Relaxed)
    }

    pub fn has_completion(&self) -> bool {
        let head = self.cq.word(self.params.cq_off.head);
        let tail = self.cq.word(self.params.cq_off.tail);
        head.load(Ordering::Relaxed) != tail.load(Ordering::Acquire)
    }

    /// The oldest completion, when there is one.
    pub fn pop(&self) -> Option<Completion> {
        let head = self.cq.word(self.params.cq_off.head);
        let tail = self
            .cq
            .word(self.params.cq_off.tail)
            .load(Ordering::Acquire);
        let at = head.load(Ordering::Relaxed);
        if at == tail {
            return None;
        }
        let index = (at & (self.params.cq_entries - 1)) as usize;
        let offset = self.params.cq_off.cqes as usize + index * self.cqe_size;
        let place: *mut [u8; 16] = self.cq.at(offset);
        // SAFETY: the kernel wrote this completion before it moved the tail,
        // and leaves it alone until the head passes it.
        let completion = unsafe {
            let place = place.cast::<u8>();
            Completion {
                user_data: place.cast::<u64>().read_volatile(),
                result: place.add(8).cast::<i32>().read_volatile(),
                flags: place.add(12).cast::<u32>().read_volatile(),
            }
        };
        head.store(at.wrapping_add(1), Ordering::Release);
        Some(completion)
    }
}
