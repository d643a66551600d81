// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What makes no sense is refused on any machine: status 2, one line on
//! stderr, nothing on stdout, no panic.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory as _;
use uringbpf::cli::Cli;
use uringbpf::kernel::{Kernel, Overrides};

fn uringbpf(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uringbpf"))
        .args(words)
        .output()
        .expect("the binary runs")
}

/// Words separated by spaces; none of them has one.
const MALFORMED: &[&str] = &[
    "",
    "frobnicate",
    "--format",
    "--format yaml probe",
    "--format ktap copy --from user --to user",
    "--kernel-flag probe",
    "--kernel-flag opcode probe",
    "--kernel-flag opcode=256 probe",
    "--kernel-flag opcode=-1 probe",
    "--kernel-flag opcode=x probe",
    "--kernel-flag setup-flag=3 probe",
    "--kernel-flag setup-flag=0 probe",
    "--kernel-flag setup-flag=0x100000000 probe",
    "--kernel-flag speed=9 probe",
    "--kernel-flag opcode=1 --kernel-flag opcode=2 probe",
    "-q -v probe",
    "probe extra",
    "probe --from user",
    "repro",
    "repro frobnicate",
    "repro run D0",
    "repro run D15",
    "repro run D1 D",
    "repro list X9",
    "repro run --format ktap",
    "stress now",
    "stress --seconds 0",
    "stress --threads 0",
    "stress --processes 9 --threads 2",
    "stress --seed x",
    "stress --only 1.2",
    "stress --only 2.0.1",
    "stress --only 1.0.1 --list 3",
    "stress --format ktap",
    "copy",
    "copy one",
    "copy one two three",
    "copy --from user",
    "copy --to user",
    "copy --from user --to user one",
    "copy --from user one two",
    "copy one two --via arena",
    "copy --from user --to user --via memory",
    "copy --from arena --to user --via arena",
    "copy --from users --to user",
    "copy --from user:len=1 --to user:len=2",
    "copy --from user:len=1,len=1 --to user",
    "copy --from user:len=-1 --to user",
    "copy --from user:len=1T --to user",
    "copy --from user:len=18446744073709551616 --to user",
    "copy --from user:len=0x10 --to user",
    "copy --from user:len --to user",
    "copy --from user: --to user",
    "copy --from : --to user",
    "copy --from user:offset=4096 --to user",
    "copy --from user:index=1 --to user",
    "copy --from user:iovs=2 --to user",
    "copy --from fixed:iovs=2 --to user",
    "copy --from fixed:index=16384 --to user",
    "copy --from fixed:index=3 --to reg-vec:index=3",
    "copy --from vec:iovs=0 --to user",
    "copy --from vec:iovs=1025 --to user",
    "copy --from vec:iovs=1+2+ --to user",
    "copy --from vec:iovs=1+2,len=4 --to user",
    "copy --from vec:iovs=1+2 --to user:len=4",
    "copy --from reg-vec:iovs=1+0+2 --to user",
    "copy --from reg-vec:iovs=9,len=8 --to user",
    "copy --from vec:at=1 --to user",
    "copy --from arena:pages=huge --to user",
    "copy --from user:pages=small --to user",
    "copy --from user --to user --depth 0",
    "copy --from user --to user --depth 65",
    "copy --from user --to user --depth many",
    "copy --from user --to user --ring fast",
    "copy --from user --to user --ring sqpoll,coop",
    "copy --from user --to user --ring sqpoll,sqpoll",
    "copy --from user --to user --link --hardlink",
    "copy --from user --to user --async --non-sleepable",
    "copy --from user --to user --drain --non-sleepable",
    "copy --from user --to user --seed x",
    "copy --from user --to user --seed -1",
    "copy one two --block 1",
    "copy one two --block 17M",
    "checksum",
    "checksum --from user file",
    "checksum --from user --check",
    "checksum --check",
    "checksum --algorithm md5 file",
    "checksum --algorithm",
    "fill",
    "fill file",
    "fill --len 3",
    "fill --to user --len 3",
    "fill --to user file",
    "fill --to user --byte 256",
    "fill --to user --byte 1 --word 2",
    "fill --to user --counter 1 --random 2",
    "fill --to user --word 0x1ffffffffffffffff",
    "chunks",
    "chunks user user",
    "chunks user:len=1;offset=2",
    "chunks --from user",
    "chunks arena",
    "probe --compare",
    "probe --compare v4",
    "probe --compare all extra",
    // What no block request, no table and no arena holds.
    "copy --from kfixed:len=5M,iovs=2 --to user",
    "copy --from user --to kfixed:len=4097K,iovs=3",
    "copy --from kfixed:at=4M --to user",
    "copy --from kfixed:pages=huge --to user",
    "copy --from kfixed:len=100G --to user",
    "copy --from kfixed:index=16383 --to user --depth 2",
    "copy --from kfixed:index=1 --to user --auto-buf-reg",
    "copy --from reg-vec:len=5M,pages=kernel --to user",
    "copy --from user:pages=kernel --to user",
    "checksum --from reg-vec:len=5M,pages=kernel",
    "checksum --from reg-vec:pages=kernel,index=1 --auto-buf-reg",
    "fill --to reg-vec:len=4M,pages=kernel",
    "chunks reg-vec:len=5M,pages=kernel",
    "copy --from fixed:len=2G --to user",
    "checksum --from reg-vec:len=1G,iovs=2",
    "fill --to arena:len=4G",
    "copy --from arena:len=3G --to arena",
    "ublk",
    "ublk device",
    "ublk --backing",
    "ublk --size",
    "ublk --size 0",
    "ublk --size 1",
    "ublk --size 4097",
    "ublk --size 1025K --block 2K",
    "ublk --size 5G",
    "ublk --size 4G --parity 4",
    "ublk --size 1M --block 3K",
    "ublk --size 1M --block 8K",
    "ublk --size 1M --algorithm adler32",
    "ublk --size 1M --parity 65",
    "ublk --size 1M --parity some",
    "ublk --size 1M --queues 0",
    "ublk --size 1M --queues 65",
    "ublk --size 1M --depth 0",
    "ublk --size 1M --depth 65536",
    "ublk --backing new --size 1",
    "ublk --backing new --size 0",
    "ublk --cleanup --size 1M",
    "ublk --size 1M --format ktap",
    "smoke all",
    "smoke --quick --full",
    "smoke --quick --case copy",
    "smoke --case nothing-is-named-so",
    "smoke --case copy --filter copy",
    "smoke --filter",
    "smoke --filter nothing-is-named-so",
    "smoke --filter nothing-is-named-so --list",
    "smoke --seed x",
    "bench all",
    "bench --work",
    "bench --work swap",
    "bench --type kfixed",
    "bench --size 0",
    "bench --size 65M",
    "bench --size 4K,",
    "bench --depth 0",
    "bench --depth 65",
    "bench --rings 0",
    "bench --rounds 0",
    "bench --time 0",
    "bench --work pipeline --size 16M",
    "bench --yardstick --scaling",
    "bench --scaling --allocations",
    "bench --yardstick --work copy",
    "bench --compare before",
    "bench --compare before after --link",
    "bench --format ktap",
    "man",
    "man one two",
    "man --list .",
    "completions",
    "completions tcsh",
    "completions bash zsh",
];

