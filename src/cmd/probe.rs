// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf probe`

use serde_json::{Map, Value, json};

use crate::cli::{Compare, GlobalArgs, ProbeArgs};
use crate::compare_kernel::{Commands, Comparison, Row, commands, compare};
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::probe::{Finding, blocking, findings};
use crate::report::{Report, wrapped};
use crate::revisions::{Fact, Revision, title};

pub fn run(global: &GlobalArgs, args: &ProbeArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    let kernel = Kernel::read(global.overrides());
    let findings = findings(&kernel);
    let revisions = match args.compare {
        None => &[][..],
        Some(Compare::V2) => &[Revision::V2],
        Some(Compare::V3) => &[Revision::V3],
        Some(Compare::Reference) => &[Revision::Reference],
        Some(Compare::All) => &Revision::ALL,
    };
    match revisions {
        [] => print_findings(&report, &kernel, &findings)?,
        revisions => print_comparison(&report, &kernel, &findings, revisions)?,
    }
    let blocking = blocking(&findings);
    match blocking.is_empty() {
        true => Ok(()),
        false => Err(Failure::missing(blocking).into()),
    }
}

fn print_findings(report: &Report, kernel: &Kernel, findings: &[Finding]) -> Result<(), Failure> {
    for finding in findings {
        let (name, state) = (&finding.name, finding.state.name());
        let human = wrapped(&format!("{name:<34} {state:<9}"), &finding.detail).join("\n");
        let keys = json!({
            "kernel": kernel.release,
            "name": name,
            "state": state,
            "detail": finding.detail,
            "needed": finding.needed,
        });
        report.result("probe", human, keys)?;
    }
    Ok(())
}

fn print_comparison(
    report: &Report,
    kernel: &Kernel,
    findings: &[Finding],
    revisions: &[Revision],
) -> Result<(), Failure> {
    let columns = |words: Vec<&str>| -> String {
        let columns = words.iter().map(|word| format!(" {word:<10}"));
        columns.collect::<String>().trim_end().to_string()
    };
    let names = revisions.iter().map(|revision| revision.name()).collect();
    let heading = format!("{:<36}{}", "this kernel against", columns(names));
    if !report.is_json() {
        report.result("probe", heading, Value::Null)?;
    }
    for row in compare(kernel, findings, revisions) {
        let states = row.there.iter().map(|(_, _, comparison)| comparison.name());
        let first = format!("{:<36}{}", title(row.name), columns(states.collect()));
        let human = [vec![first], details(&row)].concat().join("\n");
        report.result("probe", human, row_keys(kernel, &row))?;
    }
    let names = revisions.iter().map(|revision| revision.name());
    let heading = columns(std::iter::once("here").chain(names).collect());
    if !report.is_json() {
        let heading = format!("\n{:<32}{heading}", "commands");
        report.result("probe", heading, Value::Null)?;
    }
    for commands in commands(findings, revisions) {
        let words = commands.there.iter().map(|(_, word)| *word);
        let words = std::iter::once(commands.here).chain(words).collect();
        let human = format!("{:<32}{}", commands.names, columns(words));
        report.result("probe", human, commands_keys(kernel, &commands))?;
    }
    Ok(())
}

/// Of a line of details.
fn label(of: &str) -> String {
    format!("    {of:<14}")
}

/// What this kernel has, and what the revisions have where that differs.
fn details(row: &Row) -> Vec<String> {
    let mut lines = Vec::new();
    if let Fact::Is(_) | Fact::Moves = row.here {
        lines.extend(wrapped(&label("here"), &row.here.to_string()));
    }
    let mut said: Vec<(String, &Fact)> = Vec::new();
    for (revision, fact, comparison) in &row.there {
        let (Comparison::Different | Comparison::Missing) = comparison else {
            continue;
        };
        match said.last_mut() {
            Some((names, last)) if last == &fact => {
                *names = format!("{names}, {}", revision.name())
            }
            _ => said.push((revision.name().to_string(), fact)),
        }
    }
    for (names, fact) in said {
        lines.extend(wrapped(&label(&names), &fact.to_string()));
    }
    lines
}

fn row_keys(kernel: &Kernel, row: &Row) -> Value {
    let text = |fact: &Fact| match fact {
        Fact::Is(text) => json!(text),
        other => json!(other.to_string()),
    };
    let there = row.there.iter().map(|(revision, fact, comparison)| {
        let keys = json!({ "comparison": comparison.name(), "value": text(fact) });
        (revision.name().to_string(), keys)
    });
    json!({
        "event": "compared",
        "kernel": kernel.release,
        "name": title(row.name),
        "here": text(&row.here),
        "revisions": there.collect::<Map<String, Value>>(),
    })
}

fn commands_keys(kernel: &Kernel, commands: &Commands) -> Value {
    let there = commands.there.iter();
    let there = there.map(|(revision, word)| (revision.name().to_string(), json!(word)));
    json!({
        "event": "commands",
        "kernel": kernel.release,
        "commands": commands.names,
        "here": commands.here,
        "revisions": there.collect::<Map<String, Value>>(),
    })
}
