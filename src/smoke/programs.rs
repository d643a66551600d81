// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Programs that are loaded once and attached to any number of rings: loading
//! takes longer than most cases.

use std::cmp::Reverse;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use libbpf_rs::{MapCore, Object, ObjectBuilder};

use super::case::Variant;
use crate::bpf_log;
use crate::crc32c_table;
use crate::error::Failure;
use crate::memory::MappedArray;
use crate::program::{BPF_F_SLEEPABLE, refused};
use crate::request::{Request, SLOTS};

/// An object file of src/bpf, as the build left it.
macro_rules! object {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bpf.o"))
    };
}

/// Bytes of arena: two buffers of the longest request and their guards.
const ARENA: usize = 2 * (64 << 20) + (1 << 20);
/// Chunks that may be written down: of the longest request, and as many more.
pub const CHUNKS: usize = 2 * (64 << 20) / 4096 + 4096;

/// The object files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Copy,
    Checksum,
    Fill,
    Chunks,
    Callbacks,
    Several,
    Repro,
}

impl Family {
    fn bytes(self) -> &'static [u8] {
        match self {
            Family::Copy => object!("copy"),
            Family::Checksum => object!("checksum"),
            Family::Fill => object!("fill"),
            Family::Chunks => object!("chunks"),
            Family::Callbacks => object!("callbacks"),
            Family::Several => object!("several"),
            Family::Repro => object!("repro"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Family::Copy => "copy",
            Family::Checksum => "checksum",
            Family::Fill => "fill",
            Family::Chunks => "chunks",
            Family::Callbacks => "callbacks",
            Family::Several => "several",
            Family::Repro => "repro",
        }
    }

    fn has_arena(self) -> bool {
        matches!(self, Family::Copy | Family::Checksum | Family::Fill)
    }
}

/// Loads families on as many CPUs as there are, the largest first: one after
/// the other, the verifier takes longer than the cases of a short run.
pub fn load_all(
    mut wanted: Vec<(Family, Variant)>,
) -> Result<Vec<(Family, Variant, Programs)>, Failure> {
    wanted.sort_by_key(|(family, _)| Reverse(family.bytes().len()));
    let next = AtomicUsize::new(0);
    let load = || {
        let mut loaded = Vec::new();
        while let Some(&(family, variant)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let programs = Programs::load(family, variant).inspect_err(|_| {
                // What the other threads would load is of no use now.
                next.store(wanted.len(), Ordering::Relaxed);
            })?;
            loaded.push((family, variant, programs));
        }
        Ok(loaded)
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, load).ok();
        // This thread loads, too, and all of it where there can be no other.
        let others: Vec<_> = (1..cpus.min(wanted.len())).map_while(spawn).collect();
        let mut loaded = vec![load()];
        loaded.extend(others.into_iter().map(|other| {
            let ended = other.join();
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }));
        let loaded: Result<Vec<_>, Failure> = loaded.into_iter().collect();
        loaded.map(|loaded| loaded.into_iter().flatten().collect())
    })
}

/// The programs of one object file, in the kernel.
pub struct Programs {
    object: Object,
    requests: Option<MappedArray<Request>>,
    arena: Option<(u64, usize)>,
}

impl Programs {
    /// Loads every program of the family. Callbacks of the variant that the
    /// kernel does not take are a failure; the few that never sleep are left
    /// out where it is they that the kernel does not take.
    pub fn load(family: Family, variant: impl Into<Variant>) -> Result<Self, Failure> {
        let variant = variant.into();
        let loaded = Self::load_with(family, variant, true);
        match loaded.is_err() && variant.sleeps() && bpf_log::wants_sleepable() {
            true => Self::load_with(family, variant, false),
            false => loaded,
        }
    }

    fn load_with(family: Family, variant: Variant, with_atomic: bool) -> Result<Self, Failure> {
        bpf_log::clear();
        let wrong = |error: libbpf_rs::Error| refused(family.name(), &error);
        let mut open = ObjectBuilder::default()
            .open_memory(family.bytes())
            .map_err(wrong)?;
        for mut map in open.maps_mut() {
            match map.name().to_str().unwrap_or_default() {
                "refuse_at_once" if !with_atomic => map.set_autocreate(false).map_err(wrong)?,
                "arena" if !family.has_arena() => map.set_autocreate(false).map_err(wrong)?,
                "arena" => map.set_max_entries((ARENA / 4096) as u32).map_err(wrong)?,
                "chunks" => map.set_max_entries(CHUNKS as u32).map_err(wrong)?,
                ".rodata.crc32c" => {
                    let table = crc32c_table::bytes();
                    let value = map.initial_value_mut().expect("the section has a value");
                    value[..table.len()].copy_from_slice(&table);
                }
                ".rodata.kfuncs" if variant == Variant::WithoutKfuncs => {
                    let value = map.initial_value_mut().expect("the section has a value");
                    value.fill(1);
                }
                _ => {}
            }
        }
        if variant.sleeps() {
            for mut program in open.progs_mut() {
                if program.name().to_string_lossy().ends_with("_issue") {
                    program.set_flags(BPF_F_SLEEPABLE);
                }
            }
        }
        let object = open.load().map_err(wrong)?;
        let mut programs = Programs {
            object,
            requests: None,
            arena: None,
        };
        programs.requests = programs.array("requests", SLOTS)?;
        programs.arena = crate::program::arena_address(&programs.object).map(|at| (at, ARENA));
        Ok(programs)
    }

    /// A program, if it is loaded.
    pub fn program(&self, name: &str) -> Option<RawFd> {
        let mut programs = self.object.progs();
        let found = programs.find(|program| program.name() == name && program.autoload())?;
        Some(found.as_fd().as_raw_fd())
    }

    /// The values of a map, mapped.
    pub fn array<T: Copy>(
        &self,
        name: &str,
        count: usize,
    ) -> Result<Option<MappedArray<T>>, Failure> {
        let found = self.object.maps().find(|map| map.name() == name);
        found
            .map(|map| MappedArray::new(map.as_fd(), count))
            .transpose()
    }

    pub fn requests(&self) -> &MappedArray<Request> {
        self.requests.as_ref().expect("the family has requests")
    }

    /// Maps the arena where the programs see it: this mapping is not inherited by
    /// the processes that run the cases, which leave its place free.
    pub fn map_arena(&self) -> Result<Option<crate::memory::Memory>, Failure> {
        let Some((address, len)) = self.arena else {
            return Ok(None);
        };
        let map = self.object.maps().find(|map| map.name() == "arena");
        let map = map.expect("an arena that is mapped is there");
        crate::memory::Memory::at(address, map.as_fd(), len).map(Some)
    }
}
