// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The man pages in the tree are those that the definitions make, and nothing
//! about them is to be complained of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use uringbpf::man;

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man")
}

#[test]
fn the_pages_in_the_tree_are_fresh() {
    let mut made = BTreeSet::new();
    for page in man::pages().expect("pages are made in memory") {
        let kept = fs::read(directory().join(&page.file)).unwrap_or_default();
        assert!(
            kept == page.text,
            "{} is stale: run `uringbpf man man`",
            page.file
        );
        made.insert(page.file);
    }
    for entry in fs::read_dir(directory()).expect("man is there") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        assert!(
            !name.ends_with(".1") || made.contains(&*name),
            "{name} belongs to no command"
        );
    }
}

#[test]
#[ignore = "needs mandoc; make test installs and runs it"]
fn mandoc_has_no_complaint() {
    for page in man::pages().expect("pages are made in memory") {
        let path = directory().join(&page.file);
        let lint = Command::new("mandoc")
            .args(["-T", "lint"])
            .arg(&path)
            .output();
        let lint = lint.expect("mandoc is one of the packages that make test installs");
        let said = String::from_utf8_lossy(&lint.stdout).into_owned();
        assert!(lint.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
#[ignore = "needs man-db; make test installs and runs it"]
fn man_has_no_complaint_in_any_locale() {
    for page in man::pages().expect("pages are made in memory") {
        let path = directory().join(&page.file);
        for locale in ["C", "C.UTF-8"] {
            let shown = Command::new("man")
                .args(["--warnings", "-l"])
                .arg(&path)
                .env("LC_ALL", locale)
                .env("MANWIDTH", "80")
                .output();
            let shown = shown.expect("man is one of the packages that make test installs");
            let said = String::from_utf8_lossy(&shown.stderr).into_owned();
            let file = &page.file;
            assert!(
                shown.status.success() && said.is_empty(),
                "{file}, {locale}: {said}"
            );
            assert!(
                shown.stdout.len() > 500,
                "{file}, {locale}: nothing is shown"
            );
        }
    }
}
