// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf completions`

use clap::CommandFactory;
use clap_complete::generate;

use crate::cli::{Cli, CompletionsArgs, Shell};
use crate::report::print;

pub fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "uringbpf", &mut script);
    Ok(print(script.trim_ascii_end())?)
}
