// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A ring that BPF programs can be attached to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::squeue;

use crate::error::Failure;
use crate::kernel::Kernel;
use crate::permission;
use crate::program;
use crate::queue::{
    Completion, Queues, SETUP_CQE32, SETUP_NO_SQARRAY, SETUP_SQE_MIXED, SETUP_SQE128,
    SQ_CQ_OVERFLOW, SQ_NEED_WAKEUP,
};
use crate::spec::RingOptions;
use crate::sys::{self, Params};
use crate::ublk;

/// Setup flags (UAPI) that [`RingOptions`] stands for.
const SETUP_SQPOLL: u32 = 1 << 1;
const SETUP_COOP_TASKRUN: u32 = 1 << 8;
const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
const SETUP_DEFER_TASKRUN: u32 = 1 << 13;
/// io_uring_enter(2) flags (UAPI).
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_SQ_WAKEUP: u32 = 1 << 1;
/// Milliseconds before an idle polling thread sleeps: requests of one command
/// follow each other at once.
const SQPOLL_IDLE: u32 = 100;

/// A ring with the setup flag for BPF programs, of this kernel.
#[derive(Debug)]
pub struct Ring {
    // The mappings go before the descriptor that they are of.
    queues: Queues,
    fd: OwnedFd,
    features: u32,
    opcode: u8,
    polled: bool,
    without_kfuncs: bool,
    /// Completions for somebody else than who took them from the queue.
    aside: RefCell<VecDeque<Completion>>,
}

impl Ring {
    /// A ring for up to `entries` requests at once. Finds out which setup flag
    /// this kernel wants, by attaching the empty program.
    pub fn open(kernel: &Kernel, options: &RingOptions, entries: u32) -> Result<Self, Failure> {
        let missing = kernel.missing();
        let Some(opcode) = kernel.opcode.filter(|_| missing.is_empty()) else {
            return Err(Failure::missing(missing));
        };
        let flag = program::setup_flag(kernel)?;
        let ring = Self::with_flags(flag | option_flags(options), entries, opcode)
            .map_err(|error| refused(options, &error))?;
        Ok(Ring {
            without_kfuncs: kernel.overrides.without_kfuncs,
            ..ring
        })
    }

    /// A ring without the setup flag: no `uring_bpf_ops` can be attached to it.
    pub fn without_ops(
        kernel: &Kernel,
        options: &RingOptions,
        entries: u32,
    ) -> Result<Self, Failure> {
        let opcode = kernel.opcode.unwrap_or_default();
        Self::with_flags(option_flags(options), entries, opcode)
            .map_err(|error| refused(options, &error))
    }

    /// Sets up a ring with exactly these flags.
    pub(crate) fn with_flags(flags: u32, entries: u32, opcode: u8) -> io::Result<Self> {
        let mut params = Params {
            flags,
            sq_thread_idle: SQPOLL_IDLE,
            ..Params::default()
        };
        let fd = sys::io_uring_setup(entries.next_power_of_two(), &mut params)?;
        let queues = Queues::map(&fd, params)?;
        Ok(Ring {
            queues,
            fd,
            features: params.features,
            opcode,
            polled: flags & SETUP_SQPOLL != 0,
            without_kfuncs: false,
            aside: RefCell::default(),
        })
    }

    /// Whether its programs do without the kfuncs that a kernel need not have.
    pub fn without_kfuncs(&self) -> bool {
        self.without_kfuncs
    }

    pub fn opcode(&self) -> u8 {
        self.opcode
    }

    pub fn features(&self) -> u32 {
        self.features
    }

