// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Programs that must not load, each with what the verifier's log must say of
//! it, and programs that differ from them in one thing and must load.

use libbpf_rs::{MapType, ObjectBuilder, ProgramType};

use super::bench::Bench;
use super::{Case, Stop};
use crate::bpf_log;
use crate::program::BPF_F_SLEEPABLE;

const CORPUS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/corpus.bpf.o"));

/// What the verifier says where only the pdu may be written.
const NOT_PDU: &[&str] = &[
    "only pdu of uring_bpf_data",
    "access beyond struct uring_bpf_data",
    "no write support to ",
    "cannot write into ",
];
/// Of a pointer that is none any more.
const STALE: &[&str] = &["invalid mem access 'scalar'"];
const PAST_THE_END: &[&str] = &[
    "invalid access to memory",
    "outside of the allowed memory range",
];
/// The kfunc is not for this program; or, which comes to the same, nothing
/// that the program has is what it wants.
const NO_ITERATOR: &[&str] = &[
    "calling kernel function bpf_iter_uring_buf_new is not allowed",
    "expected pointer to STRUCT uring_bpf_data",
];
const NO_RESULT: &[&str] = &[
    "calling kernel function uring_bpf_set_result is not allowed",
    "expected pointer to STRUCT uring_bpf_data",
];
/// Iterators are not for this callback, or it cannot sleep and they do.
const NOT_HERE: &[&str] = &[
    "calling kernel function bpf_iter_uring_buf_new is not allowed",
    "attach to unsupported member",
];
/// libbpf, of a struct_ops that the kernel is built without.
const NO_SUCH_OPS: &str = "is not found in kernel BTF";

/// What is wrong, the program, and the words of which one must be in the
/// verifier's log: kernels word their refusals differently.
const REFUSED: &[(&str, &str, &[&str])] = &[
    (
        "an iterator is not destroyed",
        "bad_destroyed",
        &["Unreleased reference", "reference leak"],
    ),
    (
        "an iterator is not destroyed on a branch",
        "bad_branch",
        &["Unreleased reference", "reference leak"],
    ),
    (
        "an iterator is destroyed twice",
        "bad_twice",
        &["expected an initialized iter_uring_buf"],
    ),
    (
        "next after destroy",
        "bad_next",
        &["expected an initialized iter_uring_buf"],
    ),
    (
        "next without new",
        "bad_no_new",
        &["expected an initialized iter_uring_buf"],
    ),
    (
        "a dynptr after next",
        "bad_dynptr_next",
        &["Expected an initialized dynptr"],
    ),
    (
        "a dynptr after destroy",
        "bad_dynptr_destroy",
        &["Expected an initialized dynptr"],
    ),
    ("a slice after next", "bad_slice_next", STALE),
    ("a slice after destroy", "bad_slice_destroy", STALE),
    ("the count after destroy", "bad_valid", STALE),
    (
        "the count without a check for NULL",
        "bad_valid_null",
        &["invalid mem access 'mem_or_null'", "invalid mem access"],
    ),
    ("a slice read past its end", "bad_slice_end", PAST_THE_END),
    (
        "a read-only slice is written",
        "bad_slice_write",
        &["cannot write into rdonly_mem"],
    ),
    ("a write behind the pdu", "bad_pdu", NOT_PDU),
    (
        "a write across the start of the pdu",
        "bad_pdu_before",
        NOT_PDU,
    ),
    ("a write across the end of the pdu", "bad_pdu_over", NOT_PDU),
    ("req_data is written", "bad_req_data", NOT_PDU),
    ("ops is written", "bad_ops", NOT_PDU),
    ("opf is written", "bad_opf", NOT_PDU),
    ("issue_flags is written", "bad_issue_flags", NOT_PDU),
    ("lock_depth is written", "bad_lock_depth", NOT_PDU),
    (
        "a write behind bpf_dynptr_data",
        "bad_data_end",
        PAST_THE_END,
    ),
    ("a write to a chunk after next", "bad_data_next", STALE),
    (
        "a write to a chunk after destroy",
        "bad_data_destroy",
        STALE,
    ),
    (
        "a descriptor of 15 bytes",
        "bad_descriptor_short",
        &["invalid access to map value, value_size=15 off=0 size=16"],
    ),
    (
        "no descriptor",
        "bad_descriptor_null",
        &["NULL pointer passed to trusted", "expected=fp"],
    ),
    (
        "a number instead of a descriptor",
        "bad_descriptor_number",
        &["type=scalar expected=fp"],
    ),
    (
        "an iterator in a syscall program",
        "bad_syscall_new",
        NO_ITERATOR,
    ),
    (
        "a result from a syscall program",
        "bad_syscall_result",
        NO_RESULT,
    ),
    ("an iterator in a tc program", "bad_tc_new", NO_ITERATOR),
    ("a result from a tc program", "bad_tc_result", NO_RESULT),
    (
        "an iterator in io_uring_bpf_ops",
        "bad_loop_new",
        NO_ITERATOR,
    ),
    (
        "a result from io_uring_bpf_ops",
        "bad_loop_result",
        NO_RESULT,
    ),
    ("an iterator in fail_fn", "bad_iterator_fail", NOT_HERE),
    (
        "an iterator in cleanup_fn",
        "bad_iterator_cleanup",
        NOT_HERE,
    ),
];

