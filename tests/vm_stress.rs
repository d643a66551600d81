// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A short run of `stress`: nothing is wrong and nothing stays. That wrong
//! results are found is tested beside the code (src/stress/batch.rs).

use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

/// A run looks at what is there afterwards that was not before: only one at a
/// time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|lock| lock.into_inner())
}

fn stress(arguments: &[&str]) -> Command {
    let mut command = Command::new("uringbpf");
    command.arg("stress").args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    let output = stress(arguments).output();
    output.expect("uringbpf is on PATH in the VM")
}

fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no summary: {output:?}"))
}

/// The seed of this run: URINGBPF_SEED, or the time.
fn seed() -> String {
    let seed = std::env::var("URINGBPF_SEED").unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs()).to_string()
    });
    println!("URINGBPF_SEED={seed}");
    seed
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn random_operations_find_nothing_wrong_and_leave_nothing() {
    let _alone = alone();
    let output = run(&["--seed", &seed(), "--seconds", "6", "--json"]);
    let summary = summary(&output);
    assert_eq!(output.status.code(), Some(0), "{summary}");
    for key in ["wrong", "left"] {
        assert_eq!(summary[key], Value::Array(Vec::new()), "{summary}");
    }
    assert!(summary["log"].is_null(), "{summary}");
    assert!(summary["operations"].as_u64() > Some(20), "{summary}");
    let counts = summary["counts"].as_object().expect("counts");
    let right = |kind: &str| counts[kind]["right"].as_u64().expect("a count");
    assert!(
        right("copy") + right("checksum") + right("fill") > 0,
        "{summary}"
    );
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_signal_ends_a_run_with_its_summary() {
    let _alone = alone();
    let mut child: Child = stress(&["--seed", "5", "--seconds", "600", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("uringbpf is on PATH in the VM");
    // Programs take some seconds to load; a signal before that counts, too.
    std::thread::sleep(Duration::from_secs(5));
    assert!(child.try_wait().expect("a child").is_none(), "it runs");
    let pid = child.id() as libc::pid_t;
    // SAFETY: takes no memory; the process is our child, not yet waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let output = child.wait_with_output().expect("a child");
    let summary = summary(&output);
    assert_eq!(output.status.code(), Some(130), "{summary}");
    assert_eq!(summary["left"], Value::Array(Vec::new()), "{summary}");
}
