// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Random operations from a seed, on rings and threads of several processes,
//! with teardown at the worst moment.
//!
//! [`plan`] says what each thread does, [`worker`] is the process that does it
//! and writes on the [`board`] where it stands, [`process`] starts, kills and
//! watches the processes. [`batch`], [`attach`] and [`chaos`] are the
//! operations that `smoke` does not have.

mod attach;
mod batch;
pub mod board;
mod chaos;
mod faults;
mod kind;
pub mod plan;
mod process;
pub mod summary;
mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use kind::Kind;
use plan::Place;

use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::kernel::Kernel;
use crate::leftovers::{self, Present};
use crate::smoke::bench::Loaded;
use crate::smoke::kmsg::KernelLog;
use board::Board;
use faults::FaultInjection;
use summary::Summary;

/// Threads of all processes together: each has its own slots.
pub const MOST_THREADS: usize = 16;

/// What a run does.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub seconds: u64,
    pub processes: usize,
    pub threads: usize,
    /// Just this operation of this thread, once.
    pub only: Option<(Place, u64)>,
    /// A file that any thread may lock.
    pub chunks_lock: PathBuf,
    pub faults: bool,
    pub devices: bool,
}

/// Runs for the time of the options, and looks at what is left. `tell` is told
/// again and again how long it has run, and how many operations were begun.
pub fn run(
    kernel: Kernel,
    mut options: Options,
    tell: &dyn Fn(Duration, u64),
) -> Result<Summary, Failure> {
    let interrupt = Interrupt::catch()?;
    let mut left_out = Vec::new();
    let mut log = KernelLog::open();
    if log.is_none() {
        left_out.push("the kernel's log: /dev/kmsg cannot be read".to_string());
    }
    crate::ublk::cleanup()?;
    let before = Present::look();
    options.devices = std::path::Path::new("/dev/ublk-control").exists();
    if !options.devices {
        left_out.push("ublk devices: no /dev/ublk-control".to_string());
    }
    let faults = match FaultInjection::prepare() {
        Ok(faults) => Some(faults),
        Err(why) => {
            left_out.push(why);
            None
        }
    };
    options.faults = faults.is_some();
    let lock = tempfile::NamedTempFile::new()
        .map_err(|error| Failure::io("make a temporary file", &error))?;
    options.chunks_lock = lock.path().to_path_buf();

    let loaded = Loaded::new(kernel, &worker::FAMILIES)?;
    let board = Board::new(options.processes * options.threads)?;
    let start = Instant::now();
    let stage = worker::Stage {
        loaded: &loaded,
        board: &board,
        options: &options,
        start,
    };
    let time = Duration::from_secs(options.seconds);
    let mut outcome = process::run(&stage, time, &mut log, &interrupt, tell)?;
    let took = start.elapsed();
    drop(loaded);
    drop(faults);
    let left = leftovers::left_since(&before)?;
    if outcome.log.is_none() {
        outcome.log = log.as_mut().and_then(KernelLog::trouble);
    }
    Ok(Summary {
        took,
        operations: board.started(),
        counts: Kind::ALL.map(|kind| (kind, board.total(kind))).to_vec(),
        options,
        outcome,
        left_out,
        left,
    })
}
