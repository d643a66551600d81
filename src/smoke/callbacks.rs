// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Callbacks that return anything: exactly one completion each, fail_fn once
//! for what ends without having been issued, cleanup_fn once for what prep_fn
//! took, the pdu and the request's own flags unchanged in between; and
//! `issue_flags` that say whether a worker issues the request, by which its
//! iterators know what locks there are to take.
//!
//! The interface leaves open whether cleanup_fn is called for what prep_fn
//! refused, and fail_fn for what issue_fn failed; and what becomes of return
//! values that mean nothing: positive ones, and errnos that are the kernel's
//! own; and whether a worker tries again what ends with -EAGAIN where it was
//! submitted. What a kernel does in the plainest case of each it must do in all
//! ([`Customs`], [`Stage::outcome`]).

use std::time::{Duration, Instant};

use super::bench::{self, Bench, Entry, OwnFields, Session, patience};
use super::case::{Mode, RingMode};
use super::programs::Family;
use super::{Case, Set, Stop};
use crate::errno::res_text;
use crate::kernel::Kernel;
use crate::memory::MappedArray;
use crate::request::{Behaviour, SLOTS, SqeFields};
use crate::ring::Ring;

/// The kernel's own errnos, which must not get to io_uring's core.
const EIOCBQUEUED: i32 = 529;
const ERESTARTSYS: i32 = 512;
/// The request's own 24 bits of `bpf_op_flags`: each is 1 in one of them.
const FLAGS: [u32; 2] = [0xa5_5a_f1, 0x5a_a5_0e];
/// Of the last call, behind the completion.
const SETTLE: Duration = Duration::from_secs(2);
/// The same on a kernel that has kept a few cases waiting for nothing: it is
/// broken, and no case of hundreds shall take seconds for that.
const SETTLE_AT_LAST: Duration = Duration::from_millis(100);
const FEW: u32 = 5;

const RETURNED: [i32; 17] = [
    0,
    -libc::EPERM,
    -libc::ENOENT,
    -libc::EINTR,
    -libc::EIO,
    -libc::EAGAIN,
    -libc::ENOMEM,
    -libc::EFAULT,
    -libc::EBUSY,
    -libc::EINVAL,
    -libc::EOPNOTSUPP,
    -libc::ECANCELED,
    -EIOCBQUEUED,
    -ERESTARTSYS,
    1,
    4096,
    i32::MAX,
];

/// The others that mean nothing: these are not run in every way.
const RETURNED_AT_THE_EDGE: [i32; 20] = [
    -513,
    -514,
    -515,
    -516,
    -517,
    -518,
    -519,
    -520,
    -521,
    -522,
    -523,
    -524,
    -525,
    -526,
    -527,
    -528,
    -530,
    -4096,
    -65536,
    i32::MIN,
];

/// What issues a request, as its `issue_flags` say it (`enum
/// io_uring_cmd_flags`).
#[derive(Debug, Clone, Copy)]
struct Issuer {
    /// IO_URING_F_NONBLOCK: by who submits it.
    inline: u32,
    /// IO_URING_F_IOWQ and IO_URING_F_UNLOCKED: by a worker.
    worker: u32,
}

impl Issuer {
    fn of(kernel: &Kernel) -> Option<Self> {
        let flag = |name: &str| kernel.issue_flags.get(name).map(|flag| *flag as u32);
        Some(Issuer {
            inline: flag("IO_URING_F_NONBLOCK")?,
            worker: flag("IO_URING_F_IOWQ")? | flag("IO_URING_F_UNLOCKED")?,
        })
    }

    /// What is wrong with the flags of a request that a worker issues, or not,
    /// or that may be issued by either.
    fn complaint(self, flags: u32, worker: Option<bool>) -> Option<String> {
        let seen = flags & (self.inline | self.worker);
        let right = match worker {
            Some(true) => seen == self.worker,
            Some(false) => seen == self.inline,
            None => seen == self.worker || seen == self.inline,
        };
        let by = match worker {
            Some(true) => "issued by a worker: IO_URING_F_IOWQ and _UNLOCKED, not _NONBLOCK",
            Some(false) => "issued inline: IO_URING_F_NONBLOCK, not _IOWQ or _UNLOCKED",
            None => "issued at all: IO_URING_F_NONBLOCK, or _IOWQ and _UNLOCKED",
        };
        (!right).then(|| {
            format!("issue_fn sees issue_flags {flags:#x}, expected those of a request {by}")
        })
    }
}

