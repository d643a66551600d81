// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf man`

use std::fs;

use crate::cli::ManArgs;
use crate::error::Failure;
use crate::file::Output;
use crate::man;

pub fn run(args: &ManArgs) -> anyhow::Result<()> {
    let directory = &args.directory;
    fs::create_dir_all(directory)
        .map_err(|error| Failure::io(format!("make {}", directory.display()), &error))?;
    for page in man::pages()? {
        Output::create(&directory.join(&page.file), None)?.finish(&page.text)?;
    }
    Ok(())
}
