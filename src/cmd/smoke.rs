// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `uringbpf smoke`

use super::{kernel, new_seed};
use crate::cli::{Format, GlobalArgs, SmokeArgs};
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::permission;
use crate::report::print;
use crate::smoke::{self, Machine, Plan, Set};

pub fn run(global: &GlobalArgs, args: &SmokeArgs) -> Result<(), Failure> {
    let plan = Plan {
        set: match (args.quick, args.full) {
            (true, _) => Set::Quick,
            (_, true) => Set::Full,
            _ => Set::Default,
        },
        seed: args.seed.unwrap_or_else(new_seed),
        filters: args.filter.clone(),
        only: args.case.clone(),
        machine: Machine::look(),
        flags: global.kernel_flags(),
    };
    let cases = smoke::cases(&plan)?;
    if cases.is_empty() {
        return Err(Failure::usage(
            "smoke: no case is named so; --list shows all of them",
        ));
    }
    if args.list {
        return list(global.format, &cases);
    }
    match prepare(global) {
        Ok(kernel) => smoke::run(kernel, &plan, &cases, global.format, global.quiet),
        Err(failure) => {
            if let (Format::Ktap, Failure::Missing(_)) = (global.format, &failure) {
                // For a harness, which reads nothing else.
                print(format!("KTAP version 1\n1..0 # SKIP {failure}"))?;
            }
            Err(failure)
        }
    }
}

fn prepare(global: &GlobalArgs) -> Result<Kernel, Failure> {
    let kernel = kernel(global)?;
    permission::check()?;
    Ok(kernel)
}

fn list(format: Format, cases: &[smoke::Case]) -> Result<(), Failure> {
    for case in cases {
        let title = case.title();
        match format {
            Format::Json => print(
                serde_json::json!({
                    "schema": crate::report::SCHEMA, "command": "smoke", "event": "listed",
                    "group": case.group, "case": title,
                })
                .to_string(),
            )?,
            _ => print(&title)?,
        }
    }
    Ok(())
}
