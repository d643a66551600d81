// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The table of errors that a user can reach: each row says how to get there,
//! and which exit status and which line come of it.
//!
//! Each row runs in a directory of its own, which has a file `file` of 100,000
//! bytes. What a row is to write is named `new…`: nothing of that name may be
//! left, nor a temporary file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// One error.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// A shell command that runs the tool: `exec "$@"` at its plainest.
    pub how: &'static str,
    /// A system call that fails with this errno, as a seccomp filter has it.
    pub forbidden: Option<(libc::c_long, i32)>,
    /// The arguments, separated by blanks. `'` keeps blanks together.
    pub words: &'static str,
    pub status: i32,
    /// All of stderr, or nothing; `*` is any text without a line end.
    pub line: &'static str,
}

/// The tool as it is.
pub const PLAIN: &str = r#"exec "$@""#;

/// A row without any system call that fails.
pub const fn row(how: &'static str, words: &'static str, status: i32, line: &'static str) -> Row {
    Row {
        how,
        forbidden: None,
        words,
        status,
        line,
    }
}

#[allow(dead_code, reason = "only one of the two tables has such rows")]
impl Row {
    /// The same where a system call fails.
    pub const fn without(self, call: libc::c_long, errno: i32) -> Row {
        Row {
            forbidden: Some((call, errno)),
            ..self
        }
    }
}

/// Runs every row, and says of all which differ.
pub fn check(rows: &[Row]) {
    let workers = std::thread::available_parallelism().map_or(1, |number| number.get());
    let part = rows.len().div_ceil(workers);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let parts: Vec<_> = rows
            .chunks(part)
            .map(|part| scope.spawn(|| differing(part)))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().expect("no row panics"))
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "{} of {} rows:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}

/// What is wrong with each row that is not as it says.
fn differing(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .filter_map(|row| {
            let directory = tempfile::tempdir().expect("a directory");
            // For rows that run the tool as somebody else.
            let open = Permissions::from_mode(0o777);
            fs::set_permissions(&directory, open).expect("it is ours");
            fs::write(directory.path().join("file"), [7; 100_000]).expect("a file");
            let output = run(row, directory.path());
            difference(row, &output)
                .or_else(|| left(directory.path()))
                .map(|what| format!("{}\n  {}\n  {what}", row.words, row.how))
        })
        .collect()
}

fn run(row: &Row, directory: &Path) -> Output {
    // A row that waits for something that does not come has status 124.
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=2", "60", "sh", "-c", row.how, "sh"])
        .arg(env!("CARGO_BIN_EXE_uringbpf"))
        .args(split(row.words))
        .current_dir(directory)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    if let Some((call, errno)) = row.forbidden {
        let forbid = move || forbid(call, errno);
        // SAFETY: two system calls, and memory of the stack alone.
        unsafe { command.pre_exec(forbid) };
    }
    command.output().expect("timeout starts")
}

fn split(words: &str) -> Vec<String> {
    let mut split = Vec::new();
    for (index, part) in words.split('\'').enumerate() {
        match index % 2 {
            0 => split.extend(part.split_whitespace().map(String::from)),
            _ => split.push(part.to_string()),
        }
    }
    split
}

/// What should not be there, of what is in the directory now.
fn left(directory: &Path) -> Option<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    entries.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("new") || name.starts_with(".uringbpf") {
            return Some(format!("left behind: {name}"));
        }
        let inside = entry.file_type().is_ok_and(|kind| kind.is_dir());
        inside.then(|| left(&entry.path())).flatten()
    })
}

fn difference(row: &Row, output: &Output) -> Option<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let shown = stderr.trim_end_matches('\n');
    let status = output.status.code();
    if status != Some(row.status) {
        return Some(format!("status {status:?}, not {}: {shown}", row.status));
    }
    if shown.contains("panicked") || shown.lines().count() > 2 {
        return Some(format!("more than a message: {shown}"));
    }
    (!matches(row.line, shown)).then(|| format!("said: {shown}\n  not:  {}", row.line))
}

/// Whether a text is what a pattern says.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, behind)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(before) else {
        return false;
    };
    let end = rest.find('\n').unwrap_or(rest.len());
    (0..=end)
        .filter(|at| rest.is_char_boundary(*at))
        .any(|at| matches(behind, &rest[at..]))
}

/// A seccomp filter: one system call fails with an errno, all else is allowed.
fn forbid(call: libc::c_long, errno: i32) -> std::io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const UNLESS_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut filter = [
        // seccomp_data begins with the number of the system call.
        instruction(LOAD, 0, 0),
        instruction(UNLESS_EQUAL, 1, call as u32),
        instruction(RETURN, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program names the filter, and both live through the calls.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) != 0
    };
    match refused {
        true => Err(std::io::Error::last_os_error()),
        false => Ok(()),
    }
}
