// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Several rings at once, each with a thread, a program and buffers of its
//! own. A step is one step of each of them, from a common start to the last
//! one's end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;

use super::case::Case;
use super::rounds::Step;
use super::stage::with_case;
use crate::error::Failure;
use crate::kernel::Kernel;

/// What the threads are to do next.
const MEASURED: usize = 0;
const BASELINE: usize = 1;
const END: usize = 2;

/// What the threads share with the one that measures.
struct Conductor {
    next: AtomicUsize,
    start: Barrier,
    end: Barrier,
    failure: Mutex<Option<Failure>>,
}

impl Conductor {
    fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }

    /// The first failure of any thread.
    fn check(&self) -> Result<(), Failure> {
        let first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone().map_or(Ok(()), Err)
    }

    /// One step of every ring.
    fn step(&self, what: usize) -> Result<(), Failure> {
        self.next.store(what, Ordering::Relaxed);
        self.start.wait();
        self.end.wait();
        self.check()
    }

    /// A thread's part: steps until the end. A thread that failed goes on
    /// keeping time, or the others would wait for it for ever.
    fn follow(&self, mut step: impl FnMut(usize) -> Result<(), Failure>) {
        loop {
            self.start.wait();
            let what = self.next.load(Ordering::Relaxed);
            if what == END {
                return;
            }
            if let Err(failure) = step(what) {
                self.fail(failure);
            }
            self.end.wait();
        }
    }
}

/// As [`with_case`], for as many rings as the case has.
pub fn with_rings<R>(
    kernel: &Kernel,
    case: &Case,
    run: impl FnOnce(Step<'_>, Step<'_>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    if case.rings == 1 {
        return with_case(kernel, case, run);
    }
    let conductor = Conductor {
        next: AtomicUsize::new(MEASURED),
        start: Barrier::new(case.rings + 1),
        end: Barrier::new(case.rings + 1),
        failure: Mutex::new(None),
    };
    let ready = Barrier::new(case.rings + 1);
    thread::scope(|scope| {
        for _ in 0..case.rings {
            scope.spawn(|| {
                let mut prepared = false;
                let result = with_case(kernel, case, |measured, baseline| {
                    prepared = true;
                    ready.wait();
                    conductor.follow(|what| match what {
                        MEASURED => measured(),
                        _ => baseline(),
                    });
                    Ok(())
                });
                if let Err(failure) = result {
                    conductor.fail(failure);
                }
                if !prepared {
                    ready.wait();
                    conductor.follow(|_| Ok(()));
                }
            });
        }
        ready.wait();
        let result = conductor.check().and_then(|()| {
            run(&mut || conductor.step(MEASURED), &mut || {
                conductor.step(BASELINE)
            })
        });
        conductor.next.store(END, Ordering::Relaxed);
        conductor.start.wait();
        result
    })
}
