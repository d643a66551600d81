// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What each thread does, from the seed alone: operation N of a thread is the
//! same whatever came before it, so a process that was killed goes on where it
//! stood, and any operation can be repeated by itself.

use std::fmt;

use super::kind::Kind;
use crate::cli::Algorithm;
use crate::layout::Random;
use crate::smoke::case::{Mode, RingMode, Side, Split, State, Transfer, Work};
use crate::smoke::shapes::is_possible;
use crate::spec::{BufferType, PageKind};

/// The longest request.
pub const LONGEST: u64 = 256 << 10;
/// Requests in flight at once: each thread has as many slots, and one more.
pub const MOST_IN_FLIGHT: u64 = 6;

/// Which thread of which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub process: usize,
    pub thread: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.process, self.thread)
    }
}

/// What is done to the buffer or to the programs of requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    None,
    /// mprotect(2) to nothing at all, and back.
    Protect,
    /// As munmap(2), and mapped again.
    Unmap,
    /// The pages leave the page tables; the file has the bytes.
    Discard,
    /// The registered buffer leaves the table, and comes back.
    Unregister,
    /// Another buffer takes its slot in the table, and it comes back.
    Replace,
    /// The programs are detached.
    Detach,
}

impl Disturbance {
    pub fn name(self) -> &'static str {
        match self {
            Disturbance::None => "nothing",
            Disturbance::Protect => "mprotect",
            Disturbance::Unmap => "munmap",
            Disturbance::Discard => "discard",
            Disturbance::Unregister => "unregister",
            Disturbance::Replace => "replace",
            Disturbance::Detach => "detach",
        }
    }
}

/// Requests over one buffer, in flight together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub work: Work,
    pub side: Side,
    pub len: u64,
    pub count: u64,
    pub ring: RingMode,
    pub disturbance: Disturbance,
    /// How often, while they are in flight.
    pub times: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Transfer(Transfer),
    Batch(Batch),
    /// Attach to and detach from random ids, in several rounds.
    Attach(u64),
    /// A ring known by a descriptor that is duplicated, closed and reused.
    Descriptors,
    /// A forked process holds all descriptors for so many milliseconds; it
    /// ends by itself or is killed.
    Fork(u64, bool),
    /// The ring is closed with so many requests in flight.
    Abandon(u64),
    /// Memory is taken, caches dropped, memory compacted.
    Pressure(u64),
    /// The kernel's so-many-th allocation fails.
    Fault(u64),
    /// A ublk device comes, lends a request's pages, and goes.
    Device(Side, u64),
    /// A family of programs is loaded once more.
    Load(u64),
    /// The process is killed with so many requests in flight.
    Kill(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub action: Action,
    /// Of the bytes and their places.
    pub seed: u64,
}

/// How often each kind comes, in a thousand.
const WEIGHTS: [(Kind, u64); 17] = [
    (Kind::Copy, 224),
    (Kind::Checksum, 150),
    (Kind::Fill, 110),
    (Kind::Chunks, 60),
    (Kind::Batch, 80),
    (Kind::Protect, 50),
    (Kind::Unmap, 50),
    (Kind::Register, 70),
    (Kind::Detach, 40),
    (Kind::Attach, 60),
    (Kind::Descriptors, 40),
    (Kind::Fork, 12),
    (Kind::Abandon, 20),
    (Kind::Pressure, 6),
    (Kind::Fault, 15),
    (Kind::Device, 3),
    (Kind::Load, 4),
];
/// What is left of the thousand.
const REST: Kind = Kind::Kill;

/// Operation `number` of a thread.
pub fn operation(seed: u64, place: Place, number: u64) -> Operation {
    // Each part of the name goes through the generator, so that neighbours
    // have nothing in common.
    let mut mixed = Random(seed).next();
    for part in [place.process as u64, place.thread as u64, number] {
        mixed = Random(mixed ^ part).next();
    }
    let mut random = Random(mixed);
    let mut ticket = random.below(1000);
    let kind = WEIGHTS.into_iter().find_map(|(kind, weight)| {
        let mine = ticket < weight;
        ticket = ticket.wrapping_sub(weight);
        mine.then_some(kind)
    });
    Operation {
        action: action(kind.unwrap_or(REST), &mut random),
        seed: random.next() >> 24,
    }
}

