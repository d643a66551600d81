// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the cases run on: the loaded programs, and rings of every mode that
//! keep them attached from case to case.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::Stop;
use super::callbacks::Customs;
use super::case::{RingMode, Variant};
use super::programs::{self, Family, Programs};
use super::verifier;
use crate::bpf_log;
use crate::buffer::Buffer;
use crate::error::Failure;
use crate::kernel::{ID_SHIFT, IDS, Kernel};
use crate::kernel_buffer::{Depot, Direction, Expected, Lender, Lent, Part};
use crate::layout::Random;
use crate::memory::{Memory, Region};
use crate::request::SLOTS;
use crate::ring::Ring;
use crate::struct_ops::{Attachment, Ops, ValueType};

/// How long a request over so many bytes may take, on the slowest machine: a
/// completion that is not there by then does not come.
pub fn patience(bytes: u64) -> Duration {
    Duration::from_secs(3 + (bytes >> 21))
}

/// `sqe->flags` (UAPI).
pub const DRAIN: u8 = 1 << 1;
pub const LINK: u8 = 1 << 2;
pub const HARDLINK: u8 = 1 << 3;
pub const ASYNC: u8 = 1 << 4;
pub const SKIP: u8 = 1 << 6;

/// All programs, loaded before the first case; the processes that run the
/// cases inherit them.
pub struct Loaded {
    pub kernel: Kernel,
    pub value: ValueType,
    families: Vec<(Family, Variant, Programs)>,
    pub callbacks: Callbacks,
    /// Whether this is a kernel of the posted series, whose known defects can
    /// take the machine down: one of those that cannot is there.
    pub is_posted: bool,
}

/// The callbacks that a kernel gives its iterators to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callbacks {
    /// As the posted series has it.
    NonSleepable,
    Sleepable,
    Both,
}

impl Callbacks {
    pub fn may_sleep(self) -> bool {
        self != Callbacks::NonSleepable
    }
}

impl Loaded {
    pub fn new<V: Into<Variant> + Copy>(
        kernel: Kernel,
        families: &[(Family, V)],
    ) -> Result<Self, Failure> {
        // Found by trying, once for all processes.
        crate::program::setup_flag(&kernel)?;
        let mut loaded = Loaded {
            value: ValueType::read()?,
            kernel,
            families: Vec::new(),
            callbacks: Callbacks::Both,
            is_posted: false,
        };
        let wanted = |variants: &[(Family, V)]| -> Vec<(Family, Variant)> {
            variants.iter().map(|(f, v)| (*f, (*v).into())).collect()
        };
        let wanted = wanted(families);
        loaded.is_posted =
            !loaded.kernel.reports_iteration_errors() && verifier::iterates_anywhere();
        // One of the objects says what callbacks may do, and have to.
        let mut try_out = |variant| {
            let chunks = Programs::load(Family::Chunks, variant);
            let chunks = chunks.map(|chunks| (Family::Chunks, variant, chunks));
            let taken = chunks.is_ok();
            loaded.families.extend(chunks);
            taken
        };
        if wanted.iter().any(|(_, variant)| variant.sleeps()) && !try_out(Variant::Sleepable) {
            loaded.callbacks = Callbacks::NonSleepable;
        } else if wanted.iter().any(|(_, variant)| !variant.sleeps())
            && !try_out(Variant::NonSleepable)
            && bpf_log::wants_sleepable()
        {
            loaded.callbacks = Callbacks::Sleepable;
        }
        let mut rest: Vec<(Family, Variant)> = Vec::new();
        for (family, variant) in wanted {
            let next = (family, loaded.variant(variant));
            if loaded.find(next.0, next.1).is_none() && !rest.contains(&next) {
                rest.push(next);
            }
        }
        loaded.families.extend(programs::load_all(rest)?);
        Ok(loaded)
    }

    /// What runs in its place where callbacks may not sleep, or have to be
    /// such that may.
    pub fn variant(&self, variant: impl Into<Variant>) -> Variant {
        let variant = match (self.callbacks, variant.into()) {
            (Callbacks::NonSleepable, _) => Variant::NonSleepable,
            (Callbacks::Sleepable, Variant::NonSleepable) => Variant::Sleepable,
            (_, variant) => variant,
        };
        match variant.sleeps() && self.kernel.overrides.without_kfuncs {
            true => Variant::WithoutKfuncs,
            false => variant,
        }
    }

