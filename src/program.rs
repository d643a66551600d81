// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! BPF programs, loaded and attached to a ring for as long as they exist.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Mutex;

use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{AsRawLibbpf, Link, MapCore, OpenObject};

use crate::bpf_log;
use crate::bpf_skel::{attach, bench, blocks, checksum, chunks, copy, fill};
use crate::error::{Failure, errno_in};
use crate::kernel::{IDS, Kernel, Overrides};
use crate::memory::{MappedArray, Region, SharedWords};
use crate::options::RingOptions;
use crate::permission;
use crate::request::{Chunk, Parity, Request, SLOTS, Stream};
use crate::ring::{self, Ring};
use crate::{crc32c_table, sys};

/// include/uapi/linux/bpf.h: the program may sleep.
pub(crate) const BPF_F_SLEEPABLE: u32 = 1 << 4;

/// kernel/bpf/arena.c: the programs address it with 32 bits.
const LARGEST_ARENA: u64 = 4 << 30;

/// One object file of src/bpf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Attach,
    Bench,
    Blocks,
    Checksum,
    Chunks,
    Copy,
    Fill,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Family::Attach => "attach",
            Family::Bench => "bench",
            Family::Blocks => "blocks",
            Family::Checksum => "checksum",
            Family::Chunks => "chunks",
            Family::Copy => "copy",
            Family::Fill => "fill",
        }
    }
}

/// What to load of a family.
#[derive(Debug, Clone, Default)]
pub struct Plan<'a> {
    /// Names of the struct_ops maps; the position of each becomes its id.
    pub ops: Vec<&'a str>,
    /// Bytes of arena that the requests use; 0 for none.
    pub arena: usize,
    /// Chunks that the `chunks` family may write down.
    pub chunks: usize,
    /// The id of the first of the ops; the others follow.
    pub first_id: usize,
    /// Entries of other maps, by name.
    pub entries: Vec<(&'a str, u32)>,
    /// Maps that exist already and are used in place of the family's own.
    pub shared: Vec<(&'a str, BorrowedFd<'a>)>,
    /// Never sleepable, even where the kernel would allow it.
    pub non_sleepable: bool,
}

/// Where the objects of a program live; outlives it.
#[derive(Debug)]
pub struct Storage {
    sleepable: MaybeUninit<OpenObject>,
    atomic: MaybeUninit<OpenObject>,
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            sleepable: MaybeUninit::uninit(),
            atomic: MaybeUninit::uninit(),
        }
    }
}

/// Programs of one family, attached to one ring. Dropping it detaches them:
/// before the ring goes, which the borrow sees to.
pub struct Program<'r> {
    // Links go before the object that they are links to.
    links: Vec<Link>,
    requests: Option<MappedArray<Request>>,
    skeleton: Box<dyn Skel<'r> + 'r>,
    ops: Vec<String>,
    first_id: usize,
    arena: Mutex<usize>,
    sleepable: bool,
    ring: PhantomData<&'r Ring>,
}

/// Refuses an arena that no kernel makes.
pub fn check_arena(bytes: u64) -> Result<(), Failure> {
    match bytes > LARGEST_ARENA {
        true => Err(Failure::usage(format!(
            "an arena of {bytes} bytes, guards included: the kernel takes at most 4 GiB"
        ))),
        false => Ok(()),
    }
}

