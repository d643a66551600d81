// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Results on stdout: text for people, or one JSON object per line.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::cli::{Format, GlobalArgs};
use crate::closed_stdout;
use crate::error::Failure;

/// Of the JSON objects; grows when a key changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    format: Format,
    quiet: bool,
}

impl Report {
    /// Refuses a format that the command has not got.
    pub fn new(global: &GlobalArgs) -> Result<Self, Failure> {
        if global.format == Format::Ktap {
            return Err(Failure::usage(
                "--format ktap: this command has no test cases; use human or json",
            ));
        }
        Ok(Report {
            format: global.format,
            quiet: global.quiet,
        })
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A result that is the point of the command, or a failure: printed even
    /// when quiet. Names of files need not be text, so it may be bytes.
    pub fn data(&self, command: &str, human: impl AsRef<[u8]>, keys: Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => print(object(command, keys)),
            _ => print(human),
        }
    }

    /// One result. `keys` is a JSON object; schema and command come first.
    pub fn result(
        &self,
        command: &str,
        human: impl AsRef<[u8]>,
        keys: Value,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => print(object(command, keys)),
            _ if self.quiet => Ok(()),
            _ => print(human),
        }
    }
}

fn object(command: &str, keys: Value) -> String {
    let mut object = Map::new();
    object.insert("schema".into(), json!(SCHEMA));
    object.insert("command".into(), json!(command));
    if let Value::Object(keys) = keys {
        object.extend(keys);
    }
    Value::Object(object).to_string()
}

/// A line on stdout. A reader that has gone is an error like any other, not a
/// panic.
pub fn print(line: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    open_stdout()
        .and_then(|()| out.write_all(line.as_ref()))
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|error| stdout_failure(&error))
}

/// Fails as a write to stdout should where that was closed from the start.
pub fn open_stdout() -> io::Result<()> {
    match closed_stdout::was_closed() {
        true => Err(io::Error::from_raw_os_error(libc::EBADF)),
        false => Ok(()),
    }
}

/// What a write to stdout failed with.
pub fn stdout_failure(error: &io::Error) -> Failure {
    let failure = Failure::io("write to stdout", error);
    match error.raw_os_error() {
        Some(libc::EBADF) => failure.next("it is closed: send it to /dev/null where nobody reads"),
        _ => failure,
    }
}

/// A line on stderr. Where that cannot be written to there is nobody to tell,
/// and the exit status says it still.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Columns of a terminal.
const WIDTH: usize = 80;

/// Words on lines that fit, in a column of their own behind what they are of.
pub fn wrapped(label: &str, text: &str) -> Vec<String> {
    let mut lines = vec![label.to_string()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if line.len() + 1 + word.len() <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{:width$} {word}", "", width = label.len()));
        }
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_string())
        .collect()
}

/// "1 request", "2 requests".
pub fn count(number: u64, unit: &str) -> String {
    match number {
        1 => format!("1 {unit}"),
        _ => format!("{number} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_line_that_begins_with_the_schema() {
        let line = object("copy", json!({"bytes": 3, "name": "a\nb"}));
        assert!(line.starts_with(r#"{"#) && !line.contains('\n'), "{line}");
        let value: Value = serde_json::from_str(&line).expect("valid JSON");
        assert_eq!(value["schema"], 1);
        assert_eq!(value["command"], "copy");
        assert_eq!(value["bytes"], 3);
    }

    #[test]
    fn long_text_is_wrapped_behind_its_label() {
        for (_, text) in crate::revisions::ADDED_KFUNCS {
            let lines = wrapped("    reference     ", text);
            assert!(lines.iter().all(|line| line.len() <= WIDTH), "{lines:?}");
            let words: Vec<&str> = lines.iter().flat_map(|l| l.split_whitespace()).collect();
            assert_eq!(words[1..].join(" "), text);
        }
    }
}
