// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Runs one request over buffers, and compares everything that it leaves with
//! what it must.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::Stop;
use super::bench::{self, Bench, Borrowing, Entry, Session};
use super::case::{Mode, Pattern, Side, Split, State, Transfer, Variant, Work};
use super::place::{Holder, enter, first_difference, lay_out, leave};
use super::programs::{CHUNKS, Family, Programs};
use super::shapes::is_fault;
use crate::buffer::{Buffer, View};
use crate::errno::res_text;
use crate::error::Failure;
use crate::kernel_buffer::{Direction, Expected, Lent};
use crate::layout::Random;
use crate::memory::{Memory, Region};
use crate::oracle::{Digest, Fill};
use crate::registration::Table;
use crate::request::{Chunk, Request, stage_name};
use crate::spec::BufferType;

/// A side while its request runs.
struct Placed<'m> {
    name: &'static str,
    is_source: bool,
    side: Side,
    file: Option<&'m File>,
    /// The file of memory that a client has, too.
    shared: Option<PathBuf>,
    buffer: Buffer<'m>,
    view: View,
}

/// How often a request that may not sleep can find a page on the move, or in a
/// worker the ring's lock with somebody else.
const ATTEMPTS: usize = 64;

pub fn run(bench: &Bench<'_>, transfer: &Transfer, seed: u64) -> Result<(), Stop> {
    for attempt in 0..ATTEMPTS {
        // The kernel's answer where it would have to sleep, as while a page is
        // being migrated: who submits such requests has to try again.
        let again = run_once(bench, transfer, seed)? == Some(-libc::EAGAIN);
        if !again || transfer.variant.sleeps() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(attempt as u64 / 8));
    }
    Err(Stop::Fail(format!(
        "res is -EAGAIN {ATTEMPTS} times in a row, with every page in memory"
    )))
}

/// The request's own result, if everything is well with it or it can be tried
/// again.
fn run_once(bench: &Bench<'_>, transfer: &Transfer, seed: u64) -> Result<Option<i32>, Stop> {
    let mut random = Random(seed);
    let from_index = random.below(8) as u16;
    let to_index = 8 + random.below(8) as u16;
    let slot = bench.slot(&mut random);
    let family = family(transfer.work);
    let programs = bench.loaded.programs(family, transfer.variant);

    // Declared in this order so that each goes before what it uses.
    let plan = |side: Option<Side>, index, seed| {
        let Some(side) = side else { return Ok(None) };
        let (shape, layout) = lay_out(&side, transfer.len, index, seed);
        let holder = Holder::new(&side, &layout)?;
        Ok::<_, Stop>(Some((side, shape, layout, holder)))
    };
    let mut from = plan(transfer.from, from_index, seed)?;
    let mut to = plan(transfer.to, to_index, seed.wrapping_add(1))?;
    let uses_arena = transfer.sides().any(|side| side.kind == BufferType::Arena);
    let mut arena = match uses_arena {
        true => bench.arena(family, transfer.variant)?,
        false => None,
    };
    let mut rest = arena.as_mut().map(|arena| arena.region());
    let session = bench.session(transfer.ring, transfer.mode == Mode::Skip)?;
    let table = Table::new(&session.ring, 16)?;

    let source = place(&mut from, "source", Some(seed), &mut rest, &table)?;
    let dest = place(&mut to, "destination", None, &mut rest, &table)?;
    let stream = match &source {
        Some(placed) if placed.side.state == State::Untouched => vec![0; transfer.len as usize],
        Some(placed) => placed.buffer.stream(),
        None => {
            let mut bytes = vec![0; transfer.len as usize];
            fill_of(transfer.work, seed).write(0, &mut bytes);
            bytes
        }
    };
    let placed = || source.iter().chain(&dest);
    for placed in placed() {
        enter(&placed.side, &placed.buffer)?;
    }
    let mut request = request(transfer, &source, &dest, seed);
    // Each request in flight sums a stream of its own.
    request.stream = slot as u32;
    let _chunks = match transfer.work {
        Work::List => bench.lock_chunks()?,
        _ => None,
    };
    programs.requests().set(slot as usize, request);
    let op = operation(transfer);
    let id = session.id(bench.loaded, family, transfer.variant, &op)?;
    let (entries, target) = entries(transfer.mode, bench.entry(id, slot, 0));
    let lent = bench.lend(
        &session,
        placed().map(|placed| borrowing(transfer, placed, seed)),
    )?;
    let results = session.run(&entries, bench.patience(transfer.len));
    for placed in placed() {
        leave(&placed.side, &placed.buffer)?;
    }
    let results = results?;
    let request = programs.requests().get(slot as usize);

    let mut wrong = Vec::new();
    let result = results[target];
    if result == Some(-libc::EAGAIN) && !transfer.variant.sleeps() {
        return_loan(lent, &mut wrong)?;
        return Ok(result);
    }
    let failed = is_fault(transfer);
    wrong.extend(check_result(transfer, result, &request));
    wrong.extend(check_neighbours(transfer.mode, target, &results, failed));
    if failed {
        for placed in placed() {
            let guards = placed.buffer.compare_guards();
            wrong.extend(guards.map(|found| format!("{}: {found}", placed.name)));
        }
    } else {
        wrong.extend(check_counts(transfer, &request, &source, &dest));
        if let Work::Checksum(algorithm) = transfer.work {
            let mut digest = Digest::new(algorithm);
            digest.update(&stream);
            let expected = digest.finish();
            if request.digest != expected {
                let got = request.digest;
                wrong.push(format!("the digest is {got:#x}, expected {expected:#x}"));
            }
        }
        if let (Work::List, Some(source)) = (transfer.work, &source) {
            wrong.extend(check_chunks(programs, &request, source, &stream));
        }
        for placed in placed() {
            let found = placed.buffer.compare(|position, bytes| {
                let at = position as usize;
                bytes.copy_from_slice(&stream[at..at + bytes.len()]);
            });
            wrong.extend(found.map(|found| format!("{}: {found}", placed.name)));
            let Some(file) = placed.file else { continue };
            if let Some(at) = first_difference(file, &placed.buffer)? {
                let name = placed.name;
                wrong.push(format!("{name}: byte {at} of the file is not as mapped"));
            }
        }
    }
    if !wrong.is_empty() && !failed && transfer.work != Work::List {
        for placed in placed() {
            wrong.extend(diagnose(bench, &session, placed, slot));
        }
    }
    return_loan(lent, &mut wrong)?;
    match wrong.is_empty() {
        true => Ok(result),
        false => Err(Stop::Fail(wrong.join("; "))),
    }
}

