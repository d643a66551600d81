// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One queue of a device, served on a ring.

use std::cell::Cell;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

use libublk::sys;

use super::Device;
use super::command::{Command, Kind, Name};
use super::device::Registration;
use crate::error::Failure;
use crate::queue::Completion;
use crate::ring::Ring;

/// `cqe.res` of a fetch when the device goes away.
const ABORT: i32 = sys::UBLK_IO_RES_ABORT;

/// What a block request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockOperation {
    Read,
    Write,
    Flush,
    Discard,
    /// Zeros from here on; `unmap` allows to free the space.
    WriteZeroes {
        unmap: bool,
    },
    /// One that this module does not know, by its number (UAPI).
    Other(u8),
}

/// A block request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRequest {
    /// Names it until it is answered.
    pub tag: u16,
    pub operation: BlockOperation,
    /// Of its first byte on the device, in units of 512 bytes.
    pub sector: u64,
    pub bytes: u32,
    /// It may be answered only when the data is safe (force unit access).
    pub durable: bool,
    /// The slot that the kernel registered its pages in, with
    /// [`Registration::Auto`] and a request that has pages.
    pub slot: Option<u16>,
}

impl BlockRequest {
    /// Whether it has pages that can be registered.
    pub fn has_pages(&self) -> bool {
        matches!(self.operation, BlockOperation::Read | BlockOperation::Write)
    }
}

/// What a completion meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A request came.
    Request(BlockRequest),
    /// A registration by [`Queue::register`] ended: 0 or a negative errno.
    Registered { tag: u16, slot: u16, result: i32 },
    /// The same of [`Queue::unregister`].
    Unregistered { tag: u16, slot: u16, result: i32 },
    /// The device goes away, and no request will come under this tag any more.
    Gone(u16),
    /// The driver refused to fetch for this tag, with this negative errno.
    Refused { tag: u16, result: i32 },
}

/// A queue, open from its first fetches on. It belongs to the thread that
/// opened it: the driver takes answers from no other.
#[derive(Debug)]
pub struct Queue<'a> {
    ring: &'a Ring,
    char_device: OwnedFd,
    /// One `ublksrv_io_desc` for each tag, written by the driver.
    descriptors: NonNull<sys::ublksrv_io_desc>,
    index: u16,
    depth: u16,
    first_slot: Option<u16>,
    /// Tags that the driver has not said to be gone.
    tags: Cell<usize>,
}

