// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Requests over one buffer, in flight together, while something is done to
//! the buffer or to the programs. What each may end with is determined: the
//! right bytes, or the error that the disturbance brings.

use std::os::fd::AsFd;

use super::board::Ended;
use super::plan::{Batch, Disturbance};
use crate::buffer::Buffer;
use crate::errno::res_text;
use crate::layout::Random;
use crate::memory::{Memory, Protection};
use crate::oracle::Digest;
use crate::registration::Table;
use crate::request::Request;
use crate::smoke::Stop;
use crate::smoke::bench::{ASYNC, Bench};
use crate::smoke::case::{RingMode, Work};
use crate::smoke::place::{lay_out, memory_file};
use crate::smoke::transfer::{family, fill_of};

pub fn run(bench: &Bench<'_>, batch: &Batch, seed: u64) -> Result<Ended, Stop> {
    let session = bench.session(batch.ring, false)?;
    let (shape, layout) = lay_out(&batch.side, batch.len, 3, seed);
    let size = layout.size as usize;
    let file = memory_file(size)?;
    let mut memory = Memory::of_file(file.as_fd(), size)?;
    let mut other = Memory::untouched(size)?;
    let other = other.region();
    let table = Table::new(&session.ring, 16)?;
    let mut buffer = Buffer::new(shape, layout, memory.region());
    let fills = batch.work.has_destination();
    buffer.prepare((!fills).then_some(seed));
    table.add(&buffer)?;
    let view = buffer.view(&(0..batch.len))?;

    let family = family(batch.work);
    let operation = match batch.work {
        Work::Checksum(algorithm) => algorithm.name().to_string(),
        work => fill_of(work, seed).operation().to_string(),
    };
    let id = session.id(bench.loaded, family, true, &operation)?;
    let requests = bench.loaded.programs(family, true).requests();
    let slots = bench.slots().take(batch.count as usize);
    let entries: Vec<_> = slots
        .clone()
        .map(|slot| {
            let mut request = Request {
                len: batch.len,
                word: fill_of(batch.work, seed).argument(),
                stream: slot as u32,
                ..Request::default()
            };
            match fills {
                true => request.to = view.descriptor,
                false => request.from = view.descriptor,
            }
            requests.set(slot as usize, request);
            bench.entry(id, slot, ASYNC)
        })
        .collect();

    let expected = match batch.work {
        Work::Checksum(algorithm) => {
            let mut digest = Digest::new(algorithm);
            digest.update(&buffer.stream());
            Some(digest.finish())
        }
        _ => None,
    };
    let region = buffer.region();
    let mut random = Random(seed ^ 0x7069);
    let disturb = || -> Result<(), Stop> {
        for _ in 0..batch.times {
            spin(random.below(2000));
            match batch.disturbance {
                Disturbance::None => {}
                Disturbance::Protect => {
                    region.protect(0..region.len(), Protection::None)?;
                    spin(random.below(500));
                    region.protect(0..region.len(), Protection::ReadWrite)?;
                }
                Disturbance::Unmap => {
                    region.replace(None)?;
                    spin(random.below(500));
                    region.replace(Some(file.as_fd()))?;
                }
                Disturbance::Discard => region.drop_pages()?,
                Disturbance::Unregister => {
                    table.remove(3)?;
                    spin(random.below(500));
                    table.add(&buffer)?;
                }
                Disturbance::Replace => {
                    table.add_region(3, &other)?;
                    spin(random.below(500));
                    table.add(&buffer)?;
                }
                Disturbance::Detach => session.detach_all(),
            }
        }
        Ok(())
    };
    let patience = bench.patience(batch.len * batch.count);
    let results = session.run_while(&entries, patience, disturb)?;

    let mut written = false;
    let mut refused = false;
    for (slot, result) in slots.zip(&results) {
        let request = requests.get(slot as usize);
        let result = result.ok_or_else(|| Stop::Fail("no completion".to_string()))?;
        if result == batch.len as i32 {
            written = true;
            if let Some(expected) = expected.filter(|expected| *expected != request.digest) {
                let got = request.digest;
                return Err(Stop::Fail(format!(
                    "a request ends with {result} and the digest {got:#x}, expected {expected:#x}"
                )));
            }
        } else if is_allowed(batch, bench.loaded.callbacks.may_sleep(), result) {
            refused = true;
        } else {
            let got = res_text(result);
            return Err(Stop::Fail(format!(
                "res is {got}, expected {} or what the disturbance brings",
                batch.len
            )));
        }
    }
    check_bytes(&buffer, batch, seed, written)?;
    Ok(if refused {
        Ended::Refused
    } else {
        Ended::Right
    })
}