/// What the client of a side that is the kernel's has to find in it.
fn borrowing<'b, 'm>(transfer: &Transfer, placed: &'b Placed<'m>, seed: u64) -> Borrowing<'b, 'm> {
    // Bytes that lie in two segments are those of the last one, and of a
    // destination that failed nothing is known.
    let overlap = |side: Side| matches!(side.split, Split::Overlap(_));
    let unknown = transfer.from.is_some_and(overlap) || is_fault(transfer);
    let untouched = |side: Side| side.state == State::Untouched;
    let expected = match transfer.work {
        Work::Fill(_) => Expected::Fill(fill_of(transfer.work, seed)),
        _ if transfer.from.is_some_and(untouched) => Expected::Fill(Fill::Byte(0)),
        _ => Expected::Pattern(seed),
    };
    Borrowing {
        buffer: &placed.buffer,
        memory: placed.shared.clone(),
        direction: match placed.is_source {
            true => Direction::Write,
            false => Direction::Read,
        },
        expected: (!unknown).then_some(expected),
    }
}

/// Gives back what was lent, and notes what the client finds wrong.
pub(crate) fn return_loan(lent: Option<Lent<'_>>, wrong: &mut Vec<String>) -> Result<(), Stop> {
    match lent.map_or(Ok(()), Lent::give_back) {
        Ok(()) => Ok(()),
        Err(Failure::Mismatch(what)) => {
            wrong.push(what);
            Ok(())
        }
        Err(failure) => {
            wrong.push(failure.to_string());
            Err(Stop::Stuck(wrong.join("; ")))
        }
    }
}

pub(crate) fn family(work: Work) -> Family {
    match work {
        Work::Copy => Family::Copy,
        Work::Checksum(_) => Family::Checksum,
        Work::Fill(_) => Family::Fill,
        Work::List => Family::Chunks,
    }
}

/// The families that a case needs, with those that explain a failure.
pub fn families(transfer: &Transfer) -> [(Family, Variant); 2] {
    [
        (family(transfer.work), transfer.variant),
        (Family::Chunks, Variant::Sleepable),
    ]
}

