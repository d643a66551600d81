// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Buffer specifications: valid when they exist.
//!
//! A buffer is named `TYPE[:KEY=VALUE,…]`, for example
//! `reg-vec:len=1M,iovs=5,offset=511`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::block_layout::SECTOR;
use crate::layout::{Random, Shape};
pub use crate::options::{RingOptions, SqeOptions};

/// Iovecs in one buffer: the kernel's UIO_MAXIOV.
pub const MAX_IOVECS: usize = 1024;
/// Slots in a ring's table of registered buffers: IORING_MAX_REG_BUFFERS.
pub const MAX_REGISTERED: u16 = 1 << 14;
/// Bytes of a buffer, so that sums never wrap.
pub const MAX_LEN: u64 = 1 << 40;
/// What a buffer holds when nothing says how much.
pub const DEFAULT_LEN: u64 = 1 << 20;

const PAGE: u64 = 4096;

/// The buffer types of the interface, and the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BufferType {
    User,
    Fixed,
    Vec,
    Kfixed,
    RegVec,
    Arena,
}

impl BufferType {
    pub const ALL: [BufferType; 6] = [
        BufferType::User,
        BufferType::Fixed,
        BufferType::Vec,
        BufferType::Kfixed,
        BufferType::RegVec,
        BufferType::Arena,
    ];

    pub fn name(self) -> &'static str {
        match self {
            BufferType::User => "user",
            BufferType::Fixed => "fixed",
            BufferType::Vec => "vec",
            BufferType::Kfixed => "kfixed",
            BufferType::RegVec => "reg-vec",
            BufferType::Arena => "arena",
        }
    }

    fn takes(self, key: &str) -> bool {
        match key {
            "len" | "offset" => true,
            "iovs" => matches!(
                self,
                BufferType::Vec | BufferType::Kfixed | BufferType::RegVec
            ),
            "index" | "at" => {
                matches!(
                    self,
                    BufferType::Fixed | BufferType::Kfixed | BufferType::RegVec
                )
            }
            "pages" => !matches!(self, BufferType::Kfixed | BufferType::Arena),
            _ => false,
        }
    }
}

impl fmt::Display for BufferType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What pages a buffer's memory is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PageKind {
    #[default]
    Base,
    Huge,
    Thp,
    /// Those of a block request, which the kernel registers.
    Kernel,
}

impl PageKind {
    pub const ALL: [PageKind; 4] = [
        PageKind::Base,
        PageKind::Huge,
        PageKind::Thp,
        PageKind::Kernel,
    ];

    pub fn name(self) -> &'static str {
        match self {
            PageKind::Base => "base",
            PageKind::Huge => "huge",
            PageKind::Thp => "thp",
            PageKind::Kernel => "kernel",
        }
    }
}

/// How the bytes of a vectored buffer are split.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Iovecs {
    /// Into so many parts of ragged sizes.
    Count(usize),
    /// Into parts of these sizes.
    Sizes(Vec<u64>),
}

/// A buffer as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferSpec {
    kind: BufferType,
    len: Option<u64>,
    offset: u64,
    iovecs: Option<Iovecs>,
    index: Option<u16>,
    pages: PageKind,
    at: u64,
}

impl BufferSpec {
    /// A buffer of a type with nothing said about it.
    pub fn new(kind: BufferType) -> Self {
        BufferSpec {
            kind,
            len: None,
            offset: 0,
            iovecs: None,
            index: None,
            pages: match kind {
                BufferType::Kfixed => PageKind::Kernel,
                _ => PageKind::Base,
            },
            at: 0,
        }
    }

    pub fn kind(&self) -> BufferType {
        self.kind
    }

