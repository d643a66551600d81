// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Runs cases in a child process, one after the other, and in a new one behind
//! each case that hung or took its process along.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bench::{Bench, DepotCell, Loaded};
use super::kmsg::KernelLog;
use super::resources::Held;
use super::{Case, Kind, Outcome, Stop, transfer};
use crate::error::Failure;
use crate::interrupt::Interrupt;

/// A case takes a second at the most, but for a slow machine.
const LIMIT: Duration = Duration::from_secs(30);
/// What cases that hang may take in all before the others are left out.
const HUNG: Duration = Duration::from_secs(150);
/// A case that took longer, and its process along, hung.
const SLOW: Duration = Duration::from_secs(2);
/// A killed process that is not gone by then hangs in the kernel.
const DEATH: Duration = Duration::from_secs(5);

/// A case that has ended.
#[derive(Debug, Clone)]
pub struct Done {
    pub outcome: Outcome,
    pub took: Duration,
    /// The kernel's own words, when it had any.
    pub log: Option<String>,
    /// It did not end by itself.
    pub hung: bool,
}

impl Done {
    pub fn skipped(why: &str) -> Self {
        Done {
            outcome: Outcome::Skip(why.to_string()),
            took: Duration::ZERO,
            log: None,
            hung: false,
        }
    }
}

/// What a child tells of a case.
#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    outcome: Outcome,
    micros: u64,
    /// The process can run another.
    goes_on: bool,
    /// Block requests are still out.
    lends: bool,
}

/// Sent to a child for each case that it shall run: while its parent looks
/// into a failure, nothing else happens.
const GO: u8 = b'g';
/// Sent instead of it for a case that it shall leave out.
const LEAVE_OUT: u8 = b'l';
/// Sent instead of it for a case that is lent no block requests.
const GO_WITHOUT_LENDER: u8 = b'n';

/// What the kernel says when a worker waits for the ring's lock in an RCU read
/// section (defect D1). It has counted its preemptions wrong from then on: a
/// few more such cases, and a machine was seen to jump to nowhere.
const SLEPT: &str = "scheduling while atomic";

pub struct Runner<'l> {
    pub loaded: &'l Loaded,
    pub log: Option<KernelLog>,
    pub interrupt: Interrupt,
    pub seed: u64,
    /// What a case holds is looked at before and after it.
    pub thorough: bool,
}

impl Runner<'_> {
    /// Runs all cases; `done` is told of each in turn, and says whether to go
    /// on.
    pub fn run(
        &mut self,
        cases: &[Case],
        done: &mut dyn FnMut(&mut Self, usize, Done) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let mut next = 0;
        let mut lost = Duration::ZERO;
        // Block I/O of a case has not ended: the next device would wait for it.
        let mut unreturned = false;
        let mut slept = false;
        while next < cases.len() {
            if lost >= HUNG {
                // Each takes its whole time limit: no more is learned.
                for index in next..cases.len() {
                    let why = format!("cases before it hung for {} s", lost.as_secs());
                    let skipped = self.with_log(Done::skipped(&why));
                    done(self, index, skipped)?;
                }
                return Ok(());
            }
            let mut child = Child::fork(|pipe| self.serve(&cases[next..], pipe))?;
            let mut alive = true;
            while alive && next < cases.len() {
                self.interrupt.check()?;
                let word = if slept && cases[next].iterates_in_worker() {
                    LEAVE_OUT
                } else if unreturned {
                    GO_WITHOUT_LENDER
                } else {
                    GO
                };
                let start = Instant::now();
                let mut ended = match child.run_next(word, LIMIT) {
                    Some(ended) => {
                        alive = ended.goes_on;
                        unreturned |= ended.lends;
                        Done {
                            outcome: ended.outcome,
                            took: Duration::from_micros(ended.micros),
                            log: None,
                            // Not what ended its process at once: that costs no time.
                            hung: !alive && start.elapsed() > SLOW,
                        }
                    }
                    None => {
                        alive = false;
                        let hung = child.timed_out;
                        Done {
                            outcome: Outcome::Fail(child.end()),
                            took: Duration::ZERO,
                            log: None,
                            hung,
                        }
                    }
                };
                if !alive || next + 1 == cases.len() {
                    // What goes wrong at its end belongs to the last case.
                    child.end();
                }
                if ended.hung {
                    lost += start.elapsed();
                }
                ended = self.with_log(ended);
                slept |= ended.log.as_ref().is_some_and(|log| log.contains(SLEPT));
                let go_on = done(self, next, ended)?;
                next += 1;
                if !go_on {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// One case in a process of its own.
    pub fn run_one(&mut self, case: &Case) -> Result<Done, Failure> {
        let mut result = None;
        self.run(std::slice::from_ref(case), &mut |_, _, done| {
            result = Some(done);
            Ok(true)
        })?;
        Ok(result.expect("a case that was run has ended"))
    }

    fn with_log(&mut self, done: Done) -> Done {
        let log = self.log.as_mut().and_then(KernelLog::trouble);
        let first = log.as_ref().and_then(|log| log.lines().next());
        let outcome = match (first, done.outcome) {
            (Some(line), Outcome::Fail(what)) => {
                Outcome::Fail(format!("{what}; the kernel says: {line}"))
            }
            (Some(line), _) => Outcome::Fail(format!("the kernel says: {line}")),
            (None, outcome) => outcome,
        };
        Done {
            outcome,
            log,
            ..done
        }
    }
}

impl Runner<'_> {
    /// The child's side: runs the cases until one leaves it unusable.
    fn serve(&self, cases: &[Case], mut parent: UnixStream) {
        std::panic::set_hook(Box::new(|_| {}));
        let depot = DepotCell::new();
        let bench = Bench::new(self.loaded, &depot);
        for case in cases {
            let mut word = [0];
            if parent.read_exact(&mut word).is_err() {
                return;
            }
            if word == [GO_WITHOUT_LENDER] {
                bench.lend_no_more();
            }
            let start = Instant::now();
            let run = || match word == [LEAVE_OUT] {
                true => Err(Stop::Skip(
                    "defect D1 can take the machine down, a case before showed it".into(),
                )),
                false if self.thorough => {
                    let before = Held::look();
                    execute(&bench, case, self.seed)?;
                    before.compare()
                }
                false => execute(&bench, case, self.seed),
            };
            let result = std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let text =
                    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
                let text = text.unwrap_or_default();
                Err(Stop::Stuck(format!("the test itself panicked: {text}")))
            });
            let stuck = matches!(result, Err(Stop::Stuck(_)));
            let outcome = match result {
                Ok(()) => Outcome::Pass,
                Err(Stop::Fail(what) | Stop::Stuck(what)) => Outcome::Fail(what),
                Err(Stop::Skip(why)) => Outcome::Skip(why),
            };
            let ended = Ended {
                outcome,
                micros: start.elapsed().as_micros() as u64,
                goes_on: !stuck,
                lends: bench.lends(),
            };
            let mut line = serde_json::to_vec(&ended).unwrap_or_default();
            line.push(b'\n');
            if parent.write_all(&line).is_err() || stuck {
                return;
            }
        }
    }
}

