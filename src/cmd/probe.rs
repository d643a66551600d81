// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf probe`

use serde_json::json;

use crate::cli::GlobalArgs;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::probe::{Finding, findings};
use crate::report::Report;

pub fn run(global: &GlobalArgs) -> anyhow::Result<()> {
    let report = Report::new(global)?;
    let kernel = Kernel::read(global.overrides());
    let findings = findings(&kernel);
    for finding in &findings {
        let human = format!(
            "{:<34} {:<9} {}",
            finding.name,
            finding.state.name(),
            finding.detail
        );
        report.result(
            "probe",
            human.trim_end(),
            json!({
                "kernel": kernel.release,
                "name": finding.name,
                "state": finding.state.name(),
                "detail": finding.detail,
                "needed": finding.needed,
            }),
        )?;
    }
    let blocking: Vec<&Finding> = findings.iter().filter(|finding| finding.blocks()).collect();
    if blocking.is_empty() {
        return Ok(());
    }
    let names = blocking.iter().map(|finding| match finding.name.as_str() {
        // Not the kernel's fault, and the names are what one needs to know.
        "privileges" => format!("privileges ({})", finding.detail),
        name => name.to_string(),
    });
    Err(Failure::missing(names).into())
}
