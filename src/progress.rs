// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! How far a job is, on stderr, only where a person sees it.
//!
//! Nothing is drawn but by who moves a bar: a thread that did it would be one
//! too many for the commands that fork. What else is printed meanwhile goes
//! through [`beside`], or [`ProgressBar::suspend`].

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Name, bar, bytes of all, rate, time left: all of it in 80 columns.
const BYTES: &str =
    "{prefix:16!} [{bar:16}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";
/// Name, bar, steps of all, what is to be said of them, time left.
const STEPS: &str = "{prefix:9!} [{bar:16}] {pos}/{len} {msg:24!} {eta} left";
/// A text over the whole line.
const LINE: &str = "{wide_msg}";

/// A job on so many bytes.
pub fn bytes(name: &str, len: u64, quiet: bool) -> ProgressBar {
    let bar = hidden_unless(quiet);
    show_bytes(&bar, name, len);
    bar
}

/// A job of so many steps.
pub fn steps(name: &str, len: u64, quiet: bool) -> ProgressBar {
    let bar = hidden_unless(quiet).with_prefix(name.to_string());
    style(&bar, STEPS);
    // Draws it, so last.
    bar.set_length(len);
    bar
}

/// A line that is written over and over.
pub fn line(quiet: bool) -> ProgressBar {
    let bar = hidden_unless(quiet);
    show_line(&bar);
    bar
}

/// From here on the bar is about so many bytes.
pub fn show_bytes(bar: &ProgressBar, name: &str, len: u64) {
    style(bar, BYTES);
    bar.set_prefix(name.to_string());
    bar.set_length(len);
}

/// From here on the bar is a line.
pub fn show_line(bar: &ProgressBar) {
    style(bar, LINE);
}

/// Prints beside a bar. One that nobody sees is not kept from moving until all
/// is printed: whoever moves it would wait for the same reader.
pub fn beside<R>(bar: &ProgressBar, print: impl FnOnce() -> R) -> R {
    match bar.is_hidden() {
        true => print(),
        false => bar.suspend(print),
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

fn hidden_unless(quiet: bool) -> ProgressBar {
    let terminal = std::env::var_os("TERM").is_some_and(|terminal| terminal != "dumb");
    let target = match !quiet && terminal && stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    ProgressBar::with_draw_target(None, target)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::process::{Command, Stdio};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use indicatif::TermLike;

    use super::*;

    /// A terminal without an end, which keeps the lines.
    #[derive(Debug, Clone, Default)]
    struct Wide(Arc<Mutex<Vec<String>>>);

    impl TermLike for Wide {
        fn width(&self) -> u16 {
            300
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            let mut lines = self.0.lock().expect("nobody panics");
            lines.push(text.trim_end().to_string());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the bar shows, made visible.
    fn drawn(bar: ProgressBar) -> String {
        let terminal = Wide::default();
        bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        bar.tick();
        let lines = terminal.0.lock().expect("nobody panics");
        lines
            .iter()
            .find(|line| !line.is_empty())
            .expect("a line")
            .clone()
    }

    #[test]
    fn a_bar_of_bytes_fits_eighty_columns() {
        let long = "a name that is longer than the room for it";
        let bar = bytes(long, (1 << 40) - 1, true);
        bar.set_position((1 << 40) - 12345);
        let line = drawn(bar);
        assert!(line.starts_with("a name that is l [==="), "{line}");
        assert!(line.contains("GiB/1024.00 GiB"), "{line}");
        assert!(line.chars().count() < 80, "{line}");
    }

    #[test]
    fn a_bar_of_steps_says_how_many_of_all_and_fits_eighty_columns() {
        let bar = steps("smoke", 1500, true);
        bar.set_position(750);
        bar.set_message("cases, 3 failed");
        let line = drawn(bar);
        assert!(
            line.starts_with("smoke     [========>       ] 750/1500 cases, 3 failed "),
            "{line}"
        );
        let bar = steps("stress", 604_800, true);
        bar.set_message("s, and words that nobody has the room for");
        bar.set_position(604_799);
        let line = drawn(bar);
        assert!(line.chars().count() <= 80, "{line}");
    }

    #[test]
    fn a_bar_can_become_a_line() {
        let bar = bytes("checksums", 100, true);
        show_line(&bar);
        bar.set_message("read 1.00 GiB");
        assert_eq!(drawn(bar), "read 1.00 GiB");
    }

    /// The body of what the next test runs on a terminal.
    #[test]
    #[ignore = "draws a bar for a_bar_is_drawn_on_a_terminal_alone"]
    fn draw() {
        let quiet = std::env::var_os("QUIET").is_some();
        let bar = steps("drawing", 3, quiet);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(60));
            bar.inc(1);
            bar.suspend(|| println!("RESULT"));
        }
        bar.finish_and_clear();
    }

    /// What [`draw`] writes where a shell command has it run.
    fn draw_by(how: &str, environment: &[(&str, &str)]) -> String {
        let this = std::env::current_exe().expect("it runs");
        let output = Command::new("sh")
            .args(["-c", how])
            .env(
                "DRAW",
                format!(
                    "{} --ignored --exact --nocapture progress::tests::draw",
                    this.display()
                ),
            )
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn a_bar_is_drawn_on_a_terminal_alone() {
        const TERMINAL: &str = r#"script -qec "stty cols 80; $DRAW" /dev/null"#;
        const BAR: &str = "drawing   [";
        let text = draw_by(TERMINAL, &[]);
        assert!(text.contains(BAR), "{text:?}");
        // Not even for a moment as indicatif would have it.
        assert!(!text.contains('░'), "{text:?}");
        assert!(text.contains("1/3") && text.contains(" left"), "{text:?}");
        let results = text
            .lines()
            .filter(|line| line.trim_end().ends_with("RESULT"));
        assert_eq!(results.count(), 3, "{text:?}");
        let without = [
            (TERMINAL, ("TERM", "dumb")),
            (TERMINAL, ("QUIET", "1")),
            ("$DRAW", ("TERM", "xterm")),
            (
                r#"script -qec "$DRAW 2>&1 | cat" /dev/null"#,
                ("TERM", "xterm"),
            ),
        ];
        for (how, variable) in without {
            let text = draw_by(how, &[variable]);
            assert_eq!(text.matches("RESULT").count(), 3, "{how}: {text:?}");
            assert!(
                !text.contains(BAR) && !text.contains('\x1b'),
                "{how}: {text:?}"
            );
        }
    }
}
