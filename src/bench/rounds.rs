// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rounds of a thing and of its baseline, in alternation: what slows the
//! machine down for a while slows both.

use std::time::{Duration, Instant};

use crate::error::Failure;

/// One step of a measurement: a batch of requests, or what stands for it.
pub type Step<'a> = &'a mut dyn FnMut() -> Result<(), Failure>;

/// Whether to go on: what fails once somebody asked for the end.
pub type Stop<'a> = &'a dyn Fn() -> Result<(), Failure>;

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub rounds: usize,
    /// Of each round, at least; steps are repeated to fill it.
    pub round: Duration,
}

/// Nanoseconds that a step took, round by round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rounds {
    pub measured: Vec<f64>,
    pub baseline: Vec<f64>,
}

/// Measures both after a warm-up round of each. An error of `stop`, which is
/// asked before each round, ends it.
pub fn alternate(
    timing: &Timing,
    stop: Stop<'_>,
    measured: Step<'_>,
    baseline: Step<'_>,
) -> Result<Rounds, Failure> {
    let steps = warm_up(timing.round, measured)?;
    stop()?;
    let base_steps = warm_up(timing.round, baseline)?;
    // The reader sees no time spent in growing the vectors.
    let mut rounds = Rounds {
        measured: Vec::with_capacity(timing.rounds),
        baseline: Vec::with_capacity(timing.rounds),
    };
    for round in 0..timing.rounds {
        stop()?;
        // Whoever goes first finds other caches: they take turns.
        if round % 2 == 0 {
            rounds.measured.push(time(steps, measured)?);
            rounds.baseline.push(time(base_steps, baseline)?);
        } else {
            rounds.baseline.push(time(base_steps, baseline)?);
            rounds.measured.push(time(steps, measured)?);
        }
    }
    Ok(rounds)
}

/// Repeats the step for about one round; returns how often fills a round.
fn warm_up(round: Duration, step: Step<'_>) -> Result<u32, Failure> {
    step()?;
    let mut steps = 1u32;
    loop {
        let start = Instant::now();
        for _ in 0..steps {
            step()?;
        }
        let taken = start.elapsed();
        if taken >= round || steps >= 1 << 20 {
            return Ok(steps);
        }
        let missing = round.as_secs_f64() / taken.as_secs_f64().max(1e-9);
        steps = (f64::from(steps) * missing.clamp(1.1, 16.0)).ceil() as u32;
    }
}

/// Nanoseconds per step.
fn time(steps: u32, step: Step<'_>) -> Result<f64, Failure> {
    let start = Instant::now();
    for _ in 0..steps {
        step()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_run_in_every_round_and_take_turns_at_going_first() {
        let order = std::cell::RefCell::new(Vec::new());
        let timing = Timing {
            rounds: 4,
            round: Duration::ZERO,
        };
        let rounds = alternate(
            &timing,
            &|| Ok(()),
            &mut || {
                order.borrow_mut().push('m');
                Ok(())
            },
            &mut || {
                order.borrow_mut().push('b');
                Ok(())
            },
        )
        .expect("nothing fails");
        assert_eq!((rounds.measured.len(), rounds.baseline.len()), (4, 4));
        let order: String = order.into_inner().into_iter().collect();
        assert!(order.ends_with("mbbmmbbm"), "{order}");
    }

    #[test]
    fn a_signal_ends_the_measurement_before_the_next_round() {
        let asked = std::cell::Cell::new(0);
        let timing = Timing {
            rounds: 100,
            round: Duration::ZERO,
        };
        let stop = || {
            asked.set(asked.get() + 1);
            match asked.get() {
                1..=3 => Ok(()),
                _ => Err(Failure::Interrupted(libc::SIGINT)),
            }
        };
        let result = alternate(&timing, &stop, &mut || Ok(()), &mut || Ok(()));
        assert_eq!(result, Err(Failure::Interrupted(libc::SIGINT)));
        assert_eq!(asked.get(), 4);
    }

    #[test]
    fn a_step_that_fails_ends_the_measurement() {
        let timing = Timing {
            rounds: 1,
            round: Duration::ZERO,
        };
        let result = alternate(
            &timing,
            &|| Ok(()),
            &mut || Err(Failure::mismatch("wrong")),
            &mut || Ok(()),
        );
        assert_eq!(result, Err(Failure::mismatch("wrong")));
    }
}