/// Whether a return value is neither 0 nor an errno that is anybody's to
/// return.
fn means_nothing(returned: i32) -> bool {
    !(-4095..=0).contains(&returned) || (-530..=-512).contains(&returned)
}

#[derive(Debug, Clone, Copy)]
struct Told {
    prep: i32,
    issue: i32,
    result: Option<i32>,
}

impl Told {
    /// What the interface makes of it, if it does.
    fn outcome(self) -> Option<Outcome> {
        if means_nothing(self.prep) || means_nothing(self.issue) {
            return None;
        }
        let (result, end) = match (self.prep, self.issue) {
            (0, 0) => (self.result.unwrap_or(0), End::Issued),
            (0, issued) if issued == -libc::EAGAIN => (issued, End::Again),
            (0, issued) => (issued, End::Failed),
            (prepared, _) => (prepared, End::NotIssued { refused: true }),
        };
        Some(Outcome { result, end })
    }
}

/// What a request completes with, and how it ends for its callbacks.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    result: i32,
    end: End,
}

impl Outcome {
    fn is_issued(self) -> bool {
        !matches!(self.end, End::NotIssued { .. })
    }
}

/// How a request ends, for its callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Issued,
    /// By the return value of issue_fn.
    Failed,
    /// The same, by -EAGAIN, which io_uring takes for a reason to try again in
    /// a worker.
    Again,
    /// By prep_fn, or with the chain that it is in.
    NotIssued {
        refused: bool,
    },
}

/// What the interface leaves to the kernel: calls, 0 or 1.
#[derive(Debug, Clone, Copy)]
pub struct Customs {
    cleanup_when_refused: u32,
    fail_when_issue_fails: u32,
}

impl Customs {
    /// Calls of prep_fn, issue_fn, fail_fn, cleanup_fn, and their order, where
    /// issue_fn was tried once or, if it may be, twice.
    fn calls(self, end: End, twice: bool) -> ([u32; 4], u32) {
        match (end, self.cleanup_when_refused, self.fail_when_issue_fails) {
            (End::Again, _, 0) if twice => ([1, 2, 0, 1], 0x1224),
            (End::Again, _, _) if twice => ([1, 2, 1, 1], 0x12234),
            (End::Issued, _, _) | (End::Failed | End::Again, _, 0) => ([1, 1, 0, 1], 0x124),
            (End::Failed | End::Again, _, _) => ([1, 1, 1, 1], 0x1234),
            (End::NotIssued { refused: true }, 0, _) => ([1, 0, 1, 0], 0x13),
            (End::NotIssued { .. }, _, _) => ([1, 0, 1, 1], 0x134),
        }
    }
}

