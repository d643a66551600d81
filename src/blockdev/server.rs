// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One queue of a device: takes its requests through their steps.
//!
//! A write to a file: register the pages → the program notes a checksum for
//! each block → the log has them → WRITE_FIXED → the table has them → answer.
//! A read of a file: register → READ_FIXED → the program compares → answer. In
//! memory the program copies, too, and there is nothing to read or write. What
//! parity adds is in [`parity`].

mod parity;

use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use io_uring::{opcode, squeue, types};

use super::locks::Claim;
use super::parity::ParityFile;
use super::{LARGEST_REQUEST, Shared};
use crate::errno::Errno;
use crate::error::Failure;
use crate::memory::{MappedArray, SharedWords};
use crate::program::{Family, Plan, Program, Storage};
use crate::registration::Table;
use crate::request::{Descriptor, Parity, Request, SLOTS, STAGE_BLOCK, stage_name};
use crate::ring::Ring;
use crate::spec::RingOptions;
use crate::submission::entry;
use crate::ublk::{BlockOperation, BlockRequest, Event, Queue};

/// `io_bpf_buf_desc.type` of a buffer that the kernel registered.
const KFIXED: u8 = 3;
const EOPNOTSUPP: i32 = -libc::EOPNOTSUPP;
/// SQEs of one request that may wait in the queue: its own and three syncs.
const ENTRIES_PER_REQUEST: u32 = 4;

/// What a completion of our own is about: bits 16 and up of its `user_data`,
/// over the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program = 1,
    Transfer = 2,
    Sync = 3,
    Punch = 4,
    Wake = 5,
    Gather = 6,
    Parity = 7,
}

impl Kind {
    fn of(user_data: u64) -> Option<Self> {
        [
            Kind::Program,
            Kind::Transfer,
            Kind::Sync,
            Kind::Punch,
            Kind::Wake,
            Kind::Gather,
            Kind::Parity,
        ]
        .into_iter()
        .find(|kind| *kind as u64 == user_data >> 16)
    }

    fn user_data(self, tag: u16) -> u64 {
        (self as u64) << 16 | u64::from(tag)
    }
}

/// How a queue's thread is told of what other threads have done.
pub struct Inbox {
    /// Tags whose claim was granted.
    granted: Mutex<Vec<u16>>,
    wake: UnixStream,
    woken: UnixStream,
}

impl Inbox {
    pub fn new() -> Result<Self, Failure> {
        let pair = UnixStream::pair().and_then(|(wake, woken)| {
            wake.set_nonblocking(true)?;
            woken.set_nonblocking(true)?;
            Ok((wake, woken))
        });
        let (wake, woken) = pair.map_err(|error| Failure::io("make a socket pair", &error))?;
        Ok(Inbox {
            granted: Mutex::default(),
            wake,
            woken,
        })
    }

    pub fn wake(&self) {
        // Full means that it will be read anyway.
        let _ = (&self.wake).write(&[0]);
    }

    fn grant(&self, tag: u16) {
        self.lock().push(tag);
        self.wake();
    }

