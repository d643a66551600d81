// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Whole files through BPF, block by block on registered buffers: the ring
//! itself reads and writes.

mod checksum;
mod copy;
mod fill;
mod input;
mod lanes;
mod list;
mod output;

pub use checksum::run as checksum;
pub use copy::run as copy;
pub use fill::run as fill;
pub use output::Output;

use std::time::Duration;

use crate::cli::{FileArgs, GlobalArgs, RequestArgs};
use crate::cmd;
use crate::error::Failure;
use crate::memory::Memory;
use crate::program::{Family, Plan, Program, Storage};
use crate::registration::Table;
use crate::ring::Ring;
use crate::units;
use lanes::{Lanes, STAGES};

/// Blocks in flight, unless the user says how many.
const DEFAULT_DEPTH: u32 = 8;

/// Opens a ring, loads one operation, and hands `work` that many lanes of
/// registered buffers. Everything is gone again when it returns.
fn with_lanes<T>(
    global: &GlobalArgs,
    request: &RequestArgs,
    files: &FileArgs,
    family: Family,
    operation: &str,
    work: impl FnOnce(&mut Lanes<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let kernel = cmd::kernel(global)?;
    let depth = request.depth.unwrap_or(DEFAULT_DEPTH) as usize;
    let block = files.block as usize;
    // Declared in this order so that each is dropped before what it uses.
    let mut memory = Memory::anonymous(2 * depth * block, Default::default())?;
    let entries = (depth * STAGES).next_power_of_two() as u32;
    let ring = Ring::open(&kernel, &request.ring_options(), entries)?;
    let mut storage = Storage::default();
    let plan = Plan {
        ops: vec![operation],
        non_sleepable: request.non_sleepable,
        ..Plan::default()
    };
    let program = Program::attach(&ring, &mut storage, family, &plan)?;
    let table = Table::new(&ring, 2 * depth as u32)?;
    let mut lanes = Lanes::new(
        &ring,
        program.requests(),
        program.id(operation),
        request.sqe_options(),
        program.sleepable(),
        memory.region(),
        block,
    );
    lanes.register(&table)?;
    work(&mut lanes)
}

/// Size, time and rate of a job on a file.
fn amount(bytes: u64, took: Duration) -> String {
    format!(
        "{} in {}, {}",
        units::exact(bytes),
        units::time(took),
        units::rate_of(bytes, took)
    )
}

/// A wrong result of the BPF program on a block of a file.
fn wrong(what: &str, offset: u64, detail: impl std::fmt::Display) -> Failure {
    Failure::mismatch(format!("{what} of the block at {offset}: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_job_has_size_time_and_rate() {
        let took = Duration::from_millis(2100);
        assert_eq!(amount(1 << 30, took), "1 GiB in 2.1 s, 488 MiB/s");
        assert_eq!(amount(0, Duration::ZERO), "0 bytes in 0 ms, 0 B/s");
    }
}
