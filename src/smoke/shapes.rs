// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The values that each thing about a request takes, and which of them do not
//! go together.

use super::Machine;
use super::case::{Mode, Pattern, RingMode, Side, Split, State, Transfer, Variant, Work};
use super::pairwise::Space;
use crate::cli::Algorithm;
use crate::spec::{BufferType, PageKind};
use crate::submission::MAX_REQUEST;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    Quick,
    Default,
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    From,
    To,
}

/// One value of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Work(Work),
    Len(u64),
    Ring(RingMode),
    Mode(Mode),
    Variant(Variant),
    /// Whether it lies in the pages of a block request, too.
    Kind(Which, BufferType, bool),
    Offset(Which, u64),
    Split(Which, Split),
    Pages(Which, PageKind),
    State(Which, State),
}

/// Long requests are kept few, and very long ones fewer: each takes a tenth of
/// a second, or a whole one.
const LONG: u64 = 1 << 20;
const VERY_LONG: u64 = 16 << 20;

const QUICK_LENGTHS: [u64; 8] = [0, 1, 512, 513, 4095, 4096, 4097, 65537];
const LENGTHS: [u64; 18] = [
    0,
    1,
    7,
    511,
    512,
    513,
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    65535,
    65536,
    65537,
    (2 << 20) - 1,
    2 << 20,
    (2 << 20) + 1,
];
const QUICK_OFFSETS: [u64; 4] = [0, 1, 511, 4095];
const OFFSETS: [u64; 8] = [0, 1, 8, 511, 512, 2048, 4088, 4095];
const QUICK_SPLITS: [Split; 6] = [
    Split::One,
    Split::Equal(8),
    Split::Ragged(3),
    Split::Ragged(255),
    Split::Empty(7),
    Split::Overlap(2),
];
const SPLITS: [Split; 21] = [
    Split::One,
    Split::Equal(2),
    Split::Equal(3),
    Split::Equal(8),
    Split::Equal(255),
    Split::Equal(1024),
    Split::Ragged(2),
    Split::Ragged(3),
    Split::Ragged(8),
    Split::Ragged(255),
    Split::Ragged(1024),
    Split::Empty(2),
    Split::Empty(3),
    Split::Empty(8),
    Split::Empty(255),
    Split::Empty(1024),
    Split::Overlap(2),
    Split::Overlap(3),
    Split::Overlap(8),
    Split::Overlap(255),
    Split::Overlap(1024),
];

/// Bytes of the longest buffer that lies in one block request, whatever is
/// around it.
pub const LARGEST_OF_KERNEL: u64 = 3 << 20;

/// The types of buffers, the arena, and what lies in the pages of a block
/// request.
const KINDS: [(BufferType, bool); 7] = [
    (BufferType::User, false),
    (BufferType::Fixed, false),
    (BufferType::Vec, false),
    (BufferType::RegVec, false),
    (BufferType::Arena, false),
    (BufferType::Kfixed, true),
    (BufferType::RegVec, true),
];

/// The groups of programs that are varied together.
const GROUPS: [&[Work]; 4] = [
    &[Work::Copy],
    &[
        Work::Checksum(Algorithm::Crc32c),
        Work::Checksum(Algorithm::Xxh64),
        Work::Checksum(Algorithm::Adler32),
        Work::Checksum(Algorithm::Xor64),
    ],
    &[
        Work::Fill(Pattern::Byte),
        Work::Fill(Pattern::Word),
        Work::Fill(Pattern::Counter),
        Work::Fill(Pattern::Random),
    ],
    &[Work::List],
];

