// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The synopsis of a page: every option with its value, as it is typed.

use clap::{Arg, ArgAction, Command};

use super::escape;

/// A space that no line ends at: an option and its value stay together.
const TIED: &str = "\\~";

pub fn synopsis(command: &Command) -> String {
    let name = command
        .get_bin_name()
        .unwrap_or_else(|| command.get_name())
        .to_string();
    let forms = match command.get_overridden_usage() {
        Some(usage) => usage
            .to_string()
            .lines()
            .map(|form| as_written(&name, form.trim()))
            .collect(),
        None => vec![from_arguments(&name, command)],
    };
    format!(".SH SYNOPSIS\n{}\n", forms.join("\n.br\n"))
}

/// A form that the definitions spell out: `uringbpf x [OPTIONS] --to BUF FILE…`.
fn as_written(name: &str, form: &str) -> String {
    let rest = form.strip_prefix(name).unwrap_or(form);
    let words = rest.split_whitespace().map(|word| match word {
        "[OPTIONS]" => format!("[{}]...", italic("OPTION")),
        word => styled(word),
    });
    let words: Vec<String> = std::iter::once(bold(name)).chain(words).collect();
    words.join(" ")
}

/// A word with its brackets and dots upright, an option bold, a value italic.
fn styled(word: &str) -> String {
    let core = word.trim_matches(['[', ']', '…']);
    let (before, after) = word.split_once(core).unwrap_or(("", ""));
    let core = match core.starts_with('-') {
        true => bold(core),
        false => italic(core),
    };
    format!("{before}{core}{after}")
}

fn from_arguments(name: &str, command: &Command) -> String {
    let options = || {
        command
            .get_arguments()
            .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
    };
    // What all commands have comes behind what this one has.
    let is_shared = |arg: &Arg| arg.is_global_set() || arg.get_id() == "help";
    let own = options().filter(|arg| !is_shared(arg));
    let shared = options().filter(|arg| is_shared(arg));
    let mut words = vec![bold(name)];
    words.extend(own.chain(shared).map(option));
    words.extend(command.get_positionals().map(positional));
    if command.has_subcommands() {
        words.push(italic("COMMAND"));
        words.push(format!("[{}]...", italic("ARGUMENT")));
    }
    words.join(" ")
}

fn option(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| bold(&format!("-{short}")));
    let long = arg.get_long().map(|long| bold(&format!("--{long}")));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let mut text = names.join("|");
    let range = arg.get_num_args().expect("the command is built");
    if range.takes_values() {
        let values = values(arg).join(TIED);
        match range.min_values() {
            0 => text.push_str(&format!("{TIED}[{values}]")),
            _ => text.push_str(&format!("{TIED}{values}")),
        }
    }
    if !arg.is_required_set() {
        text = format!("[{text}]");
    }
    match arg.get_action() {
        // With a separator the value says itself that there may be more.
        ArgAction::Append if arg.get_value_delimiter().is_none() && range.max_values() < 2 => {
            text + "..."
        }
        ArgAction::Count => text + "...",
        _ => text,
    }
}

fn positional(arg: &Arg) -> String {
    let names: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| bold(value.get_name()))
        .collect();
    let mut text = match names.is_empty() {
        true => values(arg).join(TIED),
        false => names.join("|"),
    };
    if !arg.is_required_set() {
        text = format!("[{text}]");
    }
    let range = arg.get_num_args().expect("the command is built");
    match range.max_values() > 1 {
        true => text + "...",
        false => text,
    }
}

fn values(arg: &Arg) -> Vec<String> {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().map(|name| italic(name)).collect()
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escape(text))
}

fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escape(text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// The synopsis of a command without its markup.
    fn plain(name: &str) -> String {
        let mut command = Cli::command();
        command.build();
        let command = command.find_subcommand(name).expect(name);
        let mut text = synopsis(command);
        for (markup, plain) in [
            (r"\fB", ""),
            (r"\fI", ""),
            (r"\fR", ""),
            (r"\-", "-"),
            (r"\~", " "),
        ] {
            text = text.replace(markup, plain);
        }
        text.trim_start_matches(".SH SYNOPSIS\n").to_string()
    }

    #[test]
    fn options_have_their_values_and_what_repeats_has_dots() {
        assert_eq!(
            plain("smoke"),
            "uringbpf smoke [--quick] [--full] [--filter TEXT]... [--case NAME] [--list] \
             [--seed N] [--format FORMAT] [-q|--quiet] [-v|--verbose]... \
             [--kernel-flag NAME=VALUE]... [-h|--help]\n"
        );
        assert!(plain("bench").contains(" [--compare BEFORE AFTER] "));
    }

    #[test]
    fn arguments_are_what_may_stand_there() {
        assert!(plain("repro").ends_with(" list|run [DEFECT]...\n"));
        assert!(plain("man").ends_with(" DIRECTORY\n"));
    }

    #[test]
    fn forms_that_are_spelt_out_stay_apart() {
        assert_eq!(
            plain("checksum"),
            "uringbpf checksum [OPTION]... --from BUF\n.br\nuringbpf checksum [OPTION]... FILE…\n"
        );
        assert!(plain("ublk").contains("--backing FILE [--size SIZE]\n"));
    }
}
