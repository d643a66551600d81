// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Programs that must not load, each with what the verifier's log must say of
//! it, and programs that differ from them in one thing and must load.

use libbpf_rs::{MapType, ObjectBuilder};

use super::bench::Bench;
use super::{Case, Stop};
use crate::bpf_log;

const CORPUS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/corpus.bpf.o"));

/// What is wrong, the program, the words of which one must be in the log, and
/// the programs that are right: kernels word their refusals differently.
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
    (
        "a slice after next",
        "bad_slice_next",
        &["invalid mem access 'scalar'"],
    ),
    (
        "a slice after destroy",
        "bad_slice_destroy",
        &["invalid mem access 'scalar'"],
    ),
    (
        "the count after destroy",
        "bad_valid",
        &["invalid mem access 'scalar'"],
    ),
    (
        "the count without a check for NULL",
        "bad_valid_null",
        &["invalid mem access 'mem_or_null'", "invalid mem access"],
    ),
    (
        "a slice read past its end",
        "bad_slice_end",
        &[
            "invalid access to memory",
            "outside of the allowed memory range",
        ],
    ),
    (
        "a read-only slice is written",
        "bad_slice_write",
        &["cannot write into rdonly_mem"],
    ),
    (
        "a write behind the pdu",
        "bad_pdu",
        &[
            "only pdu",
            "access beyond",
            "pdu",
            "no write support",
            "cannot write into",
        ],
    ),
    (
        "opf is written",
        "bad_opf",
        &["only pdu", "pdu", "no write support", "cannot write into"],
    ),
    (
        "an iterator in prep_fn",
        "bad_iterator_prep",
        &["calling kernel function bpf_iter_uring_buf_new is not allowed"],
    ),
    (
        "an iterator in fail_fn",
        "bad_iterator_fail",
        &["calling kernel function bpf_iter_uring_buf_new is not allowed"],
    ),
    (
        "an iterator in cleanup_fn",
        "bad_iterator_cleanup",
        &["calling kernel function bpf_iter_uring_buf_new is not allowed"],
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
    ("the last word of the pdu is written", "good_pdu"),
    ("prep_fn without an iterator", "good_prep"),
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

/// Loads one program of the corpus alone.
pub(crate) fn load(program: &str) -> Result<(), libbpf_rs::Error> {
    bpf_log::clear();
    let mut open = ObjectBuilder::default().open_memory(CORPUS)?;
    let wanted = format!("o_{program}");
    for mut map in open.maps_mut() {
        if map.map_type() == MapType::StructOps && map.name() != wanted.as_str() {
            map.set_autocreate(false)?;
        }
    }
    // That of the header: no map of the corpus refers to it.
    for mut other in open.progs_mut().filter(|other| other.name() == "prep") {
        other.set_autoload(false);
    }
    open.load().map(drop)
}

fn refused(_: &Bench<'_>, program: &str, patterns: &[&str]) -> Result<(), Stop> {
    if load(program).is_ok() {
        return Err("it loads, and must be refused".into());
    }
    let log = bpf_log::text();
    if patterns.iter().any(|pattern| log.contains(pattern)) {
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
        let verdict = bpf_log::verdict().unwrap_or_else(|| error.to_string());
        Stop::Fail(format!("it must load, but the verifier says {verdict:?}"))
    })
}
