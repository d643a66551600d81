// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf probe`

use serde_json::json;

use super::kernel;
use crate::cli::GlobalArgs;
use crate::report::Report;

pub fn run(global: &GlobalArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    let kernel = kernel(global)?;
    report.result("probe", &format!("{kernel:?}"), json!({"ok": true}))?;
    Ok(())
}
