// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The test suite: cases that are generated, run in processes that may hang or
//! crash, and reported one by one.
//!
//! [`case`] says what can be varied about a request, [`shapes`] which values
//! and [`pairwise`] which combinations of them are run. [`programs`] are loaded
//! once; [`runner`] forks the process that runs case after case on a
//! [`bench`], reads the kernel's log, and goes on behind a case that took its
//! process along. [`shrink`] makes a failure smaller, [`report`] prints.

mod attach;
pub(crate) mod bench;
mod callbacks;
pub mod case;
mod dirty;
mod errno_table;
mod kernel_errno;
pub mod kmsg;
mod machine;
pub mod pairwise;
pub(crate) mod place;
pub(crate) mod programs;
mod refusals;
pub mod report;
pub mod resources;
pub mod runner;
mod several;
pub mod shapes;
pub mod shrink;
mod table;
pub(crate) mod transfer;
pub(crate) mod verifier;

use std::rc::Rc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cli::Format;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::kernel::Kernel;
use crate::leftovers::{self, Present};

use bench::{Bench, Loaded};
use case::{Mode, Transfer, Variant};
use kmsg::KernelLog;
pub use machine::Machine;
use programs::Family;
use report::Printer;
use runner::{Done, Runner};
pub use shapes::Set;

/// Why a case did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The kernel did something else than it must.
    Fail(String),
    /// It could not be tried.
    Skip(String),
    /// It failed, and the process that ran it can run no other: a request may
    /// be in flight still.
    Stuck(String),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Missing(_) => Stop::Skip(failure.to_string()),
            // A ring that this kernel does not make: older than the mode.
            Failure::Usage(why) => Stop::Skip(why),
            other => Stop::Fail(other.to_string()),
        }
    }
}

impl From<&str> for Stop {
    fn from(what: &str) -> Self {
        Stop::Fail(what.to_string())
    }
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Pass,
    Fail(String),
    Skip(String),
}

/// One case: `group` is the line that it is counted in, `name` says what it is
/// and is unique.
#[derive(Clone)]
pub struct Case {
    pub group: &'static str,
    pub name: String,
    pub kind: Kind,
}

/// One check that is no request over buffers, or not only one.
type Check = dyn Fn(&Bench<'_>) -> Result<(), Stop>;

/// The same, where it needs nothing else.
type Named = (&'static str, fn(&Bench<'_>) -> Result<(), Stop>);

