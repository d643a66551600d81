// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a person sees of a job while it runs: a bar on a terminal, and nothing
//! of it where stderr is none or --quiet asks for less.

use std::process::{Command, Stdio};

/// A shell command's output on both, in a terminal of 80 columns.
fn on_terminal(command: &str, terminal: &str) -> String {
    let output = Command::new("script")
        .args([
            "-qec",
            &format!("stty cols 80 rows 24; {command}"),
            "/dev/null",
        ])
        .env("TERM", terminal)
        .stdin(Stdio::null())
        .output()
        .expect("script(1) is in every Debian");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_long_job_has_a_bar_on_a_terminal_alone() {
    const FILE: &str = "/tmp/progress";
    let fill = format!("uringbpf fill {FILE} --len 100M");
    let copy = format!("uringbpf copy {FILE} {FILE}.copy");
    let checksum = format!("uringbpf checksum {FILE}");
    for (command, bar) in [
        (fill.as_str(), "progress         ["),
        (&copy, "progress         ["),
        (&checksum, "progress         ["),
        ("uringbpf smoke --filter =arena --quick", "smoke     ["),
        ("uringbpf stress --seconds 2 --seed 5", "stress    ["),
        ("uringbpf repro run D3 D13", "repro     ["),
        (
            "uringbpf bench --work cost --type user --size 4K --rounds 5 --time 1",
            "bench     [",
        ),
    ] {
        let text = on_terminal(command, "xterm");
        assert!(
            text.contains(bar) && text.contains(" left"),
            "{command}: {text:?}"
        );
        let without = [
            on_terminal(command, "dumb"),
            on_terminal(&format!("{command} --quiet"), "xterm"),
            on_terminal(&format!("{command} 2>&1 | cat"), "xterm"),
        ];
        for text in without {
            assert!(
                !text.contains(bar) && !text.contains('\x1b'),
                "{command}: {text:?}"
            );
        }
    }
    for file in [FILE.to_string(), format!("{FILE}.copy")] {
        std::fs::remove_file(file).expect("it was made");
    }
}
