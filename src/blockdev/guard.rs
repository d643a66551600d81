// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A thread that ends must not leave others waiting for what it was to do.

use crate::error::Failure;

/// Does `work`; where that fails or panics, `abandon`s what others wait for.
pub fn or_abandon<T>(
    abandon: impl Fn(),
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let abandoned = Abandoned(&abandon);
    let done = work()?;
    std::mem::forget(abandoned);
    Ok(done)
}

struct Abandoned<'a, F: Fn()>(&'a F);

impl<F: Fn()> Drop for Abandoned<'_, F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn work_that_is_done_abandons_nothing_and_work_that_fails_does_once() {
        let count = AtomicU32::new(0);
        let abandon = || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        assert_eq!(or_abandon(abandon, || Ok(7)), Ok(7));
        assert_eq!(count.load(Ordering::Relaxed), 0);
        let failure = Failure::environment("x");
        let failed = or_abandon(abandon, || Err::<(), _>(failure.clone()));
        assert_eq!(failed, Err(failure));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn whoever_waits_for_a_thread_that_panics_is_told() {
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            let abandon = || tell.send(()).expect("somebody waits");
            or_abandon::<()>(abandon, || panic!("on purpose"))
        });
        assert_eq!(told.recv(), Ok(()));
        assert!(thread.join().is_err(), "it is still a panic");
    }
}