    /// Maps every arena where its programs see it. For a process that has just
    /// begun: later, what it has mapped itself may lie there.
    fn map_arenas(&self) -> Result<Arenas, Failure> {
        let mut arenas = Arenas::new();
        for (family, variant, programs) in &self.families {
            if let Some(memory) = programs.map_arena()? {
                arenas.insert((*family, *variant), RefCell::new(memory));
            }
        }
        Ok(arenas)
    }

    fn find(&self, family: Family, variant: Variant) -> Option<&Programs> {
        let mut found = self.families.iter();
        let found = found.find(|(f, v, _)| *f == family && *v == variant);
        found.map(|(.., programs)| programs)
    }

    /// The programs of a family; those that cannot sleep where the kernel
    /// takes no others.
    pub fn programs(&self, family: Family, variant: impl Into<Variant>) -> &Programs {
        let found = self.find(family, self.variant(variant));
        found.expect("every family that a case needs is loaded")
    }
}

/// One submission queue entry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry {
    pub opcode: u8,
    pub flags: u8,
    /// `sqe->off`
    pub offset: u64,
    /// `sqe->bpf_op_flags`
    pub op_flags: u32,
    pub own: OwnFields,
}

/// The fields of an entry that mean what a program makes of them, and nothing
/// to most of ours.
#[derive(Debug, Clone, Copy)]
pub struct OwnFields {
    pub fd: i32,
    pub addr: u64,
    pub len: u32,
    pub buf_index: u16,
    pub splice_fd_in: i32,
    pub addr3: u64,
}

impl Default for OwnFields {
    fn default() -> Self {
        OwnFields {
            fd: -1,
            addr: 0,
            len: 0,
            buf_index: 0,
            splice_fd_in: 0,
            addr3: 0,
        }
    }
}

impl Entry {
    /// IORING_OP_NOP.
    pub fn nop(flags: u8) -> Self {
        Entry {
            flags,
            ..Entry::default()
        }
    }

    fn bytes(self, user_data: u64) -> [u8; 64] {
        let mut entry = [0; 64];
        entry[0] = self.opcode;
        entry[1] = self.flags;
        let own = &self.own;
        entry[4..8].copy_from_slice(&own.fd.to_ne_bytes());
        entry[8..16].copy_from_slice(&self.offset.to_ne_bytes());
        entry[16..24].copy_from_slice(&own.addr.to_ne_bytes());
        entry[24..28].copy_from_slice(&own.len.to_ne_bytes());
        if self.opcode != 0 {
            entry[28..32].copy_from_slice(&self.op_flags.to_ne_bytes());
        }
        entry[32..40].copy_from_slice(&user_data.to_ne_bytes());
        entry[40..42].copy_from_slice(&own.buf_index.to_ne_bytes());
        entry[44..48].copy_from_slice(&own.splice_fd_in.to_ne_bytes());
        entry[48..56].copy_from_slice(&own.addr3.to_ne_bytes());
        entry
    }
}

/// Family, variant, and name.
type Operation = (Family, Variant, String);

/// A ring, and what is attached to it.
pub struct Session {
    // Detached before the ring goes: the posted kernel oopses otherwise.
    attached: RefCell<Vec<(Operation, Attachment)>>,
    pub ring: Ring,
    /// Makes `user_data` of different cases differ.
    epoch: Cell<u64>,
}

impl Session {
    pub fn new(ring: Ring) -> Self {
        Session {
            attached: RefCell::default(),
            ring,
            epoch: Cell::new(1),
        }
    }

