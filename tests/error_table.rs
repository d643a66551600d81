// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The errors that a user reaches on any machine, one line each. Those that
//! need the opcode are in tests/vm_error_table.rs, the command lines that make
//! no sense in tests/arguments.rs.

mod rows;

use rows::{PLAIN, Row, check, row};
use uringbpf::kernel::{Kernel, Overrides};

const TO_FULL: &str = r#"exec "$@" >/dev/full"#;
/// The reader goes before the first word; the tool's status is the row's.
const TO_NOBODY: &str = r#"{ sleep 0.3; "$@"; echo $? >status; } | true; exit "$(cat status)""#;
/// A runtime that opens /dev/null in its place must not hide it.
const TO_CLOSED: &str = r#"exec "$@" >&-"#;
const CLOSED: &str = "uringbpf: write to stdout: EBADF (Bad file descriptor): \
    it is closed: send it to /dev/null where nobody reads";
const FULL: &str = "uringbpf: write to stdout: ENOSPC (No space left on device): make room there";
const NOBODY: &str = "uringbpf: write to stdout: EPIPE (Broken pipe)";

const ROWS: &[Row] = &[
    // What makes no sense: one of each kind, the others are in arguments.rs.
    row(
        PLAIN,
        "",
        2,
        "uringbpf: a command is missing (see uringbpf --help)",
    ),
    row(
        PLAIN,
        "frobnicate",
        2,
        "uringbpf: unrecognized subcommand 'frobnicate' (see uringbpf --help)",
    ),
    row(
        PLAIN,
        "copy --from users --to user",
        2,
        "uringbpf: invalid value 'users' for '--from <BUF>': * (see uringbpf --help)",
    ),
    row(
        PLAIN,
        "smoke --filter nothing-is-named-so",
        2,
        "uringbpf: smoke: no case is named so; --list shows all of them",
    ),
    row(
        PLAIN,
        "--format ktap probe",
        2,
        "uringbpf: --format ktap: this command has no test cases; use human or json",
    ),
    // Files.
    row(
        PLAIN,
        "bench --compare missing missing",
        3,
        "uringbpf: read missing: ENOENT (No such file or directory)",
    ),
    row(
        PLAIN,
        "bench --compare / missing",
        3,
        "uringbpf: read /: EISDIR (Is a directory): name a file",
    ),
    row(
        PLAIN,
        "man /proc/man",
        3,
        "uringbpf: make /proc/man: ENOENT (No such file or directory)",
    ),
    row(
        PLAIN,
        "man file/man",
        3,
        "uringbpf: make file/man: ENOTDIR (Not a directory)",
    ),
    row(
        "mkdir pages; ln -s /dev/full pages/uringbpf.1; exec \"$@\"",
        "man pages",
        3,
        "uringbpf: pages/uringbpf.1 is there and no regular file: it would be replaced by one",
    ),
    row(
        "ulimit -f 1; exec \"$@\"",
        "man .",
        3,
        "uringbpf: write ./uringbpf*.1: EFBIG (File too large): raise the limit of a file's size (ulimit -f)",
    ),
    // Output that goes nowhere.
    row(TO_FULL, "probe", 3, FULL),
    row(TO_FULL, "--format json probe", 3, FULL),
    row(TO_FULL, "repro list", 3, FULL),
    row(TO_FULL, "smoke --quick --list", 3, FULL),
    row(TO_FULL, "stress --list 1", 3, FULL),
    row(TO_FULL, "completions bash", 3, FULL),
    row(TO_FULL, "--help", 3, FULL),
    row(TO_FULL, "help copy", 3, FULL),
    row(TO_FULL, "--version", 3, FULL),
    row(TO_NOBODY, "repro list", 3, NOBODY),
    row(TO_NOBODY, "smoke --quick --list", 3, NOBODY),
    row(TO_NOBODY, "--format json stress --list 1", 3, NOBODY),
    row(TO_CLOSED, "repro list", 3, CLOSED),
    row(TO_CLOSED, "probe", 3, CLOSED),
    row(TO_CLOSED, "--format json stress --list 1", 3, CLOSED),
    row(TO_CLOSED, "smoke --quick --list", 3, CLOSED),
    row(TO_CLOSED, "completions bash", 3, CLOSED),
    row(TO_CLOSED, "--help", 3, CLOSED),
    row(TO_CLOSED, "--version", 3, CLOSED),
    // With nothing to say nothing is lost.
    row(TO_CLOSED, "man pages", 0, ""),
    row(r#"exec "$@" <&- >&-"#, "repro list", 3, CLOSED),
    row(r#"exec "$@" <&-"#, "repro list D1", 0, ""),
    row(r#"exec "$@" >/dev/null"#, "repro list", 0, ""),
    // Who asks for help and goes has seen enough.
    row(TO_NOBODY, "--help", 0, ""),
    // Nobody to tell: the status says it still.
    row(r#"exec "$@" 2>/dev/full"#, "frobnicate", 2, ""),
    row(
        r#"exec "$@" 2>/dev/full"#,
        "bench --compare missing missing",
        3,
        "",
    ),
    row(
        r#"exec "$@" 2>&- >&-"#,
        "bench --compare missing missing",
        3,
        "",
    ),
];

#[test]
fn every_error_of_any_machine_has_its_status_and_its_line() {
    check(ROWS);
}

/// A command that waits for its input, which never comes.
#[test]
fn signals_end_a_run_as_the_shell_expects() {
    const SIGNALLED: &[Row] = &[
        row(
            r#"mkfifo fifo; exec timeout --preserve-status -s INT 0.5 "$@""#,
            "bench --compare fifo fifo",
            130,
            "",
        ),
        row(
            r#"mkfifo fifo; exec timeout --preserve-status -s TERM 0.5 "$@""#,
            "bench --compare fifo fifo",
            143,
            "",
        ),
    ];
    check(SIGNALLED);
}

/// What this machine's kernel has cannot be chosen: in the VM it is all there.
#[test]
fn without_the_opcode_every_command_says_so() {
    let kernel = Kernel::read(Overrides::default());
    if kernel.opcode.is_some() {
        eprintln!("this kernel has the opcode");
        return;
    }
    const WORDS: &[&str] = &[
        "copy --from user --to vec",
        "copy file new",
        "copy --from kfixed --to user",
        "checksum --from fixed",
        "checksum file",
        "checksum --check file",
        "fill --to reg-vec",
        "fill new --len 1M",
        "chunks user",
        "ublk --size 1M",
        "ublk --backing new --size 1M",
        "smoke --quick",
        "--format ktap smoke --quick",
        "stress --seconds 1",
        "stress --only 0.0.1",
        "repro run",
        "bench --svg new.svg",
        "bench --yardstick",
        "--format json bench --scaling",
        "bench --allocations",
        "probe",
        "--format json probe",
    ];
    let rows: Vec<Row> = WORDS
        .iter()
        .map(|words| row(PLAIN, words, 4, "uringbpf: missing here: *"))
        .collect();
    check(&rows);
}