fn action(kind: Kind, random: &mut Random) -> Action {
    match kind {
        Kind::Copy => transfer(Work::Copy, random),
        Kind::Checksum => transfer(one_of(random, &Work::ALL[1..5]), random),
        Kind::Fill => transfer(one_of(random, &Work::ALL[5..9]), random),
        Kind::Chunks => transfer(Work::List, random),
        Kind::Batch => batch(random, &[Disturbance::None]),
        Kind::Protect => batch(random, &[Disturbance::Protect]),
        Kind::Unmap => batch(random, &[Disturbance::Unmap, Disturbance::Discard]),
        Kind::Register => batch(random, &[Disturbance::Unregister, Disturbance::Replace]),
        Kind::Detach => batch(random, &[Disturbance::Detach]),
        Kind::Attach => Action::Attach(2 + random.below(8)),
        Kind::Descriptors => Action::Descriptors,
        Kind::Fork => Action::Fork(random.below(20), random.below(2) == 0),
        Kind::Abandon => Action::Abandon(1 + random.below(MOST_IN_FLIGHT)),
        Kind::Pressure => Action::Pressure(random.below(4)),
        Kind::Fault => Action::Fault(1 + random.below(60)),
        Kind::Device => {
            let kernel = PageKind::Kernel;
            let side = Side {
                pages: kernel,
                ..Side::plain(one_of(random, &[BufferType::Kfixed, BufferType::RegVec]))
            };
            Action::Device(side, length(random).max(512))
        }
        Kind::Load => Action::Load(random.below(4)),
        Kind::Kill => Action::Kill(random.below(MOST_IN_FLIGHT + 1)),
    }
}

fn one_of<T: Copy>(random: &mut Random, values: &[T]) -> T {
    values[random.below(values.len() as u64) as usize]
}

/// Around the borders of pages more often than not.
fn length(random: &mut Random) -> u64 {
    let pages = match random.below(10) {
        0 => LONGEST / 4096,
        1..=3 => 17,
        _ => 3,
    };
    let page = 4096 * random.below(pages);
    let rest = match random.below(3) {
        0 => random.below(4096),
        _ => one_of(random, &[0, 1, 7, 511, 512, 4095]),
    };
    (page + rest).min(LONGEST)
}

fn split(random: &mut Random) -> Split {
    let n = one_of(random, &[2, 3, 7, 8, 64, 255, 1024]);
    match random.below(6) {
        0..=1 => Split::One,
        2 => Split::Equal(n),
        3 => Split::Ragged(n),
        4 => Split::Empty(n),
        _ => Split::Overlap(2 + n % 7),
    }
}

fn side(random: &mut Random) -> Side {
    Side {
        kind: one_of(
            random,
            &[
                BufferType::User,
                BufferType::Fixed,
                BufferType::Vec,
                BufferType::RegVec,
                BufferType::Arena,
            ],
        ),
        offset: match random.below(3) {
            0 => 0,
            1 => one_of(random, &[1, 8, 511, 512, 4088, 4095]),
            _ => random.below(4096),
        },
        split: split(random),
        pages: one_of(random, &[PageKind::Base, PageKind::Base, PageKind::Thp]),
        state: match random.below(3) {
            0 => one_of(random, State::ALL),
            _ => State::Present,
        },
    }
}

fn transfer(work: Work, random: &mut Random) -> Action {
    loop {
        let transfer = Transfer {
            work,
            from: work.has_source().then(|| side(random)),
            to: work.has_destination().then(|| side(random)),
            len: length(random),
            ring: one_of(random, RingMode::ALL),
            mode: one_of(random, Mode::ALL),
            // Those that must not sleep are loaded for two families only.
            variant: (random.below(8) != 0 || matches!(work, Work::Fill(_) | Work::List)).into(),
        };
        if is_possible(&transfer) {
            return Action::Transfer(transfer);
        }
    }
}

fn batch(random: &mut Random, disturbances: &[Disturbance]) -> Action {
    let disturbance = one_of(random, disturbances);
    let registered = matches!(disturbance, Disturbance::Unregister | Disturbance::Replace);
    let kinds: &[BufferType] = match registered {
        true => &[BufferType::Fixed, BufferType::RegVec],
        false => &[
            BufferType::User,
            BufferType::Vec,
            BufferType::Fixed,
            BufferType::RegVec,
        ],
    };
    let kind = one_of(random, kinds);
    let iovecs = one_of(random, &[1, 2, 3, 8, 64]);
    let side = Side {
        offset: random.below(4096),
        split: match matches!(kind, BufferType::Vec | BufferType::RegVec) && iovecs > 1 {
            true => Split::Ragged(iovecs),
            false => Split::One,
        },
        ..Side::plain(kind)
    };
    let works = [
        Work::Checksum(Algorithm::Xor64),
        Work::Checksum(Algorithm::Xxh64),
        Work::Fill(crate::smoke::case::Pattern::Counter),
        Work::Fill(crate::smoke::case::Pattern::Random),
    ];
    Action::Batch(Batch {
        work: one_of(random, &works),
        side,
        len: length(random).max(64),
        count: 1 + random.below(MOST_IN_FLIGHT),
        ring: one_of(
            random,
            &[
                RingMode::Plain,
                RingMode::Plain,
                RingMode::Coop,
                RingMode::Defer,
                RingMode::Sqpoll,
            ],
        ),
        disturbance,
        times: 1 + random.below(8),
    })
}

