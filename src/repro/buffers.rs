// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Defects of the iterators over buffers: D1, D3, D8, D9, D10, X1.

use std::io::Write;
use std::os::fd::AsFd;

use super::Verdict;
use super::child::Attempt;
use super::stage::Walker;
use crate::errno::res_text;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::memory::{Memory, Protection};
use crate::proc;
use crate::registration::Table;
use crate::request::{Descriptor, Trial};
use crate::spec::PageKind;
use crate::sys;

/// `enum io_bpf_buf_type`
const VEC: u8 = 2;
const KFIXED: u8 = 3;
pub const REG_VEC: u8 = 4;

pub const PAGE: usize = 4096;

fn user(addr: u64, len: usize) -> Descriptor {
    Descriptor {
        len: len as u32,
        addr,
        ..Descriptor::default()
    }
}

pub fn iovecs(kind: u8, iovecs: &[[u64; 2]]) -> Descriptor {
    Descriptor {
        kind,
        len: iovecs.len() as u32,
        addr: iovecs.as_ptr() as u64,
        ..Descriptor::default()
    }
}

/// What a trial came to, in words.
pub fn outcome(trial: &Trial) -> String {
    match (trial.opened, trial.error) {
        (0, 0) => format!("{} bytes", trial.bytes),
        (0, error) => format!("{} bytes, then {}", trial.bytes, res_text(error)),
        (opened, _) => format!("bpf_iter_uring_buf_new returns {}", res_text(opened)),
    }
}

pub fn has_all(trial: &Trial, len: usize) -> bool {
    (trial.opened, trial.error, trial.bytes) == (0, 0, len as u64)
}

/// A file's memory, mapped and not touched: every access takes a page fault.
fn absent(bytes: &[u8]) -> Result<Memory, Failure> {
    let wrong = |error| Failure::io("make a file in memory", &error);
    let mut file = sys::memory_file(c"uringbpf", bytes.len()).map_err(wrong)?;
    file.write_all(bytes).map_err(wrong)?;
    Memory::of_file(file.as_fd(), bytes.len())
}

/// D1
pub fn sleeps(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    const LEN: usize = 4 * PAGE;
    let Some(walker) = Walker::non_sleepable(kernel, "read")? else {
        return Ok(attempt.absent("programs that cannot sleep are given no iterators"));
    };
    let mut seen = Vec::new();
    let mut pages = absent(&[0x5a; LEN])?;
    let pages = pages.region();
    let mut first = absent(&[0x5a; LEN])?;
    let first = first.region();
    let iovec: Vec<u8> = [pages.address(), LEN as u64]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let mut array = absent(&iovec)?;
    let array = array.region();
    let vec = Descriptor {
        kind: VEC,
        len: 1,
        addr: array.address(),
        ..Descriptor::default()
    };
    let user = user(first.address(), LEN);
    if has_all(&walker.walk(user)?, LEN) {
        seen.push("16 KiB of USER memory");
    }
    // Only the array is absent.
    std::hint::black_box(pages.bytes().to_vec());
    if has_all(&walker.walk(vec)?, LEN) {
        seen.push("an array of iovecs");
    }
    if !seen.is_empty() {
        return Ok(attempt.present(format!(
            "a non-sleepable program had absent pages faulted in: {}",
            seen.join(", ")
        )));
    }
    // It must be for the faults that it got nothing.
    for region in [&first, &array] {
        std::hint::black_box(region.bytes().to_vec());
    }
    for (what, trial) in [("USER", walker.walk(user)?), ("VEC", walker.walk(vec)?)] {
        if !has_all(&trial, LEN) {
            return Ok(attempt.cannot_tell(format!(
                "a non-sleepable program does not get at pages that are present either ({what}): {}",
                outcome(&trial)
            )));
        }
    }
    Ok(attempt.absent(
        "absent pages and iovecs are refused to non-sleepable programs, present ones are not",
    ))
}

/// D3
pub fn swallows_errors(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    let walker = Walker::new(kernel, "read")?;
    let mut memory = Memory::anonymous(2 * PAGE, PageKind::Base)?;
    let region = memory.region();
    let both = user(region.address(), 2 * PAGE);
    let whole = walker.walk(both)?;
    if !has_all(&whole, 2 * PAGE) {
        return Ok(attempt.cannot_tell(format!(
            "two pages that are both there: {}",
            outcome(&whole)
        )));
    }
    region.protect(PAGE..2 * PAGE, Protection::None)?;
    let trial = walker.walk(both)?;
    let text = format!("two pages, the second PROT_NONE: {}", outcome(&trial));
    Ok(match (trial.opened, trial.error) {
        (0, 0) if trial.bytes < 2 * PAGE as u64 => attempt.present(text),
        (0, 0) => attempt.cannot_tell(text),
        _ => attempt.absent(text),
    })
}