const TAKEN: &[(&str, &str)] = &[
    ("an iterator is destroyed", "good_destroyed"),
    ("an iterator is destroyed on every branch", "good_branch"),
    ("an iterator is made again after destroy", "good_twice"),
    ("next before destroy", "good_next"),
    ("a dynptr before next", "good_dynptr_next"),
    ("a slice before next", "good_slice_next"),
    ("the count before destroy", "good_valid"),
    ("a slice read to its end", "good_slice_end"),
    ("a chunk is written", "good_slice_write"),
    ("the first word of the pdu is written", "good_pdu_first"),
    ("the last word of the pdu is written", "good_pdu"),
    (
        "the last two words of the pdu are written at once",
        "good_pdu_last",
    ),
    ("req_data is read", "good_req_data"),
    ("ops is read", "good_ops"),
    ("opf is read", "good_opf"),
    ("issue_flags is read", "good_issue_flags"),
    ("lock_depth is read", "good_lock_depth"),
    ("a descriptor in a map", "good_descriptor"),
    ("a syscall program", "good_syscall"),
    ("a tc program", "good_tc"),
    ("io_uring_bpf_ops", "good_loop"),
    ("fail_fn writes the pdu", "good_fail"),
    ("cleanup_fn writes the pdu", "good_cleanup"),
];

pub fn cases() -> Vec<Case> {
    let refused = REFUSED.iter().map(|(what, program, patterns)| {
        Case::check("verifier", format!("refused: {what}"), &[], move |bench| {
            refused(bench, program, patterns)
        })
    });
    let taken = TAKEN.iter().map(|(what, program)| {
        Case::check("verifier", format!("taken: {what}"), &[], move |_| {
            taken(program)
        })
    });
    refused.chain(taken).collect()
}

/// Whether a program with an iterator in cleanup_fn loads, which nothing but
/// the posted series takes (defect D11).
pub(crate) fn iterates_anywhere() -> bool {
    load("bad_iterator_cleanup").is_ok()
}

/// Loads one program of the corpus alone: as one that sleeps where the kernel
/// wants that of it.
pub(crate) fn load(program: &str) -> Result<(), libbpf_rs::Error> {
    let loaded = load_with(program, 0);
    match loaded.is_err() && bpf_log::wants_sleepable() {
        true => load_with(program, BPF_F_SLEEPABLE),
        false => loaded,
    }
}

fn load_with(program: &str, flags: u32) -> Result<(), libbpf_rs::Error> {
    bpf_log::clear();
    let mut open = ObjectBuilder::default().open_memory(CORPUS)?;
    let wanted = format!("o_{program}");
    for mut map in open.maps_mut() {
        if map.map_type() == MapType::StructOps && map.name() != wanted.as_str() {
            map.set_autocreate(false)?;
        }
    }
    // What no map refers to: programs of other types, and prep of the header.
    for mut other in open.progs_mut() {
        let is_callback = other.prog_type() == ProgramType::StructOps;
        if other.name() == "prep" || !is_callback && other.name() != program {
            other.set_autoload(false);
        } else if other.name() == program {
            other.set_flags(flags);
        }
    }
    open.load().map(drop)
}

fn refused(_: &Bench<'_>, program: &str, patterns: &[&str]) -> Result<(), Stop> {
    if load(program).is_ok() {
        return Err("it loads, and must be refused".into());
    }
    let log = bpf_log::text();
    if log.contains(NO_SUCH_OPS) {
        return Err(no_such_ops());
    }
    if says(&log, patterns) {
        return Ok(());
    }
    let verdict = bpf_log::verdict().unwrap_or_else(|| "nothing".to_string());
    Err(Stop::Fail(format!(
        "it is refused, but not for what is wrong with it: the verifier says {verdict:?}, \
         expected {:?}",
        patterns[0]
    )))
}

fn taken(program: &str) -> Result<(), Stop> {
    load(program).map_err(|error| {
        if bpf_log::text().contains(NO_SUCH_OPS) {
            return no_such_ops();
        }
        let verdict = bpf_log::verdict().unwrap_or_else(|| error.to_string());
        Stop::Fail(format!("it must load, but the verifier says {verdict:?}"))
    })
}

fn no_such_ops() -> Stop {
    Stop::Skip("the kernel is built without this struct_ops".into())
}

/// Whether the verifier itself says one of the patterns. What it quotes of the
/// program is not counted: it has the program's words, not the verifier's.
fn says(log: &str, patterns: &[&str]) -> bool {
    let own = log.lines().filter(|line| !is_quoted(line));
    let mut own = own.filter(|line| !line.starts_with("libbpf: "));
    own.any(|line| patterns.iter().any(|pattern| line.contains(pattern)))
}

/// A line of the source (`; call(); @ file:7`), of the instructions (`3: (85)
/// call`), or of both in an explanation (`>>> 7 | call();`).
fn is_quoted(line: &str) -> bool {
    let number = line.split_once(": ").map(|(number, _)| number);
    let is_instruction = number.is_some_and(|number| number.parse::<u32>().is_ok());
    line.starts_with("; ") || line.contains(" | ") || is_instruction
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "libbpf: prog 'bad_pdu': BPF program load failed: -EACCES
; *(volatile __u32 *)(data->pdu + 36) = 1; @ corpus.bpf.c:346
3: (62) *(u32 *)(r1 +36) = 1
only pdu of uring_bpf_data may be written, not 4 bytes at 64
  >>> 346 |  bad_pdu(data);
          | ^-- error: here";

    #[test]
    fn what_the_verifier_says_is_found() {
        assert!(says(LOG, &["something else", "only pdu of uring_bpf_data"]));
    }

    #[test]
    fn what_the_verifier_quotes_is_not() {
        for quoted in ["data->pdu", "(62)", "bad_pdu", "error: here"] {
            assert!(!says(LOG, &[quoted]), "{quoted}");
        }
    }

    #[test]
    fn every_pattern_is_longer_than_a_word_of_the_programs() {
        for (_, program, patterns) in REFUSED {
            for pattern in *patterns {
                assert!(pattern.contains([' ', '=']), "{program}: {pattern:?}");
            }
        }
    }
}