fn assert_refused(words: &[&str], output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{words:?}: {stderr}");
    assert!(stderr.starts_with("uringbpf: "), "{words:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{words:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{words:?}");
}

#[test]
fn malformed_command_lines_are_refused_in_one_line() {
    assert!(MALFORMED.len() >= 150);
    for line in MALFORMED {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_refused(&words, &uringbpf(&words));
    }
}

#[test]
fn words_that_are_no_text_are_refused_too() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let output = Command::new(env!("CARGO_BIN_EXE_uringbpf"))
        .arg("chunks")
        .arg(OsStr::from_bytes(b"user\xff\n\x1b[31m"))
        .output()
        .expect("the binary runs");
    assert_refused(&["chunks", "(bytes)"], &output);
    assert!(
        !output.stderr.contains(&0x1b),
        "control characters are not passed on"
    );
}

#[test]
fn stress_lists_the_same_plan_for_the_same_seed() {
    let list = |seed| {
        let output = uringbpf(&["stress", "--seed", seed, "--threads", "3", "--list", "40"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let plan = list("7");
    assert_eq!(plan.lines().count(), 2 * 3 * 40);
    assert!(plan.starts_with("0.0.0 "), "{plan}");
    assert_eq!(plan, list("7"));
    assert_ne!(plan, list("8"));
}

/// Words that the definitions do not name: values, good and bad.
const VALUES: &[&str] = &[
    "user",
    "fixed:len=1",
    "vec:iovs=3",
    "reg-vec:iovs=1+2",
    "reg-vec:pages=kernel,len=5M",
    "kfixed",
    "kfixed:len=1,at=511",
    "user:offset=4096,pages=huge",
    "user:len=99999999999999999999",
    "sqpoll,cqe32",
    "json",
    "copy",
    "copy from=user to=vec len=1",
    "D6",
    "opcode=300",
    "kfuncs=off",
    "0.0.1",
    "new",
    "0",
    "3",
    "-1",
    "1K",
    "5G",
    ":",
    "=",
    "",
    "--",
    "-",
    "\u{fffd}\n",
];

/// A command, and every word that its definition takes.
struct Vocabulary {
    command: String,
    words: Vec<String>,
}

/// Options in both spellings, and the values that they name.
fn words_of(command: &clap::Command) -> Vec<String> {
    let mut words = Vec::new();
    for argument in command.get_arguments() {
        words.extend(argument.get_long().map(|name| format!("--{name}")));
        words.extend(argument.get_short().map(|name| format!("-{name}")));
        let values = argument.get_possible_values();
        words.extend(values.iter().map(|value| value.get_name().to_string()));
    }
    words
}

/// Of each command that is shown; those that work for long where they can are
/// left out where the kernel lets them.
fn vocabularies() -> Vec<Vocabulary> {
    const LONG: &[&str] = &["smoke", "stress", "bench", "repro", "ublk"];
    let has_opcode = Kernel::read(Overrides::default()).opcode.is_some();
    let mut definitions = Cli::command();
    // With what clap adds: global options in each command, help, version.
    definitions.build();
    let commands = definitions
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .filter(|command| !has_opcode || !LONG.contains(&command.get_name()));
    commands
        .map(|command| Vocabulary {
            command: command.get_name().to_string(),
            words: words_of(command),
        })
        .collect()
}

#[test]
fn random_command_lines_know_every_command_and_option() {
    let vocabularies = vocabularies();
    let of = |name: &str| {
        let mut found = vocabularies.iter().filter(|known| known.command == name);
        found.next().map(|known| known.words.as_slice())
    };
    let copy = of("copy").expect("a command");
    for word in [
        "--from",
        "--auto-buf-reg",
        "--kernel-flag",
        "-q",
        "arena",
        "--help",
    ] {
        assert!(copy.iter().any(|known| known == word), "{word}: {copy:?}");
    }
    assert!(of("completions").is_some_and(|words| words.contains(&"fish".to_string())));
    assert!(of("client").is_none(), "nobody types it");
}

#[test]
fn random_command_lines_never_panic() {
    let seed: u64 = match std::env::var("URINGBPF_SEED") {
        Ok(text) => text.parse().expect("URINGBPF_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    };
    eprintln!("URINGBPF_SEED={seed}");
    let mut state = seed;
    let mut next = |bound: usize| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as usize % bound
    };
    let vocabularies = vocabularies();
    let directory = tempfile::tempdir().expect("a directory");
    for _ in 0..500 {
        let words = random_line(&vocabularies, &mut next);
        // What hangs has status 124.
        let output = Command::new("timeout")
            .args(["--kill-after=2", "60", env!("CARGO_BIN_EXE_uringbpf")])
            .args(&words)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("timeout starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let status = output.status.code();
        assert!(
            matches!(status, Some(0..=4)),
            "{words:?}: {status:?} {stderr}"
        );
        assert!(!stderr.contains("panicked"), "{words:?}: {stderr}");
        assert!(stderr.lines().count() <= 2, "{words:?}: {stderr}");
        if words.contains(&"man".to_string()) && status == Some(0) {
            remove_pages(directory.path());
        }
        let left = std::fs::read_dir(&directory).expect("still there").count();
        assert_eq!(left, 0, "{words:?}: files left behind");
    }
}

/// Mostly a command with words of its own and values, at times any words.
fn random_line(vocabularies: &[Vocabulary], next: &mut dyn FnMut(usize) -> usize) -> Vec<String> {
    let any = &vocabularies[next(vocabularies.len())];
    let mut line = Vec::new();
    if next(8) > 0 {
        line.push(any.command.clone());
    }
    for _ in 0..next(7) {
        let word = match next(8) {
            0 => vocabularies[next(vocabularies.len())].command.clone(),
            1..=3 => VALUES[next(VALUES.len())].to_string(),
            _ if any.words.is_empty() => "--help".to_string(),
            _ => any.words[next(any.words.len())].clone(),
        };
        line.push(word);
    }
    line
}

/// What `man DIRECTORY` has made: directories of pages, and nothing else.
fn remove_pages(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            remove_pages(&path);
            std::fs::remove_dir(&path).expect("nothing else is in it");
        } else if path.extension().is_some_and(|ending| ending == "1") {
            std::fs::remove_file(&path).expect("it is ours");
        }
    }
}

#[test]
fn help_and_version_are_on_stdout_with_status_zero() {
    for words in [
        &["--help"][..],
        &["copy", "--help"],
        &["help", "fill"],
        &["--version"],
    ] {
        let output = uringbpf(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{words:?}"
        );
    }
}

/// Only where the running kernel has no IORING_OP_BPF, which is everywhere but
/// in the VM; there the test has nothing to say.
#[test]
fn a_kernel_without_the_opcode_is_a_skip_that_names_it() {
    let probe = uringbpf(&["probe"]);
    if probe.status.code() == Some(0) {
        eprintln!("this kernel has the opcode");
        return;
    }
    assert_eq!(probe.status.code(), Some(4));
    let stdout = String::from_utf8_lossy(&probe.stdout);
    let stderr = String::from_utf8_lossy(&probe.stderr);
    assert!(
        stdout.contains("IORING_OP_BPF") || stderr.contains("BTF"),
        "{stdout}{stderr}"
    );
    for words in [
        &["copy", "--from", "user", "--to", "vec"][..],
        &["checksum", "--from", "fixed"],
        &["checksum", "Cargo.toml"],
        &["fill", "--to", "reg-vec"],
        &["chunks", "user"],
    ] {
        let output = uringbpf(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{words:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{words:?}: {stderr}");
    }
}
