// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What people see: within 80 columns, and no escape codes but on a terminal
//! that takes them.

use std::process::{Command, Stdio};

fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uringbpf"));
    command.stdin(Stdio::null()).env_remove("NO_COLOR");
    command.env_remove("CLICOLOR_FORCE");
    command
}

/// What the tool prints to a pipe, on both outputs.
fn piped(words: &[&str]) -> String {
    let output = tool().args(words).output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).expect("UTF-8")
}

/// What the tool prints to a terminal of 80 columns.
fn on_terminal(words: &[&str], environment: &[(&str, &str)]) -> String {
    let tool = env!("CARGO_BIN_EXE_uringbpf");
    let words = words.join(" ");
    let output = Command::new("script")
        .args([
            "-qec",
            &format!("stty cols 80 rows 24; '{tool}' {words}"),
            "/dev/null",
        ])
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        // In which clap takes any terminal for one with colours.
        .env("CI", "true")
        .env("TERM", "xterm-256color")
        .envs(environment.iter().copied())
        .output()
        .expect("script(1) is in every Debian");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .replace('\r', "")
}

const TABLES: &[&[&str]] = &[
    &["probe"],
    &["probe", "--compare", "all"],
    &["--version"],
    &["repro", "list"],
    &["frobnicate"],
];
const COMMANDS: &[&str] = &[
    "",
    "probe",
    "copy",
    "checksum",
    "fill",
    "chunks",
    "smoke",
    "stress",
    "repro",
    "ublk",
    "bench",
    "completions",
    "man",
];

fn assert_plain(text: &str, of: &[&str]) {
    assert!(!text.contains('\x1b'), "{of:?}: {text:?}");
}

/// Of stdout: an error is one line, however long.
fn assert_narrow(text: &str, of: &[&str]) {
    let mut lines = text.lines().filter(|line| !line.starts_with("uringbpf: "));
    let long = lines.find(|line| line.chars().count() > 80);
    assert_eq!(long, None, "{of:?}");
}

#[test]
fn output_to_a_pipe_has_no_escape_codes_and_fits_eighty_columns() {
    for words in TABLES {
        let text = piped(words);
        assert!(!text.is_empty(), "{words:?}");
        assert_plain(&text, words);
        assert_narrow(&text, words);
    }
}

#[test]
fn help_on_a_terminal_of_eighty_columns_fits() {
    for command in COMMANDS {
        let words = [command, "--help"];
        let text = on_terminal(&words, &[("TERM", "dumb")]);
        assert!(text.contains("Usage:"), "{words:?}: {text}");
        assert_plain(&text, &words);
        assert_narrow(&text, &words);
    }
}

#[test]
fn a_dumb_terminal_and_one_without_colour_get_plain_text() {
    for words in TABLES.iter().chain(&[&["--help"][..]]) {
        for environment in [("TERM", "dumb"), ("NO_COLOR", "1")] {
            let text = on_terminal(words, &[environment]);
            assert!(!text.is_empty(), "{words:?}");
            assert_plain(&text, words);
        }
    }
}

/// Where nothing can be run a test harness still reads a plan: of no tests, and
/// why.
#[test]
fn a_kernel_without_the_opcode_is_a_skipped_plan_in_ktap() {
    let output = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
        .args(["smoke", "--format", "ktap"])
        .env("LC_ALL", "C")
        .output()
        .expect("the tool starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.code() != Some(4) {
        // This kernel has it.
        assert!(stdout.starts_with("KTAP version 1\n1.."), "{output:?}");
        return;
    }
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("KTAP version 1"));
    let plan = lines.next().unwrap_or_default();
    assert!(plan.starts_with("1..0 # SKIP missing here: "), "{plan}");
    assert_eq!(lines.next(), None);
}
