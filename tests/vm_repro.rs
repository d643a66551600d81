// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The reference kernel has none of the known defects. That each is seen where
//! it is, is what tests/kernels/defects shows.

use std::process::{Command, Output};

use serde_json::Value;

fn repro(arguments: &[&str]) -> Output {
    Command::new("uringbpf")
        .arg("repro")
        .args(arguments)
        .output()
        .expect("uringbpf is on PATH in the VM")
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).expect("UTF-8")
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Every name, in order.
fn names() -> Vec<String> {
    let posted = (1..=14).map(|number| format!("D{number}"));
    posted.chain(["X1".to_string()]).collect()
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn the_reference_kernel_has_no_known_defect() {
    let output = repro(&["run", "--dangerous", "--json"]);
    let values = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (summary, findings) = values.split_last().expect("lines");
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["absent"], Value::from(names()));
    assert_eq!(summary["present"], Value::Array(Vec::new()));
    assert_eq!(summary["cannot_tell"], Value::Array(Vec::new()));
    let found: Vec<&str> = findings
        .iter()
        .map(|finding| finding["defect"].as_str().expect("a name"))
        .collect();
    assert_eq!(found, names());
    for finding in findings {
        assert_eq!(finding["schema"], 1);
        assert_eq!(finding["command"], "repro");
        assert_eq!(finding["event"], "defect");
        assert_eq!(finding["verdict"], "absent", "{finding}");
        assert!(finding["log"].is_null(), "{finding}");
        assert!(finding["why"].as_str().is_some_and(|why| !why.is_empty()));
        assert!(finding["seconds"].as_f64().is_some());
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn the_list_explains_each_in_three_lines() {
    let list = text(&repro(&["list"]).stdout);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3 * names().len());
    for (explained, name) in lines.chunks(3).zip(names()) {
        assert!(explained[0].starts_with(&format!("{name} ")), "{list}");
        assert!(explained[1..].iter().all(|line| line.starts_with("     ")));
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn only_what_is_named_is_run() {
    let output = repro(&["run", "d13", "D9"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(out.starts_with("D13  absent") && out.contains("\nD9   absent"));
    assert!(
        out.ends_with("0 present, 2 absent, 0 cannot be told\n"),
        "{out}"
    );
    assert_eq!(repro(&["run", "D99"]).status.code(), Some(2));
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn without_rights_nothing_is_told_and_nothing_fails() {
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "uringbpf", "repro", "run", "D8"])
        .output()
        .expect("setpriv is part of util-linux");
    // Without rights nothing can be told, which fails nothing.
    let out = text(&output.stdout);
    assert!(out.contains("D8   cannot tell"), "{output:?}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