pub fn cases(set: Set) -> Vec<Case> {
    let none = Told {
        prep: 0,
        issue: 0,
        result: None,
    };
    let by = |returned: i32| {
        let text = match returned {
            i32::MAX => "i32::MAX".to_string(),
            i32::MIN => "i32::MIN".to_string(),
            returned => res_text(returned),
        };
        let prep = Told {
            prep: returned,
            ..none
        };
        let issue = Told {
            issue: returned,
            ..none
        };
        [
            (format!("prep_fn {text}"), prep),
            (format!("issue_fn {text}"), issue),
        ]
    };
    let mut told: Vec<(String, Told)> = RETURNED.into_iter().flat_map(by).collect();
    for result in [
        0,
        1,
        i32::MAX,
        -1,
        -libc::EIO,
        -libc::EAGAIN,
        -libc::ECANCELED,
    ] {
        let result = Some(result);
        let text = result.map_or(String::new(), res_text);
        told.push((format!("set_result {text}"), Told { result, ..none }));
    }
    told.push((
        "set_result 5, issue_fn -EIO".to_string(),
        Told {
            issue: -libc::EIO,
            result: Some(5),
            ..none
        },
    ));
    let modes: &[Mode] = match set {
        Set::Quick => &[Mode::Inline, Mode::Async, Mode::Link],
        _ => &[
            Mode::Inline,
            Mode::Async,
            Mode::Link,
            Mode::Hardlink,
            Mode::Drain,
        ],
    };
    let mut cases = Vec::new();
    let mut add = |name: &str, told: Told, mode: Mode, ring: RingMode| {
        let name = match ring {
            RingMode::Plain => format!("{name} mode={}", mode.name()),
            _ => format!("{name} mode={} ring={}", mode.name(), ring.name()),
        };
        let how = How {
            mode,
            ring,
            flags: FLAGS[cases.len() % FLAGS.len()],
        };
        cases.push(Case::check(
            "callbacks",
            name,
            &[Family::Callbacks],
            move |bench| check(bench, told, how),
        ));
    };
    for mode in modes {
        for (name, told) in &told {
            add(name, *told, *mode, RingMode::Plain);
        }
    }
    let edge = RETURNED_AT_THE_EDGE.into_iter().flat_map(by);
    for (name, told) in edge.clone() {
        add(&name, told, Mode::Inline, RingMode::Plain);
    }
    // Of modes and rings every pair comes: their numbers share no divisor.
    let others = RingMode::ALL
        .iter()
        .filter(|ring| **ring != RingMode::Plain);
    let rings = others.cycle().zip(modes.iter().cycle());
    for ((name, told), (ring, mode)) in told.into_iter().chain(edge).zip(rings) {
        add(&name, told, Mode::Skip, RingMode::Plain);
        add(&name, told, *mode, *ring);
    }
    for ring in RingMode::ALL {
        let name = format!("a cut chain ring={}", ring.name());
        cases.push(Case::check(
            "callbacks",
            name,
            &[Family::Callbacks],
            move |bench| cut_chain(bench, *ring),
        ));
        cases.push(Case::check(
            "callbacks",
            format!("what prep_fn sees of an SQE ring={}", ring.name()),
            &[Family::Callbacks],
            move |bench| fields(bench, *ring),
        ));
    }
    cases
}

/// How a request of a row is submitted.
#[derive(Debug, Clone, Copy)]
struct How {
    mode: Mode,
    ring: RingMode,
    flags: u32,
}

/// A ring of its own with the callbacks as id 6.
struct Stage<'b, 'l> {
    bench: &'b Bench<'l>,
    map: MappedArray<Behaviour>,
    /// The requests' own.
    flags: u32,
    // Detached before the ring goes.
    _attached: crate::struct_ops::Attachment,
    session: Session,
}

const ID: u16 = 6;

impl<'b, 'l> Stage<'b, 'l> {
    fn new(bench: &'b Bench<'l>, ring: RingMode, flags: u32) -> Result<Self, Stop> {
        let ring = Ring::open(&bench.loaded.kernel, &ring.options(), 32)?;
        let programs = bench.loaded.programs(Family::Callbacks, true);
        let map = programs.array("behaviours", SLOTS)?;
        let ops = bench.ops(Family::Callbacks, "callbacks", &ring, ID);
        let attached = bench.loaded.value.attach(&ops);
        Ok(Stage {
            bench,
            map: map.ok_or("the programs have no map of behaviours")?,
            flags,
            _attached: attached
                .map_err(|error| Stop::Fail(format!("attaching the callbacks: {error}")))?,
            session: Session::new(ring),
        })
    }

    fn tell(&self, slot: usize, told: Told) {
        self.map.set(
            slot,
            Behaviour {
                prep_result: told.prep,
                issue_result: told.issue,
                result: told.result.unwrap_or(0),
                sets_result: told.result.is_some().into(),
                ..Behaviour::default()
            },
        );
    }

    fn entry(&self, slot: u64, flags: u8) -> Entry {
        let entry = self.bench.entry(ID.into(), slot, flags);
        Entry {
            op_flags: entry.op_flags | self.flags,
            ..entry
        }
    }

