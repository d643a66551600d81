// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Pages that a program wrote must be marked dirty when they are let go, or
//! memory that is a file's loses what was written.

use std::os::fd::AsFd;

use super::bench::Bench;
use super::case::Mode;
use super::errno_table::attempt;
use super::place::memory_file;
use super::programs::Family;
use super::{Case, Stop};
use crate::errno::res_text;
use crate::memory::Memory;
use crate::proc;
use crate::request::Descriptor;

const LEN: usize = 4 * 4096;
const USER: u8 = 0;
const VEC: u8 = 2;

pub fn cases() -> Vec<Case> {
    let of = |name, kind, mode| {
        Case::in_mode("resources", name, &[Family::Fill], mode, move |bench| {
            check(bench, kind, mode)
        })
    };
    vec![
        of("pages written through user are dirty", USER, Mode::Inline),
        of("pages written through vec are dirty", VEC, Mode::Inline),
        of("pages written in a worker are dirty", USER, Mode::Async),
    ]
}

/// The pages are mapped by reads, which leave them clean: pinning them to be
/// written does not make them dirty, either.
fn check(bench: &Bench<'_>, kind: u8, mode: Mode) -> Result<(), Stop> {
    let file = memory_file(LEN)?;
    let mut memory = Memory::of_file(file.as_fd(), LEN)?;
    let region = memory.region();
    let address = region.address();
    let pages = || (address..address + LEN as u64).step_by(4096);
    if region.bytes().iter().any(|byte| *byte != 0) {
        return Err("a new file is not empty".into());
    }
    for page in pages() {
        match proc::is_dirty(page) {
            Ok(false) => {}
            Ok(true) => {
                return Err(Stop::Skip(
                    "pages that were only read are dirty here".into(),
                ));
            }
            Err(why) => return Err(Stop::Skip(why)),
        }
    }
    let session = bench.session(super::case::RingMode::Plain, false)?;
    let iovecs = [[address, 1], [address + 1, LEN as u64 - 1]];
    let descriptor = match kind {
        VEC => Descriptor {
            kind,
            len: iovecs.len() as u32,
            addr: iovecs.as_ptr() as u64,
            ..Descriptor::default()
        },
        _ => Descriptor {
            kind,
            len: LEN as u32,
            addr: address,
            ..Descriptor::default()
        },
    };
    let (result, stage) = attempt(bench, &session, descriptor, true, mode)?;
    if result != LEN as i32 {
        let got = res_text(result);
        return Err(Stop::Fail(format!("res is {got}{stage}, expected {LEN}")));
    }
    for (number, page) in pages().enumerate() {
        if proc::is_dirty(page) == Ok(false) {
            return Err(Stop::Fail(format!(
                "page {number} of a file, which the program wrote, is clean in /proc/kpageflags: \
                 what was written can be lost"
            )));
        }
    }
    Ok(())
}