/// The requests that must do their work.
pub fn transfers(set: Set, machine: Machine, seed: u64) -> Vec<Transfer> {
    let mut all = Vec::new();
    for (number, works) in GROUPS.into_iter().enumerate() {
        let seed = seed.wrapping_add(number as u64);
        if set == Set::Full {
            // Every triple that has the ring, and every one that has the mode.
            for ring in RingMode::ALL {
                let mut axes = axes(works, set, machine, false);
                fix(&mut axes, Value::Ring(*ring));
                all.extend(cover(axes, set, seed ^ *ring as u64));
            }
            for mode in Mode::ALL {
                let mut axes = axes(works, set, machine, false);
                fix(&mut axes, Value::Mode(*mode));
                all.extend(cover(axes, set, seed ^ 100 ^ *mode as u64));
            }
        } else {
            all.extend(cover(axes(works, set, machine, false), set, seed));
        }
    }
    without_repeats(all)
}

/// The requests that must fail with EFAULT on the way.
pub fn faults(set: Set, machine: Machine, seed: u64) -> Vec<Transfer> {
    let works = GROUPS.into_iter().enumerate();
    let all = works.flat_map(|(number, works)| {
        cover(
            axes(works, set, machine, true),
            set,
            seed.wrapping_add(50 + number as u64),
        )
    });
    without_repeats(all.filter(is_fault).collect())
}

/// Whether a page that the request needs is not to be had.
pub fn is_fault(transfer: &Transfer) -> bool {
    let hole = |side: &Side| side.state == State::Hole;
    transfer.sides().any(hole) || transfer.to.is_some_and(|to| to.state == State::ReadOnly)
}

/// Whether everything about it goes together.
pub fn is_possible(transfer: &Transfer) -> bool {
    let sides = [(Which::From, transfer.from), (Which::To, transfer.to)];
    let unknown = |(which, side): (Which, Option<Side>)| {
        side.is_some_and(|side| {
            let overlaps = matches!(side.split, Split::Overlap(_));
            let known = KINDS.contains(&(side.kind, side.is_kernel()));
            !known || overlaps && which == Which::To
        })
    };
    let values = values(transfer);
    let pairs = values
        .iter()
        .flat_map(|a| values.iter().map(move |b| (*a, *b)));
    transfer.len <= MAX_REQUEST
        && !sides.into_iter().any(unknown)
        && !pairs.into_iter().any(|(a, b)| excludes(a, b))
}

/// What a request has of each axis.
fn values(transfer: &Transfer) -> Vec<Value> {
    let mut values = vec![
        Value::Work(transfer.work),
        Value::Len(transfer.len),
        Value::Ring(transfer.ring),
        Value::Mode(transfer.mode),
        Value::Variant(transfer.variant),
    ];
    for (which, side) in [(Which::From, transfer.from), (Which::To, transfer.to)] {
        let Some(side) = side else { continue };
        let pages = match side.pages {
            // Goes with the kind.
            PageKind::Kernel => PageKind::Base,
            pages => pages,
        };
        values.extend([
            Value::Kind(which, side.kind, side.is_kernel()),
            Value::Offset(which, side.offset),
            Value::Split(which, side.split),
            Value::Pages(which, pages),
            Value::State(which, side.state),
        ]);
    }
    values
}

fn without_repeats(all: Vec<Transfer>) -> Vec<Transfer> {
    let mut seen = std::collections::HashSet::new();
    all.into_iter()
        .filter(|transfer| seen.insert(*transfer))
        .collect()
}

fn fix(axes: &mut [Vec<Value>], value: Value) {
    for axis in axes {
        if std::mem::discriminant(&axis[0]) == std::mem::discriminant(&value) {
            *axis = vec![value];
        }
    }
}

