// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What each known defect is: D1 … D14 of the posted series, X1 and on those
//! that were found since.

/// A defect in three lines: what is wrong, what follows from it, how it is
/// looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defect {
    pub name: &'static str,
    pub what: &'static str,
    pub follows: &'static str,
    pub looked_for: &'static str,
}

const fn defect(
    name: &'static str,
    what: &'static str,
    follows: &'static str,
    looked_for: &'static str,
) -> Defect {
    Defect {
        name,
        what,
        follows,
        looked_for,
    }
}

pub const DEFECTS: [Defect; 15] = [
    defect(
        "D1",
        "the kfuncs sleep although the programs run in an RCU read section",
        "stalls, use after free; CONFIG_DEBUG_ATOMIC_SLEEP has the kernel say so",
        "a non-sleepable program must not get at pages and iovecs that are absent",
    ),
    defect(
        "D2",
        "a failed import leaks the iovec array",
        "anybody uses up kernel memory; CONFIG_DEBUG_KMEMLEAK has kmemleak name it",
        "failing imports of 1024 iovecs must not make SUnreclaim grow (by 16 MiB)",
    ),
    defect(
        "D3",
        "an error in the middle of a buffer reads as its end",
        "a request over memory that is not there succeeds, with a short result",
        "a program must see an error in two pages of USER, the second PROT_NONE",
    ),
    defect(
        "D4",
        "a request that prep refuses calls the fail_fn of what was in its place",
        "anybody has the kernel jump through a pointer, where a READ's offset lies",
        "after READs with our ops' address as offset, bad ids must call no fail_fn",
    ),
    defect(
        "D5",
        "detaching waits, not killably, for every request of the ops",
        "who closes a link hangs for as long as a read of an empty pipe takes",
        "a link must close at once although a request is linked behind such a read",
    ),
    defect(
        "D6",
        "detaching finds the ring by the number of its file descriptor",
        "the wrong ring; an oops when a process exits with a link (--dangerous)",
        "closing the link must free the slot of the ring that had the number first",
    ),
    defect(
        "D7",
        "a dynptr, or a slice of it, stays usable when its page is gone",
        "programs read and write pages that belong to somebody else by then",
        "programs that use one behind bpf_iter_uring_buf_next must not load",
    ),
    defect(
        "D8",
        "VEC does without the checks that readv makes",
        "kernel addresses and sums of lengths that wrap are taken for a buffer",
        "a kernel address must be EFAULT, lengths {SSIZE_MAX, SSIZE_MAX, 2} EINVAL",
    ),
    defect(
        "D9",
        "parts of the buffer's description are not checked",
        "no bit of it can get a meaning later; FIXED and KFIXED are the same thing",
        "a reserved byte of 1, and KFIXED with a user buffer's address, are EINVAL",
    ),
    defect(
        "D10",
        "pages of a destination are let go without being marked dirty",
        "what a program wrote to a file's page is lost when the page is reclaimed",
        "/proc/kpageflags (CONFIG_PROC_PAGE_MONITOR) must show a memfd's page dirty",
    ),
    defect(
        "D11",
        "iterators can be used in fail_fn and cleanup_fn",
        "those may run in another task than the submitter, so on another's memory",
        "the verifier must refuse such programs",
    ),
    defect(
        "D12",
        "odd return values of prep_fn and issue_fn lose or double completions",
        "a request that never completes, and a process that cannot end",
        "callbacks return 1, INT_MAX, EAGAIN, EIOCBQUEUED: one completion for each",
    ),
    defect(
        "D13",
        "IORING_FEAT_BPF is reported by kernels that are built without the opcode",
        "applications take the feature for granted and fail",
        "the feature bit, the probe of the opcode and BTF must say the same",
    ),
    defect(
        "D14",
        "the two kinds of BPF ops of a ring exclude one another",
        "no such requests on rings with a BPF event loop (CONFIG_IO_URING_BPF_OPS)",
        "both must be attached to one ring, in either order",
    ),
    defect(
        "X1",
        "a request holds the ring's lock, and its CPU, however long it is",
        "everybody else on the ring waits; RCU stalls and soft lockups",
        "a non-sleepable program must not get through 256 MiB in one request",
    ),
];

/// The defect of this name, whatever its case.
pub fn named(text: &str) -> Result<&'static Defect, String> {
    let found = DEFECTS
        .iter()
        .find(|defect| defect.name.eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("{text:?} is none of D1 to D14, X1: see uringbpf repro list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_of_the_posted_series_is_there_under_its_name() {
        for number in 1..=14 {
            let name = format!("d{number}");
            assert_eq!(named(&name).map(|d| d.name), Ok(&*name.to_uppercase()));
        }
        assert!(named("D0").is_err() && named("D15").is_err() && named("").is_err());
    }

    #[test]
    fn a_line_fits_a_screen() {
        for defect in &DEFECTS {
            for line in [defect.what, defect.follows, defect.looked_for] {
                // Behind the name, on 80 columns.
                assert!(line.chars().count() <= 75, "{}: {line}", defect.name);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        for (index, defect) in DEFECTS.iter().enumerate() {
            assert!(DEFECTS[index + 1..].iter().all(|d| d.name != defect.name));
        }
    }
}