    /// Seen once in each process.
    fn customs(&self) -> Result<Customs, Stop> {
        if let Some(customs) = self.bench.customs.get() {
            return Ok(*customs);
        }
        let plain = Told {
            prep: 0,
            issue: 0,
            result: None,
        };
        let seen = |callback: usize, told: Told| {
            self.tell(0, told);
            self.session.run(&[self.entry(0, 0)], patience(0))?;
            self.settle(0)?;
            // More than one is wrong, and will be seen to be.
            let calls = self.map.get(0).calls[callback];
            Ok::<u32, Stop>(u32::from(calls == 1))
        };
        let refused = Told {
            prep: -libc::EPERM,
            ..plain
        };
        let failed = Told {
            issue: -libc::EPERM,
            ..plain
        };
        let customs = Customs {
            cleanup_when_refused: seen(3, refused)?,
            fail_when_issue_fails: seen(2, failed)?,
        };
        Ok(*self.bench.customs.get_or_init(|| customs))
    }

    /// What comes of a request: what the interface says, or, where it is
    /// silent, what this kernel does with the plainest request that is told
    /// the same. An error is an error then, and only what a positive value
    /// became may be a success.
    fn outcome(&self, told: Told) -> Result<Outcome, Stop> {
        if let Some(outcome) = told.outcome() {
            return Ok(outcome);
        }
        let customs = self.customs()?;
        self.tell(0, told);
        let results = self.session.run(&[self.entry(0, 0)], patience(0))?;
        if customs.cleanup_when_refused > 0 || self.map.get(0).calls[1] > 0 {
            self.settle(0)?;
        }
        let result = results[0].unwrap_or_default();
        let returned = match told.prep {
            0 => told.issue,
            prep => prep,
        };
        if result >= 0 && (returned < 0 || ![0, returned].contains(&result)) {
            let returned = res_text(returned);
            return Err(Stop::Fail(format!(
                "a callback returns {returned}: res is {result}, expected an error"
            )));
        }
        let end = match self.map.get(0).calls[1] {
            0 => End::NotIssued { refused: true },
            _ if result < 0 => End::Failed,
            _ => End::Issued,
        };
        Ok(Outcome { result, end })
    }

