// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The test suite itself, on the reference kernel.

use std::process::{Command, Output};

use serde_json::Value;

fn smoke(arguments: &[&str]) -> Output {
    Command::new("uringbpf")
        .arg("smoke")
        .args(arguments)
        .output()
        .expect("uringbpf is on PATH in the VM")
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).expect("UTF-8")
}

/// One result line, as the specification of KTAP has it.
#[derive(Debug, PartialEq)]
struct Line<'t> {
    ok: bool,
    number: usize,
    description: &'t str,
    directive: Option<&'t str>,
}

fn result_line(line: &str) -> Option<Line<'_>> {
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, rest) = rest.split_once(' ')?;
    let (description, directive) = match rest.split_once(" # ") {
        Some((description, directive)) => (description, Some(directive)),
        None => (rest, None),
    };
    Some(Line {
        ok,
        number: number.parse().ok()?,
        description,
        directive,
    })
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn the_quick_set_passes_and_its_ktap_is_whole() {
    let output = smoke(&["--quick", "--format", "ktap"]);
    let stdout = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{stdout}{}",
        text(&output.stderr)
    );
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("KTAP version 1"));
    let plan = lines.next().and_then(|line| line.strip_prefix("1.."));
    let plan: usize = plan.and_then(|plan| plan.parse().ok()).expect("a plan");
    let mut count = 0;
    for line in lines {
        if line.starts_with('#') {
            continue;
        }
        let line = result_line(line).unwrap_or_else(|| panic!("{line:?} is no KTAP"));
        count += 1;
        assert_eq!(line.number, count);
        assert!(line.ok, "{line:?}");
        assert!(!line.description.is_empty());
        assert!(line.directive.is_none_or(|text| text.starts_with("SKIP ")));
    }
    assert_eq!(count, plan);
    assert!(count > 500, "{count} cases");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn json_lines_have_the_documented_keys_and_a_case_repeats_by_its_name() {
    let output = smoke(&[
        "--format",
        "json",
        "--quick",
        "--seed",
        "3",
        "--filter",
        "callbacks: prep_fn -EIO",
    ]);
    let stdout = text(&output.stdout);
    let values: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let (summary, cases) = values.split_last().expect("lines");
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["passed"], cases.len());
    assert_eq!(summary["seed"], 3);
    let name = cases[0]["case"].as_str().expect("a name");
    assert_eq!(cases[0]["outcome"], "pass");
    for key in ["group", "why", "log", "repeat", "seconds"] {
        assert!(cases[0].get(key).is_some(), "{key}");
    }
    let output = smoke(&["--case", name]);
    assert!(
        text(&output.stdout).contains("1 passed, 0 failed"),
        "{output:?}"
    );
    let output = smoke(&[
        "--case",
        "copy from=user to=vec:split=ragged-3 len=65537 ring=cqe32",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_run_in_which_nothing_could_run_says_so() {
    // Nothing but what this machine lacks: a swap device.
    let output = smoke(&["--filter", "machine: state=swapped"]);
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let expected = if swaps.lines().count() > 1 { 2 } else { 4 };
    assert_eq!(output.status.code(), Some(expected), "{output:?}");
}