impl<'r> Program<'r> {
    /// Loads the plan's operations and attaches them to the ring: sleepable
    /// where the kernel accepts that.
    pub fn attach(
        ring: &'r Ring,
        storage: &'r mut Storage,
        family: Family,
        plan: &Plan<'_>,
    ) -> Result<Self, Failure> {
        assert!(
            plan.first_id + plan.ops.len() <= IDS as usize,
            "a ring has {IDS} ids"
        );
        check_arena(plan.arena as u64)?;
        let Storage { sleepable, atomic } = storage;
        let load = |storage, may_sleep| match family {
            Family::Attach => load(
                attach::AttachSkelBuilder::default(),
                storage,
                ring,
                plan,
                may_sleep,
            ),
            Family::Bench => load(
                bench::BenchSkelBuilder::default(),
                storage,
                ring,
                plan,
                may_sleep,
            ),
            Family::Blocks => load(
                blocks::BlocksSkelBuilder::default(),
                storage,
                ring,
                plan,
                may_sleep,
            ),
            Family::Checksum => load(
                checksum::ChecksumSkelBuilder::default(),
                storage,
                ring,
                plan,
                may_sleep,
            ),
            Family::Chunks => load(
                chunks::ChunksSkelBuilder::default(),
                storage,
                ring,
                plan,
                may_sleep,
            ),
            Family::Copy => load(
                copy::CopySkelBuilder::default(),
                storage,
                ring,
                plan,
                may_sleep,
            ),
            Family::Fill => load(
                fill::FillSkelBuilder::default(),
                storage,
                ring,
                plan,
                may_sleep,
            ),
        };
        let first = if plan.non_sleepable {
            None
        } else {
            load(sleepable, true).ok()
        };
        let (mut skeleton, sleepable) = match first {
            Some(skeleton) => (skeleton, true),
            None => (
                load(atomic, false).map_err(|error| refused(family.name(), &error))?,
                false,
            ),
        };

        let mut links = Vec::new();
        for name in &plan.ops {
            let link = skeleton
                .object_mut()
                .maps_mut()
                .find(|map| map.name() == *name)
                .expect("the operation was found when the object was opened")
                .attach_struct_ops()
                .map_err(|error| Failure::os(format!("attach {name}"), errno(&error)))?;
            links.push(link);
        }
        let requests = array(skeleton.as_ref(), "requests", SLOTS)?;
        Ok(Program {
            links,
            requests,
            skeleton,
            ops: plan.ops.iter().map(|name| name.to_string()).collect(),
            first_id: plan.first_id,
            arena: Mutex::new(plan.arena),
            sleepable,
            ring: PhantomData,
        })
    }

    pub fn sleepable(&self) -> bool {
        self.sleepable
    }

    /// How many of the ring's ids these programs take.
    pub fn attached(&self) -> usize {
        self.links.len()
    }

    /// The id under which an operation of the plan is attached.
    pub fn id(&self, op: &str) -> u8 {
        let position = self.ops.iter().position(|name| name == op);
        let position = position.expect("only operations of the plan are asked for");
        (self.first_id + position) as u8
    }

    pub fn request(&self, slot: usize) -> Request {
        self.requests().get(slot)
    }

    pub fn set_request(&self, slot: usize, request: Request) {
        self.requests().set(slot, request);
    }

    /// The slots that requests travel in.
    pub fn requests(&self) -> &MappedArray<Request> {
        self.requests
            .as_ref()
            .expect("every family but `attach` has requests")
    }

