// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf completions`

use clap::{Command, CommandFactory};
use clap_complete::generate;

use crate::cli::{Cli, CompletionsArgs, Shell};
use crate::report::print;

pub fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    Ok(print(script(args.shell).trim_ascii_end())?)
}

fn script(shell: Shell) -> Vec<u8> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    generate(
        shell,
        &mut visible(&Cli::command()),
        "uringbpf",
        &mut script,
    );
    script
}

/// The command without its hidden subcommands, which clap_complete would offer
/// like any other; clap itself has no way to take one out.
fn visible(command: &Command) -> Command {
    let shown = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set());
    Command::new("uringbpf")
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments())
        .groups(command.get_groups())
        .subcommands(shown)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command as Process, Stdio};

    use super::*;

    const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

    fn text(shell: Shell) -> String {
        String::from_utf8(script(shell)).expect("text")
    }

    /// How a script spells the offer of a command.
    fn offer(shell: Shell, command: &str) -> String {
        match shell {
            Shell::Bash => format!("uringbpf,{command})"),
            Shell::Zsh => format!("\n'{command}:"),
            Shell::Fish => format!("-a \"{command}\""),
        }
    }

    #[test]
    fn every_shell_is_offered_every_command_that_is_shown_and_no_other() {
        let command = Cli::command();
        assert!(command.get_subcommands().any(Command::is_hide_set));
        for shell in SHELLS {
            let text = text(shell);
            for subcommand in command.get_subcommands() {
                let name = subcommand.get_name();
                let offered = text.contains(&offer(shell, name));
                assert_eq!(offered, !subcommand.is_hide_set(), "{shell:?}: {name}");
            }
            assert!(!text.contains("client"), "{shell:?}");
            assert!(text.contains("kernel-flag"), "{shell:?}: global options");
        }
    }

    #[test]
    fn bash_takes_its_script() {
        let mut bash = Process::new("bash")
            .arg("-n")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bash runs the project's scripts, too");
        let mut stdin = bash.stdin.take().expect("a pipe");
        stdin.write_all(&script(Shell::Bash)).expect("bash reads");
        drop(stdin);
        let output = bash.wait_with_output().expect("bash ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
