// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Several iterators in one request: of every mix of types, side by side, in
//! lockstep, one inside the other, two of one buffer.

use std::fmt;

use super::bench::{Bench, Borrowing, patience};
use super::case::{Mode, RingMode, Side};
use super::place::lay_out;
use super::programs::Family;
use super::transfer::return_loan;
use super::{Case, Machine, Set, Stop};
use crate::buffer::Buffer;
use crate::errno::res_text;
use crate::kernel_buffer::Direction;
use crate::layout::Random;
use crate::memory::Memory;
use crate::registration::Table;
use crate::request::{Descriptor, SLOTS, Several};
use crate::spec::{BufferType, PageKind};

/// What the iterators are over: the five types, and REG_VEC over the pages of
/// a block request.
fn sides(machine: Machine) -> Vec<Side> {
    let mut sides: Vec<Side> = [
        BufferType::User,
        BufferType::Fixed,
        BufferType::Vec,
        BufferType::RegVec,
    ]
    .map(Side::plain)
    .into();
    if machine.ublk {
        let kernel = Side {
            pages: PageKind::Kernel,
            ..Side::plain(BufferType::RegVec)
        };
        sides.extend([Side::plain(BufferType::Kfixed), kernel]);
    }
    sides
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Together,
    /// Three, of which the first ends before the last begins.
    Chain,
    Nested,
    Parity,
    /// Two iterators of each of two buffers.
    Twice,
}

impl Way {
    const ALL: [Way; 5] = [
        Way::Together,
        Way::Chain,
        Way::Nested,
        Way::Parity,
        Way::Twice,
    ];

    fn operation(self) -> &'static str {
        match self {
            Way::Together | Way::Twice => "together",
            Way::Chain => "chain",
            Way::Nested => "nested",
            Way::Parity => "parity",
        }
    }
}

/// How the request is submitted: in a worker the first iterator takes the
/// ring's lock, and the last one gives it back.
const MODES: [Mode; 2] = [Mode::Inline, Mode::Async];

/// Each way with each type in each place, and some lengths.
pub fn cases(set: Set, machine: Machine, seed: u64) -> Vec<Case> {
    let lengths: &[u64] = match set {
        Set::Quick => &[4097],
        _ => &[0, 1, 513, 4096, 4097, 8193, 65537],
    };
    let sides = sides(machine);
    let mut cases = Vec::new();
    for way in Way::ALL {
        for (number, len) in lengths.iter().enumerate() {
            for (turn, _) in sides.iter().enumerate() {
                let four = in_places(&sides, turn, number);
                let mode = MODES[(turn + number) % 2];
                let names = four.map(|side| side.to_string()).join("+");
                let mut name = format!("{way:?} {names} len={len}").to_lowercase();
                if mode != Mode::Inline {
                    name += &format!(" mode={}", mode.name());
                }
                let what = What {
                    way,
                    sides: four,
                    len: *len,
                    mode,
                };
                cases.push(Case::in_mode(
                    "several",
                    name,
                    &[Family::Several],
                    mode,
                    move |bench| check(bench, what, seed),
                ));
            }
        }
    }
    cases
}

/// The sides of a turn: over all turns every side comes in every place, and
/// over all numbers beside every other.
fn in_places(sides: &[Side], turn: usize, number: usize) -> [Side; 4] {
    let step = 1 + number % (sides.len() - 1);
    std::array::from_fn(|place| sides[(turn + place * step) % sides.len()])
}

/// What one case is about.
#[derive(Debug, Clone, Copy)]
struct What {
    way: Way,
    sides: [Side; 4],
    len: u64,
    mode: Mode,
}

