// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Arguments to a command, errors to an exit status.

use std::process::ExitCode;

use uringbpf::report::complain;
use uringbpf::{arguments, cmd, error, first_process, sys};

fn main() -> ExitCode {
    if first_process::is_it() {
        return ExitCode::from(first_process::run(std::env::args_os().skip(1)));
    }
    sys::ignore_file_size_signal();
    let cli = match arguments::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return ExitCode::from(status),
    };
    let verbose = cli.global.verbose > 0;
    match cmd::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error::message(&error, verbose));
            ExitCode::from(error::exit_status(&error))
        }
    }
}