    /// Bytes, where the specification says how many.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == Some(0)
    }

    pub fn pages(&self) -> PageKind {
        self.pages
    }

    /// The slot in the table of registered buffers that the user asked for.
    pub fn index(&self) -> Option<u16> {
        self.index
    }

    /// What the interface sees of a buffer of `len` bytes in table slot
    /// `index`; the seed decides the sizes of counted iovecs.
    ///
    /// Fails where the length does not go with the iovecs.
    pub fn shape(&self, len: u64, index: u16, seed: u64) -> Result<Shape, SpecError> {
        let segments = match &self.iovecs {
            _ if !self.kind.takes("iovs") => vec![len],
            None if self.kind == BufferType::Kfixed => vec![len],
            Some(Iovecs::Count(count)) if self.kind == BufferType::Kfixed => {
                self.split_sectors(len, *count, seed)?
            }
            Some(Iovecs::Sizes(sizes)) => {
                let total: u64 = sizes.iter().sum();
                if total != len {
                    return Err(SpecError::new(format!(
                        "{self}: the iovecs hold {total} bytes, not {len}"
                    )));
                }
                if self.kind == BufferType::Kfixed {
                    self.check_sectors(sizes)?;
                }
                sizes.clone()
            }
            Some(Iovecs::Count(count)) => self.split(len, *count, seed)?,
            None => self.split(len, default_iovecs(len), seed)?,
        };
        Ok(Shape {
            kind: self.kind,
            segments,
            offset: self.offset,
            index,
            at: self.at,
        })
    }

    /// Cuts of the iovecs of block I/O: between whole sectors.
    fn check_sectors(&self, sizes: &[u64]) -> Result<(), SpecError> {
        let mut end = self.offset % SECTOR;
        for size in &sizes[..sizes.len().saturating_sub(1)] {
            end += size;
            if *size == 0 || !end.is_multiple_of(SECTOR) {
                return Err(SpecError::new(format!(
                    "{self}: an iovec of block I/O ends at a multiple of {SECTOR} bytes in its page"
                )));
            }
        }
        Ok(())
    }

    /// Whole sectors in all iovecs but the first and the last.
    fn split_sectors(&self, len: u64, count: usize, seed: u64) -> Result<Vec<u64>, SpecError> {
        let first = SECTOR - self.offset % SECTOR;
        let sectors = len.saturating_sub(first).div_ceil(SECTOR);
        if sectors < count as u64 - 1 {
            return Err(SpecError::new(format!(
                "{self}: {len} bytes cannot be {count} iovecs of whole sectors"
            )));
        }
        let mut random = Random(seed ^ len);
        // Of the places between sectors, some; the others are left as likely.
        let mut cuts = Vec::new();
        for place in 0..sectors {
            let wanted = (count - 1 - cuts.len()) as u64;
            if random.below(sectors - place) < wanted {
                cuts.push(first + place * SECTOR);
            }
        }
        cuts.push(len);
        let mut from = 0;
        Ok(cuts
            .into_iter()
            .map(|cut| cut - std::mem::replace(&mut from, cut))
            .collect())
    }

    /// Ragged sizes; empty ones among them where the interface allows that.
    fn split(&self, len: u64, count: usize, seed: u64) -> Result<Vec<u64>, SpecError> {
        let least = u64::from(self.kind == BufferType::RegVec);
        if least == 1 && len == 0 {
            // No iovec may be empty, so nothing is no iovecs.
            return Ok(Vec::new());
        }
        if len < least * count as u64 {
            return Err(SpecError::new(format!(
                "{self}: {len} bytes cannot be {count} iovecs, none of which may be empty in reg-vec"
            )));
        }
        let mut random = Random(seed ^ len);
        let free = len - least * count as u64;
        let mut cuts: Vec<u64> = (1..count).map(|_| random.below(free + 1)).collect();
        cuts.sort_unstable();
        cuts.push(free);
        let mut from = 0;
        Ok(cuts
            .into_iter()
            .map(|cut| {
                let size = cut - from + least;
                from = cut;
                size
            })
            .collect())
    }
}

/// Enough to have several, few enough that none is empty by default.
fn default_iovecs(len: u64) -> usize {
    len.clamp(1, 4) as usize
}

impl fmt::Display for BufferSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keys = Vec::new();
        if let Some(len) = self.len {
            keys.push(format!("len={len}"));
        }
        if self.offset != 0 {
            keys.push(format!("offset={}", self.offset));
        }
        match &self.iovecs {
            Some(Iovecs::Count(count)) => keys.push(format!("iovs={count}")),
            Some(Iovecs::Sizes(sizes)) => {
                let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
                keys.push(format!("iovs={}", sizes.join("+")));
            }
            None => {}
        }
        if let Some(index) = self.index {
            keys.push(format!("index={index}"));
        }
        if self.at != 0 {
            keys.push(format!("at={}", self.at));
        }
        if self.pages != PageKind::Base && self.kind.takes("pages") {
            keys.push(format!("pages={}", self.pages.name()));
        }
        match keys.is_empty() {
            true => write!(f, "{}", self.kind),
            false => write!(f, "{}:{}", self.kind, keys.join(",")),
        }
    }
}

/// Why a specification is none. One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(String);

impl SpecError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        SpecError(message.into())
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

