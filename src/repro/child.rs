// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A reproducer in a process of its own, which may hang or be killed by the
//! kernel: the parent has an answer in any case.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use super::Verdict;
use crate::error::Failure;

/// Reproducers take seconds, on a slow machine with all debugging a minute.
const LIMIT: Duration = Duration::from_secs(90);
/// For cleaning up, and for dying.
const DEATH: Duration = Duration::from_secs(5);

/// What became of the process.
#[derive(Debug)]
pub struct Ended {
    /// What it said before it ended; none when it did not come to that.
    pub verdict: Option<Verdict>,
    /// How it ended, if not as it should.
    pub trouble: Option<String>,
}

/// The new process's side.
pub struct Attempt {
    /// Whether the machine may be taken down.
    pub dangerous: bool,
    parent: UnixStream,
}

impl Attempt {
    // The verdict is told at once: what comes behind it, such as detaching the
    // programs, may hang on a kernel that has the defect.

    pub fn present(&self, why: impl Into<String>) -> Verdict {
        self.tell(Verdict::present(why))
    }

    pub fn absent(&self, why: impl Into<String>) -> Verdict {
        self.tell(Verdict::absent(why))
    }

    pub fn cannot_tell(&self, why: impl Into<String>) -> Verdict {
        self.tell(Verdict::cannot_tell(why))
    }

    fn tell(&self, verdict: Verdict) -> Verdict {
        let mut line = serde_json::to_vec(&verdict).unwrap_or_default();
        line.push(b'\n');
        // Who does not listen any more knows why, or has heard it already.
        let _ = (&self.parent).write_all(&line);
        verdict
    }
}

/// Runs the body in a new process; what it tells first counts, or what it
/// returns.
///
/// That process is not killed with its parent, nor by ^C: on a kernel with
/// defect D6 the machine may go with one that dies with its programs attached.
pub fn run(dangerous: bool, body: impl FnOnce(&Attempt) -> Verdict) -> Result<Ended, Failure> {
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| Failure::io("make a socket pair", &error))?;
    // SAFETY: takes no memory. This process has one thread, so the child's
    // copy of it is whole.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(Failure::os("fork", crate::errno::Errno::last()));
    }
    if pid == 0 {
        drop(ours);
        answer(
            body,
            &Attempt {
                dangerous,
                parent: theirs,
            },
        );
        // SAFETY: takes no memory. The destructors of what the parent still
        // uses must not run here.
        unsafe { libc::_exit(0) }
    }
    drop(theirs);
    let (verdict, patience) = match listen(ours) {
        Heard::Verdict(verdict) => (Some(verdict), DEATH),
        Heard::End => (None, DEATH),
        Heard::Nothing => (None, Duration::ZERO),
    };
    let trouble = end(pid, patience);
    let silent = "its process ended without a word".to_string();
    Ok(Ended {
        trouble: trouble.or_else(|| verdict.is_none().then_some(silent)),
        verdict,
    })
}

fn answer(body: impl FnOnce(&Attempt) -> Verdict, attempt: &Attempt) {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: takes no memory.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    std::panic::set_hook(Box::new(|_| {}));
    let run = AssertUnwindSafe(|| body(attempt));
    let verdict = std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        let text = text.unwrap_or_default();
        Verdict::CannotTell(format!("the reproducer itself panicked: {text}"))
    });
    attempt.tell(verdict);
}

enum Heard {
    Verdict(Verdict),
    /// The process has ended, or is about to.
    End,
    /// It has had its time.
    Nothing,
}

fn listen(mut child: UnixStream) -> Heard {
    let until = Instant::now() + LIMIT;
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Heard::Nothing;
        }
        // Fails only for a time of zero.
        let _ = child.set_read_timeout(Some(left));
        let mut part = [0; 4096];
        match child.read(&mut part) {
            Ok(0) => return Heard::End,
            Ok(len) => line.extend_from_slice(&part[..len]),
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => return Heard::End,
        }
    }
    let first = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice(first).map_or(Heard::End, Heard::Verdict)
}

/// Waits for the end of the process, kills it when that does not come, and
/// says what was wrong with it.
fn end(pid: libc::pid_t, patience: Duration) -> Option<String> {
    if let Some(status) = wait(pid, patience) {
        return libc::WIFSIGNALED(status)
            .then(|| format!("its process died of signal {}", libc::WTERMSIG(status)));
    }
    // SAFETY: takes no memory; the process is our child, not yet waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    match wait(pid, DEATH) {
        Some(_) => Some("its process hung, and was killed".to_string()),
        None => Some("its process hangs in the kernel, and cannot be killed".to_string()),
    }
}

/// The status of a child that ends within a time.
pub fn wait(pid: libc::pid_t, limit: Duration) -> Option<i32> {
    let until = Instant::now() + limit;
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid int; the process is our child.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } != 0 {
            return Some(status);
        }
        if Instant::now() > until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
