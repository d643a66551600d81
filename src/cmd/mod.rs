// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One thin file per command.

mod bench;
mod checksum;
mod chunks;
mod client;
mod completions;
mod copy;
mod fill;
mod man;
mod probe;
mod repro;
mod smoke;
mod stress;
mod ublk;

use crate::bpf_log;
use crate::cli::{Cli, Command, GlobalArgs, RequestArgs};
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::operation::{self, Operand, Setup, parts};
use crate::spec::{BufferSpec, DEFAULT_LEN, MAX_REGISTERED, PageKind};

/// Runs the command.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    bpf_log::capture(cli.global.verbose);
    let global = &cli.global;
    global.check()?;
    match cli.command {
        Command::Probe(args) => probe::run(global, &args),
        Command::Copy(args) => copy::run(global, &args),
        Command::Checksum(args) => checksum::run(global, &args),
        Command::Fill(args) => fill::run(global, &args),
        Command::Chunks(args) => chunks::run(global, &args),
        Command::Smoke(args) => Ok(smoke::run(global, &args)?),
        Command::Stress(args) => Ok(stress::run(global, &args)?),
        Command::Repro(args) => Ok(repro::run(global, &args)?),
        Command::Client => client::run(),
        Command::Ublk(args) => ublk::run(global, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Bench(args) => bench::run(global, &args),
    }
}

/// The running kernel; a failure that names what it lacks.
pub(crate) fn kernel(global: &GlobalArgs) -> Result<Kernel, Failure> {
    let kernel = Kernel::read(global.overrides());
    let missing = kernel.missing();
    if missing.is_empty() {
        Ok(kernel)
    } else {
        Err(Failure::missing(missing))
    }
}

/// How the buffers' requests are run. Without a seed a new one is made: it is
/// printed with the result, so that any run can be repeated.
fn setup(global: &GlobalArgs, request: &RequestArgs) -> Result<Setup, Failure> {
    Ok(Setup {
        kernel: kernel(global)?,
        ring: request.ring_options(),
        sqe: request.sqe_options(),
        depth: request.depth(),
        seed: request.seed.unwrap_or_else(new_seed),
        non_sleepable: request.non_sleepable,
        registration: request.registration(),
    })
}

fn new_seed() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    // Short enough to be typed again.
    (now ^ u64::from(std::process::id()) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

/// Arguments that no single option can refuse; before anything is read.
fn check_buffer(spec: &BufferSpec, request: &RequestArgs) -> Result<(), Failure> {
    let chosen_by_kernel = request.auto_buf_reg && spec.pages() == PageKind::Kernel;
    if chosen_by_kernel && spec.index().is_some() {
        return Err(Failure::usage(format!(
            "{spec}: --auto-buf-reg leaves the table slot to the kernel: drop index"
        )));
    }
    Ok(())
}

/// The buffer that a specification names, in table slot `index` unless it says
/// otherwise.
fn operand(
    spec: &BufferSpec,
    len: u64,
    index: u16,
    request: &RequestArgs,
    seed: u64,
) -> Result<Operand, Failure> {
    let shape = spec
        .shape(len, spec.index().unwrap_or(index), seed)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let operand = Operand {
        shape,
        pages: spec.pages(),
    };
    let depth = request.depth();
    operation::check(&[&operand], depth, seed)?;
    let slots = operand.slots(parts(&[&operand], depth).len());
    if usize::from(operand.shape.index) + slots > usize::from(MAX_REGISTERED) {
        return Err(Failure::usage(format!(
            "{spec}: takes {slots} table slots, of which there are {MAX_REGISTERED}"
        )));
    }
    Ok(operand)
}

/// The length of a buffer that nothing else determines.
fn length(spec: &BufferSpec) -> u64 {
    spec.len().unwrap_or(DEFAULT_LEN)
}

/// How the programs ran, for the human line.
fn sleepability(sleepable: bool) -> &'static str {
    if sleepable { "" } else { ", non-sleepable" }
}