impl<'a> Queue<'a> {
    /// Opens queue `index` on a ring and fetches for every tag. With
    /// [`Registration::Auto`] the pages of a request are in slot
    /// `first_slot` + tag of the ring's table when it comes; the table must
    /// have these slots. Manual registration takes any slot.
    pub fn open(
        device: &'a Device,
        ring: &'a Ring,
        index: u16,
        first_slot: u16,
    ) -> Result<Self, Failure> {
        let options = device.options();
        let char_device = device.char_device()?;
        let bytes = mapped_bytes(options.depth);
        let offset = mapped_bytes(sys::UBLK_MAX_QUEUE_DEPTH as u16) * usize::from(index);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                char_device.as_raw_fd(),
                sys::UBLKSRV_CMD_BUF_OFFSET as libc::off_t + offset as libc::off_t,
            )
        };
        let descriptors = NonNull::new(start.cast())
            .filter(|_| start != libc::MAP_FAILED)
            .ok_or_else(|| {
                let error = std::io::Error::last_os_error();
                Failure::io(format!("map the requests of ublk queue {index}"), &error)
            })?;
        let automatic = options.registration == Registration::Auto;
        let queue = Queue {
            ring,
            char_device,
            descriptors,
            index,
            depth: options.depth,
            first_slot: automatic.then_some(first_slot),
            tags: Cell::new(usize::from(options.depth)),
        };
        for tag in 0..queue.depth {
            queue.fetch(sys::UBLK_U_IO_FETCH_REQ, tag, 0)?;
        }
        ring.submit_and_wait(0)?;
        // A refusal comes at once; with it the device could never start.
        let mut early = Vec::new();
        while let Some(completion) = ring.completion() {
            if completion.result < 0 && Name::of(completion.user_data).is_some() {
                return Err(Failure::os(
                    format!("fetch the requests of ublk queue {index}"),
                    -completion.result,
                ));
            }
            early.push(completion);
        }
        early
            .into_iter()
            .for_each(|completion| ring.set_aside(completion));
        device.queue_opened();
        Ok(queue)
    }

    /// What a completion of the ring meant; `None` when it is not of this
    /// queue.
    pub fn event(&self, completion: &Completion) -> Option<Event> {
        let name = Name::of(completion.user_data).filter(|name| name.queue == self.index)?;
        let Name { tag, slot, .. } = name;
        let result = completion.result;
        Some(match name.kind {
            Kind::Register => Event::Registered { tag, slot, result },
            Kind::Unregister => Event::Unregistered { tag, slot, result },
            Kind::Fetch if result == 0 => Event::Request(self.request(tag)),
            Kind::Fetch => {
                self.tags.set(self.tags.get() - 1);
                match result {
                    ABORT => Event::Gone(tag),
                    _ => Event::Refused { tag, result },
                }
            }
        })
    }

    /// Tags under which a request may be held or may still come: 0 when the
    /// device is gone.
    pub fn tags(&self) -> usize {
        self.tags.get()
    }

    /// Answers a request, with its bytes or a negative errno, and asks for the
    /// next one. What is registered of it by hand is unregistered before: the
    /// request ends only then.
    ///
    /// Takes effect with the ring's next submission.
    pub fn complete(&self, tag: u16, result: i32) -> Result<(), Failure> {
        self.fetch(sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, result)
    }

    /// Puts the pages of a request into a free slot of the ring's table.
    /// [`Event::Registered`] says when it is there.
    pub fn register(&self, tag: u16, slot: u16) -> Result<(), Failure> {
        self.register_on(self.ring, tag, slot)
    }

    /// Takes them out of it.
    pub fn unregister(&self, tag: u16, slot: u16) -> Result<(), Failure> {
        self.unregister_on(self.ring, tag, slot)
    }

    /// [`Queue::register`] in the table of another ring, which also gets the
    /// completion: any may ask for the pages of a request.
    pub fn register_on(&self, ring: &Ring, tag: u16, slot: u16) -> Result<(), Failure> {
        let opcode = sys::UBLK_U_IO_REGISTER_IO_BUF;
        self.slot_command(ring, Kind::Register, opcode, tag, slot)
    }

    /// [`Queue::unregister`] from the table of another ring.
    pub fn unregister_on(&self, ring: &Ring, tag: u16, slot: u16) -> Result<(), Failure> {
        let opcode = sys::UBLK_U_IO_UNREGISTER_IO_BUF;
        self.slot_command(ring, Kind::Unregister, opcode, tag, slot)
    }

    fn slot_command(
        &self,
        ring: &Ring,
        kind: Kind,
        opcode: u32,
        tag: u16,
        slot: u16,
    ) -> Result<(), Failure> {
        let command = Command {
            opcode,
            name: self.name(kind, tag, slot),
            result: 0,
            addr: u64::from(slot),
            auto_slot: 0,
        };
        self.push(ring, command)
    }

    fn fetch(&self, opcode: u32, tag: u16, result: i32) -> Result<(), Failure> {
        let command = Command {
            opcode,
            name: self.name(Kind::Fetch, tag, 0),
            result,
            addr: 0,
            auto_slot: self.first_slot.map_or(0, |first| first + tag),
        };
        self.push(self.ring, command)
    }

    fn name(&self, kind: Kind, tag: u16, slot: u16) -> Name {
        Name {
            kind,
            queue: self.index,
            slot,
            tag,
        }
    }

    fn push(&self, ring: &Ring, command: Command) -> Result<(), Failure> {
        let entry = command.entry(self.char_device.as_raw_fd());
        while !ring.push_bytes(&entry) {
            ring.submit_and_wait(0)?;
        }
        Ok(())
    }

    fn request(&self, tag: u16) -> BlockRequest {
        assert!(tag < self.depth, "the driver completes only what was asked");
        // SAFETY: tag < depth, the mapping has depth descriptors, and the
        // driver wrote this one before it completed the fetch.
        let descriptor = unsafe { self.descriptors.add(usize::from(tag)).read_volatile() };
        let flags = descriptor.op_flags;
        let operation = match flags & 0xff {
            sys::UBLK_IO_OP_READ => BlockOperation::Read,
            sys::UBLK_IO_OP_WRITE => BlockOperation::Write,
            sys::UBLK_IO_OP_FLUSH => BlockOperation::Flush,
            sys::UBLK_IO_OP_DISCARD => BlockOperation::Discard,
            sys::UBLK_IO_OP_WRITE_ZEROES => BlockOperation::WriteZeroes {
                unmap: flags & sys::UBLK_IO_F_NOUNMAP == 0,
            },
            other => BlockOperation::Other(other as u8),
        };
        let mut request = BlockRequest {
            tag,
            operation,
            sector: descriptor.start_sector,
            bytes: descriptor.nr_sectors << 9,
            durable: flags & sys::UBLK_IO_F_FUA != 0,
            slot: None,
        };
        if request.has_pages() {
            request.slot = self.first_slot.map(|first| first + tag);
        }
        request
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        let bytes = mapped_bytes(self.depth);
        // SAFETY: our own mapping; descriptors are copied out of it.
        unsafe { libc::munmap(self.descriptors.as_ptr().cast::<c_void>(), bytes) };
    }
}

/// Bytes of the descriptors of so many tags, as the driver maps them.
fn mapped_bytes(depth: u16) -> usize {
    (usize::from(depth) * size_of::<sys::ublksrv_io_desc>())
        .next_multiple_of(crate::sys::page_size())
}
