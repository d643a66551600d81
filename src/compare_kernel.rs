// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the running kernel has against the revisions of the interface, and
//! which commands work where.

use crate::kernel::{FEATURE_BIT, Kernel};
use crate::probe::{Finding, State};
use crate::revisions::{
    self, ADDED_KFUNCS, BUFFER_TYPES, FEATURE, Fact, OPCODE, POSTED_KFUNCS, Revision, SETUP_FLAG,
    STRUCTURES,
};
use crate::signature;

/// A thing of this kernel next to a revision's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Same,
    Different,
    /// The revision has it, this kernel does not.
    Missing,
    /// This kernel has it, the revision does not.
    Extra,
    /// Neither has it.
    Neither,
    /// One of the two is not known.
    Unknown,
}

impl Comparison {
    pub fn name(self) -> &'static str {
        match self {
            Comparison::Same => "same",
            Comparison::Different => "different",
            Comparison::Missing => "missing",
            Comparison::Extra => "extra",
            Comparison::Neither => "neither",
            Comparison::Unknown => "unknown",
        }
    }

    fn of(here: &Fact, there: &Fact) -> Self {
        match (here, there) {
            (Fact::Unknown, _) | (_, Fact::Unknown) => Comparison::Unknown,
            (Fact::None, Fact::None) => Comparison::Neither,
            (Fact::None, _) => Comparison::Missing,
            (_, Fact::None) => Comparison::Extra,
            (_, Fact::Moves) => Comparison::Same,
            (here, there) if here == there => Comparison::Same,
            _ => Comparison::Different,
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: &'static str,
    pub here: Fact,
    /// In the order that was asked for.
    pub there: Vec<(Revision, Fact, Comparison)>,
}

/// The running kernel's things against those of the revisions. `findings` are
/// those of [`crate::probe::findings`].
pub fn compare(kernel: &Kernel, findings: &[Finding], revisions: &[Revision]) -> Vec<Row> {
    let names: Vec<&str> = POSTED_KFUNCS
        .iter()
        .chain(&ADDED_KFUNCS)
        .map(|(name, _)| *name)
        .collect();
    let kfuncs = signature::of_kernel(&names);
    let here = |name: &str| {
        let found = match name {
            OPCODE => kernel.opcode.map(|number| number.to_string()),
            SETUP_FLAG => return setup_flag(findings),
            FEATURE => return feature(findings),
            BUFFER_TYPES => buffer_types(kernel),
            name if STRUCTURES.contains(&name) => structure(kernel, name),
            name => kfuncs.get(name).cloned(),
        };
        match found {
            Some(text) => Fact::Is(text),
            None if kernel.has_btf => Fact::None,
            None => Fact::Unknown,
        }
    };
    revisions::things()
        .iter()
        .map(|thing| {
            let here = here(thing.name);
            let there = revisions.iter().map(|revision| {
                let fact = thing.fact(*revision).clone();
                let comparison = Comparison::of(&here, &fact);
                (*revision, fact, comparison)
            });
            Row {
                name: thing.name,
                there: there.collect(),
                here,
            }
        })
        .collect()
}

fn structure(kernel: &Kernel, name: &str) -> Option<String> {
    let layouts = [
        &kernel.descriptor,
        &kernel.request,
        &kernel.ops,
        &kernel.iterator,
    ];
    let place = STRUCTURES.iter().position(|known| *known == name)?;
    let layout = layouts[place].as_ref()?;
    Some(revisions::layout_text(name, layout))
}

fn buffer_types(kernel: &Kernel) -> Option<String> {
    let mut types: Vec<(&str, i64)> = kernel
        .buffer_types
        .iter()
        .map(|(name, number)| (name.trim_start_matches("IO_BPF_BUF_"), *number))
        .collect();
    types.sort_by_key(|(_, number)| *number);
    let types: Vec<String> = types.iter().map(|(n, v)| format!("{n}={v}")).collect();
    (!types.is_empty()).then(|| types.join(" "))
}

/// Without the opcode there is nothing to try the flag with, and no flag.
fn setup_flag(findings: &[Finding]) -> Fact {
    let state = |name: &str| findings.iter().find(|finding| finding.name == name);
    match (state(SETUP_FLAG), state(OPCODE)) {
        (Some(flag), _) if matches!(flag.state, State::Present | State::Different) => {
            Fact::Is(flag.detail.clone())
        }
        (_, Some(opcode)) if opcode.state == State::Absent => Fact::None,
        _ => Fact::Unknown,
    }
}

fn feature(findings: &[Finding]) -> Fact {
    let found = findings.iter().find(|finding| finding.name == FEATURE);
    match found.map(|finding| finding.state) {
        Some(State::Present) => Fact::Is(revisions::bit(FEATURE_BIT)),
        Some(State::Absent) => Fact::None,
        _ => Fact::Unknown,
    }
}

/// Commands that need the same, and whether they work.
#[derive(Debug, Clone)]
pub struct Commands {
    pub names: &'static str,
    pub here: &'static str,
    pub there: Vec<(Revision, &'static str)>,
}

/// Which commands work on this kernel, and on one with each revision.
pub fn commands(findings: &[Finding], revisions: &[Revision]) -> Vec<Commands> {
    let runs = !findings.iter().any(Finding::blocks);
    let has = |name: &str| {
        let mut found = findings.iter().filter(|finding| finding.name == name);
        found.any(|finding| finding.state == State::Present)
    };
    let word = |works: bool| if works { "works" } else { "no" };
    let row = |names, here, v3| Commands {
        names,
        here,
        there: revisions
            .iter()
            .map(|revision| match revision {
                Revision::V2 => (*revision, "unknown"),
                Revision::V3 => (*revision, v3),
                Revision::Reference => (*revision, "works"),
            })
            .collect(),
    };
    let device = word(runs && has("ublk zero copy"));
    let mut commands = vec![
        row("copy checksum fill chunks bench", word(runs), "works"),
        row("… of kfixed and pages=kernel", device, "works"),
        row("ublk", device, "works"),
        // They work there, and tell of the defects that V3 has.
        row("smoke stress", word(runs), "defects"),
        row("repro", word(runs), "works"),
    ];
    let anywhere = |names| Commands {
        names,
        here: "works",
        there: revisions.iter().map(|r| (*r, "works")).collect(),
    };
    commands.push(anywhere("probe man completions"));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::findings;

    fn of(name: &str, rows: &[Row]) -> Vec<Comparison> {
        let row = rows.iter().find(|row| row.name == name).expect(name);
        row.there
            .iter()
            .map(|(_, _, comparison)| *comparison)
            .collect()
    }

    #[test]
    fn a_kernel_without_anything_misses_what_each_revision_has() {
        use Comparison::{Missing, Unknown};
        let kernel = Kernel {
            has_btf: true,
            ..Kernel::default()
        };
        let rows = compare(&kernel, &findings(&kernel), &Revision::ALL);
        assert_eq!(of(OPCODE, &rows), [Unknown, Missing, Missing]);
        assert_eq!(of(SETUP_FLAG, &rows), [Missing, Missing, Missing]);
        assert_eq!(of("uring_bpf_data", &rows), [Unknown, Missing, Missing]);
    }

    #[test]
    fn what_is_not_known_is_neither_same_nor_different() {
        let is = |text: &str| Fact::Is(text.to_string());
        for (here, there, comparison) in [
            (is("1"), is("1"), Comparison::Same),
            (is("1"), is("2"), Comparison::Different),
            (is("67"), Fact::Moves, Comparison::Same),
            (Fact::None, Fact::Moves, Comparison::Missing),
            (is("1"), Fact::None, Comparison::Extra),
            (Fact::None, Fact::None, Comparison::Neither),
            (Fact::Unknown, Fact::None, Comparison::Unknown),
            (is("1"), Fact::Unknown, Comparison::Unknown),
        ] {
            assert_eq!(Comparison::of(&here, &there), comparison, "{here} {there}");
        }
    }

    #[test]
    fn no_command_works_here_where_the_opcode_is_not() {
        let commands = commands(&findings(&Kernel::default()), &[Revision::V3]);
        let names: Vec<&str> = commands
            .iter()
            .filter(|commands| commands.here == "works")
            .map(|commands| commands.names)
            .collect();
        assert_eq!(names, ["probe man completions"]);
    }
}