fn axes(works: &[Work], set: Set, machine: Machine, faults: bool) -> Vec<Vec<Value>> {
    let quick = set == Set::Quick;
    let faults_in_short = faults && set != Set::Full;
    let (mut lengths, offsets, splits) = if quick || faults_in_short {
        let all: (&[u64], &[u64], &[Split]) = (&QUICK_LENGTHS, &QUICK_OFFSETS, &QUICK_SPLITS);
        (all.0.to_vec(), all.1, all.2)
    } else {
        (LENGTHS.to_vec(), &OFFSETS[..], &SPLITS[..])
    };
    if !quick && !faults {
        lengths.push(MAX_REQUEST);
    }
    let rings: &[RingMode] = match quick {
        true => &[
            RingMode::Plain,
            RingMode::Sqpoll,
            RingMode::Defer,
            RingMode::Sqe128,
            RingMode::Cqe32,
        ],
        false => RingMode::ALL,
    };
    let pages = PageKind::ALL.into_iter().filter(|pages| match pages {
        PageKind::Base => true,
        PageKind::Thp => !faults,
        PageKind::Huge => !faults && !quick && machine.huge_pages,
        // Goes with the kind.
        PageKind::Kernel => false,
    });
    let mut axes: Vec<Vec<Value>> = vec![
        works.iter().map(|work| Value::Work(*work)).collect(),
        lengths.into_iter().map(Value::Len).collect(),
        rings.iter().map(|ring| Value::Ring(*ring)).collect(),
        Mode::ALL.iter().map(|mode| Value::Mode(*mode)).collect(),
        variants(works[0], quick, faults)
            .iter()
            .map(|variant| Value::Variant(*variant))
            .collect(),
    ];
    let sides = [
        (Which::From, works[0].has_source()),
        (Which::To, works[0].has_destination()),
    ];
    for (which, _) in sides.into_iter().filter(|(_, there)| *there) {
        let splits = splits.iter().filter(|split| {
            // What is written last would depend on the order of the chunks.
            which == Which::From || !matches!(split, Split::Overlap(_))
        });
        let kinds = KINDS.iter().filter(|(_, kernel)| machine.ublk || !kernel);
        axes.extend([
            kinds
                .map(|(kind, kernel)| Value::Kind(which, *kind, *kernel))
                .collect(),
            offsets.iter().map(|at| Value::Offset(which, *at)).collect(),
            splits.map(|split| Value::Split(which, *split)).collect(),
            pages
                .clone()
                .map(|kind| Value::Pages(which, kind))
                .collect(),
            states(which, faults, quick)
                .iter()
                .filter(|state| machine.swap || **state != State::Swapped)
                .map(|state| Value::State(which, *state))
                .collect(),
        ] as [Vec<Value>; 5]);
    }
    axes
}

fn variants(work: Work, quick: bool, faults: bool) -> &'static [Variant] {
    match work {
        // No kfunc stands for a list of chunks.
        Work::List if quick || faults => &[Variant::Sleepable],
        Work::List => &[Variant::Sleepable, Variant::NonSleepable],
        _ if quick || faults => &[Variant::Sleepable, Variant::WithoutKfuncs],
        _ => &[
            Variant::Sleepable,
            Variant::NonSleepable,
            Variant::WithoutKfuncs,
        ],
    }
}

fn states(which: Which, faults: bool, quick: bool) -> &'static [State] {
    match (faults, which) {
        (true, Which::From) => &[State::Present, State::Hole],
        (true, Which::To) => &[State::Present, State::Hole, State::ReadOnly],
        _ if quick => &[State::Present, State::Absent, State::Untouched],
        (false, Which::From) => &[
            State::Present,
            State::Untouched,
            State::Absent,
            State::File,
            State::Swapped,
            State::ReadOnly,
            State::Revoked,
        ],
        (false, Which::To) => &[
            State::Present,
            State::Untouched,
            State::Absent,
            State::File,
            State::Swapped,
            State::Revoked,
        ],
    }
}

/// Rows of the axes in which every pair that can be is.
fn cover(axes: Vec<Vec<Value>>, set: Set, seed: u64) -> Vec<Transfer> {
    let space = Space {
        sizes: axes.iter().map(Vec::len).collect(),
        allowed: &|a, b| go_together(set, axes[a.0][a.1], axes[b.0][b.1]),
    };
    let rows = space.cover(seed);
    rows.iter()
        .map(|row| {
            let mut transfer = None;
            for (axis, value) in row.iter().enumerate() {
                apply(&mut transfer, axes[axis][*value]);
            }
            transfer.expect("the first axis is the program")
        })
        .collect()
}

