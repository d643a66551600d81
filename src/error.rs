// SPDX-License-Identifier: MIT OR GPL-2.0-only

//! What can go wrong, and the exit status that says so.
//!
//! Everything that ends a run early is a [`Failure`]; `anyhow` carries it to `main`, which prints one line and takes
//! the exit status from here.

use std::fmt;
use std::io;

use crate::errno::Errno;

/// Everything was as expected.
pub const EXIT_OK: u8 = 0;
/// The exit status of an error that nobody classified: something outside of us failed.
const EXIT_ENVIRONMENT: u8 = 3;
/// A shell reports a process that died of signal N as 128 + N.
const EXIT_SIGNAL_BASE: u8 = 128;

/// Why a run ends with a status other than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The arguments make no sense: status 2.
    Usage(String),
    /// The kernel did something else than the interface says, or the data is wrong: status 1.
    Mismatch(String),
    /// Permission, memory or I/O: status 3.
    Environment(Environment),
    /// The kernel lacks these things: status 4.
    Missing(Vec<String>),
    /// A signal asked us to stop, and everything is cleaned up: status 128 + signal, so 130 for SIGINT.
    Interrupted(i32),
}

/// Something that the machine refused: what, with which errno, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    what: String,
    errno: Option<Errno>,
    next: Option<String>,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::Usage(message.into())
    }

    pub fn mismatch(message: impl Into<String>) -> Self {
        Failure::Mismatch(message.into())
    }

    /// Something failed without an errno of its own.
    pub fn environment(what: impl Into<String>) -> Self {
        Failure::Environment(Environment {
            what: what.into(),
            errno: None,
            next: None,
        })
    }

    /// A system call (or a completion) failed: `what` names the call and its object, "open /etc/shadow".
    pub fn os(what: impl Into<String>, errno: impl Into<Errno>) -> Self {
        Failure::Environment(Environment {
            what: what.into(),
            errno: Some(errno.into()),
            next: None,
        })
    }

    /// An I/O error of the standard library; keeps the errno where there is one.
    pub fn io(what: impl Into<String>, error: &io::Error) -> Self {
        let what = what.into();
        match error
            .raw_os_error()
            .or_else(|| errno_in(&error.to_string()))
        {
            Some(errno) => Failure::os(what, errno),
            None => Failure::environment(format!("{what}: {error}")),
        }
    }

    pub fn missing(things: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Failure::Missing(things.into_iter().map(Into::into).collect())
    }

    /// Adds what the user can do next; only an [`Failure::Environment`] has a place for it.
    #[must_use]
    pub fn next(self, advice: impl Into<String>) -> Self {
        match self {
            Failure::Environment(mut environment) => {
                environment.next = Some(advice.into());
                Failure::Environment(environment)
            }
            other => other,
        }
    }

    pub fn exit_status(&self) -> u8 {
        match self {
            Failure::Mismatch(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Environment(_) => EXIT_ENVIRONMENT,
            Failure::Missing(_) => 4,
            Failure::Interrupted(signal) => EXIT_SIGNAL_BASE + u8::try_from(*signal).unwrap_or(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) | Failure::Mismatch(message) => f.write_str(message),
            Failure::Environment(environment) => environment.fmt(f),
            Failure::Missing(things) => f.write_str(&missing(things)),
            Failure::Interrupted(_) => f.write_str("interrupted"),
        }
    }
}

/// How many missing things are named: where one is missing, most are.
const NAMED: usize = 2;

fn missing(things: &[String]) -> String {
    let named = things[..things.len().min(NAMED)].join(", ");
    match things.len().saturating_sub(NAMED) {
        0 => format!("missing here: {named}"),
        more => format!("missing here: {named} and {more} more (uringbpf probe lists all)"),
    }
}

/// Other crates wrap the system's error to say more, and hide its number; but
/// they print it.
pub(crate) fn errno_in(text: &str) -> Option<i32> {
    let (_, rest) = text.rsplit_once("(os error ")?;
    rest.split(')').next()?.parse().ok()
}

