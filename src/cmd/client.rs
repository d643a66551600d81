// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf client`: the process that does block I/O for a server.

use std::io;

use crate::kernel_buffer::run_client;

pub fn run() -> anyhow::Result<()> {
    Ok(run_client(
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
    )?)
}