fn execute(bench: &Bench<'_>, case: &Case, seed: u64) -> Result<(), Stop> {
    match &case.kind {
        // Each its own places and bytes, which its name and the seed repeat.
        Kind::Transfer(what) => transfer::run(bench, what, seed ^ hash(&case.title())),
        Kind::Check(check, ..) => check(bench),
        Kind::Untried(why) => Err(Stop::Skip(why.to_string())),
    }
}

/// FNV-1a: the same on every machine.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A forked process, and the socket to it. Killed when dropped.
struct Child {
    pid: Option<libc::pid_t>,
    socket: UnixStream,
    timed_out: bool,
}

impl Child {
    fn fork(body: impl FnOnce(UnixStream)) -> Result<Self, Failure> {
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| Failure::io("make a socket pair", &error))?;
        // SAFETY: getpid and fork take no memory. This process has one thread,
        // so the child's copy of it is whole.
        let (parent, pid) = unsafe { (libc::getpid(), libc::fork()) };
        if pid < 0 {
            return Err(Failure::os("fork", crate::errno::Errno::last()));
        }
        if pid == 0 {
            drop(ours);
            // SAFETY: take no memory. It dies with its parent, also with one
            // that died before this call.
            let orphan = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::getppid() != parent
            };
            if !orphan {
                body(theirs);
            }
            // SAFETY: takes no memory. The destructors of what the parent
            // still uses must not run here.
            unsafe { libc::_exit(0) }
        }
        Ok(Child {
            pid: Some(pid),
            socket: ours,
            timed_out: false,
        })
    }

    /// Has the next case run, or left out; `None` when the child died, or said nothing for
    /// too long.
    fn run_next(&mut self, word: u8, limit: Duration) -> Option<Ended> {
        self.socket.write_all(&[word]).ok()?;
        let until = Instant::now() + limit;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let left = until.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).ok()?;
            let mut part = [0; 4096];
            match self.socket.read(&mut part) {
                Ok(0) => return None,
                Ok(len) => line.extend_from_slice(&part[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.timed_out = Instant::now() >= until;
                    if self.timed_out {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
        serde_json::from_slice(&line).ok()
    }

    /// Ends the process, and says how it ended.
    fn end(&mut self) -> String {
        let Some(pid) = self.pid.take() else {
            return String::new();
        };
        if self.timed_out {
            // SAFETY: takes no memory; the process is our child, not yet
            // waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let mut until = Instant::now() + DEATH;
        let mut status = 0;
        loop {
            // SAFETY: `status` is a valid int.
            if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } != 0 {
                break;
            }
            if Instant::now() > until && !self.timed_out {
                // It has had its time to clean up.
                self.timed_out = true;
                until += DEATH;
                // SAFETY: as above.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            if Instant::now() > until {
                return "the case hangs in the kernel: its process cannot be killed".into();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.timed_out {
            format!("the case took more than {} s", LIMIT.as_secs())
        } else if libc::WIFSIGNALED(status) {
            format!(
                "the case's process died of signal {}",
                libc::WTERMSIG(status)
            )
        } else {
            "the case's process ended before the case did".into()
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.timed_out = true;
        self.end();
    }
}
