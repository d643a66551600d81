// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Sets the stage for one case: memory, ring, program, requests, and the
//! baseline over the same memory.

use std::hint::black_box;

use super::batch::Batch;
use super::case::{Case, Work};
use super::pipeline;
use super::rounds::Step;
use crate::buffer::Buffer;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::layout::{Layout, Shape};
use crate::memory::{Memory, Region};
use crate::oracle::{Digest, Fill};
use crate::pattern;
use crate::program::{Family, Plan, Program, Storage};
use crate::registration::Table;
use crate::request::Request;
use crate::ring::Ring;
use crate::spec::{BufferType, PageKind, RingOptions};

/// Of the source's bytes and of the buffers' layout.
const SEED: u64 = 1;

/// The source and the destination of a case's requests.
#[derive(Debug, Clone, Copy, Default)]
struct Sides {
    from: Option<BufferType>,
    to: Option<BufferType>,
}

impl Work {
    fn sides(self) -> Sides {
        let from = |kind| Sides {
            from: Some(kind),
            to: None,
        };
        let to = |kind| Sides {
            from: None,
            to: Some(kind),
        };
        match self {
            Work::Iterate(kind) | Work::Checksum(_, kind) | Work::TableCrc32c(kind) => from(kind),
            Work::IterateDest(kind) | Work::Fill(_, kind) => to(kind),
            Work::Copy(source, dest) => Sides {
                from: Some(source),
                to: Some(dest),
            },
            _ => Sides::default(),
        }
    }

    /// The programs that do it.
    pub(super) fn operation(self) -> (Family, String) {
        let arena = |kind| kind == BufferType::Arena;
        let suffix = |kind| if arena(kind) { "_arena" } else { "" };
        match self {
            Work::Empty => (Family::Attach, "empty".into()),
            Work::Prepare => (Family::Bench, "prepared".into()),
            Work::Iterate(_) => (Family::Bench, "iterate_source".into()),
            Work::IterateDest(_) => (Family::Bench, "iterate_dest".into()),
            Work::Copy(from, to) => {
                let operation = match (arena(from), arena(to)) {
                    (true, true) => "within_arena",
                    (true, false) => "from_arena",
                    (false, true) => "to_arena",
                    (false, false) => "between",
                };
                (Family::Copy, operation.into())
            }
            Work::ReadCopyWrite => (Family::Copy, "between".into()),
            Work::Checksum(algorithm, kind) => (
                Family::Checksum,
                format!("{}{}", algorithm.name(), suffix(kind)),
            ),
            Work::ReadChecksum(algorithm) => (Family::Checksum, algorithm.name().into()),
            Work::TableCrc32c(_) => (Family::Checksum, "crc32c_by_table".into()),
            Work::Fill(fill, kind) => (
                Family::Fill,
                format!("{}{}", fill.operation(), suffix(kind)),
            ),
            Work::FillWrite(fill) => (Family::Fill, fill.operation().into()),
        }
    }
}

/// Builds the case, tries it once, verifies what came of it, and calls `run`
/// with a step of it and one of its baseline.
pub fn with_case<R>(
    kernel: &Kernel,
    case: &Case,
    run: impl FnOnce(Step<'_>, Step<'_>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let ring = Ring::open(
        kernel,
        &RingOptions::default(),
        (case.depth * pipeline::LONGEST_CHAIN) as u32,
    )?;
    let mut others: Vec<Storage> = (1..case.ops).map(|_| Storage::default()).collect();
    let mut attached = Vec::new();
    for (number, storage) in others.iter_mut().enumerate() {
        let plan = Plan {
            ops: vec!["empty"],
            first_id: number + 1,
            ..Plan::default()
        };
        attached.push(Program::attach(&ring, storage, Family::Attach, &plan)?);
    }
    match case.work {
        Work::ReadCopyWrite | Work::ReadChecksum(_) | Work::FillWrite(_) => {
            pipeline::with_files(&ring, case, run)
        }
        _ => with_buffers(&ring, case, run),
    }
}

fn with_buffers<R>(
    ring: &Ring,
    case: &Case,
    run: impl FnOnce(Step<'_>, Step<'_>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let sides = case.work.sides();
    let shapes = [(sides.from, case.table - 2), (sides.to, case.table - 1)]
        .map(|(kind, index)| kind.map(|kind| shape(kind, case, index as u16)));
    let layouts = shapes
        .clone()
        .map(|shape| shape.map(|shape| Layout::new(&shape, SEED)));
    let arena_bytes = |shape: &Option<Shape>, layout: &Option<Layout>| match (shape, layout) {
        (Some(shape), Some(layout)) if shape.kind == BufferType::Arena => layout.size as usize,
        _ => 0,
    };
    let (family, operation) = case.work.operation();
    let mut storage = Storage::default();
    let plan = Plan {
        ops: vec![&operation],
        arena: (0..2).map(|i| arena_bytes(&shapes[i], &layouts[i])).sum(),
        ..Plan::default()
    };
    let program = Program::attach(ring, &mut storage, family, &plan)?;

    let mut arena = program.arena()?;
    let mut memories = [None, None];
    for (memory, (shape, layout)) in memories.iter_mut().zip(shapes.iter().zip(&layouts)) {
        if let (Some(shape), Some(layout)) = (shape, layout)
            && shape.kind != BufferType::Arena
        {
            *memory = Some(Memory::anonymous(layout.size as usize, PageKind::Base)?);
        }
    }
    let [source_memory, dest_memory] = &mut memories;
    let [source_shape, dest_shape] = shapes;
    let [source_layout, dest_layout] = layouts;
    let mut source = place(source_shape, source_layout, source_memory, &mut arena)?;
    let mut dest = place(dest_shape, dest_layout, dest_memory, &mut arena)?;
    if let Some(source) = &mut source {
        source.prepare(Some(SEED));
    }
    if let Some(dest) = &mut dest {
        dest.prepare(None);
    }
    let table = Table::new(ring, case.table)?;
    for buffer in source.iter().chain(&dest) {
        table.add(buffer)?;
    }

    let whole = 0..case.size;
    let view = |buffer: &Option<Buffer<'_>>| {
        let view = buffer.as_ref().map(|buffer| buffer.view(&whole));
        view.transpose()
    };
    let (from, to) = (view(&source)?, view(&dest)?);
    let address = |buffer: &Option<Buffer<'_>>| {
        let buffer = buffer.as_ref();
        buffer.map_or(0, |buffer| buffer.address(0))
    };
    let descriptor = |view: &Option<crate::buffer::View>| {
        let view = view.as_ref();
        view.map_or_else(Default::default, |view| view.descriptor)
    };
    let moves = !matches!(case.work, Work::Empty | Work::Prepare);
    let request = Request {
        from: descriptor(&from),
        to: descriptor(&to),
        from_arena: address(&source),
        to_arena: address(&dest),
        len: case.size,
        word: match case.work {
            Work::Fill(fill, _) => fill.argument(),
            _ => 0,
        },
        ..Request::default()
    };
    if family != Family::Attach {
        for slot in 0..case.depth {
            let stream = slot as u32;
            program.set_request(slot, Request { stream, ..request });
        }
    }
    let expected = if moves { case.size as i32 } else { 0 };
    let id = program.id(&operation);
    let batch = Batch::of_requests(ring, id, case.depth, case.linked, expected);
    batch.run()?;
    verify(case.work, &program, dest.as_ref(), case.size)?;

    let mut measured = || batch.run();
    if !case.work.moves_bytes() {
        let nops = Batch::of_nops(ring, case.depth, case.linked);
        return run(&mut measured, &mut || nops.run());
    }
    let depth = case.depth;
    let work = case.work;
    let source = source.as_ref();
    let mut baseline = || {
        for _ in 0..depth {
            in_user_space(work, source, dest.as_mut());
        }
        Ok(())
    };
    run(&mut measured, &mut baseline)
}

