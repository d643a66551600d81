// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! From the words of the command line to [`Cli`], with errors in one line.

use std::ffi::OsString;
use std::io::{self, Write as _};

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory, FromArgMatches};

use crate::cli::Cli;
use crate::error::EXIT_OK;
use crate::report::{complain, open_stdout, stdout_failure};
use crate::version;

/// The exit status of arguments that make no sense.
const EXIT_USAGE: u8 = 2;

/// The arguments, or the exit status after what was asked for (help, version)
/// or what is wrong has been printed.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, u8> {
    let words: Vec<OsString> = words.into_iter().collect();
    // -V is the tool's version alone.
    let long_version = words.iter().any(|word| word == "--version");
    let command = Cli::command().color(colour());
    let matches = command.try_get_matches_from(words);
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let printed = open_stdout().and_then(|()| match error.kind() {
                ErrorKind::DisplayVersion if long_version => {
                    writeln!(io::stdout(), "{}", version::long())
                }
                _ => error.print(),
            });
            match printed {
                // A reader that has seen enough.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    let failure = stdout_failure(&error);
                    complain(format!("uringbpf: {failure}"));
                    failure.exit_status()
                }
                _ => EXIT_OK,
            }
        }
        _ => {
            complain(one_line(&error));
            EXIT_USAGE
        }
    })
}

/// Left to itself clap colours a dumb terminal's output where CI is set.
fn colour() -> ColorChoice {
    match std::env::var_os("TERM") {
        None => ColorChoice::Never,
        Some(terminal) if terminal == "dumb" => ColorChoice::Never,
        Some(_) => ColorChoice::Auto,
    }
}

/// clap explains itself over several lines: what is wrong, tips, the usage.
/// What is wrong is kept, on one line, with where to read on.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let what: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    let what = what.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let what: String = what
        .chars()
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .collect();
    let what = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_string()
        }
        _ => what,
    };
    format!("uringbpf: {what} (see uringbpf --help)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_is_one_line_whatever_clap_says() {
        for words in [
            &["uringbpf"][..],
            &["uringbpf", "copy"],
            &["uringbpf", "copy", "--from", "user"],
            &["uringbpf", "chunks", "users"],
            &["uringbpf", "chunks", "a\nb"],
            &["uringbpf", "frobnicate"],
        ] {
            let error = Cli::command()
                .try_get_matches_from(words)
                .and_then(|matches| Cli::from_arg_matches(&matches))
                .expect_err("malformed");
            let line = one_line(&error);
            assert!(
                !line.contains('\n') && line.starts_with("uringbpf: "),
                "{line}"
            );
        }
    }
}