    /// The id of an operation, attached when it is first asked for.
    pub fn id(
        &self,
        loaded: &Loaded,
        family: Family,
        variant: impl Into<Variant>,
        op: &str,
    ) -> Result<u32, Failure> {
        let variant = loaded.variant(variant);
        let key = (family, variant, op.to_string());
        let mut attached = self.attached.borrow_mut();
        if let Some(id) = attached.iter().position(|(name, _)| *name == key) {
            return Ok(id as u32);
        }
        if attached.len() == usize::from(IDS) {
            // Every id is taken: make room for this one.
            attached.clear();
        }
        let programs = loaded.programs(family, variant);
        let id = attached.len();
        let ops = Ops {
            id: id as u16,
            ring_fd: self.ring.raw_fd(),
            prep: programs.program("prep"),
            issue: programs.program(&format!("{op}_issue")),
            ..Ops::default()
        };
        let attachment = loaded
            .value
            .attach(&ops)
            .map_err(|error| Failure::io(format!("attach {op} as id {id}"), &error))?;
        attached.push((key, attachment));
        Ok(id as u32)
    }

    /// Submits all entries at once, and takes the completion of each: `None`
    /// where none came because the entry asked for none. Anything else than
    /// one completion for each is the kernel's fault.
    pub fn run(&self, entries: &[Entry], patience: Duration) -> Result<Vec<Option<i32>>, Stop> {
        self.run_while(entries, patience, || Ok(()))
    }

    /// The same, and does something while the requests are on their way.
    pub fn run_while(
        &self,
        entries: &[Entry],
        patience: Duration,
        during: impl FnOnce() -> Result<(), Stop>,
    ) -> Result<Vec<Option<i32>>, Stop> {
        let epoch = self.epoch.get();
        self.epoch.set(epoch + 1);
        self.ring.make_room(entries.len())?;
        for (number, entry) in entries.iter().enumerate() {
            let bytes = entry.bytes(epoch << 16 | number as u64);
            assert!(self.ring.push_bytes(&bytes), "the ring has room for a case");
        }
        self.ring.submit_and_wait(0)?;
        let disturbed = during();
        let mut results: Vec<Option<i32>> = vec![None; entries.len()];
        loop {
            let missing = missing(entries, &results);
            if missing.is_empty() {
                break;
            }
            if !self.ring.submit_and_wait_for(patience)? {
                let missing: Vec<String> = missing.iter().map(|n| (n + 1).to_string()).collect();
                return Err(Stop::Stuck(format!(
                    "no completion of request {} of {} within {} s",
                    missing.join(", "),
                    entries.len(),
                    patience.as_secs()
                )));
            }
            self.take(&mut results, epoch)?;
        }
        // A completion that comes now was asked for by nobody.
        self.ring.submit_and_wait(0)?;
        self.take(&mut results, epoch)?;
        disturbed?;
        Ok(results)
    }

    /// Takes everything off the ring, also under requests that use it.
    pub fn detach_all(&self) {
        self.attached.borrow_mut().clear();
    }

    fn take(&self, results: &mut [Option<i32>], epoch: u64) -> Result<(), Stop> {
        while let Some(completion) = self.ring.completion() {
            let number = completion.user_data.wrapping_sub(epoch << 16) as usize;
            match results.get_mut(number) {
                // There is nothing that any of our requests would say with them.
                Some(None) if completion.flags != 0 => {
                    return Err(Stop::Stuck(format!(
                        "the completion's flags are {:#x}, expected 0",
                        completion.flags
                    )));
                }
                Some(result @ None) => *result = Some(completion.result),
                _ => {
                    return Err(Stop::Stuck(format!(
                        "a second completion of a request: user_data {:#x}, res {}",
                        completion.user_data,
                        crate::errno::res_text(completion.result)
                    )));
                }
            }
        }
        Ok(())
    }
}

/// The entries whose completions are still to come. One that is silent when it
/// succeeds has one only when it fails, and then those linked to it have none.
fn missing(entries: &[Entry], results: &[Option<i32>]) -> Vec<usize> {
    let mut missing = Vec::new();
    let mut silent_chain_failed = false;
    for (number, entry) in entries.iter().enumerate() {
        let silent = entry.flags & SKIP != 0;
        if !silent && !silent_chain_failed && results[number].is_none() {
            missing.push(number);
        }
        silent_chain_failed |= silent && results[number].is_some();
        silent_chain_failed &= entry.flags & (LINK | HARDLINK) != 0;
    }
    missing
}

/// What a thread has for itself of programs that others use at the same time.
pub struct Share<'l> {
    pub slots: Range<u64>,
    /// Of each family's arena.
    pub arenas: RefCell<HashMap<(Family, Variant), Region<'l>>>,
    /// Locked by whoever has chunks written down.
    pub chunks: File,
    /// How many times longer than usual a request may take.
    pub patience: u32,
}