/// Busy for some loops: sleeping would take longer than the requests.
fn spin(loops: u64) {
    for _ in 0..loops {
        std::hint::spin_loop();
    }
}

/// The errors that a request in flight may end with.
fn is_allowed(batch: &Batch, sleepable: bool, result: i32) -> bool {
    let may_fault = match batch.disturbance {
        Disturbance::Protect | Disturbance::Unmap => !batch.side.is_registered(),
        Disturbance::Unregister | Disturbance::Replace => true,
        Disturbance::None | Disturbance::Discard | Disturbance::Detach => false,
    };
    // The polling thread prepares requests when it comes to them.
    let may_come_late = batch.disturbance == Disturbance::Detach && batch.ring == RingMode::Sqpoll;
    result == -libc::EFAULT && may_fault
        || result == -libc::EOPNOTSUPP && may_come_late
        || result == -libc::EAGAIN && !sleepable
}

/// All bytes are those of the one or other side of the request: a whole one
/// wrote all of them, one that failed perhaps some. Guards stay.
fn check_bytes(buffer: &Buffer<'_>, batch: &Batch, seed: u64, written: bool) -> Result<(), Stop> {
    let wrong = match batch.work {
        Work::Fill(_) if written => {
            let fill = fill_of(batch.work, seed);
            buffer.compare(|position, bytes| fill.write(position, bytes))
        }
        Work::Fill(_) => buffer.compare_guards(),
        _ => buffer.compare(|position, bytes| crate::pattern::fill(seed, position, bytes)),
    };
    match wrong {
        Some(wrong) => Err(Stop::Fail(wrong.to_string())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Algorithm;
    use crate::smoke::case::Side;
    use crate::spec::BufferType;

    fn batch(kind: BufferType, ring: RingMode, disturbance: Disturbance) -> Batch {
        Batch {
            work: Work::Checksum(Algorithm::Xor64),
            side: Side::plain(kind),
            len: 4096,
            count: 1,
            ring,
            disturbance,
            times: 1,
        }
    }

    #[test]
    fn only_the_errors_that_a_disturbance_brings_are_allowed() {
        let user = BufferType::User;
        let fixed = BufferType::Fixed;
        let table = [
            (user, Disturbance::Protect, -libc::EFAULT, true),
            (fixed, Disturbance::Protect, -libc::EFAULT, false),
            (user, Disturbance::Discard, -libc::EFAULT, false),
            (fixed, Disturbance::Unregister, -libc::EFAULT, true),
            (fixed, Disturbance::Replace, -libc::EINVAL, false),
            (user, Disturbance::Protect, 512, false),
            (user, Disturbance::Detach, -libc::EOPNOTSUPP, false),
            (user, Disturbance::None, -libc::EAGAIN, false),
        ];
        for (kind, disturbance, result, allowed) in table {
            let batch = batch(kind, RingMode::Plain, disturbance);
            assert_eq!(
                is_allowed(&batch, true, result),
                allowed,
                "{batch} {result}"
            );
        }
        let polled = batch(user, RingMode::Sqpoll, Disturbance::Detach);
        assert!(is_allowed(&polled, true, -libc::EOPNOTSUPP));
    }

    #[test]
    fn a_byte_that_a_kernel_left_out_is_found() {
        let batch = Batch {
            work: Work::Fill(crate::smoke::case::Pattern::Counter),
            ..batch(BufferType::User, RingMode::Plain, Disturbance::None)
        };
        let (shape, layout) = lay_out(&batch.side, batch.len, 3, 9);
        let mut memory = Memory::anonymous(layout.size as usize, batch.side.pages).expect("memory");
        let mut buffer = Buffer::new(shape, layout, memory.region());
        buffer.prepare(None);
        assert!(check_bytes(&buffer, &batch, 9, true).is_err());
        assert_eq!(check_bytes(&buffer, &batch, 9, false), Ok(()));
        fill_of(batch.work, 9).write(0, buffer.segment_mut(0));
        assert_eq!(check_bytes(&buffer, &batch, 9, true), Ok(()));
        buffer.segment_mut(0)[4095] ^= 1;
        assert!(check_bytes(&buffer, &batch, 9, true).is_err());
    }
}
