// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Kernel memory that requests leave behind: D2.

use super::Verdict;
use super::buffers::{PAGE, REG_VEC, has_all, iovecs, outcome};
use super::child::Attempt;
use super::stage::Walker;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::memory::{Memory, Protection};
use crate::registration::Table;
use crate::request::Descriptor;
use crate::spec::PageKind;

const IOVECS: usize = 1024;
/// Bytes of their array, as the kernel copies it.
const ARRAY: usize = IOVECS * size_of::<[u64; 2]>();
const TIMES: usize = 512;
/// What a leak of each array comes to, but for what others give back meanwhile.
const LEAKED: u64 = (TIMES * ARRAY) as u64 * 3 / 4;

/// D2
pub fn leaks_iovecs(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    let walker = Walker::new(kernel, "read")?;
    let mut memory = Memory::anonymous(PAGE, PageKind::Base)?;
    let region = memory.region();
    let table = Table::new(&walker.ring, 1)?;
    table.add_region(0, &region)?;
    let good = vec![[region.address(), 1]; IOVECS];
    let trial = walker.walk(iovecs(REG_VEC, &good))?;
    if !has_all(&trial, IOVECS) {
        return Ok(attempt.cannot_tell(format!("REG_VEC does not work: {}", outcome(&trial))));
    }

    let ending_with = |last| {
        let mut array = good.clone();
        array[IOVECS - 1] = last;
        array
    };
    let past = ending_with([region.address(), PAGE as u64 + 1]);
    let empty = ending_with([region.address(), 0]);
    let mut half = Memory::anonymous(ARRAY, PageKind::Base)?;
    let half = half.region();
    half.protect(ARRAY / 2..ARRAY, Protection::None)?;
    let unreadable = Descriptor {
        addr: half.address(),
        ..iovecs(REG_VEC, &good)
    };
    let bad = [
        ("the last past the buffer's end", iovecs(REG_VEC, &past)),
        ("the last empty", iovecs(REG_VEC, &empty)),
        ("half of them unreadable", unreadable),
    ];
    let mut most = None;
    for (what, buffer) in bad {
        let Some(grown) = round(&walker, buffer)? else {
            continue;
        };
        // Whatever else grows at this moment does not do so twice.
        let again = match grown < LEAKED {
            true => 0,
            false => round(&walker, buffer)?.unwrap_or(0),
        };
        if again >= LEAKED {
            return Ok(attempt.present(format!(
                "1024 iovecs, {what}, fail {TIMES} times: SUnreclaim grows by {} KiB, \
                 once more by {} KiB; each array is 16 KiB",
                grown >> 10,
                again >> 10
            )));
        }
        most = most.max(Some(grown >> 10));
    }
    Ok(match most {
        None => attempt.cannot_tell("no import of bad iovecs fails"),
        Some(most) => attempt.absent(format!(
            "bad arrays of 1024 iovecs fail {TIMES} times: SUnreclaim grows by {most} KiB at most"
        )),
    })
}

/// Bytes by which the kernel's memory grows; `None` when nothing fails.
fn round(walker: &Walker<'_>, buffer: Descriptor) -> Result<Option<u64>, Failure> {
    let before = unreclaimable()?;
    for _ in 0..TIMES {
        if walker.walk(buffer)?.opened == 0 {
            return Ok(None);
        }
    }
    Ok(Some(unreclaimable()?.saturating_sub(before)))
}

fn unreclaimable() -> Result<u64, Failure> {
    const FILE: &str = "/proc/meminfo";
    let found = crate::proc::number(FILE, "SUnreclaim");
    found.map(|kib| kib << 10).ok_or_else(|| {
        Failure::environment(format!(
            "{FILE} has no SUnreclaim; CONFIG_DEBUG_KMEMLEAK would show it"
        ))
    })
}