/// A buffer that shall lie in the pages of a block request, if it is one for
/// that.
pub struct Borrowing<'b, 'm> {
    pub buffer: &'b Buffer<'m>,
    /// The file of its memory, [`Memory::path`].
    pub memory: Option<PathBuf>,
    pub direction: Direction,
    /// What the client finds in it in the end; nothing where it cannot tell.
    pub expected: Option<Expected>,
}

/// The arenas of the loaded programs.
type Arenas = HashMap<(Family, Variant), RefCell<Memory>>;

/// An arena, or a thread's part of it.
pub enum Arena<'b, 'l> {
    Whole(RefMut<'b, Memory>),
    Part(RefMut<'b, Region<'l>>),
}

impl Arena<'_, '_> {
    pub fn region(&mut self) -> Region<'_> {
        match self {
            Arena::Whole(memory) => memory.region(),
            Arena::Part(part) => part.reborrow(),
        }
    }
}

/// Among the threads of all processes; gone with its process.
pub struct ChunksLock<'b>(&'b File);

impl<'b> ChunksLock<'b> {
    fn new(file: &'b File) -> Result<Self, Failure> {
        crate::sys::lock(file).map_err(|error| Failure::io("lock the list of chunks", &error))?;
        Ok(ChunksLock(file))
    }
}

impl Drop for ChunksLock<'_> {
    fn drop(&mut self) {
        let _ = crate::sys::unlock(self.0);
    }
}

/// Where a process has its buffers that the kernel registers from: made when
/// a case first needs it.
pub type DepotCell = OnceCell<Result<Depot, Failure>>;

/// The rings of one process, or of a thread.
pub struct Bench<'l> {
    pub loaded: &'l Loaded,
    /// `None`: nobody lends here.
    depot: Option<&'l DepotCell>,
    lender: OnceCell<Result<Lender<'l>, Failure>>,
    /// Block I/O of others did not end: it would not here.
    lends_no_more: Cell<bool>,
    /// `None`: nobody else uses the programs.
    share: Option<Share<'l>>,
    /// Of a bench without a share.
    arenas: Result<Arenas, Failure>,
    sessions: RefCell<HashMap<(RingMode, bool), Rc<Session>>>,
    /// Which of the calls that are left to it this kernel makes.
    pub customs: OnceCell<Customs>,
    /// How often a last call was waited for in vain.
    pub vain_waits: Cell<u32>,
}

impl<'l> Bench<'l> {
    pub fn new(loaded: &'l Loaded, depot: &'l DepotCell) -> Self {
        Bench {
            loaded,
            depot: Some(depot),
            lender: OnceCell::new(),
            lends_no_more: Cell::new(false),
            share: None,
            arenas: loaded.map_arenas(),
            sessions: RefCell::default(),
            customs: OnceCell::new(),
            vain_waits: Cell::new(0),
        }
    }

    pub fn of_thread(loaded: &'l Loaded, share: Share<'l>) -> Self {
        Bench {
            loaded,
            depot: None,
            lender: OnceCell::new(),
            lends_no_more: Cell::new(false),
            share: Some(share),
            arenas: Ok(Arenas::new()),
            sessions: RefCell::default(),
            customs: OnceCell::new(),
            vain_waits: Cell::new(0),
        }
    }

