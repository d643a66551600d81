// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Defects of a request's life: D4, D12.

use std::time::Duration;

use super::Verdict;
use super::child::Attempt;
use super::stage::{ENTRIES, Sqe, Stage, run, run_and_settle, run_one};
use crate::errno::res_text;
use crate::error::Failure;
use crate::kernel::{ID_SHIFT, IDS, Kernel};
use crate::request::{Behaviour, Trial};
use crate::smoke::programs::Family;

/// D4: every request of the ring is made to hold, where `ops` will lie, the
/// address of ops whose fail_fn counts.
pub fn calls_stale_ops(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    /// Of a READ's file offset in the request's command area.
    const OFFSET: usize = 8;
    let layout = kernel.request.as_ref();
    let ops = layout.and_then(|layout| layout.members.get("ops"));
    if ops.is_none_or(|ops| ops.offset != OFFSET) {
        return Ok(attempt.cannot_tell(
            "struct uring_bpf_data has its ops where no other opcode writes them safely",
        ));
    }
    let stage = Stage::new(kernel, Family::Repro)?;
    let ring = stage.ring()?;
    let trials = stage.array::<Trial>("trials")?;
    let _attached = stage.attach(&ring, "read", 0)?;
    trials.set(0, Trial::default());
    let request = stage.request(0, 0);
    let result = run_one(&ring, &request)?;
    let address = trials.get(0).ops;
    if result != 0 || address == 0 {
        return Ok(attempt.cannot_tell(format!(
            "a program does not see its request's ops: res is {}",
            res_text(result)
        )));
    }
    // Without a file they fail, and leave their offset behind.
    let reads = vec![
        Sqe {
            off: address,
            ..Sqe::read()
        };
        ENTRIES
    ];
    let refused = [
        ("an id past the last", u32::from(IDS)),
        ("the largest id", 255),
        ("an empty slot", 5),
    ];
    let mut seen = Vec::new();
    for behind_read in [true, false] {
        for (what, id) in refused {
            for results in run(&ring, &reads)? {
                if results != [-libc::EBADF] {
                    return Ok(attempt.cannot_tell("reads of no file do not end with EBADF"));
                }
            }
            if !behind_read {
                run_one(&ring, &request)?;
            }
            trials.set(0, Trial::default());
            let wrong = Sqe {
                op_flags: id << ID_SHIFT,
                ..request
            };
            let result = run_one(&ring, &wrong)?;
            if trials.get(0).fails > 0 {
                let before = if behind_read { "READ" } else { "request" };
                seen.push(format!("{what} behind a {before}"));
            } else if result >= 0 {
                return Ok(attempt.cannot_tell(format!("{what} is not refused: res is {result}")));
            }
        }
    }
    Ok(match seen.is_empty() {
        true => attempt.absent("requests that prep refuses call nothing"),
        false => attempt.present(format!(
            "a refused request called the fail_fn whose address the one before it left: {}",
            seen.join(", ")
        )),
    })
}

/// include/linux/errno.h
const EIOCBQUEUED: i32 = 529;

/// D12. A request that the kernel loses keeps its process from ending, so the
/// value that may do that comes last, and only where the others are not
/// passed on, or where danger was asked for.
pub fn miscounts_completions(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let stage = Stage::new(kernel, Family::Callbacks)?;
    let ring = stage.ring()?;
    let behaviours = stage.array::<Behaviour>("behaviours")?;
    let attached = stage.attach(&ring, "callbacks", 0)?;
    let request = stage.request(0, 1);
    let results = |prep: i32, issue: i32| {
        behaviours.set(
            1,
            Behaviour {
                prep_result: prep,
                issue_result: issue,
                ..Behaviour::default()
            },
        );
        run_and_settle(&ring, &request, PATIENCE)
    };
    let mut wrong = Vec::new();
    let mut passed_on = false;
    let mut lost = false;
    let mut note = |callback: &str, returned: i32, results: &[i32]| {
        lost |= results.is_empty();
        if results.len() != 1 {
            wrong.push(format!(
                "{callback} returns {}: {} completions",
                res_text(returned),
                results.len()
            ));
        }
    };
    if results(0, 0)?.len() != 1 {
        return Ok(attempt.cannot_tell("callbacks that return 0 do not complete a request"));
    }
    for returned in [1, i32::MAX, -libc::EAGAIN, -EIOCBQUEUED] {
        note("prep_fn", returned, &results(returned, 0)?);
    }
    for returned in [-libc::EAGAIN, 1, i32::MAX] {
        let results = results(0, returned)?;
        note("issue_fn", returned, &results);
        // One that is not an errno has to become one.
        passed_on |= returned > 0 && results.iter().any(|result| *result >= 0);
    }
    if !passed_on || attempt.dangerous {
        note("issue_fn", -EIOCBQUEUED, &results(0, -EIOCBQUEUED)?);
    }
    if lost {
        // Detaching would wait for the request where the kernel has defect D5.
        std::mem::forget(attached);
        std::mem::forget(ring);
    }
    Ok(match (wrong.is_empty(), passed_on && !attempt.dangerous) {
        (false, _) => attempt.present(wrong.join("; ")),
        (true, true) => attempt.cannot_tell(
            "positive values of issue_fn are passed on to io_uring's core, so EIOCBQUEUED may \
             lose the request, and with it the process: run with --dangerous",
        ),
        (true, false) => attempt.absent("one completion for each request, whatever is returned"),
    })
}