impl Operation {
    pub fn kind(&self) -> Kind {
        match &self.action {
            Action::Transfer(transfer) => match transfer.work {
                Work::Copy => Kind::Copy,
                Work::Checksum(_) => Kind::Checksum,
                Work::Fill(_) => Kind::Fill,
                Work::List => Kind::Chunks,
            },
            Action::Batch(batch) => match batch.disturbance {
                Disturbance::None => Kind::Batch,
                Disturbance::Protect => Kind::Protect,
                Disturbance::Unmap | Disturbance::Discard => Kind::Unmap,
                Disturbance::Unregister | Disturbance::Replace => Kind::Register,
                Disturbance::Detach => Kind::Detach,
            },
            Action::Attach(_) => Kind::Attach,
            Action::Descriptors => Kind::Descriptors,
            Action::Fork(..) => Kind::Fork,
            Action::Abandon(_) => Kind::Abandon,
            Action::Pressure(_) => Kind::Pressure,
            Action::Fault(_) => Kind::Fault,
            Action::Device(..) => Kind::Device,
            Action::Load(_) => Kind::Load,
            Action::Kill(_) => Kind::Kill,
        }
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} over {} len={} ring={}",
            self.count,
            self.work.name(),
            self.side,
            self.len,
            self.ring.name()
        )?;
        match self.disturbance {
            Disturbance::None => Ok(()),
            disturbance => write!(f, " under {} x{}", disturbance.name(), self.times),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Transfer(transfer) => write!(f, "{transfer}")?,
            Action::Batch(batch) => write!(f, "batch {batch}")?,
            Action::Attach(rounds) => write!(f, "attach rounds={rounds}")?,
            Action::Descriptors => write!(f, "descriptors")?,
            Action::Fork(time, killed) => write!(f, "fork ms={time} killed={killed}")?,
            Action::Abandon(count) => write!(f, "abandon requests={count}")?,
            Action::Pressure(how) => write!(f, "pressure how={how}")?,
            Action::Fault(nth) => write!(f, "fault nth={nth}")?,
            Action::Device(side, len) => write!(f, "device {side} len={len}")?,
            Action::Load(which) => write!(f, "load family={which}")?,
            Action::Kill(count) => write!(f, "kill requests={count}")?,
        }
        write!(f, " seed={}", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        process: 1,
        thread: 2,
    };

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        let plan = |seed, place| -> Vec<Operation> {
            (0..500).map(|n| operation(seed, place, n)).collect()
        };
        assert_eq!(plan(7, PLACE), plan(7, PLACE));
        assert_ne!(plan(7, PLACE), plan(8, PLACE));
        let beside = Place { thread: 1, ..PLACE };
        assert_ne!(plan(7, PLACE), plan(7, beside));
    }

    #[test]
    fn every_kind_comes_and_none_more_than_it_weighs() {
        assert!(WEIGHTS.iter().map(|(_, weight)| weight).sum::<u64>() < 1000);
        let mut counts = [0; Kind::ALL.len()];
        for number in 0..20_000 {
            counts[operation(3, PLACE, number).kind() as usize] += 1;
        }
        for (kind, weight) in WEIGHTS {
            let (got, expected) = (counts[kind as usize], weight * 20);
            assert!(
                got > expected / 2 && got < expected * 2,
                "{kind:?}: {got}, expected about {expected}"
            );
        }
        assert_eq!(REST, Kind::Kill);
    }

    #[test]
    fn a_planned_transfer_can_be_run_by_smoke() {
        for number in 0..2000 {
            if let Action::Transfer(transfer) = operation(5, PLACE, number).action {
                assert_eq!(transfer.to_string().parse(), Ok(transfer));
            }
        }
    }
}