fn operation(transfer: &Transfer) -> String {
    let arena = |side: Option<Side>| side.is_some_and(|side| side.kind == BufferType::Arena);
    let (from, to) = (arena(transfer.from), arena(transfer.to));
    let suffix = if from || to { "_arena" } else { "" };
    match transfer.work {
        Work::Copy => match (from, to) {
            (true, true) => "within_arena",
            (true, false) => "from_arena",
            (false, true) => "to_arena",
            (false, false) => "between",
        }
        .to_string(),
        Work::Checksum(algorithm) => format!("{}{suffix}", algorithm.name()),
        Work::Fill(_) => format!("{}{suffix}", fill_of(transfer.work, 0).operation()),
        Work::List => "chunks".to_string(),
    }
}

pub(crate) fn fill_of(work: Work, seed: u64) -> Fill {
    let word = Random(seed).next();
    match work {
        Work::Fill(Pattern::Word) => Fill::Word(word),
        Work::Fill(Pattern::Counter) => Fill::Counter(word),
        Work::Fill(Pattern::Random) => Fill::Random(word),
        _ => Fill::Byte(word as u8),
    }
}

type Plan = Option<(Side, crate::layout::Shape, crate::layout::Layout, Holder)>;

fn place<'m>(
    plan: &'m mut Plan,
    name: &'static str,
    content: Option<u64>,
    arena: &mut Option<Region<'m>>,
    table: &Table<'m>,
) -> Result<Option<Placed<'m>>, Stop> {
    let Some((side, shape, layout, Holder { memory, file })) = plan else {
        return Ok(None);
    };
    let layout = layout.clone();
    let shared = memory.as_ref().and_then(Memory::path);
    let region = match memory {
        Some(memory) => memory.region(),
        None => {
            let whole = arena.take().ok_or("the programs have no arena")?;
            let (mut mine, rest) = whole.split_at(layout.size as usize);
            *arena = Some(rest);
            mine.populate()?;
            mine
        }
    };
    let mut buffer = Buffer::new(shape.clone(), layout, region);
    match side.state {
        State::Untouched => buffer.leave_blank(),
        _ => buffer.prepare(content),
    }
    table.add(&buffer)?;
    let view = buffer.view(&(0..buffer.len()))?;
    Ok(Some(Placed {
        name,
        is_source: content.is_some(),
        side: *side,
        file: file.as_ref(),
        shared,
        buffer,
        view,
    }))
}

fn request(
    transfer: &Transfer,
    source: &Option<Placed<'_>>,
    dest: &Option<Placed<'_>>,
    seed: u64,
) -> Request {
    let mut request = Request {
        len: transfer.len,
        word: fill_of(transfer.work, seed).argument(),
        ..Request::default()
    };
    if let Some(source) = source {
        request.from = source.view.descriptor;
        request.from_arena = source.buffer.address(0);
    }
    if let Some(dest) = dest {
        request.to = dest.view.descriptor;
        request.to_arena = dest.buffer.address(0);
    }
    request
}

/// The entries of a mode, and which of them is the request.
fn entries(mode: Mode, request: Entry) -> (Vec<Entry>, usize) {
    let with = |flags| Entry { flags, ..request };
    match mode {
        Mode::Inline => (vec![request], 0),
        Mode::Async => (vec![with(bench::ASYNC)], 0),
        Mode::Link | Mode::Hardlink => {
            let flag = if mode == Mode::Link {
                bench::LINK
            } else {
                bench::HARDLINK
            };
            (vec![Entry::nop(flag), with(flag), Entry::nop(0)], 1)
        }
        Mode::Drain => (vec![Entry::nop(0), with(bench::DRAIN), Entry::nop(0)], 1),
        Mode::Skip => (vec![with(bench::SKIP | bench::LINK), Entry::nop(0)], 0),
    }
}

fn check_result(transfer: &Transfer, result: Option<i32>, request: &Request) -> Option<String> {
    let expected = match is_fault(transfer) {
        true => -libc::EFAULT,
        false => transfer.len as i32,
    };
    let silent = transfer.mode == Mode::Skip && expected >= 0;
    let result = match (result, silent) {
        (None, true) => return None,
        (None, false) => return Some("the request has no completion".into()),
        (Some(result), true) if result >= 0 => {
            return Some(format!(
                "IOSQE_CQE_SKIP_SUCCESS, yet a completion: {result}"
            ));
        }
        (Some(result), _) => result,
    };
    if result == expected {
        return None;
    }
    let stage = match request.error {
        0 => String::new(),
        error if error == result => format!(" from {}", stage_name(request.stage)),
        error => format!(
            ", the program's own is {} from {}",
            res_text(error),
            stage_name(request.stage)
        ),
    };
    let (got, expected) = (res_text(result), res_text(expected));
    Some(format!("res is {got}{stage}, expected {expected}"))
}