/// D8
pub fn trusts_vec(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    /// Of the kernel's half on any 64-bit machine.
    const KERNEL: u64 = 0xffff << 48;
    const SSIZE_MAX: u64 = i64::MAX as u64;
    let walker = Walker::new(kernel, "read")?;
    let mut memory = Memory::anonymous(PAGE, PageKind::Base)?;
    let address = memory.region().address();
    let kernel_address = walker.walk(iovecs(VEC, &[[KERNEL, 8]]))?;
    let lengths = [SSIZE_MAX, SSIZE_MAX, 2].map(|len| [address, len]);
    let wrapping = walker.walk(iovecs(VEC, &lengths))?;
    let text = format!(
        "an iovec with a kernel address: {}; lengths that wrap to 0: {}",
        outcome(&kernel_address),
        outcome(&wrapping)
    );
    match kernel_address.opened == 0 || wrapping.opened == 0 {
        true => Ok(attempt.present(text)),
        false => Ok(attempt.absent(text)),
    }
}

/// D9
pub fn trusts_descriptor(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    let walker = Walker::new(kernel, "read")?;
    let mut memory = Memory::anonymous(PAGE, PageKind::Base)?;
    let region = memory.region();
    let table = Table::new(&walker.ring, 1)?;
    table.add_region(0, &region)?;
    let good = user(region.address(), PAGE);
    let control = walker.walk(good)?;
    if !has_all(&control, PAGE) {
        return Ok(attempt.cannot_tell(format!("a good description: {}", outcome(&control))));
    }
    let reserved = walker.walk(Descriptor {
        reserved: 1,
        ..good
    })?;
    let kfixed = walker.walk(Descriptor {
        kind: KFIXED,
        ..good
    })?;
    let text = format!(
        "reserved is 1: {}; KFIXED with an address in a user buffer: {}",
        outcome(&reserved),
        outcome(&kfixed)
    );
    match reserved.opened == 0 || kfixed.opened == 0 {
        true => Ok(attempt.present(text)),
        false => Ok(attempt.absent(text)),
    }
}

/// D10: the page is mapped writable by a read, which leaves it clean, so that
/// pinning it does not make it dirty either.
pub fn forgets_dirty(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    let walker = Walker::new(kernel, "write")?;
    let wrong = |error| Failure::io("make a file in memory", &error);
    let file = sys::memory_file(c"uringbpf", PAGE).map_err(wrong)?;
    let mut memory = Memory::of_file(file.as_fd(), PAGE)?;
    let region = memory.region();
    if region.bytes()[0] != 0 {
        return Ok(attempt.cannot_tell("a new file is not empty"));
    }
    let before = match proc::is_dirty(region.address()) {
        Ok(before) => before,
        Err(why) => return Ok(attempt.cannot_tell(why)),
    };
    if before {
        return Ok(attempt.cannot_tell(
            "a page that was only read is dirty on this kernel; \
             a file system's writeback at the right moment would show it",
        ));
    }
    let trial = walker.walk(user(region.address(), PAGE))?;
    if !has_all(&trial, PAGE) || region.bytes()[PAGE - 1] != 0xa5 {
        return Ok(attempt.cannot_tell(format!(
            "the program could not write the page: {}",
            outcome(&trial)
        )));
    }
    Ok(match proc::is_dirty(region.address()) {
        Ok(true) => attempt.absent("a file's page is dirty after a program wrote it"),
        Ok(false) => attempt
            .present("a page of a file that a program wrote is still clean in /proc/kpageflags"),
        Err(why) => attempt.cannot_tell(why),
    })
}

/// X1
pub fn is_unbounded(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    const PART: usize = 1 << 20;
    const PARTS: usize = 256;
    let walker = match Walker::non_sleepable(kernel, "read")? {
        Some(walker) => walker,
        None => Walker::new(kernel, "read")?,
    };
    let mut memory = Memory::anonymous(PART, PageKind::Base)?;
    let region = memory.region();
    let array = vec![[region.address(), PART as u64]; PARTS];
    let small = walker.walk(iovecs(VEC, &array[..1]))?;
    if !has_all(&small, PART) {
        return Ok(attempt.cannot_tell(format!("1 MiB in one request: {}", outcome(&small))));
    }
    let trial = walker.walk(iovecs(VEC, &array))?;
    let text = format!("256 MiB in one request: {}", outcome(&trial));
    match has_all(&trial, PARTS * PART) {
        true => Ok(attempt.present(text)),
        false => Ok(attempt.absent(text)),
    }
}