fn apply(transfer: &mut Option<Transfer>, value: Value) {
    if let Value::Work(work) = value {
        *transfer = Some(Transfer::new(work));
    }
    let transfer = transfer.as_mut().expect("the program comes first");
    let mut set = |which: Which, change: &dyn Fn(&mut Side)| {
        let side = match which {
            Which::From => &mut transfer.from,
            Which::To => &mut transfer.to,
        };
        change(side.as_mut().expect("the program has this side"));
    };
    match value {
        Value::Work(_) => {}
        Value::Len(len) => transfer.len = len,
        Value::Ring(ring) => transfer.ring = ring,
        Value::Mode(mode) => transfer.mode = mode,
        Value::Variant(variant) => transfer.variant = variant,
        Value::Kind(which, kind, kernel) => set(which, &|side| {
            side.kind = kind;
            side.pages = match (kernel, side.is_kernel()) {
                (true, _) => PageKind::Kernel,
                (false, true) => PageKind::Base,
                (false, false) => side.pages,
            };
        }),
        Value::Offset(which, offset) => set(which, &|side| side.offset = offset),
        Value::Split(which, split) => set(which, &|side| side.split = split),
        Value::Pages(which, pages) => set(which, &|side| {
            if !side.is_kernel() {
                side.pages = pages;
            }
        }),
        Value::State(which, state) => set(which, &|side| side.state = state),
    }
}

/// Whether two values cannot stand in one request; asked both ways.
fn excludes(a: Value, b: Value) -> bool {
    let bad = |which: Which, state: State| {
        state == State::Hole || which == Which::To && state == State::ReadOnly
    };
    match (a, b) {
        (Value::Kind(a, kind, _), Value::Split(b, split)) if a == b => match (kind, split) {
            (_, Split::One) | (BufferType::Vec, _) => false,
            (BufferType::RegVec, _) => matches!(split, Split::Empty(_)),
            (BufferType::Kfixed, _) => !matches!(split, Split::Ragged(_)),
            _ => true,
        },
        (Value::Kind(a, kind, kernel), Value::Pages(b, pages)) if a == b => {
            (kind == BufferType::Arena || kernel) && pages != PageKind::Base
        }
        (Value::Kind(_, _, true), Value::Len(len)) => len > LARGEST_OF_KERNEL,
        (Value::Kind(a, kind, kernel), Value::State(b, state)) if a == b => match kernel {
            true => !matches!(state, State::Present | State::Revoked),
            false => !has_state(kind, state),
        },
        (Value::Work(Work::List), Value::Kind(_, kind, _)) => kind == BufferType::Arena,
        (Value::Pages(a, pages), Value::State(b, state)) if a == b => {
            pages != PageKind::Base && state != State::Present
        }
        (Value::Split(_, split), Value::Len(len)) => {
            !matches!(split, Split::Empty(_)) && (split.count() as u64) > len.max(1)
        }
        (Value::State(which, state), Value::Len(0)) => bad(which, state),
        (Value::State(a, first), Value::State(b, second)) if a != b => {
            bad(a, first) && bad(b, second)
        }
        // Pages that are not there, and locks that somebody else holds, take
        // a program that can sleep.
        (Value::Variant(Variant::NonSleepable), Value::State(_, state)) => {
            !matches!(state, State::Present | State::Revoked)
        }
        (Value::Variant(Variant::WithoutKfuncs), Value::Work(work)) => work == Work::List,
        _ => false,
    }
}

/// What one row holds together: possible, and, where time counts, not too long
/// for what it adds.
fn go_together(set: Set, a: Value, b: Value) -> bool {
    if excludes(a, b) || excludes(b, a) {
        return false;
    }
    let long = |a: Value, b: Value| match a {
        Value::Len(len) if len >= VERY_LONG => too_much(b) || far_too_much(b),
        Value::Len(len) if len >= LONG => too_much(b),
        _ => false,
    };
    set == Set::Full || !long(a, b) && !long(b, a)
}