impl FromStr for BufferSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (name, keys) = match text.split_once(':') {
            Some((name, keys)) => (name, Some(keys)),
            None => (text, None),
        };
        let kind = BufferType::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| {
                let known: Vec<&str> = BufferType::ALL.iter().map(|kind| kind.name()).collect();
                SpecError::new(format!(
                    "no buffer type {name:?}; the types are {}",
                    known.join(", ")
                ))
            })?;
        let mut spec = BufferSpec::new(kind);
        let mut seen = Vec::new();
        for pair in keys.map_or_else(Vec::new, |keys| keys.split(',').collect()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| SpecError::new(format!("{pair:?} is not KEY=VALUE")))?;
            if !["len", "offset", "iovs", "index", "pages", "at"].contains(&key) {
                return Err(SpecError::new(format!(
                    "no key {key:?}; the keys are len, offset, iovs, index, pages, at"
                )));
            }
            if !kind.takes(key) {
                return Err(SpecError::new(format!("a {kind} buffer has no {key}")));
            }
            if seen.contains(&key) {
                return Err(SpecError::new(format!("{key} is given twice")));
            }
            seen.push(key);
            spec.set(key, value)?;
        }
        spec.check()?;
        Ok(spec)
    }
}

impl BufferSpec {
    fn set(&mut self, key: &str, value: &str) -> Result<(), SpecError> {
        match key {
            "len" => self.len = Some(parse_size(value)?),
            "offset" => {
                self.offset = parse_size(value)?;
                if self.offset >= PAGE {
                    return Err(SpecError::new(format!(
                        "offset={value} is not inside of the first page (0 to 4095)"
                    )));
                }
            }
            "iovs" => self.iovecs = Some(parse_iovecs(value)?),
            "index" => {
                let index = value.parse().ok().filter(|index| *index < MAX_REGISTERED);
                self.index = Some(index.ok_or_else(|| {
                    SpecError::new(format!(
                        "index={value} is no slot of a buffer table (0 to {})",
                        MAX_REGISTERED - 1
                    ))
                })?);
            }
            "pages" => {
                self.pages = [
                    PageKind::Base,
                    PageKind::Huge,
                    PageKind::Thp,
                    PageKind::Kernel,
                ]
                .into_iter()
                .find(|pages| pages.name() == value)
                .ok_or_else(|| {
                    SpecError::new(format!("pages={value} is none of base, huge, thp, kernel"))
                })?;
            }
            "at" => self.at = parse_size(value)?,
            _ => unreachable!("the caller knows the keys"),
        }
        Ok(())
    }

    /// What no key can say alone.
    fn check(&mut self) -> Result<(), SpecError> {
        let takes_kernel = matches!(self.kind, BufferType::Kfixed | BufferType::RegVec);
        if self.pages == PageKind::Kernel && !takes_kernel {
            return Err(SpecError::new(format!(
                "pages=kernel goes with reg-vec, not with {}",
                self.kind
            )));
        }
        let Some(Iovecs::Sizes(sizes)) = &self.iovecs else {
            return Ok(());
        };
        let total: u64 = sizes.iter().sum();
        if self.kind == BufferType::RegVec && sizes.contains(&0) {
            return Err(SpecError::new(
                "an iovec of reg-vec must not be empty (the kernel says EFAULT)",
            ));
        }
        match self.len {
            Some(len) if len != total => Err(SpecError::new(format!(
                "the iovecs hold {total} bytes, but len={len}"
            ))),
            _ => {
                self.len = Some(total);
                Ok(())
            }
        }
    }
}

/// A number of bytes, with K, M, G for powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, SpecError> {
    let wrong = || SpecError::new(format!("{text:?} is no size (a number, or with K, M, G)"));
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|size| *size <= MAX_LEN)
        .ok_or_else(|| SpecError::new(format!("{text} is more than {} GiB", MAX_LEN >> 30)))
}

fn parse_iovecs(value: &str) -> Result<Iovecs, SpecError> {
    let too_many = || SpecError::new(format!("more than {MAX_IOVECS} iovecs"));
    if value.contains('+') {
        let sizes: Vec<u64> = value.split('+').map(parse_size).collect::<Result<_, _>>()?;
        if sizes.len() > MAX_IOVECS {
            return Err(too_many());
        }
        if sizes.iter().sum::<u64>() > MAX_LEN {
            return Err(SpecError::new(format!(
                "the iovecs hold more than {} GiB",
                MAX_LEN >> 30
            )));
        }
        return Ok(Iovecs::Sizes(sizes));
    }
    match value.parse::<usize>() {
        Ok(0) => Err(SpecError::new("iovs=0: a buffer has at least one iovec")),
        Ok(count) if count > MAX_IOVECS => Err(too_many()),
        Ok(count) if value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Iovecs::Count(count)),
        _ => Err(SpecError::new(format!(
            "iovs={value} is neither a count nor sizes (512+4096+1)"
        ))),
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