    /// The arena, every page of it present, once: whoever takes it has it alone.
    pub fn arena(&self) -> Result<Option<Region<'_>>, Failure> {
        let len = match self.arena.lock() {
            Ok(mut len) => std::mem::take(&mut *len),
            Err(_) => 0,
        };
        let start = arena_address(self.skeleton.object());
        let Some(start) = start.and_then(|start| NonNull::new(start as *mut u8)) else {
            return Ok(None);
        };
        if len == 0 {
            return Ok(None);
        }
        // SAFETY: libbpf mapped max_entries pages here, at least `len` bytes,
        // until the object goes with this program; and it is taken only once.
        let mut region = unsafe { Region::new(start, len) };
        crate::proc::require_memory("the arena", len as u64)?;
        region.populate()?;
        Ok(Some(region))
    }

    /// The chunks that the `chunks` family wrote down.
    pub fn chunks(&self, count: usize) -> Result<Vec<Chunk>, Failure> {
        let chunks = array::<Chunk>(self.skeleton.as_ref(), "chunks", count)?;
        Ok(chunks.map_or_else(Vec::new, |chunks| {
            (0..count).map(|i| chunks.get(i)).collect()
        }))
    }

    /// What each attempt of the `check` operation returned.
    pub fn refusals(&self) -> Result<Option<MappedArray<i64>>, Failure> {
        array(
            self.skeleton.as_ref(),
            "refusals",
            crate::request::REFUSALS.len(),
        )
    }

    /// The checksums that the `blocks` family noted, as words.
    pub fn written(&self, entries: usize) -> Result<SharedWords, Failure> {
        let found = self
            .skeleton
            .object()
            .maps()
            .find(|map| map.name() == "written");
        let map = found.ok_or_else(|| Failure::environment("these programs write no checksums"))?;
        SharedWords::new(map.as_fd(), entries)
    }

    /// The parity that each slot's write keeps up: of the `blocks` family.
    pub fn parities(&self) -> Result<Option<MappedArray<Parity>>, Failure> {
        array(self.skeleton.as_ref(), "parities", SLOTS)
    }

    /// The states of the `checksum` family's streams.
    pub fn streams(&self) -> Result<Option<MappedArray<Stream>>, Failure> {
        array(self.skeleton.as_ref(), "streams", SLOTS)
    }
}

/// Where libbpf mapped a loaded object's arena, if it has one.
pub(crate) fn arena_address(object: &libbpf_rs::Object) -> Option<u64> {
    let map = object.maps().find(|map| map.name() == "arena")?;
    let mut size = 0;
    // SAFETY: the map belongs to the loaded object; libbpf only reads it.
    let start = unsafe {
        libbpf_rs::libbpf_sys::bpf_map__initial_value(map.as_libbpf_object().as_ptr(), &mut size)
    };
    NonNull::new(start).map(|start| start.as_ptr() as u64)
}

fn array<T: Copy>(
    skeleton: &(dyn Skel<'_> + '_),
    name: &str,
    count: usize,
) -> Result<Option<MappedArray<T>>, Failure> {
    if count == 0 {
        return Ok(None);
    }
    let found = skeleton.object().maps().find(|map| map.name() == name);
    found
        .map(|map| MappedArray::new(map.as_fd(), count))
        .transpose()
}

/// Opens, configures and loads the object of one family.
fn load<'r, B>(
    builder: B,
    storage: &'r mut MaybeUninit<OpenObject>,
    ring: &Ring,
    plan: &Plan<'_>,
    sleepable: bool,
) -> libbpf_rs::Result<Box<dyn Skel<'r> + 'r>>
where
    B: SkelBuilder<'r>,
    <B::Output as OpenSkel<'r>>::Output: 'r,
{
    bpf_log::clear();
    let mut skeleton = builder.open(storage)?;
    let object = skeleton.open_object_mut();
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some((_, fd)) = plan.shared.iter().find(|(shared, _)| *shared == name) {
            map.reuse_fd(*fd)?;
            continue;
        }
        if let Some((_, entries)) = plan.entries.iter().find(|(sized, _)| *sized == name) {
            map.set_max_entries(*entries)?;
            continue;
        }
        match name.as_str() {
            "arena" if plan.arena == 0 => map.set_autocreate(false)?,
            "arena" => map.set_max_entries(plan.arena.div_ceil(sys::page_size()) as u32)?,
            "chunks" => map.set_max_entries(plan.chunks.max(1) as u32)?,
            ".rodata.crc32c" => {
                let table = crc32c_table::bytes();
                let value = map.initial_value_mut().expect("the section has a value");
                value[..table.len()].copy_from_slice(&table);
            }
            ".rodata.kfuncs" if ring.without_kfuncs() => {
                let value = map.initial_value_mut().expect("the section has a value");
                value.fill(1);
            }
            name => match plan.ops.iter().position(|op| *op == name) {
                Some(id) => {
                    let value = map
                        .initial_value_mut()
                        .expect("struct_ops maps have a value");
                    // Our own declaration of struct uring_bpf_ops (src/bpf/kernel.h):
                    // `unsigned short id; int ring_fd;`.
                    value[0..2].copy_from_slice(&((plan.first_id + id) as u16).to_ne_bytes());
                    value[4..8].copy_from_slice(&ring.raw_fd().to_ne_bytes());
                }
                None if map.map_type() == libbpf_rs::MapType::StructOps => {
                    map.set_autocreate(false)?;
                }
                None => {}
            },
        }
    }
    if sleepable {
        for mut program in object.progs_mut() {
            if program.name().to_string_lossy().ends_with("_issue") {
                program.set_flags(BPF_F_SLEEPABLE);
            }
        }
    }
    Ok(Box::new(skeleton.load()?))
}