    /// Has block I/O done whose pages are those of the buffers, and each
    /// registered in its slot of the session's table. `None`: none of them is
    /// the kernel's.
    pub fn lend<'s, 'b, 'm: 'b>(
        &'s self,
        session: &'s Session,
        borrowed: impl IntoIterator<Item = Borrowing<'b, 'm>>,
    ) -> Result<Option<Lent<'s>>, Stop> {
        let (mut parts, mut slots) = (Vec::new(), Vec::new());
        for Borrowing {
            buffer,
            memory,
            direction,
            expected,
        } in borrowed
        {
            if let Some(memory) = memory.filter(|_| buffer.is_kernel()) {
                parts.push(Part::new(buffer, memory, direction, expected));
                slots.extend(buffer.slots());
            }
        }
        if parts.is_empty() {
            return Ok(None);
        }
        if self.lends_no_more.get() {
            return Err(Stop::Skip(
                "block I/O of a case before it did not end".into(),
            ));
        }
        let lent = self.lender()?.lend(&session.ring, parts, &slots);
        // Block I/O may be under way: another process begins anew.
        lent.map(Some)
            .map_err(|failure| Stop::Stuck(failure.to_string()))
    }

    /// Cases that need block I/O are skipped from now on.
    pub fn lend_no_more(&self) {
        self.lends_no_more.set(true);
    }

    /// Whether block requests are out, with a case or left by one.
    pub fn lends(&self) -> bool {
        let lender = self.lender.get().and_then(|lender| lender.as_ref().ok());
        lender.is_some_and(Lender::lends)
    }

    fn lender(&self) -> Result<&Lender<'l>, Failure> {
        let Some(depot) = self.depot else {
            return Err(Failure::missing(["somebody who lends block requests"]));
        };
        let lender = self.lender.get_or_init(|| {
            let depot = depot.get_or_init(Depot::new);
            depot.as_ref().map_err(Failure::clone)?.open()
        });
        lender.as_ref().map_err(Failure::clone)
    }

    /// The slots that this bench may use.
    pub fn slots(&self) -> Range<u64> {
        let all = 0..SLOTS as u64;
        self.share.as_ref().map_or(all, |share| share.slots.clone())
    }

    pub fn slot(&self, random: &mut Random) -> u64 {
        let slots = self.slots();
        slots.start + random.below(slots.end - slots.start)
    }

    pub fn patience(&self, bytes: u64) -> Duration {
        patience(bytes) * self.share.as_ref().map_or(1, |share| share.patience)
    }

    /// Where this bench's buffers in the arena go.
    pub fn arena(
        &self,
        family: Family,
        variant: Variant,
    ) -> Result<Option<Arena<'_, 'l>>, Failure> {
        let key = (family, self.loaded.variant(variant));
        let Some(share) = &self.share else {
            let arenas = self.arenas.as_ref().map_err(Failure::clone)?;
            return Ok(arenas
                .get(&key)
                .map(|arena| Arena::Whole(arena.borrow_mut())));
        };
        let part = RefMut::filter_map(share.arenas.borrow_mut(), |all| all.get_mut(&key));
        Ok(part.ok().map(Arena::Part))
    }

    /// The list of chunks belongs to the caller until this is dropped.
    pub fn lock_chunks(&self) -> Result<Option<ChunksLock<'_>>, Failure> {
        self.share
            .as_ref()
            .map(|share| ChunksLock::new(&share.chunks))
            .transpose()
    }

    /// The ring of a mode. One on which a completion was ever skipped takes no
    /// drained requests any more, so those have rings of their own.
    pub fn session(&self, mode: RingMode, skips: bool) -> Result<Rc<Session>, Failure> {
        if let Some(session) = self.sessions.borrow().get(&(mode, skips)) {
            return Ok(Rc::clone(session));
        }
        let ring = Ring::open(&self.loaded.kernel, &mode.options(), 64)?;
        let session = Rc::new(Session::new(ring));
        self.sessions
            .borrow_mut()
            .insert((mode, skips), Rc::clone(&session));
        Ok(session)
    }

    /// The callbacks of a family's operation, to be attached to a ring.
    pub fn ops(&self, family: Family, op: &str, ring: &Ring, id: u16) -> Ops {
        let programs = self.loaded.programs(family, true);
        Ops {
            id,
            ring_fd: ring.raw_fd(),
            prep: programs
                .program(&format!("{op}_prep"))
                .or_else(|| programs.program("prep")),
            issue: programs.program(&format!("{op}_issue")),
            fail: programs.program(&format!("{op}_fail")),
            cleanup: programs.program(&format!("{op}_cleanup")),
        }
    }

    /// A request of an operation in a slot.
    pub fn entry(&self, id: u32, slot: u64, flags: u8) -> Entry {
        Entry {
            opcode: self.loaded.kernel.opcode.unwrap_or_default(),
            flags,
            offset: slot,
            op_flags: id << ID_SHIFT,
            own: OwnFields::default(),
        }
    }
}