fn has_state(kind: BufferType, state: State) -> bool {
    let plain = matches!(kind, BufferType::User | BufferType::Vec);
    match state {
        State::Present => true,
        State::Untouched | State::Absent | State::Swapped => kind != BufferType::Arena,
        State::File | State::ReadOnly | State::Hole => plain,
        State::Revoked => matches!(kind, BufferType::Fixed | BufferType::RegVec),
    }
}

/// What long requests are not combined with.
fn too_much(value: Value) -> bool {
    match value {
        Value::Ring(ring) => !matches!(ring, RingMode::Plain | RingMode::Sqpoll),
        Value::Mode(mode) => !matches!(mode, Mode::Inline | Mode::Async | Mode::Link),
        Value::Offset(_, offset) => !matches!(offset, 0 | 511 | 4095),
        Value::Split(_, split) => !matches!(
            split,
            Split::One | Split::Equal(8) | Split::Ragged(3 | 1024) | Split::Overlap(2)
        ),
        _ => false,
    }
}

/// What very long ones are not combined with, either.
fn far_too_much(value: Value) -> bool {
    match value {
        Value::Ring(ring) => ring != RingMode::Plain,
        Value::Mode(mode) => mode != Mode::Inline,
        Value::Variant(variant) => variant != Variant::Sleepable,
        Value::Kind(Which::From, kind, _) => !matches!(kind, BufferType::RegVec | BufferType::User),
        Value::Kind(Which::To, kind, _) => !matches!(kind, BufferType::Fixed | BufferType::Vec),
        Value::Offset(_, offset) => offset != 511,
        Value::Split(_, split) => !matches!(split, Split::One | Split::Ragged(1024)),
        Value::Pages(_, pages) => pages != PageKind::Base,
        Value::State(_, state) => state != State::Present,
        Value::Work(_) | Value::Len(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Machine = Machine::WHOLE;

    #[test]
    fn every_pair_of_values_that_goes_together_is_in_the_default_set() {
        for works in GROUPS {
            let axes = axes(works, Set::Default, ALL, false);
            let transfers = cover(axes.clone(), Set::Default, 1);
            let holds = |transfer: &Transfer, value: Value| values(transfer).contains(&value);
            let space = Space {
                sizes: axes.iter().map(Vec::len).collect(),
                allowed: &|a, b| go_together(Set::Default, axes[a.0][a.1], axes[b.0][b.1]),
            };
            for b in 0..axes.len() {
                for a in 0..b {
                    for (v, first) in axes[a].iter().enumerate() {
                        for (w, second) in axes[b].iter().enumerate() {
                            let held = transfers
                                .iter()
                                .any(|t| holds(t, *first) && holds(t, *second));
                            let possible = space.extend((a, v), (b, w)).is_some();
                            assert_eq!(held, possible, "{first:?} {second:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_case_is_possible_and_reads_back_from_its_words() {
        for set in [Set::Quick, Set::Default] {
            for transfer in transfers(set, ALL, 3)
                .into_iter()
                .chain(faults(set, ALL, 3))
            {
                assert!(is_possible(&transfer), "{transfer}");
                assert_eq!(transfer.to_string().parse(), Ok(transfer));
            }
        }
        assert!(transfers(Set::Quick, ALL, 3).iter().all(|t| !is_fault(t)));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for text in [
            "copy from=user:split=ragged-3 to=user len=4096",
            "copy from=reg-vec:split=empty-3 to=user len=4096",
            "copy from=vec to=vec:split=overlap-3 len=4096",
            "copy from=vec:split=ragged-9 to=user len=8",
            "copy from=arena:state=absent to=user len=8",
            "copy from=kfixed:pages=base to=user len=8",
            "copy from=kfixed:split=equal-8 to=user len=8",
            "copy from=kfixed:state=absent to=user len=8",
            "copy from=fixed:pages=kernel to=user len=8",
            "copy from=kfixed to=user len=4M",
            "copy from=user:state=hole to=user len=0",
            "fill-byte from=user len=8",
            "copy from=user to=user len=65M",
            "paste from=user",
        ] {
            assert!(text.parse::<Transfer>().is_err(), "{text}");
        }
    }
}
