// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Several iterators in one request: of every mix of types, side by side, in
//! lockstep, one inside the other, two of one buffer.

use super::bench::{Bench, patience};
use super::case::{RingMode, Side};
use super::place::lay_out;
use super::programs::Family;
use super::{Case, Set, Stop};
use crate::buffer::Buffer;
use crate::errno::res_text;
use crate::layout::Random;
use crate::memory::Memory;
use crate::registration::Table;
use crate::request::{Descriptor, SLOTS, Several};
use crate::spec::BufferType;

const TYPES: [BufferType; 4] = [
    BufferType::User,
    BufferType::Fixed,
    BufferType::Vec,
    BufferType::RegVec,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Together,
    Nested,
    Parity,
    /// Two iterators of each of two buffers.
    Twice,
}

impl Way {
    fn operation(self) -> &'static str {
        match self {
            Way::Together | Way::Twice => "together",
            Way::Nested => "nested",
            Way::Parity => "parity",
        }
    }
}

/// Each way with each type in each place, and some lengths.
pub fn cases(set: Set, seed: u64) -> Vec<Case> {
    let lengths: &[u64] = match set {
        Set::Quick => &[4097],
        _ => &[0, 1, 513, 4096, 8193, 65537],
    };
    let mut cases = Vec::new();
    for way in [Way::Together, Way::Nested, Way::Parity, Way::Twice] {
        for (number, len) in lengths.iter().enumerate() {
            // Latin squares: every type in every place, beside every other.
            for (turn, _) in TYPES.iter().enumerate() {
                let kinds: [BufferType; 4] =
                    std::array::from_fn(|i| TYPES[(turn + i * (number % 3 + 1)) % 4]);
                let names = kinds.map(|kind| kind.name()).join("+");
                let name = format!("{way:?} {names} len={len}").to_lowercase();
                let len = *len;
                cases.push(Case::check(
                    "several",
                    name,
                    &[Family::Several],
                    move |bench| check(bench, way, kinds, len, seed),
                ));
            }
        }
    }
    cases
}

fn check(
    bench: &Bench<'_>,
    way: Way,
    mut kinds: [BufferType; 4],
    len: u64,
    seed: u64,
) -> Result<(), Stop> {
    if way == Way::Twice {
        // The second source is the first one again, the third the destination.
        kinds[1] = kinds[0];
        kinds[2] = kinds[3];
    }
    let mut random = Random(seed ^ len);
    let offset = random.below(4096);
    let mut plans = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        let mut side = Side::plain(*kind);
        // In lockstep all chunks are alike.
        side.offset = if way == Way::Parity {
            offset
        } else {
            random.below(4096)
        };
        let (shape, layout) = lay_out(&side, len, i as u16, seed + i as u64);
        let memory = Memory::anonymous(layout.size as usize, side.pages)?;
        plans.push((shape, layout, memory));
    }
    let session = bench.session(RingMode::Plain, false)?;
    let table = Table::new(&session.ring, 4)?;
    let mut buffers = Vec::new();
    for (i, (shape, layout, memory)) in plans.iter_mut().enumerate() {
        let mut buffer = Buffer::new(shape.clone(), layout.clone(), memory.region());
        buffer.prepare((i < 3).then_some(seed.wrapping_mul(i as u64 + 3)));
        table.add(&buffer)?;
        buffers.push(buffer);
    }
    let views: Vec<_> = buffers
        .iter()
        .map(|buffer| buffer.view(&(0..len)))
        .collect::<Result<_, _>>()?;
    let of = |i: usize| match (way, i) {
        (Way::Twice, 1) => 0,
        (Way::Twice, 2) => 3,
        (_, i) => i,
    };
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
    let results = session.run(&[bench.entry(id, slot, 0)], patience(len))?;
    let several = map.get(slot as usize);
    let chunks = |i: usize| buffers[of(i)].chunks(&(0..len));
    let outer = chunks(0);
    let expected: [(u64, u64); 4] = std::array::from_fn(|i| match (way, i) {
        (Way::Together | Way::Twice, i) => (len, chunks(i)),
        (Way::Nested, 0) => (len, outer),
        (Way::Nested, 3) => (outer * len, outer * chunks(3)),
        (Way::Parity, 3) => (len, chunks(3)),
        _ => (0, 0),
    });
    let mut wrong = Vec::new();
    let result = results[0].unwrap_or_default();
    if several.error != 0 {
        let kind = kinds[several.at as usize % 4];
        wrong.push(format!(
            "{} from iterator {} ({kind})",
            res_text(several.error),
            several.at
        ));
    } else if result as u64 != expected[3].0 {
        wrong.push(format!(
            "res is {}, expected {}",
            res_text(result),
            expected[3].0
        ));
    }
    for (i, (bytes, chunks)) in expected.iter().enumerate() {
        let got = (several.bytes[i], u64::from(several.chunks[i]));
        // Only the destination is counted in lockstep.
        if got != (*bytes, *chunks) {
            wrong.push(format!(
                "iterator {i} ({}) handed out {} bytes in {} chunks, expected {bytes} in {chunks}",
                kinds[i], got.0, got.1
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
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Stop::Fail(wrong.join("; "))),
    }
}