/// What to do about an errno, where nobody who knows more has said it.
fn advice(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::ENOSPC => "make room there",
        libc::EDQUOT => "make room within the quota",
        libc::EFBIG => "raise the limit of a file's size (ulimit -f)",
        libc::EMFILE => "raise RLIMIT_NOFILE (ulimit -n)",
        libc::ENFILE => "raise sysctl fs.file-max",
        libc::ENOMEM => "free memory, or raise RLIMIT_MEMLOCK (ulimit -l)",
        libc::EROFS => "name a place that can be written to",
        libc::EISDIR => "name a file",
        libc::EACCES => "change its permissions, or run as a user who may",
        libc::EIO => "see dmesg",
        _ => return None,
    })
}

impl Environment {
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno {
            write!(f, ": {errno}")?;
        }
        let general = self.errno.and_then(|errno| advice(errno.number()));
        match self.next.as_deref().or(general) {
            Some(next) => write!(f, ": {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// The exit status for whatever reached `main`: that of the first [`Failure`] in the chain, else 3.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>())
        .map_or(EXIT_ENVIRONMENT, Failure::exit_status)
}

/// The one line that is printed, "uringbpf: …"; with `verbose` the causes follow, one a line.
pub fn message(error: &anyhow::Error, verbose: bool) -> String {
    // A Failure below a context line is the better first line only together with that context.
    let mut parts: Vec<String> = error.chain().map(one_line).collect();
    parts.dedup();
    if verbose {
        let mut text = format!("uringbpf: {}", parts[0]);
        for cause in &parts[1..] {
            text.push_str("\n  because: ");
            text.push_str(cause);
        }
        return text;
    }
    format!("uringbpf: {}", parts.join(": "))
}

/// Text from elsewhere (libbpf, clap) may span lines; ours never does.
fn one_line(cause: &(dyn std::error::Error + 'static)) -> String {
    let text = cause.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn each_failure_has_the_documented_status() {
        let table = [
            (Failure::mismatch("x"), 1),
            (Failure::usage("x"), 2),
            (Failure::os("open x", libc::ENOENT), 3),
            (Failure::missing(["IORING_OP_BPF"]), 4),
            (Failure::Interrupted(libc::SIGINT), 130),
        ];
        for (failure, status) in table {
            let shown = failure.to_string();
            let error = Err::<(), _>(failure).context("while copying").unwrap_err();
            assert_eq!(exit_status(&error), status, "{shown}");
        }
    }

    #[test]
    fn a_long_list_of_what_is_missing_is_cut() {
        let text = |things: &[&str]| Failure::missing(things.iter().copied()).to_string();
        assert_eq!(text(&["a", "b"]), "missing here: a, b");
        assert_eq!(
            text(&["a", "b", "c", "d"]),
            "missing here: a, b and 2 more (uringbpf probe lists all)"
        );
    }

    #[test]
    fn an_error_within_an_error_keeps_its_number() {
        let directory = std::path::Path::new("/proc/no/such");
        let error = tempfile::NamedTempFile::new_in(directory).expect_err("no such directory");
        assert_eq!(error.raw_os_error(), None, "it is wrapped");
        assert_eq!(
            Failure::io("create x", &error).to_string(),
            "create x: ENOENT (No such file or directory)"
        );
    }

    #[test]
    fn an_errno_without_advice_of_its_own_gets_the_general_one() {
        let failure = Failure::os("open x", libc::EMFILE);
        let general = "open x: EMFILE (Too many open files): raise RLIMIT_NOFILE (ulimit -n)";
        assert_eq!(failure.to_string(), general);
        assert!(
            failure
                .next("close some")
                .to_string()
                .ends_with(": close some")
        );
    }

    #[test]
    fn an_unclassified_error_is_status_three() {
        assert_eq!(exit_status(&anyhow::anyhow!("libbpf said no")), 3);
    }

    #[test]
    fn the_message_is_one_line_with_object_errno_and_advice() {
        let failure = Failure::os("open /x", libc::EACCES).next("run as root");
        let error = anyhow::Error::new(failure);
        assert_eq!(
            message(&error, false),
            "uringbpf: open /x: EACCES (Permission denied): run as root"
        );
    }

    #[test]
    fn foreign_text_is_folded_to_one_line() {
        let error = anyhow::anyhow!("first\n  second\n").context("outer");
        assert_eq!(message(&error, false), "uringbpf: outer: first; second");
        assert_eq!(
            message(&error, true),
            "uringbpf: outer\n  because: first; second"
        );
    }
}
