// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One process of a run: its threads, each with rings of its own, on programs
//! that all processes share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, RwLock};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::board::{Board, Ended};
use super::plan::{Action, MOST_IN_FLIGHT, Operation, Place, operation};
use super::{Options, attach, batch, chaos};
use crate::error::Failure;
use crate::memory::{Memory, Region};
use crate::smoke::Stop;
use crate::smoke::bench::{Bench, Loaded, Share};
use crate::smoke::case::Variant;
use crate::smoke::programs::Family;
use crate::smoke::transfer;

/// Those that the operations use; what must not sleep, too.
pub const FAMILIES: [(Family, bool); 7] = [
    (Family::Copy, true),
    (Family::Checksum, true),
    (Family::Fill, true),
    (Family::Chunks, true),
    (Family::Callbacks, true),
    (Family::Copy, false),
    (Family::Checksum, false),
];
/// The families with an arena.
const ARENAS: [(Family, bool); 5] = [
    (Family::Copy, true),
    (Family::Checksum, true),
    (Family::Fill, true),
    (Family::Copy, false),
    (Family::Checksum, false),
];
/// Each thread's own bytes of an arena.
const ARENA_PART: usize = 4 << 20;
/// How many times longer than alone a request may take.
const PATIENCE: u32 = 15;

/// Something that must not be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wrong {
    pub process: usize,
    pub thread: usize,
    pub number: u64,
    pub operation: String,
    pub what: String,
}

/// What a process runs on.
pub struct Stage<'s> {
    pub loaded: &'s Loaded,
    pub board: &'s Board,
    pub options: &'s Options,
    /// The board's clock.
    pub start: Instant,
}

impl Stage<'_> {
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// Runs the process's threads until they are told to stop or something is
/// wrong, which the parent is told.
pub fn run(stage: &Stage<'_>, process: usize, parent: UnixStream) {
    std::panic::set_hook(Box::new(|_| {}));
    let parent = Mutex::new(parent);
    let tell = |wrong: &Wrong| {
        let mut line = serde_json::to_vec(wrong).unwrap_or_default();
        line.push(b'\n');
        let mut parent = parent.lock().unwrap_or_else(|lock| lock.into_inner());
        // A parent that has gone takes this process along.
        let _ = parent.write_all(&line);
        stage.board.stop();
    };
    if let Err(failure) = threads(stage, process, &tell) {
        tell(&Wrong {
            process,
            thread: 0,
            number: 0,
            operation: "start".into(),
            what: failure.to_string(),
        });
    }
}

fn threads(
    stage: &Stage<'_>,
    process: usize,
    tell: &(impl Fn(&Wrong) + Sync),
) -> Result<(), Failure> {
    let threads = stage.options.threads;
    let mut arenas = Vec::new();
    for (family, sleepable) in ARENAS {
        let variant = stage.loaded.variant(sleepable);
        if arenas.iter().any(|(key, _)| *key == (family, variant)) {
            continue;
        }
        let memory = stage.loaded.programs(family, variant).map_arena()?;
        arenas.extend(memory.map(|memory| ((family, variant), memory)));
    }
    let parts = split(&mut arenas, process * threads, threads);
    // A fork copies every descriptor of the process, so nothing is detached
    // by closing one while a copy is there.
    let forking = RwLock::new(());
    std::thread::scope(|scope| {
        for (thread, arenas) in parts.into_iter().enumerate() {
            let place = Place { process, thread };
            let forking = &forking;
            scope.spawn(move || {
                crate::sys::block_signals();
                if let Err(wrong) = run_thread(stage, place, arenas, forking) {
                    tell(&wrong);
                }
            });
        }
    });
    Ok(())
}

type Arenas<'m> = HashMap<(Family, Variant), Region<'m>>;