    /// The last call may come a little behind the completion: where a worker
    /// lets go of the request last, this task has to free it, which on a ring
    /// of deferred task work it does only while it waits.
    fn settle(&self, slot: usize) -> Result<(), Stop> {
        let vain_waits = &self.bench.vain_waits;
        let patience = match vain_waits.get() {
            0..FEW => SETTLE,
            _ => SETTLE_AT_LAST,
        };
        let until = Instant::now() + patience;
        while self.map.get(slot).calls[3] == 0 {
            if Instant::now() > until {
                vain_waits.set(vain_waits.get() + 1);
                break;
            }
            self.session
                .ring
                .submit_and_wait_for(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// Behind the last call there is nothing more to come.
    fn check_completions(&self) -> Result<(), Stop> {
        self.session.ring.submit_and_wait(0)?;
        match self.session.ring.completion() {
            None => Ok(()),
            Some(late) => Err(Stop::Stuck(format!(
                "a completion that nobody waits for any more: user_data {:#x}, res {}",
                late.user_data,
                res_text(late.result)
            ))),
        }
    }

    /// What is wrong with `issue_flags`, where the kernel says what they mean.
    fn check_issue_flags(&self, slot: usize, worker: Option<bool>) -> Vec<String> {
        let Some(issuer) = Issuer::of(&self.bench.loaded.kernel) else {
            return Vec::new();
        };
        let seen = self.map.get(slot);
        let [first, newest] = seen.issue_flags;
        let issued = [(first, worker), (newest, Some(true))];
        // A second time it is by a worker, as io_uring does with -EAGAIN.
        let issued = issued.into_iter().take(seen.calls[1] as usize);
        issued
            .filter_map(|(flags, worker)| issuer.complaint(flags, worker))
            .collect()
    }

    /// Compares the calls with what they must be.
    fn check_calls(&self, slot: usize, end: End) -> Result<Vec<String>, Stop> {
        const NAMES: [&str; 4] = ["prep_fn", "issue_fn", "fail_fn", "cleanup_fn"];
        let customs = self.customs()?;
        let (expected, _) = customs.calls(end, false);
        let cut = matches!(end, End::NotIssued { refused: false });
        if expected[3] > 0 {
            self.settle(slot)?;
        }
        let seen = self.map.get(slot);
        let (expected, order) = customs.calls(end, seen.calls[1] == 2);
        let mut wrong = Vec::new();
        for (i, name) in NAMES.iter().enumerate() {
            // io_uring itself does not tell a request of its chain's end
            // while it runs, only while it is submitted.
            let untold = cut && *name == "fail_fn" && seen.calls[i] == 0;
            if seen.calls[i] != expected[i] && !untold {
                let (got, wanted) = (seen.calls[i], expected[i]);
                wrong.push(format!("{name} was called {got} times, expected {wanted}"));
            }
            let opf = u32::from(ID) << crate::kernel::ID_SHIFT | self.flags;
            if seen.calls[i] > 0 && seen.opf[i] != opf {
                wrong.push(format!(
                    "{name} sees opf {:#x}, expected {opf:#x}",
                    seen.opf[i]
                ));
            }
        }
        if seen.wrong_pdu > 0 {
            wrong.push(format!(
                "{} callbacks found the pdu changed (36 bytes, kept from prep_fn to cleanup_fn)",
                seen.wrong_pdu
            ));
        }
        if seen.calls == expected && seen.order != order {
            wrong.push(format!("the callbacks came in the order {:x}", seen.order));
        }
        Ok(wrong)
    }
}

fn verdict(wrong: Vec<String>) -> Result<(), Stop> {
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Stop::Fail(wrong.join("; "))),
    }
}

fn check(bench: &Bench<'_>, told: Told, how: How) -> Result<(), Stop> {
    let How { mode, ring, flags } = how;
    let stage = Stage::new(bench, ring, flags)?;
    let outcome = stage.outcome(told)?;
    stage.tell(1, told);
    let (entries, target) = match mode {
        Mode::Async => (vec![stage.entry(1, bench::ASYNC)], 0),
        Mode::Link => (vec![stage.entry(1, bench::LINK), Entry::nop(0)], 0),
        Mode::Hardlink => (vec![stage.entry(1, bench::HARDLINK), Entry::nop(0)], 0),
        Mode::Drain => (vec![Entry::nop(0), stage.entry(1, bench::DRAIN)], 1),
        Mode::Skip => (vec![stage.entry(1, bench::SKIP), Entry::nop(0)], 0),
        Mode::Inline => (vec![stage.entry(1, 0)], 0),
    };
    let results = stage.session.run(&entries, patience(0))?;
    let mut wrong = Vec::new();
    let expected = outcome.result;
    // Success is silent where it was asked to be; an error never is.
    let completion = (mode != Mode::Skip || expected < 0).then_some(expected);
    if results[target] != completion {
        let text = |result: Option<i32>| result.map_or("none".to_string(), res_text);
        wrong.push(format!(
            "res is {}, expected {}",
            text(results[target]),
            text(completion)
        ));
    }
    // A request that prep_fn refuses takes its whole chain along.
    let cut = match mode {
        Mode::Link => expected < 0 || !outcome.is_issued(),
        _ => !outcome.is_issued(),
    };
    if matches!(mode, Mode::Link | Mode::Hardlink) {
        let after = results[1].unwrap_or_default();
        let expected = if cut { -libc::ECANCELED } else { 0 };
        if after != expected {
            wrong.push(format!(
                "the NOP linked behind it ends with {}, expected {}",
                res_text(after),
                res_text(expected)
            ));
        }
    }
    wrong.extend(stage.check_calls(1, outcome.end)?);
    let worker = match mode {
        Mode::Async => Some(true),
        // By whoever completes what it waits for.
        Mode::Drain => None,
        _ => Some(false),
    };
    wrong.extend(stage.check_issue_flags(1, worker));
    stage.check_completions()?;
    verdict(wrong)
}

/// A request that fails, and one behind it that is never issued.
fn cut_chain(bench: &Bench<'_>, ring: RingMode) -> Result<(), Stop> {
    let stage = Stage::new(bench, ring, FLAGS[1])?;
    let told = |result| Told {
        prep: 0,
        issue: 0,
        result: Some(result),
    };
    stage.tell(1, told(-libc::EIO));
    stage.tell(2, told(3));
    let entries = [stage.entry(1, bench::LINK), stage.entry(2, 0)];
    let results = stage.session.run(&entries, patience(0))?;
    let mut wrong = Vec::new();
    if results != [Some(-libc::EIO), Some(-libc::ECANCELED)] {
        let texts = results.iter();
        let texts = texts.map(|result| result.map_or("nothing".into(), res_text));
        let text = texts.collect::<Vec<String>>().join(", ");
        wrong.push(format!(
            "the chain ends with {text}, expected -EIO, -ECANCELED"
        ));
    }
    wrong.extend(stage.check_calls(1, End::Issued)?);
    wrong.extend(stage.check_calls(2, End::NotIssued { refused: false })?);
    stage.check_completions()?;
    verdict(wrong)
}

/// Every field that is the program's comes to prep_fn as it was submitted:
/// each of its bits once 0 and once 1.
fn fields(bench: &Bench<'_>, ring: RingMode) -> Result<(), Stop> {
    let ring = Ring::open(&bench.loaded.kernel, &ring.options(), 8)?;
    let programs = bench.loaded.programs(Family::Callbacks, true);
    let map = programs.array::<SqeFields>("sqes", 1)?;
    let map = map.ok_or("the programs have no map of SQEs")?;
    let attached = bench
        .loaded
        .value
        .attach(&bench.ops(Family::Callbacks, "fields", &ring, ID))
        .map_err(|error| Stop::Fail(format!("attaching the program: {error}")))?;
    let session = Session::new(ring);
    for turned in [0, u64::MAX] {
        map.set(0, SqeFields::default());
        let sent = SqeFields {
            off: 0x0102_0304_0506_0708 ^ turned,
            addr: 0x1112_1314_1516_1718 ^ turned,
            addr3: 0x2122_2324_2526_2728 ^ turned,
            fd: 0x3132_3334 ^ turned as i32,
            len: 0x4142_4344 ^ turned as u32,
            splice_fd_in: 0x5152_5354 ^ turned as i32,
            buf_index: 0x6162 ^ turned as u16,
            calls: 1,
        };
        let entry = Entry {
            offset: sent.off,
            own: OwnFields {
                fd: sent.fd,
                addr: sent.addr,
                len: sent.len,
                buf_index: sent.buf_index,
                splice_fd_in: sent.splice_fd_in,
                addr3: sent.addr3,
            },
            ..bench.entry(ID.into(), 0, 0)
        };
        let result = session.run(&[entry], patience(0))?[0];
        let seen = map.get(0);
        if result != Some(0) || seen != sent {
            let result = result.map_or("nothing".to_string(), res_text);
            return Err(Stop::Fail(format!(
                "res is {result}, expected 0; prep_fn sees {seen:x?}, expected {sent:x?}"
            )));
        }
    }
    drop(attached);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: Issuer = Issuer {
        inline: 1 << 31,
        worker: 8 | 2,
    };

    #[test]
    fn the_flags_say_who_issues() {
        // With IO_URING_F_COMPLETE_DEFER and _INLINE, which say nothing of it.
        for flags in [1 << 31, 1 << 31 | 0x11] {
            assert_eq!(ISSUER.complaint(flags, Some(false)), None);
            assert_eq!(ISSUER.complaint(flags, None), None);
            assert!(ISSUER.complaint(flags, Some(true)).is_some());
        }
        assert_eq!(ISSUER.complaint(10, Some(true)), None);
        assert_eq!(ISSUER.complaint(10, None), None);
        assert!(ISSUER.complaint(10, Some(false)).is_some());
    }

    #[test]
    fn lost_or_mixed_flags_are_a_complaint() {
        for flags in [0, 1, 2, 8, 1 << 31 | 2, 1 << 31 | 8, 1 << 31 | 10] {
            for worker in [None, Some(false), Some(true)] {
                let complaint = ISSUER.complaint(flags, worker);
                let complaint = complaint.expect("they are not right");
                assert!(complaint.contains(&format!("issue_flags {flags:#x}, ")));
            }
        }
    }

    #[test]
    fn a_kernel_that_does_not_name_its_flags_is_not_asked() {
        assert!(Issuer::of(&Kernel::default()).is_none());
    }
}
