// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the interface must refuse, tried before the main job: a kernel that
//! lost a check copies every byte right and is still wrong.

use crate::buffer::Buffer;
use crate::errno::Errno;
use crate::error::Failure;
use crate::program::Program;
use crate::request::{REFUSALS, Request};
use crate::ring::Ring;
use crate::spec::{BufferType, SqeOptions};
use crate::submission::{MAX_REQUEST, Outcome, Submission, run};

/// Not an errno and not 0: the attempt was not made.
const UNTRIED: i64 = i64::MIN;
/// `REFUSE_WRITABLE_SOURCE`: only a buffer with bytes has a chunk to try it on.
const NEEDS_A_CHUNK: usize = 0;

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
    let whole = 0..buffer.len().min(MAX_REQUEST);
    let view = buffer.view(&whole)?;
    let results = program
        .refusals()?
        .ok_or_else(|| Failure::environment("the copy programs have no map of refusals"))?;
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
    if outcome.request.digest == expected_sum(buffer, byte_at) {
        Ok(Order::AsLaidOut)
    } else {
        Ok(Order::Wrong)
    }
}

/// The sum that src/bpf/check.h makes of the chunks.
fn expected_sum(buffer: &Buffer<'_>, byte_at: impl Fn(u64) -> u8) -> u64 {
    let mut sum = 0u64;
    for (offset, len) in buffer.chunk_list(&(0..buffer.len())) {
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
