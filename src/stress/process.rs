// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The processes of a run: forked, killed at random, started again where they
//! stood, and watched for what hangs.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::plan::{Place, operation};
use super::worker::{self, Stage, Wrong};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::layout::Random;
use crate::smoke::kmsg::KernelLog;

/// An operation that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(180);
/// A killed process that is not gone by then hangs in the kernel.
const DEATH: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);

struct Process {
    pid: libc::pid_t,
    socket: UnixStream,
    /// By us, or by an operation of its own.
    ended: bool,
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    pub wrong: Vec<Wrong>,
    /// The kernel's own words.
    pub log: Option<String>,
    /// Processes that were killed from outside.
    pub kills: u64,
    pub interrupted: Option<Failure>,
}

/// Runs the processes until the time is over, something is wrong, or a signal
/// comes; when it returns, all are gone or hang.
pub fn run(
    stage: &Stage<'_>,
    time: Duration,
    log: &mut Option<KernelLog>,
    interrupt: &Interrupt,
    tell: &dyn Fn(Duration, u64),
) -> Result<Outcome, Failure> {
    let options = stage.options;
    let mut outcome = Outcome::default();
    let mut random = Random(options.seed ^ 0x6b69_6c6c);
    let mut pause = || Duration::from_millis(2000 + random.below(10_000));
    let mut next_kill = Instant::now() + pause();
    let mut victims = Random(options.seed ^ 0x7669_6374);
    let mut processes = Vec::new();
    for process in 0..options.processes {
        processes.push(Process::start(stage, process)?);
    }
    let start = Instant::now();
    let until = start + time;
    while Instant::now() < until && outcome.wrong.is_empty() && !stage.board.is_stopped() {
        if let Err(signal) = interrupt.check() {
            outcome.interrupted = Some(signal);
            break;
        }
        std::thread::sleep(TICK);
        tell(start.elapsed(), stage.board.started());
        if options.only.is_none() && Instant::now() >= next_kill {
            let victim = victims.below(options.processes as u64) as usize;
            processes[victim].kill();
            outcome.kills += 1;
            next_kill = Instant::now() + pause();
        }
        for (process, running) in processes.iter_mut().enumerate() {
            outcome.wrong.extend(running.told());
            let Some(status) = running.status()? else {
                continue;
            };
            outcome.wrong.extend(running.told());
            if outcome.wrong.is_empty() && options.only.is_none() {
                outcome.wrong.extend(died(stage, process, status));
                for thread in 0..options.threads {
                    stage.board.idle(process * options.threads + thread);
                }
                *running = Process::start(stage, process)?;
            }
        }
        if options.only.is_some() && processes.iter().all(|process| process.ended) {
            break;
        }
        outcome.wrong.extend(hanging(stage));
        outcome.log = log.as_mut().and_then(KernelLog::trouble);
        if outcome.log.is_some() {
            break;
        }
    }
    stage.board.stop();
    finish(stage, &mut processes, &mut outcome)?;
    Ok(outcome)
}

/// Waits for the threads' last operations.
fn finish(
    stage: &Stage<'_>,
    processes: &mut [Process],
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    // After a failure a thread may hang; whoever asked us to stop waits.
    let hurried = !outcome.wrong.is_empty() || outcome.interrupted.is_some();
    let limit = if hurried { DEATH / 12 } else { LIMIT };
    let until = Instant::now() + limit;
    for running in processes.iter_mut() {
        while running.status()?.is_none() {
            if Instant::now() > until {
                if !hurried {
                    outcome.wrong.extend(hanging_now(stage, limit));
                }
                running.kill();
                let killed = Instant::now();
                while running.status()?.is_none() {
                    if killed.elapsed() > DEATH {
                        return Err(Failure::mismatch(format!(
                            "process {} hangs in the kernel: it cannot be killed",
                            running.pid
                        )));
                    }
                    std::thread::sleep(TICK);
                }
                break;
            }
            std::thread::sleep(TICK);
        }
        outcome.wrong.extend(running.told());
    }
    Ok(())
}

/// Anything but SIGKILL, or an end that was asked for.
fn died(stage: &Stage<'_>, process: usize, status: i32) -> Option<Wrong> {
    let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
    let finished = libc::WIFEXITED(status) && stage.board.is_stopped();
    if killed || finished {
        return None;
    }
    let what = match libc::WIFSIGNALED(status) {
        true => format!("the process died of signal {}", libc::WTERMSIG(status)),
        false => "the process ended by itself".to_string(),
    };
    let thread = |thread| process * stage.options.threads + thread;
    let running = (0..stage.options.threads).find_map(|t| {
        stage
            .board
            .running(thread(t))
            .map(|(number, _)| (t, number))
    });
    let (thread, number) = running.unwrap_or_default();
    Some(at(stage, Place { process, thread }, number, what))
}

fn hanging(stage: &Stage<'_>) -> Option<Wrong> {
    hanging_now(stage, LIMIT)
}

fn hanging_now(stage: &Stage<'_>, limit: Duration) -> Option<Wrong> {
    let options = stage.options;
    let now = stage.now();
    (0..options.processes * options.threads).find_map(|index| {
        let (number, began) = stage.board.running(index)?;
        let took = Duration::from_millis(now.saturating_sub(began));
        let place = Place {
            process: index / options.threads,
            thread: index % options.threads,
        };
        let what = format!("not done within {} s", took.as_secs());
        (took >= limit).then(|| at(stage, place, number, what))
    })
}

fn at(stage: &Stage<'_>, place: Place, number: u64, what: String) -> Wrong {
    Wrong {
        process: place.process,
        thread: place.thread,
        number,
        operation: operation(stage.options.seed, place, number).to_string(),
        what,
    }
}

impl Process {
    fn start(stage: &Stage<'_>, process: usize) -> Result<Self, Failure> {
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| Failure::io("make a socket pair", &error))?;
        ours.set_nonblocking(true)
            .map_err(|error| Failure::io("prepare a socket", &error))?;
        // SAFETY: take no memory. This process has one thread, so the child's
        // copy of it is whole.
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
                worker::run(stage, process, theirs);
            }
            // SAFETY: takes no memory. The destructors of what the parent
            // still uses must not run here.
            unsafe { libc::_exit(0) }
        }
        Ok(Process {
            pid,
            socket: ours,
            ended: false,
        })
    }

    fn kill(&mut self) {
        if !self.ended {
            // SAFETY: takes no memory; the process is our child, not yet
            // waited for.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
    }

    /// How it ended, once; as a success where that is told already.
    fn status(&mut self) -> Result<Option<i32>, Failure> {
        if self.ended {
            return Ok(Some(0));
        }
        let mut status = 0;
        // SAFETY: `status` is a valid int.
        match unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } {
            0 => Ok(None),
            pid if pid == self.pid => {
                self.ended = true;
                Ok(Some(status))
            }
            _ => match std::io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => Ok(None),
                error => Err(Failure::io("wait for a process", &error)),
            },
        }
    }

    /// What it says is wrong.
    fn told(&mut self) -> Vec<Wrong> {
        let mut text = Vec::new();
        let mut part = [0; 4096];
        while let Ok(len @ 1..) = self.socket.read(&mut part) {
            text.extend_from_slice(&part[..len]);
        }
        let lines = text.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