/// Whole pages: what storage software hands over.
fn shape(kind: BufferType, case: &Case, index: u16) -> Shape {
    let segments = match kind {
        BufferType::Vec | BufferType::RegVec => case.segments,
        _ => 1,
    };
    Shape {
        kind,
        segments: vec![case.size / segments; segments as usize],
        offset: 0,
        index,
        at: 0,
    }
}

fn place<'m>(
    shape: Option<Shape>,
    layout: Option<Layout>,
    memory: &'m mut Option<Memory>,
    arena: &mut Option<Region<'m>>,
) -> Result<Option<Buffer<'m>>, Failure> {
    let (Some(shape), Some(layout)) = (shape, layout) else {
        return Ok(None);
    };
    let region = match memory {
        Some(memory) => memory.region(),
        None => {
            let whole = arena
                .take()
                .ok_or_else(|| Failure::environment("libbpf mapped no arena"))?;
            let (mine, rest) = whole.split_at(layout.size as usize);
            *arena = Some(rest);
            mine
        }
    };
    Ok(Some(Buffer::new(shape, layout, region)))
}

/// The same work over the same memory.
fn in_user_space(work: Work, source: Option<&Buffer<'_>>, dest: Option<&mut Buffer<'_>>) {
    match (work, source, dest) {
        (Work::Copy(..), Some(source), Some(dest)) => {
            dest.segment_mut(0)
                .copy_from_slice(black_box(source.segment(0)));
            black_box(dest.segment(0));
        }
        (Work::Checksum(algorithm, _), Some(source), _) => {
            let mut digest = Digest::new(algorithm);
            digest.update(black_box(source.segment(0)));
            black_box(digest.finish());
        }
        (Work::TableCrc32c(_), Some(source), _) => {
            black_box(crc32c::crc32c(black_box(source.segment(0))));
        }
        (Work::Fill(fill, _), _, Some(dest)) => {
            fill_in_user_space(fill, dest.segment_mut(0));
            black_box(dest.segment(0));
        }
        _ => unreachable!("work that moves bytes has buffers"),
    }
}

pub(super) fn fill_in_user_space(fill: Fill, bytes: &mut [u8]) {
    match fill {
        Fill::Byte(byte) => bytes.fill(black_box(byte)),
        _ => fill.write(0, bytes),
    }
}

/// Numbers of a program that does something else are worth nothing.
fn verify(
    work: Work,
    program: &Program<'_>,
    dest: Option<&Buffer<'_>>,
    size: u64,
) -> Result<(), Failure> {
    let wrong = match (work, dest) {
        (Work::Copy(..), Some(dest)) => {
            dest.compare(|position, bytes| pattern::fill(SEED, position, bytes))
        }
        (Work::Fill(fill, _), Some(dest)) => {
            dest.compare(|position, bytes| fill.write(position, bytes))
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        return Err(Failure::mismatch(format!("{work}: {wrong}")));
    }
    let algorithm = match work {
        Work::Checksum(algorithm, _) => algorithm,
        Work::TableCrc32c(_) => crate::cli::Algorithm::Crc32c,
        _ => return Ok(()),
    };
    let expected = crate::oracle::digest_of_pattern(algorithm, SEED, size);
    let digest = program.request(0).digest;
    if digest != expected {
        return Err(Failure::mismatch(format!(
            "{work}: {digest:#x}, expected {expected:#x}"
        )));
    }
    Ok(())
}
