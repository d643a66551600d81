// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the interface must refuse, tried before the main job: a kernel that
//! lost a check copies every byte right and is still wrong.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::errno::Errno;
use crate::error::Failure;
use crate::kernel_buffer::Direction;
use crate::program::Program;
use crate::request::{Descriptor, REFUSALS, Request};
use crate::ring::Ring;
use crate::spec::{BufferType, SqeOptions};
use crate::submission::{MAX_REQUEST, Outcome, Submission, run};

/// Not an errno and not 0: the attempt was not made.
const UNTRIED: i64 = i64::MIN;
/// `REFUSE_WRITABLE_SOURCE`: only a buffer with bytes has a chunk to try it on.
const NEEDS_A_CHUNK: usize = 0;
/// `REFUSE_DEST`: what came of the request's destination.
const AS_DESTINATION: usize = 4;

/// Buffer types (UAPI).
const FIXED: u8 = 1;
const KFIXED: u8 = 3;

/// Bytes whose chunks are looked at: enough for every split into iovecs, and
/// little against a long copy.
const LOOKED_AT: u64 = 4 << 20;

/// The operation's name in the `copy` family.
pub const OPERATION: &str = "check";

/// Whether the chunks came as the buffer's layout has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    AsLaidOut,
    Wrong,
}

/// Runs every attempt over a buffer, which stays as it is. `byte_at` says what
/// stands in it.
pub fn refusals(
    ring: &Ring,
    program: &Program<'_>,
    buffer: &Buffer<'_>,
    byte_at: impl Fn(u64) -> u8,
) -> Result<Order, Failure> {
    let whole = match buffer.layout().requests.first() {
        Some(request) => request.positions.clone(),
        None => 0..buffer.len().min(MAX_REQUEST),
    };
    let view = buffer.view(&whole)?;
    let results = program.refusals()?.ok_or_else(no_results)?;
    for index in 0..REFUSALS.len() {
        results.set(index, UNTRIED);
    }
    let request = Request {
        from: view.descriptor,
        len: LOOKED_AT,
        ..Request::default()
    };
    let outcome = attempt(ring, program, request)?;
    if outcome.result != 0 {
        return Err(wrong("an iterator over the source", outcome.result, 0));
    }
    for (index, (what, expected)) in REFUSALS.iter().enumerate() {
        let result = results.get(index);
        let untried = result == UNTRIED && index == NEEDS_A_CHUNK && buffer.is_empty();
        if !untried && result != i64::from(*expected) {
            return Err(wrong(what, result as i32, *expected));
        }
    }
    past_the_end(ring, program, buffer)?;
    as_kernel_buffer(ring, program, buffer)?;
    if outcome.request.digest == expected_sum(buffer, &whole, byte_at) {
        Ok(Order::AsLaidOut)
    } else {
        Ok(Order::Wrong)
    }
}

/// The sum that src/bpf/check.h makes of the chunks.
fn expected_sum(buffer: &Buffer<'_>, whole: &Range<u64>, byte_at: impl Fn(u64) -> u8) -> u64 {
    let mut sum = 0u64;
    for (offset, len) in buffer.chunk_list(whole) {
        sum = sum.rotate_left(7) ^ (len << 8 | u64::from(byte_at(offset)));
        if offset + len >= LOOKED_AT {
            break;
        }
    }
    sum
}

/// A range that ends one byte after its registered buffer does.
fn past_the_end(ring: &Ring, program: &Program<'_>, buffer: &Buffer<'_>) -> Result<(), Failure> {
    let Some((_, start, len)) = buffer.registration() else {
        return Ok(());
    };
    // Lives until the request has completed.
    let iovec = libc::iovec {
        iov_base: start as *mut _,
        iov_len: len as usize + 1,
    };
    let mut from = buffer.view(&(0..0))?.descriptor;
    if buffer.shape().kind == BufferType::RegVec {
        from.addr = &raw const iovec as u64;
        from.len = 1;
    } else {
        from.addr = start;
        from.len = u32::try_from(len + 1).unwrap_or(u32::MAX);
    }
    // A kernel that lets it pass is not asked for more than the first chunk:
    // what lies past the end may not be memory at all.
    let request = Request {
        from,
        len: 1,
        ..Request::default()
    };
    let result = attempt(ring, program, request)?.result;
    if result != -libc::EFAULT {
        let what = "a range that ends a byte after its registered buffer";
        return Err(wrong(what, result, -libc::EFAULT));
    }
    Ok(())
}

