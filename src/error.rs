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
        match error.raw_os_error() {
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
            Failure::Missing(things) => write!(f, "this kernel lacks: {}", things.join(", ")),
            Failure::Interrupted(_) => f.write_str("interrupted"),
        }
    }
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
        if let Some(next) = &self.next {
            write!(f, ": {next}")?;
        }
        Ok(())
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