    pub fn capacity(&self) -> usize {
        self.queues.capacity()
    }

    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Returns once this many entries, at most the queue's, can be appended:
    /// those before them are with the kernel. A polling thread takes them when
    /// it gets to it, which on a busy machine can be long after a submission.
    pub fn make_room(&self, entries: usize) -> Result<(), Failure> {
        assert!(entries <= self.capacity(), "the queue is that long");
        while self.queues.room() < entries {
            self.submit_and_wait(0)?;
            if self.polled {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Appends an entry of the io-uring crate; false when the queue is full.
    ///
    /// Memory that the entry names must stay in place until its completion:
    /// the callers keep their regions borrowed while they wait.
    pub fn push(&self, entry: &squeue::Entry) -> bool {
        const { assert!(size_of::<squeue::Entry>() == 64) };
        // SAFETY: Entry is a transparent io_uring_sqe: 64 bytes, no padding.
        let bytes = unsafe { &*std::ptr::from_ref(entry).cast::<[u8; 64]>() };
        self.push_bytes(bytes)
    }

    /// Appends an entry made by hand.
    pub fn push_bytes(&self, entry: &[u8; 64]) -> bool {
        self.queues.push(entry)
    }

    /// Hands every appended entry to the kernel and waits for at least `want`
    /// completions to be there. A signal does not end the wait: requests in
    /// flight use our memory.
    pub fn submit_and_wait(&self, want: u32) -> Result<(), Failure> {
        loop {
            let pending = self.queues.publish();
            let queue_flags = self.queues.flags();
            let mut flags = 0;
            if want > 0 || queue_flags & SQ_CQ_OVERFLOW != 0 {
                flags |= ENTER_GETEVENTS;
            }
            if self.polled && queue_flags & SQ_NEED_WAKEUP != 0 {
                flags |= ENTER_SQ_WAKEUP;
            }
            if self.polled && flags == 0 {
                return Ok(());
            }
            match sys::io_uring_enter(self.fd.as_fd(), pending, want, flags) {
                Ok(taken) if self.polled || taken >= pending => return Ok(()),
                // A link's failing head stops the submission: go on after it.
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                    _ => return Err(Failure::io("io_uring_enter", &error)),
                },
            }
        }
    }

    /// Submits, and waits until a completion is there or the time is over;
    /// says which.
    pub fn submit_and_wait_for(&self, limit: Duration) -> Result<bool, Failure> {
        self.submit_and_wait(0)?;
        let until = Instant::now() + limit;
        loop {
            if self.queues.has_completion() {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match sys::io_uring_wait(self.fd.as_fd(), left) {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                    _ => return Err(Failure::io("io_uring_enter", &error)),
                },
            }
        }
    }

    /// The oldest completion that is there.
    pub fn completion(&self) -> Option<Completion> {
        let aside = self.aside.borrow_mut().pop_front();
        aside.or_else(|| self.queues.pop())
    }

    /// Keeps a completion for a later [`Ring::completion`].
    pub fn set_aside(&self, completion: Completion) {
        self.aside.borrow_mut().push_back(completion);
    }

    /// Submits, and takes exactly `count` completions; those of a block device
    /// that is served on the ring, too, are set aside.
    pub fn complete(&self, count: usize) -> Result<Vec<Completion>, Failure> {
        let mut completions = Vec::with_capacity(count);
        self.submit_and_wait(0)?;
        while completions.len() < count {
            match self.queues.pop() {
                Some(completion) if completion.user_data & ublk::DEVICE != 0 => {
                    self.set_aside(completion);
                }
                Some(completion) => completions.push(completion),
                None => self.submit_and_wait(1)?,
            }
        }
        Ok(completions)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn option_flags(options: &RingOptions) -> u32 {
    let table = [
        (options.sqpoll, SETUP_SQPOLL),
        (options.coop, SETUP_COOP_TASKRUN),
        (options.single_issuer, SETUP_SINGLE_ISSUER),
        // The kernel allows the one only together with the other.
        (
            options.defer_taskrun,
            SETUP_DEFER_TASKRUN | SETUP_SINGLE_ISSUER,
        ),
        (options.no_sqarray, SETUP_NO_SQARRAY),
        (options.sqe128, SETUP_SQE128),
        (options.sqe_mixed, SETUP_SQE_MIXED),
        (options.cqe32, SETUP_CQE32),
    ];
    table
        .iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |flags, (_, flag)| flags | flag)
}

fn refused(options: &RingOptions, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EINVAL) if *options != RingOptions::default() => Failure::usage(format!(
            "--ring {options}: this kernel makes no such ring (EINVAL): leave options out"
        )),
        _ => setup_failure(error),
    }
}

/// io_uring_setup(2) failed, whatever the options.
pub(crate) fn setup_failure(error: &io::Error) -> Failure {
    let failure = Failure::io("io_uring_setup", error);
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => failure.next(permission::ring_needed()),
        Some(libc::ENOSYS) => failure.next("seccomp (of a container?) hides io_uring"),
        _ => failure,
    }
}