/// What a case runs.
#[derive(Clone)]
pub enum Kind {
    Transfer(Transfer),
    /// With the families that it needs, and how its request is submitted.
    Check(Rc<Check>, &'static [Family], Mode),
    /// What this machine cannot try, and why.
    Untried(&'static str),
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub set: Set,
    pub seed: u64,
    /// Cases whose `group: name` contains one of these; all when empty.
    pub filters: Vec<String>,
    /// This case alone, in its words.
    pub only: Option<String>,
    pub machine: Machine,
    /// The arguments that say what this kernel has: with a blank before each.
    pub flags: String,
}

impl Plan {
    /// Whether all cases of its set are run.
    fn is_whole(&self) -> bool {
        self.filters.is_empty() && self.only.is_none()
    }
}

impl Case {
    pub fn transfer(transfer: Transfer) -> Self {
        Case {
            group: match shapes::is_fault(&transfer) {
                true => "fault",
                false => transfer.work.group(),
            },
            name: transfer.to_string(),
            kind: Kind::Transfer(transfer),
        }
    }

    /// A case of one of the tables.
    fn check(
        group: &'static str,
        name: impl Into<String>,
        families: &'static [Family],
        run: impl Fn(&Bench<'_>) -> Result<(), Stop> + 'static,
    ) -> Self {
        Case {
            group,
            name: name.into(),
            kind: Kind::Check(Rc::new(run), families, Mode::Inline),
        }
    }

    /// One whose request is submitted in a mode.
    fn in_mode(
        group: &'static str,
        name: impl Into<String>,
        families: &'static [Family],
        mode: Mode,
        run: impl Fn(&Bench<'_>) -> Result<(), Stop> + 'static,
    ) -> Self {
        Case {
            kind: Kind::Check(Rc::new(run), families, mode),
            ..Case::check(group, name, families, |_| Ok(()))
        }
    }

    /// Whether its iterators are made by a worker, which has to take the
    /// ring's lock for them.
    fn iterates_in_worker(&self) -> bool {
        let mode = match &self.kind {
            Kind::Transfer(transfer) => transfer.mode,
            Kind::Check(.., mode) => *mode,
            Kind::Untried(_) => Mode::Inline,
        };
        matches!(mode, Mode::Async | Mode::Drain)
    }

    /// As it is listed, and as `--filter` and `--case` name it.
    pub fn title(&self) -> String {
        match self.kind {
            Kind::Transfer(_) if self.group != "fault" => self.name.clone(),
            _ => format!("{}: {}", self.group, self.name),
        }
    }
}

/// Failures that are made simpler; behind them the kernel is known to be broken.
const SHRUNK: usize = 5;

/// Runs the cases and prints how each ended.
pub fn run(
    kernel: Kernel,
    plan: &Plan,
    cases: &[Case],
    format: Format,
    quiet: bool,
) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    let before = Present::look();
    let log = KernelLog::open();
    let log_is_read = log.is_some();
    let _huge_pages = plan.machine.reserve_huge_pages();
    let mut families: Vec<(Family, Variant)> = cases.iter().flat_map(families).collect();
    families.sort_unstable();
    families.dedup();
    let whole = plan.is_whole();
    let more = usize::from(whole) + usize::from(!log_is_read);
    let mut printer = Printer::new(format, quiet, plan.seed, cases.len() + more);
    let loaded = Loaded::new(kernel, &families)?;
    printer.begin()?;
    let mut runner = Runner {
        loaded: &loaded,
        log,
        interrupt,
        seed: plan.seed,
        thorough: plan.set == Set::Full,
    };
    let mut shrunk = 0;
    let ran = runner.run(cases, &mut |runner, index, mut done| {
        let case = &cases[index];
        let mut shown = case.clone();
        if let (Outcome::Fail(why), None) = (&done.outcome, &done.log)
            && shrunk < SHRUNK
            // The like of it would take as long.
            && !done.hung
        {
            shrunk += 1;
            let why = why.clone();
            shown = simplest(runner, case, &mut done, &why)?;
        }
        let repeat = matches!(done.outcome, Outcome::Fail(_)).then(|| repeat(&shown, plan));
        printer.case(case, &done, repeat.as_deref())?;
        Ok(true)
    });
    let mut log = runner.log.take();
    drop(runner);
    drop(loaded);
    // Also where the run ended early: what processes that were killed left.
    let cleaned = crate::ublk::cleanup();
    ran?;
    cleaned?;
    if !log_is_read {
        let why = "the kernel's log cannot be read (/dev/kmsg is for root)";
        printer.case(&last("kernel log"), &Done::skipped(why), None)?;
    }
    let done = ended(&before, log.as_mut(), plan.set)?;
    match (whole, &done.outcome) {
        (true, _) => printer.case(&last("what is left when all has ended"), &done, None)?,
        (false, Outcome::Fail(why)) => {
            printer.end()?;
            return Err(Failure::mismatch(format!("smoke: at the end: {why}")));
        }
        (false, _) => {}
    }
    let count = printer.end()?;
    match (count.passed, count.failed) {
        (0, 0) => Err(Failure::missing(["what the cases need: all were skipped"])),
        (_, 0) => Ok(()),
        (_, failed) => Err(Failure::mismatch(format!(
            "smoke: {} failed",
            crate::report::count(failed as u64, "case")
        ))),
    }
}

/// A case that no other can be run after.
fn last(name: &str) -> Case {
    Case::check("end", name, &[], |_| Ok(()))
}

/// Looks at what is left of the run, and at what the kernel has to say of its
/// end.
fn ended(before: &Present, log: Option<&mut KernelLog>, set: Set) -> Result<Done, Failure> {
    let start = Instant::now();
    let mut wrong = leftovers::left_since(before)?;
    if set == Set::Full {
        wrong.extend(resources::leaks());
    }
    let log = log.and_then(KernelLog::trouble);
    let said = log.as_ref().and_then(|log| log.lines().next());
    wrong.extend(said.map(|line| format!("the kernel says: {line}")));
    Ok(Done {
        outcome: match wrong.is_empty() {
            true => Outcome::Pass,
            false => Outcome::Fail(wrong.join("; ")),
        },
        took: start.elapsed(),
        log,
        hung: false,
    })
}

fn families(case: &Case) -> Vec<(Family, Variant)> {
    match &case.kind {
        Kind::Transfer(transfer) => transfer::families(transfer).to_vec(),
        Kind::Check(_, families, _) => {
            let sleepable = |family: &Family| (*family, Variant::Sleepable);
            families.iter().map(sleepable).collect()
        }
        Kind::Untried(_) => Vec::new(),
    }
}

/// The simplest case like this one that fails, too; what is wrong with it is
/// added to the outcome.
fn simplest(
    runner: &mut Runner<'_>,
    case: &Case,
    done: &mut Done,
    why: &str,
) -> Result<Case, Failure> {
    let Kind::Transfer(transfer) = &case.kind else {
        return Ok(case.clone());
    };
    let fails = |candidate: &Transfer| {
        let done = runner.run_one(&Case::transfer(*candidate))?;
        Ok::<_, Failure>(match done.outcome {
            Outcome::Fail(why) => Some(why),
            _ => None,
        })
    };
    let (simplest, simpler) = shrink::shrink(*transfer, fails)?;
    if let Some(simpler) = simpler {
        done.outcome = Outcome::Fail(format!("{why}\n       in short: {simplest}: {simpler}"));
    }
    Ok(Case::transfer(simplest))
}

/// The command that shows it again.
fn repeat(case: &Case, plan: &Plan) -> String {
    // For a shell, also where a name has quotes.
    let title = case.title().replace('\'', r"'\''");
    format!(
        "uringbpf{} smoke --seed {} --case '{title}'",
        plan.flags, plan.seed
    )
}

/// The cases of a plan, in the order in which they run.
pub fn cases(plan: &Plan) -> Result<Vec<Case>, Failure> {
    if let Some(words) = &plan.only {
        return only(plan, words).map(|case| vec![case]);
    }
    let mut cases = all(plan);
    if !plan.filters.is_empty() {
        cases.retain(|case| {
            let title = format!("{}: {}", case.group, case.title());
            plan.filters.iter().any(|filter| title.contains(filter))
        });
    }
    Ok(cases)
}

fn all(plan: &Plan) -> Vec<Case> {
    let transfers = shapes::transfers(plan.set, plan.machine, plan.seed);
    let faults = shapes::faults(plan.set, plan.machine, plan.seed);
    let transfers = transfers.into_iter().chain(faults);
    let named = named(plan, plan.set);
    transfers.map(Case::transfer).chain(named).collect()
}

/// The cases of a set that go by their names.
fn named(plan: &Plan, set: Set) -> Vec<Case> {
    let untried = match set {
        Set::Quick => Vec::new(),
        _ => plan.machine.lacks(),
    };
    let untried = untried.into_iter().map(|(name, why)| Case {
        group: "machine",
        name: name.to_string(),
        kind: Kind::Untried(why),
    });
    several::cases(set, plan.machine, plan.seed)
        .into_iter()
        .chain(errno_table::cases())
        .chain(kernel_errno::cases(plan.machine))
        .chain(refusals::cases())
        .chain(attach::cases())
        .chain(callbacks::cases(set))
        .chain(verifier::cases())
        .chain(resources::cases(set))
        .chain(dirty::cases())
        .chain(untried)
        .collect()
}

fn only(plan: &Plan, words: &str) -> Result<Case, Failure> {
    let words = words.strip_prefix("fault: ").unwrap_or(words);
    let refused = match words.parse() {
        Ok(transfer) => return Ok(Case::transfer(transfer)),
        Err(error) => Failure::usage(format!("--case: {error}")),
    };
    // A name says nothing of the set that it is in.
    let sets = [Set::Quick, Set::Default, Set::Full].into_iter();
    let mut cases = sets.flat_map(|set| named(plan, set));
    cases.find(|case| case.title() == words).ok_or(refused)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn plan() -> Plan {
        Plan {
            set: Set::Default,
            seed: 7,
            filters: Vec::new(),
            only: None,
            machine: Machine::WHOLE,
            flags: " --kernel-flag opcode=65".to_string(),
        }
    }

    #[test]
    fn a_name_is_found_whatever_set_it_is_in() {
        let plan = plan();
        for set in [Set::Quick, Set::Default, Set::Full] {
            for case in named(&plan, set).iter().rev().step_by(101) {
                let found = only(&plan, &case.title()).expect("its title is its name");
                assert_eq!(found.title(), case.title());
            }
        }
    }

    #[test]
    fn a_shell_reads_the_command_that_repeats_a_case() {
        let case = Case::check("errno", "it's \"$HOME\"", &[], |_| Ok(()));
        let command = repeat(&case, &plan()).replace("uringbpf", r"printf '%s\n'");
        let output = Command::new("sh").args(["-c", &command]).output();
        let words = String::from_utf8(output.expect("a shell").stdout).expect("text");
        assert!(
            words.ends_with("\n7\n--case\nerrno: it's \"$HOME\"\n"),
            "{words}"
        );
    }
}
