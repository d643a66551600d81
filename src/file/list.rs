// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Lists of checksums as xxhsum and the coreutils write them: digest, two
//! spaces, name; a backslash in front where the name is escaped.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::cli::Algorithm;

/// One file of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: OsString,
    pub digest: u64,
}

/// What a list holds.
#[derive(Debug, Default)]
pub struct List {
    pub entries: Vec<Entry>,
    /// Lines that are none of the algorithm's.
    pub malformed: u64,
}

/// The line of one file, in the bytes of its name.
pub fn line(digest: u64, algorithm: Algorithm, name: &OsStr) -> Vec<u8> {
    let (name, escaped) = escape(name);
    let mark = if escaped { "\\" } else { "" };
    let digits = algorithm.digits();
    let mut line = format!("{mark}{digest:0digits$x}  ").into_bytes();
    line.extend_from_slice(&name);
    line
}

/// The name on one line, and whether anything in it had to be escaped.
pub fn escape(name: &OsStr) -> (Vec<u8>, bool) {
    let mut line = Vec::with_capacity(name.len());
    for byte in name.as_bytes() {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(*byte),
        }
    }
    let escaped = line.len() > name.len();
    (line, escaped)
}

/// Reads a list; empty lines and comments are no entries.
pub fn parse(text: &[u8], algorithm: Algorithm) -> List {
    let mut list = List::default();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match entry(line, algorithm) {
            Some(entry) => list.entries.push(entry),
            None => list.malformed += 1,
        }
    }
    list
}

fn entry(line: &[u8], algorithm: Algorithm) -> Option<Entry> {
    let (line, escaped) = match line.strip_prefix(b"\\") {
        Some(line) => (line, true),
        None => (line, false),
    };
    let (digest, rest) = line.split_at_checked(algorithm.digits())?;
    let name = rest
        .strip_prefix(b"  ")
        .or_else(|| rest.strip_prefix(b" *"))?;
    let digest = std::str::from_utf8(digest).ok()?;
    if name.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let name = if escaped {
        unescape(name)?
    } else {
        name.to_vec()
    };
    Some(Entry {
        name: OsString::from_vec(name),
        digest: u64::from_str_radix(digest, 16).ok()?,
    })
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let names: [&[u8]; 8] = [
            b"a",
            b"a b",
            b" a",
            b"a\nb",
            b"back\\slash",
            b"*x",
            "ü".as_bytes(),
            b"\xff\xfe",
        ];
        for name in names {
            let written = line(0xdead_beef, Algorithm::Crc32c, OsStr::from_bytes(name));
            assert!(!written.contains(&b'\n'));
            let list = parse(&written, Algorithm::Crc32c);
            let expected = Entry {
                name: OsStr::from_bytes(name).into(),
                digest: 0xdead_beef,
            };
            assert_eq!(
                (list.entries, list.malformed),
                (vec![expected], 0),
                "{name:?}"
            );
        }
    }

    #[test]
    fn what_is_no_line_of_the_algorithm_is_counted() {
        let text = b"# comment\n\n0123  short\nzzzzzzzz  name\n0123456701234567  xxh64\n01234567  ok\n01234567 *bin\n";
        let list = parse(text, Algorithm::Adler32);
        assert_eq!((list.entries.len(), list.malformed), (2, 3));
        assert_eq!(list.entries[1].name.as_bytes(), b"bin");
    }
}