    fn take(&self) -> Vec<u16> {
        let mut bytes = [0; 64];
        while (&self.woken).read(&mut bytes).is_ok_and(|count| count > 0) {}
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u16>> {
        self.granted
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
struct Held {
    request: BlockRequest,
    /// The table's slot with its pages, once they are registered.
    slot: Option<u16>,
    /// Bytes that were read from the file or written to it.
    done: u32,
    /// Operations at the same time, syncs or reads, that have not completed.
    parts: u8,
    /// Its blocks are claimed.
    claimed: bool,
    /// A read that has the whole group for itself, to rebuild a block of it.
    alone: bool,
    /// Bad blocks that it met have been rebuilt, as far as they could be.
    mended: bool,
    /// A write over a bad block: parity has to be made anew after it.
    renew: bool,
    /// The answer.
    result: i32,
}

pub struct Server<'a, 'p> {
    shared: &'a Shared<'a>,
    index: u16,
    ring: &'a Ring,
    queue: Queue<'a>,
    program: &'a Program<'p>,
    /// What the program noted, `LARGEST_REQUEST` worth of blocks for each tag.
    written: Option<SharedWords>,
    /// What the program is told of parity, and the address of the arena for
    /// old blocks of a file.
    parities: Option<MappedArray<Parity>>,
    scratch: u64,
    held: Vec<Option<Held>>,
}

impl<'a> Server<'a, '_> {
    /// Serves queue `index` until the device has gone. Calls `opened` once its
    /// requests are taken.
    pub fn run(shared: &Shared<'_>, index: u16, opened: impl FnOnce()) -> Result<(), Failure> {
        let options = shared.options;
        let depth = u32::from(options.depth);
        let entries = ENTRIES_PER_REQUEST * depth + 1;
        let ring = Ring::open(shared.kernel, &RingOptions::default(), entries)?;
        let _table = Table::new(&ring, depth)?;
        let mut storage = Storage::default();
        let names = [operation(shared, false), operation(shared, true)];
        let redundancy = shared.store.redundancy();
        let blocks = LARGEST_REQUEST / options.block_size;
        let noted = if shared.store.is_file() {
            depth * blocks
        } else {
            1
        };
        let plan = Plan {
            ops: names.iter().map(String::as_str).collect(),
            arena: match (shared.store.is_file(), redundancy) {
                // The store's is shared: none of its own, of whatever size.
                (false, _) => 1,
                (true, Some(redundancy)) => (u64::from(depth) * parity::room(redundancy)) as usize,
                (true, None) => 0,
            },
            entries: vec![("written", noted)],
            shared: shared.store.maps(),
            non_sleepable: options.non_sleepable,
            ..Plan::default()
        };
        let program = Program::attach(&ring, &mut storage, Family::Blocks, &plan)?;
        let written = match shared.store.is_file() {
            true => Some(program.written(noted as usize)?),
            false => None,
        };
        let parities = match redundancy {
            Some(_) => program.parities()?,
            None => None,
        };
        let scratch = match shared.store.is_file() {
            true => program.arena()?.map_or(0, |region| region.address()),
            false => 0,
        };
        let queue = Queue::open(shared.device, &ring, index, 0)?;
        let mut server = Server {
            shared,
            index,
            ring: &ring,
            queue,
            program: &program,
            written,
            parities,
            scratch,
            held: vec![None; options.depth.into()],
        };
        server.listen()?;
        opened();
        server.serve()
    }

    fn serve(&mut self) -> Result<(), Failure> {
        while self.queue.tags() > 0 {
            if self.shared.failed.load(Ordering::SeqCst) {
                // Dropping the device answers what is held.
                return Ok(());
            }
            let Some(completion) = self.ring.completion() else {
                self.ring.submit_and_wait(1)?;
                continue;
            };
            let result = completion.result;
            if let Some(event) = self.queue.event(&completion) {
                self.event(event)?;
                continue;
            }
            let tag = completion.user_data as u16;
            match Kind::of(completion.user_data) {
                Some(Kind::Program) => self.programmed(tag, result)?,
                Some(Kind::Transfer) => self.transferred(tag, result)?,
                Some(Kind::Sync) => self.synced(tag, result)?,
                Some(Kind::Punch) => self.punched(tag, result)?,
                Some(Kind::Gather) => self.gathered(tag, result)?,
                Some(Kind::Parity) => self.parity_written(tag, result)?,
                Some(Kind::Wake) => {
                    self.listen()?;
                    for tag in self.shared.inboxes[usize::from(self.index)].take() {
                        self.begin(tag)?;
                    }
                }
                None => {
                    return Err(Failure::mismatch(format!(
                        "a completion that nobody asked for: user_data {:#x}, res {result}",
                        completion.user_data
                    )));
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Request(request) => self.arrived(request),
            Event::Registered {
                tag,
                result: 0,
                slot,
            } => {
                self.at(tag).slot = Some(slot);
                self.registered(tag)
            }
            Event::Registered { tag, result, .. } => {
                self.trouble(tag, "register its pages", result);
                self.finish(tag, result)
            }
            Event::Unregistered { tag, result, .. } => {
                if result < 0 {
                    self.trouble(tag, "unregister its pages", result);
                    self.at(tag).result = result;
                }
                self.answer(tag)
            }
            Event::Gone(_) => Ok(()),
            Event::Refused { tag, result } => Err(Failure::os(
                format!(
                    "fetch a request under tag {tag} of ublk queue {}",
                    self.index
                ),
                -result,
            )),
        }
    }

    fn arrived(&mut self, request: BlockRequest) -> Result<(), Failure> {
        let tag = request.tag;
        self.held[usize::from(tag)] = Some(Held {
            request,
            slot: request.slot,
            done: 0,
            parts: 0,
            claimed: false,
            alone: false,
            mended: false,
            renew: false,
            result: 0,
        });
        match request.operation {
            BlockOperation::Flush => {
                self.shared.counters.flushes.add(1);
                self.sync(tag)
            }
            BlockOperation::Other(_) => self.finish(tag, EOPNOTSUPP),
            _ => self.claim(tag),
        }
    }

    fn claim(&mut self, tag: u16) -> Result<(), Failure> {
        let held = self.at(tag);
        held.claimed = true;
        let exclusive = held.alone || held.request.operation != BlockOperation::Read;
        let mut blocks = self.blocks(tag);
        if let Some(redundancy) = self.shared.store.redundancy()
            && exclusive
        {
            blocks = redundancy.groups.around(&blocks);
        }
        let claim = Claim {
            queue: self.index,
            tag,
            blocks,
            exclusive,
        };
        match self.shared.locks.claim(claim) {
            true => self.begin(tag),
            // Whoever gives the blocks up wakes us.
            false => Ok(()),
        }
    }

    /// Its blocks are its own now.
    fn begin(&mut self, tag: u16) -> Result<(), Failure> {
        let held = *self.at(tag);
        match held.request.operation {
            BlockOperation::Discard | BlockOperation::WriteZeroes { .. } => self.punch(tag),
            _ if held.slot.is_some() => self.registered(tag),
            _ => self.queue.register(tag, tag),
        }
    }

    /// The programs can see its pages.
    fn registered(&mut self, tag: u16) -> Result<(), Failure> {
        let read = self.at(tag).request.operation == BlockOperation::Read;
        let store = self.shared.store;
        match (store.is_file(), read, store.redundancy()) {
            (true, true, _) => self.transfer(tag),
            (true, false, Some(redundancy)) => self.gather(tag, redundancy),
            _ => self.run_program(tag),
        }
    }

    fn run_program(&mut self, tag: u16) -> Result<(), Failure> {
        let held = *self.at(tag);
        let store = self.shared.store;
        let first = self.blocks(tag).start;
        let write = held.request.operation == BlockOperation::Write;
        let to_arena = match store.redundancy() {
            Some(redundancy) if write => self.prepare_parity(tag, redundancy),
            _ => store.arena() + first * u64::from(store.block_size()),
        };
        let descriptor = Descriptor {
            kind: KFIXED,
            buf_index: held.slot.unwrap_or_default(),
            len: held.request.bytes,
            ..Descriptor::default()
        };
        let request = Request {
            from: descriptor,
            to: descriptor,
            to_arena,
            len: held.request.bytes.into(),
            position: first,
            word: store.block_size().into(),
            stream: self.noted(tag) as u32,
            ..Request::default()
        };
        const { assert!(super::MAX_DEPTH as usize <= SLOTS) };
        self.program.set_request(tag.into(), request);
        let id = self.program.id(&operation(self.shared, write));
        let user_data = Kind::Program.user_data(tag);
        let entry = entry(self.ring.opcode(), id, tag.into(), 0, user_data);
        while !self.ring.push_bytes(&entry) {
            self.ring.submit_and_wait(0)?;
        }
        Ok(())
    }

    fn programmed(&mut self, tag: u16, result: i32) -> Result<(), Failure> {
        let held = *self.at(tag);
        let request = self.program.request(tag.into());
        let bytes = held.request.bytes as i32;
        if result != bytes {
            if request.stage == STAGE_BLOCK {
                let block = self.blocks(tag).start + u64::from(request.dest_chunks);
                if self.mend(tag, block, request.digest)? {
                    return Ok(());
                }
            } else {
                let what = format!("run the program on it ({})", stage_name(request.stage));
                self.trouble(tag, &what, if result < 0 { result } else { -libc::EIO });
            }
            return self.finish(tag, -libc::EIO);
        }
        match held.request.operation {
            BlockOperation::Write if self.shared.store.is_file() => {
                self.announce(tag);
                self.transfer(tag)
            }
            BlockOperation::Write => {
                self.renew_written(tag);
                self.finish(tag, bytes)
            }
            _ => self.finish(tag, bytes),
        }
    }

    /// Reads from the file to its pages or writes them to it.
    fn transfer(&mut self, tag: u16) -> Result<(), Failure> {
        let held = *self.at(tag);
        let (file, _) = self.shared.store.file().expect("the device is on a file");
        let file = types::Fd(file.as_raw_fd());
        let slot = held.slot.unwrap_or_default();
        let offset = (held.request.sector << 9) + u64::from(held.done);
        let len = held.request.bytes - held.done;
        // In a buffer that the kernel registered, an address is an offset.
        let place = held.done as usize;
        let entry = match held.request.operation {
            BlockOperation::Read => {
                opcode::ReadFixed::new(file, std::ptr::without_provenance_mut(place), len, slot)
                    .offset(offset)
                    .build()
            }
            _ => opcode::WriteFixed::new(file, std::ptr::without_provenance(place), len, slot)
                .offset(offset)
                .build(),
        };
        self.push(entry, Kind::Transfer, tag)
    }

    fn transferred(&mut self, tag: u16, result: i32) -> Result<(), Failure> {
        let held = self.at(tag);
        let request = held.request;
        let write = request.operation == BlockOperation::Write;
        if matches!(result, 0 | i32::MIN..0) {
            // A file that has become shorter ends early.
            let errno = if result == 0 { -libc::EIO } else { result };
            let what = if write { "write it" } else { "read it" };
            self.trouble(tag, what, errno);
            if write {
                self.settle(tag);
            }
            return self.finish(tag, errno);
        }
        held.done += result as u32;
        if held.done < request.bytes {
            return self.transfer(tag);
        }
        if !write {
            return self.run_program(tag);
        }
        match self.shared.store.redundancy() {
            Some(redundancy) => self.write_parity(tag, redundancy),
            None => self.written(tag),
        }
    }

    /// A write to a file is done.
    fn written(&mut self, tag: u16) -> Result<(), Failure> {
        self.commit(tag);
        let request = self.at(tag).request;
        if request.durable {
            return self.sync(tag);
        }
        self.finish(tag, request.bytes as i32)
    }

    /// Has the blocks become zeros.
    fn punch(&mut self, tag: u16) -> Result<(), Failure> {
        let store = self.shared.store;
        let blocks = self.blocks(tag);
        self.shared.counters.discards.add(1);
        let Some((file, sums)) = store.file() else {
            self.mend_edges(tag);
            store.clear(&blocks);
            store.set_zeros(blocks);
            self.renew_zeros(tag);
            return self.finish(tag, 0);
        };
        // Before anything is written to the groups: should we die meanwhile,
        // the next server makes their parity anew.
        sums.announce_zeros(self.log_entry(tag), &blocks);
        self.mend_edges(tag);
        let size = u64::from(store.block_size());
        let entry = opcode::Fallocate::new(
            types::Fd(file.as_raw_fd()),
            (blocks.end - blocks.start) * size,
        )
        .offset(blocks.start * size)
        .mode(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)
        .build();
        self.push(entry, Kind::Punch, tag)
    }

    fn punched(&mut self, tag: u16, result: i32) -> Result<(), Failure> {
        if result == 0 {
            self.shared.store.set_zeros(self.blocks(tag));
            self.renew_zeros(tag);
        } else if result != EOPNOTSUPP {
            self.trouble(tag, "make zeros of it", result);
        }
        self.settle(tag);
        // The block layer writes zeros itself where we cannot.
        self.finish(tag, result)
    }

    /// Has everything that was answered so far on the disk.
    fn sync(&mut self, tag: u16) -> Result<(), Failure> {
        let Some((file, sums)) = self.shared.store.file() else {
            return self.finish(tag, 0);
        };
        let parity = self.shared.store.parity().map(ParityFile::file);
        let files = [Some(file), Some(sums.file()), parity];
        self.at(tag).parts = files.iter().flatten().count() as u8;
        for file in files.into_iter().flatten().map(AsRawFd::as_raw_fd) {
            let entry = opcode::Fsync::new(types::Fd(file))
                .flags(types::FsyncFlags::DATASYNC)
                .build();
            self.push(entry, Kind::Sync, tag)?;
        }
        Ok(())
    }

    fn synced(&mut self, tag: u16, result: i32) -> Result<(), Failure> {
        let held = self.at(tag);
        held.parts -= 1;
        if result < 0 {
            held.result = result;
        }
        if held.parts > 0 {
            return Ok(());
        }
        let (result, bytes) = (held.result, held.request.bytes as i32);
        if result < 0 {
            self.trouble(tag, "sync it", result);
            return self.finish(tag, result);
        }
        self.finish(tag, bytes)
    }

    /// What there was to do is done: gives up its blocks and pages.
    fn finish(&mut self, tag: u16, result: i32) -> Result<(), Failure> {
        let held = self.at(tag);
        held.result = result;
        let held = *held;
        if held.claimed {
            self.release(tag);
        }
        match held.slot {
            Some(slot) if held.request.slot.is_none() => self.queue.unregister(tag, slot),
            _ => self.answer(tag),
        }
    }

    /// Gives up its blocks.
    fn release(&self, tag: u16) {
        for (queue, tag) in self.shared.locks.release(self.index, tag) {
            // Even our own go through the inbox: a chain of them would nest as
            // deep as it is long.
            self.shared.inboxes[usize::from(queue)].grant(tag);
        }
    }

    fn answer(&mut self, tag: u16) -> Result<(), Failure> {
        let held = self.held[usize::from(tag)].take().expect("it is held");
        let counters = &self.shared.counters;
        match (held.request.operation, held.result) {
            (BlockOperation::Read, 0..) => {
                counters.reads.add(1);
                counters.bytes_read.add(held.request.bytes.into());
            }
            (BlockOperation::Write, 0..) => {
                counters.writes.add(1);
                counters.bytes_written.add(held.request.bytes.into());
            }
            // The file system cannot punch holes: no error, but an answer.
            (_, 0..) | (_, EOPNOTSUPP) => {}
            (_, _) => counters.errors.add(1),
        }
        self.queue.complete(tag, held.result)
    }

    fn announce(&self, tag: u16) {
        let (_, sums) = self.shared.store.file().expect("the device is on a file");
        let blocks = self.blocks(tag);
        let noted = self.noted(tag);
        let count = (blocks.end - blocks.start) as usize;
        let words = self.written.as_ref().expect("there for a file");
        let entry = self.log_entry(tag);
        sums.announce(
            entry,
            blocks.start,
            (noted..noted + count).map(|at| words.load(at)),
        );
    }

    fn commit(&self, tag: u16) {
        let words = self.written.as_ref().expect("there for a file");
        for (block, at) in self.blocks(tag).zip(self.noted(tag)..) {
            self.shared.store.set_sum(block, words.load(at));
        }
        self.renew_written(tag);
        self.settle(tag);
    }

    fn settle(&self, tag: u16) {
        if let Some((_, sums)) = self.shared.store.file() {
            sums.settle(self.log_entry(tag));
        }
    }

    fn log_entry(&self, tag: u16) -> usize {
        usize::from(self.index) * usize::from(self.shared.options.depth) + usize::from(tag)
    }

    /// Where the program notes this tag's checksums.
    fn noted(&self, tag: u16) -> usize {
        usize::from(tag) * (LARGEST_REQUEST / self.shared.options.block_size) as usize
    }

    fn blocks(&self, tag: u16) -> Range<u64> {
        let request = self.held[usize::from(tag)].expect("it is held").request;
        let size = u64::from(self.shared.store.block_size());
        let start = (request.sector << 9) / size;
        start..start + u64::from(request.bytes) / size
    }

    fn at(&mut self, tag: u16) -> &mut Held {
        self.held[usize::from(tag)].as_mut().expect("it is held")
    }

    fn trouble(&self, tag: u16, what: &str, result: i32) {
        let blocks = self.blocks(tag);
        let errno = Errno::from_result(result)
            .map_or_else(|| result.to_string(), |errno| errno.to_string());
        self.shared.observer.trouble(&format!(
            "{:?} of blocks {}..{}: {what}: {errno}",
            self.held[usize::from(tag)]
                .expect("it is held")
                .request
                .operation,
            blocks.start,
            blocks.end
        ));
    }

    /// Waits for the inbox beside the device.
    fn listen(&self) -> Result<(), Failure> {
        let inbox = &self.shared.inboxes[usize::from(self.index)];
        let entry = opcode::PollAdd::new(types::Fd(inbox.woken.as_raw_fd()), libc::POLLIN as u32);
        self.push(entry.build(), Kind::Wake, 0)
    }

    fn push(&self, entry: squeue::Entry, kind: Kind, tag: u16) -> Result<(), Failure> {
        let entry = entry.user_data(kind.user_data(tag));
        while !self.ring.push(&entry) {
            self.ring.submit_and_wait(0)?;
        }
        Ok(())
    }
}

/// The program for a write or a read.
fn operation(shared: &Shared<'_>, write: bool) -> String {
    let store = shared.store;
    let what = match (store.is_file(), write, store.redundancy()) {
        (true, true, None) => "sum",
        (true, true, Some(_)) => "sum_parity",
        (true, false, _) => "verify",
        (false, true, None) => "store",
        (false, true, Some(_)) => "store_parity",
        (false, false, _) => "fetch",
    };
    format!("{what}_{}", shared.options.algorithm.name())
}