/// The programs of a family were not loaded: by the verifier, or for something
/// else.
pub(crate) fn refused(family: &str, error: &libbpf_rs::Error) -> Failure {
    bpf_log::show();
    let what = format!("load the {family} programs");
    if bpf_log::wants_sleepable() {
        return Failure::missing([
            "iterators for programs that cannot sleep (this kernel's are for sleepable ones)",
        ]);
    }
    if let Some(verdict) = bpf_log::verdict() {
        return Failure::mismatch(format!("{what}: the verifier refuses: {verdict}"));
    }
    let errno = errno(error);
    let failure = Failure::os(what, errno);
    match errno {
        libc::EPERM | libc::EACCES => failure.next(permission::needed()),
        _ => failure,
    }
}

/// libbpf-rs hides the errno of its errors, but prints it.
pub(crate) fn errno(error: &libbpf_rs::Error) -> i32 {
    errno_in(&format!("{error:#}")).unwrap_or(libc::EIO)
}

/// The setup flag that makes a ring take BPF programs, found by attaching the
/// empty one: on a ring without the flag that fails with EINVAL.
pub(crate) fn setup_flag(kernel: &Kernel) -> Result<u32, Failure> {
    static FOUND: Mutex<Option<(Overrides, u32)>> = Mutex::new(None);
    let mut found = FOUND
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((overrides, flag)) = *found
        && overrides == kernel.overrides
    {
        return Ok(flag);
    }
    if let Some(flag) = kernel.known_setup_flag() {
        return Ok(flag);
    }
    let opcode = kernel.opcode.unwrap_or_default();
    for flag in kernel.setup_flag_candidates() {
        let ring = match Ring::with_flags(flag, 1, opcode) {
            Ok(ring) => ring,
            // No such flag.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => continue,
            Err(error) => return Err(ring::setup_failure(&error)),
        };
        let mut storage = Storage::default();
        let plan = Plan {
            ops: vec!["empty"],
            ..Plan::default()
        };
        match Program::attach(&ring, &mut storage, Family::Attach, &plan) {
            Ok(_) => {
                *found = Some((kernel.overrides, flag));
                return Ok(flag);
            }
            Err(failure) if is_invalid(&failure) => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::missing([
        "a setup flag for BPF programs (name it with --kernel-flag setup-flag=VALUE)",
    ]))
}

/// Loads and attaches the empty program; says whether it may sleep.
pub fn try_out(kernel: &Kernel) -> Result<bool, Failure> {
    let ring = Ring::open(kernel, &RingOptions::default(), 1)?;
    let mut storage = Storage::default();
    let plan = Plan {
        ops: vec!["empty"],
        ..Plan::default()
    };
    let program = Program::attach(&ring, &mut storage, Family::Attach, &plan)?;
    Ok(program.sleepable())
}

fn is_invalid(failure: &Failure) -> bool {
    matches!(failure, Failure::Environment(environment)
        if environment.errno().is_some_and(|errno| errno.number() == libc::EINVAL))
}
