// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Reproducers of the known defects of kernels with IORING_OP_BPF: each says
//! whether the running kernel has the defect.
//!
//! [`catalog`] says what they are. Each runs in a process of its own
//! ([`child`]) on a [`stage`]; the kernel's log is read while it runs.

mod attachment;
mod buffers;
pub mod catalog;
mod child;
mod interface;
mod leaks;
mod requests;
mod stage;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::kernel::Kernel;
use crate::smoke::kmsg::KernelLog;
use catalog::Defect;
use child::Attempt;

/// Whether the kernel has a defect, and what was seen, or why nothing was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Present(String),
    Absent(String),
    CannotTell(String),
}

impl Verdict {
    fn present(why: impl Into<String>) -> Self {
        Verdict::Present(why.into())
    }

    fn absent(why: impl Into<String>) -> Self {
        Verdict::Absent(why.into())
    }

    fn cannot_tell(why: impl Into<String>) -> Self {
        Verdict::CannotTell(why.into())
    }

    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Present(_) => "present",
            Verdict::Absent(_) => "absent",
            Verdict::CannotTell(_) => "cannot tell",
        }
    }

    pub fn why(&self) -> &str {
        match self {
            Verdict::Present(why) | Verdict::Absent(why) | Verdict::CannotTell(why) => why,
        }
    }
}

/// What was found of one defect.
#[derive(Debug, Clone)]
pub struct Finding {
    pub defect: &'static Defect,
    pub verdict: Verdict,
    /// The kernel's own words, when it had any.
    pub log: Option<String>,
    pub took: Duration,
}

/// Looks for a defect on this kernel.
type Reproducer = fn(&Kernel, &Attempt) -> Result<Verdict, Failure>;

fn reproducer(defect: &Defect) -> Reproducer {
    match defect.name {
        "D1" => buffers::sleeps,
        "D2" => leaks::leaks_iovecs,
        "D3" => buffers::swallows_errors,
        "D4" => requests::calls_stale_ops,
        "D5" => attachment::waits,
        "D6" => attachment::forgets_ring,
        "D7" => interface::keeps_dynptrs,
        "D8" => buffers::trusts_vec,
        "D9" => buffers::trusts_descriptor,
        "D10" => buffers::forgets_dirty,
        "D11" => interface::iterates_anywhere,
        "D12" => requests::miscounts_completions,
        "D13" => interface::promises_too_much,
        "D14" => attachment::excludes_event_loop,
        "X1" => buffers::is_unbounded,
        name => unreachable!("{name} has a reproducer"),
    }
}

/// Words of the kernel that are the defect itself.
fn proof(defect: &Defect) -> &'static [&'static str] {
    const SLEEP: &[&str] = &[
        "sleeping function called from invalid context",
        "Voluntary context switch within RCU",
        "suspicious RCU usage",
        "Invalid wait context",
    ];
    const CRASH: &[&str] = &[
        "Oops",
        "general protection fault",
        "unable to handle",
        "KASAN:",
    ];
    match defect.name {
        "D1" => SLEEP,
        "D4" | "D6" => CRASH,
        _ => &[],
    }
}

/// Runs the reproducers in turn; `done` is told of each.
pub fn run(
    kernel: &Kernel,
    defects: &[&'static Defect],
    dangerous: bool,
    done: &mut dyn FnMut(Finding) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    let mut log = KernelLog::open();
    let missing = kernel.missing();
    for defect in defects {
        interrupt.check()?;
        let start = Instant::now();
        let (verdict, log) = match missing.is_empty() || defect.name == "D13" {
            true => look(kernel, defect, dangerous, &mut log)?,
            false => {
                // All of it is said in the end.
                let why = format!("this kernel lacks: {}", missing[0]);
                (Verdict::CannotTell(why), None)
            }
        };
        done(Finding {
            defect,
            verdict,
            log,
            took: start.elapsed(),
        })?;
    }
    Ok(())
}

fn look(
    kernel: &Kernel,
    defect: &Defect,
    dangerous: bool,
    log: &mut Option<KernelLog>,
) -> Result<(Verdict, Option<String>), Failure> {
    let reproduce = reproducer(defect);
    let ended = child::run(dangerous, |attempt| {
        reproduce(kernel, attempt)
            .unwrap_or_else(|failure| Verdict::CannotTell(failure.to_string()))
    })?;
    let log = log.as_mut().and_then(KernelLog::trouble);
    let verdict = judge(defect, ended, log.as_deref());
    Ok((verdict, log))
}

/// What the process said, in the light of how it ended and of the log.
fn judge(defect: &Defect, ended: child::Ended, log: Option<&str>) -> Verdict {
    let first = log.and_then(|log| log.lines().next());
    let proven = log.is_some_and(|log| proof(defect).iter().any(|word| log.contains(word)));
    let mut verdict = ended
        .verdict
        .unwrap_or_else(|| Verdict::cannot_tell("the reproducer did not come to an end"));
    if proven {
        verdict = match verdict {
            Verdict::Present(why) => Verdict::Present(why),
            _ => Verdict::present("the kernel says so"),
        };
    } else if let (Verdict::Absent(why), Some(_)) = (&verdict, &ended.trouble) {
        verdict = Verdict::CannotTell(why.clone());
    }
    let remarks = [
        ended.trouble,
        first.map(|line| format!("the kernel says: {line}")),
    ];
    for remark in remarks.into_iter().flatten() {
        match &mut verdict {
            Verdict::Present(why) | Verdict::Absent(why) | Verdict::CannotTell(why) => {
                *why = format!("{why}; {remark}");
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(verdict: Option<Verdict>, trouble: Option<&str>) -> child::Ended {
        child::Ended {
            verdict,
            trouble: trouble.map(String::from),
        }
    }

    fn defect(name: &str) -> &'static Defect {
        catalog::named(name).expect("a name")
    }

    #[test]
    fn every_defect_has_a_reproducer() {
        for defect in &catalog::DEFECTS {
            reproducer(defect);
        }
    }

    #[test]
    fn a_splat_proves_the_defect_that_it_is_about_and_no_other() {
        let absent = || Some(Verdict::absent("fine"));
        let log = Some("BUG: sleeping function called from invalid context at x.c:1");
        let judged = judge(defect("D1"), ended(absent(), None), log);
        assert_eq!(judged.name(), "present");
        let judged = judge(defect("D3"), ended(absent(), None), log);
        assert_eq!(judged.name(), "absent");
        assert!(judged.why().contains("sleeping function"), "{judged:?}");
    }

    #[test]
    fn a_process_that_dies_leaves_no_absence_behind() {
        let died = || ended(None, Some("its process died of signal 11"));
        assert_eq!(judge(defect("D6"), died(), None).name(), "cannot tell");
        let judged = judge(defect("D6"), died(), Some("Oops: 0002"));
        assert_eq!(judged.name(), "present");
        assert!(judged.why().contains("signal 11"), "{judged:?}");
        let hung = ended(Some(Verdict::absent("fine")), Some("its process hung"));
        assert_eq!(judge(defect("D5"), hung, None).name(), "cannot tell");
    }
}
