// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What reproducers run on: loaded programs, rings, and requests made by hand.

use std::time::{Duration, Instant};

use crate::bpf_log;
use crate::error::Failure;
use crate::kernel::{ID_SHIFT, Kernel};
use crate::memory::MappedArray;
use crate::request::{Descriptor, SLOTS, Trial};
use crate::ring::Ring;
use crate::smoke::programs::{Family, Programs};
use crate::spec::RingOptions;
use crate::struct_ops::{Attachment, Ops, ValueType};

/// A completion that is not there by then does not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// A second completion comes at once, or not at all.
const SETTLE: Duration = Duration::from_millis(50);
/// Entries of the rings; a power of two.
pub const ENTRIES: usize = 32;

/// `sqe->opcode` and `sqe->flags` (UAPI).
pub const OP_READ: u8 = 22;
pub const LINK: u8 = 1 << 2;

/// One submission queue entry.
#[derive(Debug, Clone, Copy)]
pub struct Sqe {
    pub opcode: u8,
    pub flags: u8,
    pub fd: i32,
    pub off: u64,
    pub addr: u64,
    pub len: u32,
    pub op_flags: u32,
}

impl Sqe {
    /// A read. Of no file, unless it is given one.
    pub fn read() -> Self {
        Sqe {
            opcode: OP_READ,
            flags: 0,
            fd: -1,
            off: 0,
            addr: 0,
            len: 0,
            op_flags: 0,
        }
    }

    fn bytes(&self, user_data: u64) -> [u8; 64] {
        let mut entry = [0; 64];
        entry[0] = self.opcode;
        entry[1] = self.flags;
        entry[4..8].copy_from_slice(&self.fd.to_ne_bytes());
        entry[8..16].copy_from_slice(&self.off.to_ne_bytes());
        entry[16..24].copy_from_slice(&self.addr.to_ne_bytes());
        entry[24..28].copy_from_slice(&self.len.to_ne_bytes());
        entry[28..32].copy_from_slice(&self.op_flags.to_ne_bytes());
        entry[32..40].copy_from_slice(&user_data.to_ne_bytes());
        entry
    }
}

/// Loaded programs of one family.
pub struct Stage<'k> {
    pub kernel: &'k Kernel,
    pub value: ValueType,
    programs: Programs,
}

impl<'k> Stage<'k> {
    /// Programs that may sleep where the kernel takes such.
    pub fn new(kernel: &'k Kernel, family: Family) -> Result<Self, Failure> {
        let programs = Programs::load(family, true).or_else(|_| Programs::load(family, false))?;
        Self::with(kernel, programs)
    }

    /// Programs that cannot sleep, if the kernel gives such its iterators.
    fn non_sleepable(kernel: &'k Kernel, family: Family) -> Result<Option<Self>, Failure> {
        match Programs::load(family, false) {
            Ok(programs) => Self::with(kernel, programs).map(Some),
            Err(_) if bpf_log::wants_sleepable() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn with(kernel: &'k Kernel, programs: Programs) -> Result<Self, Failure> {
        Ok(Stage {
            kernel,
            value: ValueType::read()?,
            programs,
        })
    }

    /// A ring with the setup flag.
    pub fn ring(&self) -> Result<Ring, Failure> {
        Ring::open(self.kernel, &RingOptions::default(), ENTRIES as u32)
    }

    /// Attaches an operation of the family, which goes before the ring does.
    pub fn attach(&self, ring: &Ring, op: &str, id: u16) -> Result<Attachment, Failure> {
        let ops = self.ops(ring, op, id);
        let attached = self.value.attach(&ops);
        attached.map_err(|error| Failure::io(format!("attach {op} as id {id}"), &error))
    }

    pub fn ops(&self, ring: &Ring, op: &str, id: u16) -> Ops {
        let callback = |suffix: &str| self.programs.program(&format!("{op}_{suffix}"));
        Ops {
            id,
            ring_fd: ring.raw_fd(),
            prep: callback("prep").or_else(|| self.programs.program("prep")),
            issue: callback("issue"),
            fail: callback("fail"),
            cleanup: callback("cleanup"),
        }
    }

    /// A request of an operation on a slot.
    pub fn request(&self, id: u32, slot: usize) -> Sqe {
        Sqe {
            opcode: self.kernel.opcode.unwrap_or_default(),
            off: slot as u64,
            op_flags: id << ID_SHIFT,
            ..Sqe::read()
        }
    }

    /// The values of the family's map of this name.
    pub fn array<T: Copy>(&self, name: &str) -> Result<MappedArray<T>, Failure> {
        let array = self.programs.array(name, SLOTS)?;
        array.ok_or_else(|| Failure::environment(format!("the programs have no map {name}")))
    }
}

/// A ring, the `repro` programs, and one of them attached as id 0.
pub struct Walker<'k> {
    stage: Stage<'k>,
    trials: MappedArray<Trial>,
    // Detached before the ring goes: the posted kernel oopses otherwise.
    _attached: Attachment,
    pub ring: Ring,
}

impl<'k> Walker<'k> {
    /// Programs that may sleep where the kernel takes such.
    pub fn new(kernel: &'k Kernel, op: &str) -> Result<Self, Failure> {
        Self::on(Stage::new(kernel, Family::Repro)?, op)
    }

