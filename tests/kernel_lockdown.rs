// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A kernel that is locked down: what works there all the same, and what the
//! one thing that does not says. In a machine of its own, since nobody can take
//! a lockdown back.

use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A command, its exit status, and what its first line on stderr begins with.
const ROWS: &[(&str, i32, &str)] = &[
    ("probe", 0, ""),
    ("copy --from user --to vec", 0, ""),
    ("copy --from kfixed --to user", 0, ""),
    ("checksum Cargo.toml", 0, ""),
    ("fill --to reg-vec", 0, ""),
    ("chunks fixed", 0, ""),
    ("smoke --quick --quiet", 0, ""),
    ("repro run", 0, ""),
    (
        "bench --allocations",
        3,
        "uringbpf: make /sys/kernel/tracing/instances/",
    ),
];

#[test]
#[ignore = "boots a virtual machine; make test runs it"]
fn only_tracing_is_refused_where_the_kernel_is_locked_down() {
    let mut command = String::from(
        "[ -e /sys/kernel/security/lockdown ] || mount -t securityfs none /sys/kernel/security
         echo confidentiality >/sys/kernel/security/lockdown && \
         cat /sys/kernel/security/lockdown\n",
    );
    for (words, ..) in ROWS {
        command += &format!("uringbpf {words} >/dev/null 2>said; echo \"$? $(head -n 1 said)\"\n");
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::copy(
        Path::new(ROOT).join("Cargo.toml"),
        directory.path().join("Cargo.toml"),
    )
    .expect("a file");
    let output = Command::new(Path::new(ROOT).join("kernel/boot"))
        .arg(command)
        .env("TOOL", env!("CARGO_BIN_EXE_uringbpf"))
        .current_dir(directory.path())
        .env_remove("ICOUNT")
        .env_remove("TIMEOUT")
        .env_remove("KLOG")
        .output()
        .expect("kernel/boot starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("none integrity [confidentiality]"));
    for (words, status, beginning) in ROWS {
        let line = lines.next().expect("a line for each row");
        let expected = format!("{status} {beginning}");
        assert!(line.starts_with(&expected), "{words}: {line}");
        let named = line.contains("the kernel is locked down (confidentiality)");
        assert_eq!(named, *status != 0, "{words}: {line}");
    }
}
