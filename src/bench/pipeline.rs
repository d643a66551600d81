// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Reading, processing and writing blocks of a file in memory: as one chain of
//! requests, or one by one with the processing in user space.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use io_uring::{opcode, squeue, types};

use super::batch::{Batch, Entry};
use super::case::{Case, Work};
use super::rounds::Step;
use super::stage::fill_in_user_space;
use crate::error::Failure;
use crate::memory::{Memory, Region};
use crate::oracle::Digest;
use crate::program::{Plan, Program, Storage};
use crate::registration::Table;
use crate::request::{Descriptor, Request};
use crate::ring::Ring;
use crate::spec::PageKind;
use crate::submission::{self, IOSQE_IO_LINK};
use crate::{pattern, sys};

/// Read, process, write.
pub const LONGEST_CHAIN: usize = 3;

/// `IO_BPF_BUF_FIXED`.
const FIXED: u8 = 1;
const SEED: u64 = 1;

/// Slots of the table.
const INPUT: u16 = 0;
const OUTPUT: u16 = 1;

/// The parts of a chain that a kind of work has.
struct Parts {
    reads: bool,
    writes: bool,
}

fn parts(work: Work) -> Parts {
    Parts {
        reads: !matches!(work, Work::FillWrite(_)),
        writes: !matches!(work, Work::ReadChecksum(_)),
    }
}

/// A file of `blocks` blocks that lies in memory.
fn file(blocks: usize, size: usize) -> Result<File, Failure> {
    let file = sys::memory_file(c"uringbpf-bench", blocks * size)
        .map_err(|error| Failure::io("memfd_create", &error))?;
    let mut block = vec![0; size];
    for number in 0..blocks {
        let position = (number * size) as u64;
        pattern::fill(SEED, position, &mut block);
        file.write_all_at(&block, position)
            .map_err(|error| Failure::io("write to a file in memory", &error))?;
    }
    Ok(file)
}

/// The input block and the output block of each lane.
fn lanes<'m>(mut memory: Region<'m>, size: usize) -> Vec<(Region<'m>, Region<'m>)> {
    let mut lanes = Vec::new();
    while memory.len() >= 2 * size {
        let (input, rest) = memory.split_at(size);
        let (output, rest) = rest.split_at(size);
        memory = rest;
        lanes.push((input, output));
    }
    lanes
}

/// Builds the files and lanes, and calls `run` with a step of each kind.
pub fn with_files<R>(
    ring: &Ring,
    case: &Case,
    run: impl FnOnce(Step<'_>, Step<'_>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let size = case.size as usize;
    let (family, operation) = case.work.operation();
    let mut storage = Storage::default();
    let plan = Plan {
        ops: vec![&operation],
        ..Plan::default()
    };
    let program = Program::attach(ring, &mut storage, family, &plan)?;
    let mut memory = Memory::anonymous(2 * size * case.depth, PageKind::Base)?;
    let (source, dest) = (file(case.depth, size)?, file(case.depth, size)?);
    let whole = memory.region();
    let table = Table::new(ring, 2)?;
    // One buffer, in both slots: every lane is a range of it.
    table.add_region(INPUT, &whole)?;
    table.add_region(OUTPUT, &whole)?;
    let mut lanes = lanes(whole, size);

    let mut chains = Vec::new();
    let mut singles = Vec::new();
    for (number, (input, output)) in lanes.iter().enumerate() {
        let descriptor = |region: &Region<'_>, index| Descriptor {
            kind: FIXED,
            buf_index: index,
            len: size as u32,
            addr: region.address(),
            ..Descriptor::default()
        };
        program.set_request(
            number,
            Request {
                from: descriptor(input, INPUT),
                to: descriptor(output, OUTPUT),
                len: case.size,
                word: match case.work {
                    Work::FillWrite(fill) => fill.argument(),
                    _ => 0,
                },
                stream: number as u32,
                ..Request::default()
            },
        );
        let position = (number * size) as u64;
        let entry = |bytes| Entry {
            bytes,
            expected: size as i32,
        };
        let read = entry(read(&source, input, position));
        let write = entry(write(&dest, output, position));
        let id = program.id(&operation);
        let process = entry(submission::entry(ring.opcode(), id, number, 0, 0));
        let Parts { reads, writes } = parts(case.work);
        let mut chain: Vec<Entry> = [(reads, read), (true, process), (writes, write)]
            .into_iter()
            .filter_map(|(wanted, entry)| wanted.then_some(entry))
            .collect();
        let last = chain.len() - 1;
        for entry in &mut chain[..last] {
            entry.bytes[1] |= IOSQE_IO_LINK;
        }
        chains.extend(chain);
        singles.push((
            reads.then(|| Batch::new(ring, vec![read])),
            writes.then(|| Batch::new(ring, vec![write])),
        ));
    }
    let chains = Batch::new(ring, chains);
    chains.run()?;
    let work = case.work;
    verify(work, &dest, &program, &lanes)?;

    run(&mut || chains.run(), &mut || {
        for ((read, write), (input, output)) in singles.iter().zip(&mut lanes) {
            if let Some(read) = read {
                read.run()?;
            }
            process(work, input, output);
            if let Some(write) = write {
                write.run()?;
            }
        }
        Ok(())
    })
}

fn process(work: Work, input: &Region<'_>, output: &mut Region<'_>) {
    match work {
        Work::ReadCopyWrite => output.bytes_mut().copy_from_slice(input.bytes()),
        Work::ReadChecksum(algorithm) => {
            let mut digest = Digest::new(algorithm);
            digest.update(input.bytes());
            black_box(digest.finish());
        }
        Work::FillWrite(fill) => fill_in_user_space(fill, output.bytes_mut()),
        _ => unreachable!("only work on files has lanes"),
    }
}

fn verify(
    work: Work,
    dest: &File,
    program: &Program<'_>,
    lanes: &[(Region<'_>, Region<'_>)],
) -> Result<(), Failure> {
    let size = lanes[0].0.len();
    let (mut expected, mut got) = (vec![0; size], vec![0; size]);
    for (number, _) in lanes.iter().enumerate() {
        let position = (number * size) as u64;
        pattern::fill(SEED, position, &mut expected);
        if let Work::ReadChecksum(algorithm) = work {
            let mut digest = Digest::new(algorithm);
            digest.update(&expected);
            if program.request(number).digest != digest.finish() {
                return Err(Failure::mismatch(format!("{work}: the digest is wrong")));
            }
            continue;
        }
        if let Work::FillWrite(fill) = work {
            fill.write(0, &mut expected);
        }
        dest.read_exact_at(&mut got, position)
            .map_err(|error| Failure::io("read from a file in memory", &error))?;
        if got != expected {
            return Err(Failure::mismatch(format!("{work}: the file is wrong")));
        }
    }
    Ok(())
}

fn read(file: &File, to: &Region<'_>, position: u64) -> [u8; 64] {
    let fd = types::Fd(file.as_raw_fd());
    let entry = opcode::ReadFixed::new(fd, to.address() as *mut u8, to.len() as u32, INPUT);
    bytes(entry.offset(position).build())
}

fn write(file: &File, from: &Region<'_>, position: u64) -> [u8; 64] {
    let fd = types::Fd(file.as_raw_fd());
    let entry = opcode::WriteFixed::new(fd, from.address() as *const u8, from.len() as u32, OUTPUT);
    bytes(entry.offset(position).build())
}

fn bytes(entry: squeue::Entry) -> [u8; 64] {
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: Entry is a transparent io_uring_sqe: 64 bytes, no padding.
    unsafe { std::mem::transmute(entry) }
}