/// The addressing of the kernel's buffers on one that user space registered.
fn as_kernel_buffer(
    ring: &Ring,
    program: &Program<'_>,
    buffer: &Buffer<'_>,
) -> Result<(), Failure> {
    let Some((buf_index, start, _)) = buffer.registration() else {
        return Ok(());
    };
    for addr in [0, start] {
        let description = Descriptor {
            kind: KFIXED,
            buf_index,
            len: 1,
            addr,
            ..Descriptor::default()
        };
        let result = describe(ring, program, Direction::Write, description)?;
        if result != -libc::EINVAL {
            let what = format!("KFIXED at {addr:#x} on a buffer of user space");
            return Err(wrong(&what, result, -libc::EINVAL));
        }
    }
    Ok(())
}

/// What must be refused of a buffer that the kernel registered: anything but
/// its own direction, its own addressing and its own bytes. `empty` is a table
/// slot that holds nothing.
pub fn kernel_refusals(
    ring: &Ring,
    program: &Program<'_>,
    buffer: &Buffer<'_>,
    direction: Direction,
    empty: u16,
) -> Result<(), Failure> {
    for (request, slot) in buffer.layout().requests.iter().zip(buffer.slots()) {
        let right = Descriptor {
            kind: KFIXED,
            buf_index: *slot,
            len: 1,
            ..Descriptor::default()
        };
        let len = request.len();
        let at = |addr: u64, len: u32| Descriptor { addr, len, ..right };
        let other = |kind: u8, buf_index: u16| Descriptor {
            kind,
            buf_index,
            ..right
        };
        let against = match direction {
            Direction::Write => Direction::Read,
            Direction::Read => Direction::Write,
        };
        let table = [
            ("in the wrong direction", against, right, libc::EFAULT),
            ("at its end", direction, at(len, 1), libc::EFAULT),
            (
                "past its end",
                direction,
                at(0, len as u32 + 1),
                libc::EFAULT,
            ),
            (
                "at offset u64::MAX",
                direction,
                at(u64::MAX, 1),
                libc::EFAULT,
            ),
            (
                "of u32::MAX bytes",
                direction,
                at(0, u32::MAX),
                libc::EFAULT,
            ),
            (
                "in an empty slot",
                direction,
                other(KFIXED, empty),
                libc::EFAULT,
            ),
            (
                "past the table",
                direction,
                other(KFIXED, u16::MAX),
                libc::EFAULT,
            ),
            ("as FIXED", direction, other(FIXED, *slot), libc::EINVAL),
        ];
        for (what, direction, description, errno) in table {
            let result = describe(ring, program, direction, description)?;
            if result != -errno {
                let what = format!("a kernel-registered buffer {what}");
                return Err(wrong(&what, result, -errno));
            }
        }
    }
    Ok(())
}

/// What an iterator over one byte of this description begins with.
fn describe(
    ring: &Ring,
    program: &Program<'_>,
    direction: Direction,
    description: Descriptor,
) -> Result<i32, Failure> {
    let mut request = Request {
        len: 1,
        ..Request::default()
    };
    match direction {
        Direction::Write => {
            request.from = description;
            Ok(attempt(ring, program, request)?.result)
        }
        Direction::Read => {
            request.to = description;
            attempt(ring, program, request)?;
            let results = program.refusals()?.ok_or_else(no_results)?;
            Ok(results.get(AS_DESTINATION) as i32)
        }
    }
}

fn no_results() -> Failure {
    Failure::environment("the copy programs have no map of refusals")
}

fn attempt(ring: &Ring, program: &Program<'_>, request: Request) -> Result<Outcome, Failure> {
    let submission = Submission {
        id: program.id(OPERATION),
        request,
        after_previous: false,
    };
    let outcomes = run(ring, program, &[submission], &SqeOptions::default(), 1)?;
    Ok(outcomes[0])
}

fn wrong(what: &str, result: i32, expected: i32) -> Failure {
    let name = |result: i32| match Errno::from_result(result) {
        Some(errno) => format!("{result} ({errno})"),
        None => result.to_string(),
    };
    Failure::mismatch(format!(
        "{what}: res is {}, expected {}",
        name(result),
        name(expected)
    ))
}
