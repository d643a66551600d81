// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Every dependency may be distributed with the tool, and every file says
//! under which licence it is. Needs no network; `make audit` does more.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The quoted words of a list in a file of ours.
fn list(file: &str, key: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(file)).expect(file);
    let start = format!("\n{key} = [");
    let lists = text.split(&start).skip(1);
    let words = |list: &str| {
        let list = list.split(']').next().unwrap_or_default();
        let words = list.split('"').skip(1).step_by(2);
        words.map(String::from).collect()
    };
    lists.map(words).collect()
}

/// Whether an SPDX expression leaves a choice that is allowed.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let known = |name: &str| allowed.iter().any(|licence| licence == name);
    let expression = expression.replace('/', " OR ");
    // No dependency nests deeper than (A OR B) AND C.
    expression.split(" AND ").all(|part| {
        part.trim()
            .trim_matches(['(', ')'])
            .split(" OR ")
            .any(|name| {
                let name = name.trim();
                // "or later" takes in the version itself.
                known(name) || known(name.trim_end_matches('+'))
            })
    })
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = list("deny.toml", "allow").concat();
    assert!(allowed.len() > 5, "{allowed:?}");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version=1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("an array");
    assert!(packages.len() > 50);
    let refused: Vec<String> = packages
        .iter()
        .map(|package| (&package["name"], package["license"].as_str().unwrap_or("")))
        .filter(|(_, licence)| !is_allowed(licence, &allowed))
        .map(|(name, licence)| format!("{name}: {licence:?}"))
        .collect();
    assert_eq!(refused, [""; 0]);
}

#[test]
fn an_expression_is_allowed_where_one_choice_is() {
    let allowed = ["MIT".to_string(), "MPL-2.0".to_string()];
    for expression in [
        "MIT",
        "X OR MIT",
        "Apache-2.0/MIT",
        "(MIT OR X) AND MPL-2.0+",
    ] {
        assert!(is_allowed(expression, &allowed), "{expression}");
    }
    for expression in ["", "GPL-3.0", "MIT AND X", "(X OR Y) AND MIT", "MITX"] {
        assert!(!is_allowed(expression, &allowed), "{expression}");
    }
}

#[test]
fn every_file_names_its_licence() {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    let files = match output {
        Ok(output) if output.status.success() => output.stdout,
        _ => return eprintln!("no git repository: what is part of it is not known"),
    };
    let files = String::from_utf8(files).expect("names are text");
    // Patterns as REUSE.toml has them: a directory, and how the name ends.
    let patterns = list("REUSE.toml", "path").concat();
    let is_annotated = |file: &str| {
        patterns
            .iter()
            .any(|pattern| match pattern.split_once('*') {
                None => pattern == file,
                Some((start, end)) => {
                    let deep = end.starts_with('*');
                    let inner = file
                        .strip_prefix(start)
                        .and_then(|rest| rest.strip_suffix(end.trim_start_matches('*')));
                    inner.is_some_and(|inner| deep || !inner.contains('/'))
                }
            })
    };
    let without: Vec<&str> = files
        .split_terminator('\0')
        .filter(|file| !file.starts_with("LICENSES/") && !is_annotated(file))
        .filter(|file| {
            let content = fs::read(root().join(file)).unwrap_or_default();
            let start = String::from_utf8_lossy(&content[..content.len().min(300)]).into_owned();
            !start
                .lines()
                .take(3)
                .any(|line| line.contains("SPDX-License-Identifier: "))
        })
        .collect();
    assert_eq!(without, [""; 0]);
}