fn check(bench: &Bench<'_>, what: What, seed: u64) -> Result<(), Stop> {
    let What {
        way,
        mut sides,
        len,
        mode,
    } = what;
    let of = |i: usize| match (way, i) {
        // The second source is the first one again, the third the destination.
        (Way::Twice, 1) => 0,
        (Way::Twice, 2) => 3,
        (_, i) => i,
    };
    // A destination that is read, too, is not the kernel's.
    if way == Way::Twice && sides[3].is_kernel() {
        sides[3] = Side::plain(BufferType::RegVec);
    }
    let mut random = Random(seed ^ len);
    let offset = random.below(4096);
    let mut plans = Vec::new();
    for (i, side) in sides.iter_mut().enumerate() {
        // In lockstep all chunks are alike.
        side.offset = if way == Way::Parity {
            offset
        } else {
            random.below(4096)
        };
        let (shape, layout) = lay_out(side, len, i as u16, seed + i as u64);
        let memory = Memory::anonymous(layout.size as usize, side.pages)?;
        plans.push((shape, layout, memory));
    }
    let session = bench.session(RingMode::Plain, false)?;
    let table = Table::new(&session.ring, 4)?;
    let (mut buffers, mut files) = (Vec::new(), Vec::new());
    for (i, (shape, layout, memory)) in plans.iter_mut().enumerate() {
        files.push(memory.path());
        let mut buffer = Buffer::new(shape.clone(), layout.clone(), memory.region());
        buffer.prepare((i < 3).then_some(seed.wrapping_mul(i as u64 + 3)));
        table.add(&buffer)?;
        buffers.push(buffer);
    }
    let views: Vec<_> = buffers
        .iter()
        .map(|buffer| buffer.view(&(0..len)))
        .collect::<Result<_, _>>()?;
    let descriptors: [Descriptor; 4] = std::array::from_fn(|i| views[of(i)].descriptor);

    let programs = bench.loaded.programs(Family::Several, true);
    let map = programs.array::<Several>("several", SLOTS)?;
    let map = map.ok_or("the programs have no map of several buffers")?;
    let slot = random.below(SLOTS as u64);
    map.set(
        slot as usize,
        Several {
            buffers: descriptors,
            ..Several::default()
        },
    );
    let id = session.id(bench.loaded, Family::Several, true, way.operation())?;
    let chunks = |i: usize| Noted::of(&buffers[of(i)], len);
    let expected: [Noted; 4] = std::array::from_fn(|i| match (way, i) {
        (Way::Together | Way::Twice, i) => chunks(i),
        (Way::Chain, 0 | 1 | 3) | (Way::Nested, 0) => chunks(i),
        (Way::Nested, 3) => (0..chunks(0).chunks).fold(Noted::default(), |mut all, _| {
            all.add(&buffers[3], len);
            all
        }),
        // Only the destination is counted in lockstep.
        (Way::Parity, 3) => Noted {
            ends: 0,
            ..chunks(3)
        },
        _ => Noted::default(),
    });
    let borrowed = buffers.iter().zip(files).enumerate();
    let borrowed = borrowed.map(|(i, (buffer, memory))| Borrowing {
        buffer,
        memory,
        direction: match i {
            3 => Direction::Read,
            _ => Direction::Write,
        },
        // Parity alone writes to what the client has, too.
        expected: None,
    });
    let lent = bench.lend(&session, borrowed)?;
    let entry = bench.entry(id, slot, mode.worker_flag());
    let results = session.run(&[entry], patience(len))?;
    let several = map.get(slot as usize);
    let mut wrong = Vec::new();
    let result = results[0].unwrap_or_default();
    if several.error != 0 {
        let side = sides[several.at as usize % 4];
        wrong.push(format!(
            "{} from iterator {} ({side})",
            res_text(several.error),
            several.at
        ));
    } else if result as u64 != expected[3].bytes {
        wrong.push(format!(
            "res is {}, expected {}",
            res_text(result),
            expected[3].bytes
        ));
    }
    for (i, expected) in expected.iter().enumerate() {
        let got = Noted {
            bytes: several.bytes[i],
            chunks: u64::from(several.chunks[i]),
            ends: several.ends[i],
        };
        if got != *expected {
            wrong.push(format!(
                "iterator {i} ({}) handed out {got}, expected {expected}",
                sides[i]
            ));
        }
    }
    if way == Way::Parity {
        let streams: Vec<Vec<u8>> = buffers[..3].iter().map(Buffer::stream).collect();
        let found = buffers[3].compare(|position, bytes| {
            for (i, byte) in bytes.iter_mut().enumerate() {
                let at = position as usize + i;
                *byte = streams.iter().fold(0, |parity, stream| parity ^ stream[at]);
            }
        });
        wrong.extend(found.map(|found| format!("parity: {found}")));
    }
    return_loan(lent, &mut wrong)?;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Stop::Fail(wrong.join("; "))),
    }
}

/// What a program notes of an iterator's chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Noted {
    bytes: u64,
    chunks: u64,
    /// Of the first and last byte of each.
    ends: u64,
}

impl Noted {
    /// Of all chunks of a buffer, as it is now.
    fn of(buffer: &Buffer<'_>, len: u64) -> Self {
        let mut noted = Noted::default();
        noted.add(buffer, len);
        noted
    }

    fn add(&mut self, buffer: &Buffer<'_>, len: u64) {
        for (offset, valid) in buffer.chunk_list(&(0..len)) {
            let first = u64::from(buffer.byte(offset));
            let last = u64::from(buffer.byte(offset + valid - 1));
            self.bytes += valid;
            self.chunks += 1;
            self.ends = (self.ends.wrapping_mul(31)).wrapping_add(first * 7 + last);
        }
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Noted {
            bytes,
            chunks,
            ends,
        } = self;
        write!(
            f,
            "{bytes} bytes in {chunks} chunks with the ends {ends:#x}"
        )
    }
}