/// The parts of each arena for threads `first` and following.
fn split(
    arenas: &mut [((Family, Variant), Memory)],
    first: usize,
    threads: usize,
) -> Vec<Arenas<'_>> {
    let mut parts: Vec<Arenas<'_>> = (0..threads).map(|_| HashMap::new()).collect();
    for (key, memory) in arenas {
        let (_, mut rest) = memory.region().split_at(first * ARENA_PART);
        for part in &mut parts {
            let (mine, others) = rest.split_at(ARENA_PART);
            part.insert(*key, mine);
            rest = others;
        }
    }
    parts
}

fn run_thread(
    stage: &Stage<'_>,
    place: Place,
    arenas: Arenas<'_>,
    forking: &RwLock<()>,
) -> Result<(), Wrong> {
    let options = stage.options;
    let index = place.process * options.threads + place.thread;
    let first = index as u64 * (MOST_IN_FLIGHT + 1);
    let wrong = |number, operation: &str, what: String| Wrong {
        process: place.process,
        thread: place.thread,
        number,
        operation: operation.to_string(),
        what,
    };
    let chunks = std::fs::File::open(&options.chunks_lock)
        .map_err(|error| wrong(0, "start", format!("open the lock: {error}")))?;
    let bench = Bench::of_thread(
        stage.loaded,
        Share {
            slots: first..first + MOST_IN_FLIGHT,
            arenas: RefCell::new(arenas),
            chunks,
            patience: PATIENCE,
        },
    );
    while !stage.board.is_stopped() {
        let number = match options.only {
            Some((only, number)) if only == place => number,
            Some(_) => break,
            None => stage.board.begin(index, stage.now()),
        };
        let operation = operation(options.seed, place, number);
        if matches!(operation.action, Action::Kill(_)) {
            // It does not come back to be counted.
            stage.board.count(index, operation.kind(), Ended::Right);
        }
        let litter = first + MOST_IN_FLIGHT;
        let run = || perform(&bench, &operation, litter, forking, options);
        let result = std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(Stop::Fail(format!(
                "the test itself panicked: {}",
                text.unwrap_or_default()
            )))
        });
        match result {
            Ok(ended) => stage.board.end(index, operation.kind(), ended),
            Err(Stop::Skip(_)) => stage.board.end(index, operation.kind(), Ended::LeftOut),
            Err(Stop::Fail(what) | Stop::Stuck(what)) => {
                return Err(wrong(number, &operation.to_string(), what));
            }
        }
        if options.only.is_some() {
            break;
        }
    }
    stage.board.idle(index);
    Ok(())
}

fn perform(
    bench: &Bench<'_>,
    operation: &Operation,
    litter: u64,
    forking: &RwLock<()>,
    options: &Options,
) -> Result<Ended, Stop> {
    let seed = operation.seed;
    let (_shared, _alone);
    match operation.action {
        Action::Fork(..) | Action::Device(..) => {
            _alone = forking.write().unwrap_or_else(|lock| lock.into_inner());
        }
        _ => _shared = forking.read().unwrap_or_else(|lock| lock.into_inner()),
    }
    match &operation.action {
        Action::Transfer(case) => transfer::run(bench, case, seed).map(|()| Ended::Right),
        Action::Batch(batch) => batch::run(bench, batch, seed),
        Action::Attach(rounds) => attach::storm(bench, *rounds, seed),
        Action::Descriptors => attach::descriptors(bench, seed),
        Action::Fork(time, killed) => chaos::fork(*time, *killed, || {
            let case = "copy from=vec:split=ragged-8 to=fixed len=65537";
            let case = case.parse().map_err(Stop::Fail)?;
            transfer::run(bench, &case, seed)
        }),
        Action::Abandon(count) => chaos::abandon(bench, *count, litter),
        Action::Pressure(how) => chaos::pressure(*how),
        Action::Fault(_) if !options.faults => Ok(Ended::LeftOut),
        Action::Fault(nth) => attach::fault(bench, *nth, seed),
        Action::Device(..) if !options.devices => Ok(Ended::LeftOut),
        Action::Device(side, len) => chaos::device(bench, side, *len, seed),
        Action::Load(which) => chaos::load(bench, *which, seed),
        Action::Kill(count) => chaos::kill(bench, *count, litter),
    }
}