/// What is linked to the request, or waits for it.
fn check_neighbours(
    mode: Mode,
    target: usize,
    results: &[Option<i32>],
    failed: bool,
) -> Option<String> {
    let text = |result: Option<i32>| result.map_or("no completion".to_string(), res_text);
    for (number, result) in results.iter().enumerate() {
        let expected = match mode {
            // What hangs on a silent request that fails is silent, too.
            Mode::Skip if failed => None,
            Mode::Link if failed && number > target => Some(-libc::ECANCELED),
            _ => Some(0),
        };
        if number != target && *result != expected {
            let side = if number < target { "before" } else { "behind" };
            return Some(format!(
                "the NOP {side} it ({}) ends with {}, expected {}",
                mode.name(),
                text(*result),
                text(expected)
            ));
        }
    }
    None
}

fn check_counts(
    transfer: &Transfer,
    request: &Request,
    source: &Option<Placed<'_>>,
    dest: &Option<Placed<'_>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    if request.bytes != transfer.len {
        let (got, expected) = (request.bytes, transfer.len);
        wrong.push(format!(
            "the program counted {got} bytes, expected {expected}"
        ));
    }
    let counts = [(source, request.source_chunks), (dest, request.dest_chunks)];
    for (placed, got) in counts {
        let Some(placed) = placed else { continue };
        if placed.side.kind == BufferType::Arena {
            continue;
        }
        let expected = placed.buffer.chunks(&(0..transfer.len));
        if u64::from(got) != expected {
            wrong.push(format!(
                "the iterator handed out {got} chunks of the {}, expected {expected}",
                placed.name
            ));
        }
    }
    wrong
}

/// Compares the list that the program wrote with what the layout makes of it.
fn check_chunks(
    programs: &Programs,
    request: &Request,
    placed: &Placed<'_>,
    stream: &[u8],
) -> Option<String> {
    let chunks = programs.array::<Chunk>("chunks", CHUNKS).ok()??;
    let buffer = &placed.buffer;
    let expected: Vec<Chunk> = buffer
        .chunk_list(&(0..buffer.len()))
        .map(|(offset, len)| Chunk {
            offset,
            place: buffer.place(offset),
            valid: len as u32,
            size: len as u32,
            first: stream[offset as usize],
            last: stream[(offset + len) as usize - 1],
            pad: [0; 6],
        })
        .collect();
    let show = |chunk: &Chunk| {
        format!(
            "{} bytes at {}, place {} in its page, dynptr of {}, bytes {:#04x}…{:#04x}",
            chunk.valid, chunk.offset, chunk.place, chunk.size, chunk.first, chunk.last
        )
    };
    let name = placed.name;
    let count = (request.source_chunks as usize).min(CHUNKS);
    for index in 0..count.max(expected.len()) {
        let got = (index < count).then(|| chunks.get(index));
        let wanted = expected.get(index);
        if got.as_ref() != wanted {
            let none = || "no such chunk".to_string();
            return Some(format!(
                "chunk {index} of the {name} ({}): {}; expected {}",
                placed.side.kind,
                got.as_ref().map_or_else(none, show),
                wanted.map_or_else(none, show)
            ));
        }
    }
    None
}

/// Looks at a buffer of a failed request chunk by chunk, to say what is wrong
/// with it.
fn diagnose(
    bench: &Bench<'_>,
    session: &Session,
    placed: &Placed<'_>,
    slot: u64,
) -> Option<String> {
    // The chunks are listed by a program that reads.
    let unreadable = placed.side.is_kernel() && !placed.is_source;
    if placed.side.kind == BufferType::Arena || unreadable {
        return None;
    }
    let _chunks = bench.lock_chunks().ok()?;
    let programs = bench.loaded.programs(Family::Chunks, true);
    let id = session
        .id(bench.loaded, Family::Chunks, true, "chunks")
        .ok()?;
    programs.requests().set(
        slot as usize,
        Request {
            from: placed.view.descriptor,
            len: placed.buffer.len(),
            ..Request::default()
        },
    );
    let entry = bench.entry(id, slot, 0);
    session
        .run(&[entry], bench::patience(placed.buffer.len()))
        .ok()?;
    let request = programs.requests().get(slot as usize);
    check_chunks(programs, &request, placed, &placed.buffer.stream())
}
