// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Compiles the BPF programs and generates their skeletons.
//!
//! The programs carry their own declarations of the kernel's types, so neither
//! a vmlinux.h nor a kernel with the opcode is needed to build.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio, exit};

use libbpf_cargo::SkeletonBuilder;

/// Every program family; `src/bpf/NAME.bpf.c` becomes `NAME.skel.rs`.
const FAMILIES: [&str; 12] = [
    "attach",
    "bench",
    "blocks",
    "callbacks",
    "checksum",
    "chunks",
    "copy",
    "corpus",
    "event_loop",
    "fill",
    "repro",
    "several",
];

/// Newest first: what distributions call their clang packages.
const VERSIONS: std::ops::RangeInclusive<u32> = 19..=30;

fn main() {
    println!("cargo:rerun-if-changed=src/bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-env-changed=PATH");

    let clang = find_clang().unwrap_or_else(|reason| {
        println!("cargo::error={reason}");
        exit(1)
    });
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for family in FAMILIES {
        let source = format!("src/bpf/{family}.bpf.c");
        // The object is kept beside its skeleton: `smoke` loads it by itself.
        let built = SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(format!("{family}.bpf.o")))
            .clang(&clang)
            .clang_args(["-mcpu=v4", "-Wall", "-Werror", "-Isrc/bpf"])
            .build_and_generate(out.join(format!("{family}.skel.rs")));
        if let Err(error) = built {
            println!("cargo::error={source}: {error:#}");
            exit(1)
        }
    }
}

/// The compiler named by `CLANG`, else `clang`, else the newest `clang-NN`, of
/// those that can compile for a BPF arena.
fn find_clang() -> Result<OsString, String> {
    if let Some(named) = env::var_os("CLANG").filter(|name| !name.is_empty()) {
        return if supports_arenas(&named) {
            Ok(named)
        } else {
            Err(format!(
                "CLANG={}: no clang that compiles for BPF arenas; name clang 19 or newer",
                named.display()
            ))
        };
    }
    let versioned = VERSIONS.rev().map(|version| format!("clang-{version}"));
    std::iter::once("clang".to_string())
        .chain(versioned)
        .map(OsString::from)
        .find(|name| supports_arenas(name))
        .ok_or_else(|| {
            "no clang that compiles for BPF arenas; install clang 19 or newer \
             (Debian: apt install clang-19) or set CLANG"
                .to_string()
        })
}

/// Asks the compiler itself: a version number says nothing about which targets
/// it was built with.
fn supports_arenas(clang: &OsStr) -> bool {
    let child = Command::new(clang)
        .args(["-target", "bpf", "-mcpu=v4", "-dM", "-E", "-x", "c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // An empty program: only the predefined macros matter.
        let _ = stdin.write_all(b"\n");
    }
    child.wait_with_output().is_ok_and(|output| {
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).contains("__BPF_FEATURE_ADDR_SPACE_CAST")
    })
}