    /// One that cannot sleep, if the kernel gives such its iterators.
    pub fn non_sleepable(kernel: &'k Kernel, op: &str) -> Result<Option<Self>, Failure> {
        let stage = Stage::non_sleepable(kernel, Family::Repro)?;
        stage.map(|stage| Self::on(stage, op)).transpose()
    }

    fn on(stage: Stage<'k>, op: &str) -> Result<Self, Failure> {
        let ring = stage.ring()?;
        Ok(Walker {
            trials: stage.array("trials")?,
            _attached: stage.attach(&ring, op, 0)?,
            ring,
            stage,
        })
    }

    /// Has the program walk a buffer.
    pub fn walk(&self, buffer: Descriptor) -> Result<Trial, Failure> {
        self.trials.set(
            0,
            Trial {
                buffer,
                ..Trial::default()
            },
        );
        let result = run_one(&self.ring, &self.stage.request(0, 0))?;
        let trial = self.trials.get(0);
        match result {
            0 => Ok(trial),
            // A kernel that tells of a walk's error by the completion.
            result if result == -libc::EFAULT && trial.error == 0 => Ok(Trial {
                error: result,
                ..trial
            }),
            _ => Err(Failure::environment(format!(
                "a request that walks a buffer ends with {}",
                crate::errno::res_text(result)
            ))),
        }
    }
}

/// Submits one entry, and takes what must be its only completion.
pub fn run_one(ring: &Ring, sqe: &Sqe) -> Result<i32, Failure> {
    match run(ring, &[*sqe])?[0][..] {
        [result] => Ok(result),
        ref results => Err(Failure::environment(format!(
            "a request has {} completions",
            results.len()
        ))),
    }
}

/// Submits entries, and takes the results of all completions of each that come
/// within a time.
pub fn run(ring: &Ring, sqes: &[Sqe]) -> Result<Vec<Vec<i32>>, Failure> {
    submit(ring, sqes)?;
    let mut results = vec![Vec::new(); sqes.len()];
    let until = Instant::now() + PATIENCE;
    while results.iter().any(Vec::is_empty) && Instant::now() < until {
        ring.submit_and_wait_for(until.saturating_duration_since(Instant::now()))?;
        take(ring, &mut results);
    }
    Ok(results)
}

/// The same, where a second completion is to be feared.
pub fn run_and_settle(ring: &Ring, sqe: &Sqe, patience: Duration) -> Result<Vec<i32>, Failure> {
    submit(ring, &[*sqe])?;
    let mut results = [Vec::new()];
    ring.submit_and_wait_for(patience)?;
    take(ring, &mut results);
    std::thread::sleep(SETTLE);
    ring.submit_and_wait(0)?;
    take(ring, &mut results);
    let [results] = results;
    Ok(results)
}

pub fn submit(ring: &Ring, sqes: &[Sqe]) -> Result<(), Failure> {
    for (number, sqe) in sqes.iter().enumerate() {
        assert!(ring.push_bytes(&sqe.bytes(number as u64)), "there is room");
    }
    ring.submit_and_wait(0)
}

pub fn take(ring: &Ring, results: &mut [Vec<i32>]) {
    while let Some(completion) = ring.completion() {
        if let Some(results) = results.get_mut(completion.user_data as usize) {
            results.push(completion.result);
        }
    }
}
