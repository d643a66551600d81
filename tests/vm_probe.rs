// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf probe --compare` and `--version` on the reference kernel, which
//! is what this checkout's patches make.

use std::process::Command;

use serde_json::Value;

fn uringbpf(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
        .args(words)
        .output()
        .expect("the binary runs");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{words:?}: {stdout}");
    stdout
}

/// What of a revision is not the same here, and with which word.
fn differences(revision: &str) -> Vec<(String, String)> {
    let lines = uringbpf(&["--format", "json", "probe", "--compare", revision]);
    let objects: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let compared: Vec<&Value> = objects
        .iter()
        .filter(|object| object["event"] == "compared")
        .collect();
    assert!(compared.len() > 20, "{lines}");
    compared
        .iter()
        .map(|object| {
            let word = &object["revisions"][revision]["comparison"];
            let word = word.as_str().expect("a word").to_string();
            (object["name"].as_str().expect("a name").to_string(), word)
        })
        .filter(|(_, word)| word != "same")
        .collect()
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn the_reference_kernel_is_the_reference() {
    assert_eq!(differences("reference"), []);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn the_reference_kernel_has_kfuncs_over_the_third_posting_and_nothing_else() {
    let different = differences("v3");
    assert!(!different.is_empty());
    for (name, word) in different {
        assert!(
            name.starts_with("kfunc ") && word == "extra",
            "{name}: {word}"
        );
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn of_the_second_posting_the_flag_differs_and_the_rest_is_unknown() {
    for (name, word) in differences("v2") {
        let expected = if name == "setup flag" {
            "different"
        } else {
            "unknown"
        };
        assert_eq!(word, expected, "{name}");
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn the_version_names_the_opcode_of_this_kernel() {
    let text = uringbpf(&["--version"]);
    assert!(text.contains("IORING_OP_BPF is opcode "), "{text}");
}
