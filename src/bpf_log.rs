// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What libbpf and the verifier say: kept, and shown only where it helps.
//! libbpf speaks in the thread that loads, so each thread knows of its own
//! objects alone.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU8, Ordering};

use libbpf_rs::{PrintLevel, set_print};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static VERBOSITY: AtomicU8 = AtomicU8::new(0);

/// How much of the verifier's log `-vv` shows.
const SHOWN: usize = 40;

/// Takes libbpf's messages away from stderr; `verbosity` counts the `-v`.
pub fn capture(verbosity: u8) {
    VERBOSITY.store(verbosity, Ordering::Relaxed);
    set_print(Some((PrintLevel::Info, keep)));
}

fn keep(_level: PrintLevel, message: String) {
    if VERBOSITY.load(Ordering::Relaxed) == 1 {
        eprint!("{message}");
    }
    let lines = message.lines().map(str::to_string);
    LINES.with_borrow_mut(|kept| kept.extend(lines));
}

/// Forgets what was said about the object before.
pub(crate) fn clear() {
    if VERBOSITY.load(Ordering::Relaxed) == 0 {
        // Library users who never called `capture` get the same silence.
        set_print(Some((PrintLevel::Info, keep)));
    }
    LINES.with_borrow_mut(Vec::clear);
}

/// The verifier's verdict: the line that says why, in the words of kernels
/// that explain themselves (7.3 and later), else the last one before the
/// statistics.
pub(crate) fn verdict() -> Option<String> {
    LINES.with_borrow(|lines| reason(lines))
}

/// Everything that was said in this thread since the last [`clear`].
pub(crate) fn text() -> String {
    LINES.with_borrow(|lines| lines.join("\n"))
}

/// Whether a program was refused for nothing but that it does not sleep: a
/// kernel may give its iterators to sleepable programs alone.
pub(crate) fn wants_sleepable() -> bool {
    LINES.with_borrow(|lines| is_for_sleepable(lines))
}

fn is_for_sleepable(lines: &[String]) -> bool {
    let mut own = lines.iter().filter(|line| !line.starts_with("libbpf: "));
    own.any(|line| line.starts_with("program must be sleepable to call sleepable kfunc"))
}

fn reason(lines: &[String]) -> Option<String> {
    let explained = lines
        .iter()
        .find_map(|line| line.strip_prefix("Verification failed: "));
    let end = lines
        .iter()
        .rposition(|line| line.starts_with("processed "))?;
    let last = lines[..end].iter().rev().map(|line| line.trim());
    // libbpf's own lines frame the log, which is empty where the verifier did
    // not come to a verdict.
    let last = last.filter(|line| !line.is_empty() && !line.starts_with("libbpf: "));
    explained.or(last.into_iter().next()).map(str::to_string)
}

/// With `-vv`, the end of the log on stderr.
pub(crate) fn show() {
    if VERBOSITY.load(Ordering::Relaxed) < 2 {
        return;
    }
    LINES.with_borrow(|lines| {
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            eprintln!("{line}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_string).collect()
    }

    #[test]
    fn the_verdict_is_the_last_line_before_the_statistics() {
        let log = lines("0: (b7) r0 = 0\nR1 invalid mem access 'scalar'\n\nprocessed 9 insns");
        assert_eq!(
            reason(&log),
            Some("R1 invalid mem access 'scalar'".to_string())
        );
    }

    #[test]
    fn a_kernel_that_explains_itself_is_quoted() {
        let log = lines("x\nVerification failed: Policy: No\n\nSuggestion:\n  Do\n\nprocessed 9");
        assert_eq!(reason(&log), Some("Policy: No".to_string()));
    }

    #[test]
    fn a_refusal_for_want_of_sleep_is_told_from_others() {
        let wants = "program must be sleepable to call sleepable kfunc x";
        assert!(is_for_sleepable(&lines(&format!(
            "0: x\n{wants}\nprocessed 9"
        ))));
        assert!(!is_for_sleepable(&lines(
            "calling kernel function x is not allowed\nlibbpf: prog 'sleepable kfunc'"
        )));
    }

    #[test]
    fn a_load_that_failed_before_the_verdict_has_none() {
        let log = lines("libbpf: prog 'x': -- BEGIN PROG LOAD LOG --\nprocessed 0 insns");
        assert_eq!(reason(&log), None);
    }

    #[test]
    fn a_thread_does_not_hear_what_another_one_loads() {
        let said = |line: &str| {
            keep(PrintLevel::Warn, line.to_string());
            text()
        };
        let other = std::thread::spawn(move || said("program must be sleepable"));
        assert_eq!(other.join().expect("it ends"), "program must be sleepable");
        assert_eq!(said("processed 9 insns"), "processed 9 insns");
        clear();
        assert_eq!(text(), "");
    }

    #[test]
    fn without_a_verifier_log_there_is_no_verdict() {
        assert_eq!(reason(&lines("libbpf: failed to find BTF")), None);
    }
}
