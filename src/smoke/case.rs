// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What can be varied about a request over buffers. A case is written as words
//! (`copy from=vec:offset=1,split=ragged-3 to=user len=4097 ring=sqpoll`) and
//! read back from them, so that a failure can be repeated by hand.

use std::fmt;
use std::str::FromStr;

use crate::cli::Algorithm;
use crate::spec::{BufferType, PageKind, RingOptions, parse_size};

/// What the request's program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    Copy,
    Checksum(Algorithm),
    Fill(Pattern),
    /// Writes down every chunk of the source.
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    Byte,
    Word,
    Counter,
    Random,
}

/// How a buffer with iovecs is cut; KFIXED: how the memory of its block I/O is,
/// in whole sectors, into as many iovecs as it has sectors at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    One,
    /// Equal parts, one behind the other without a gap.
    Equal(usize),
    /// Any sizes, in any order in memory.
    Ragged(usize),
    /// Every second one empty.
    Empty(usize),
    /// Each begins inside the one before.
    Overlap(usize),
}

/// What the pages of a buffer are like when the request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    Present,
    /// Anonymous memory that nobody has touched.
    Untouched,
    /// A file's pages, dropped from the page tables.
    Absent,
    /// In a file that is compared, too.
    File,
    Swapped,
    /// Mapped without write permission.
    ReadOnly,
    /// The last byte is on a page of PROT_NONE.
    Hole,
    /// PROT_NONE, all of it, after it was registered.
    Revoked,
}

/// One buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Side {
    pub kind: BufferType,
    pub offset: u64,
    pub split: Split,
    pub pages: PageKind,
    pub state: State,
}

/// How the request is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Inline,
    Async,
    /// Between two NOPs, each linked to the next.
    Link,
    Hardlink,
    Drain,
    /// IOSQE_CQE_SKIP_SUCCESS, and a NOP behind it.
    Skip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RingMode {
    Plain,
    Sqpoll,
    Defer,
    Coop,
    NoSqarray,
    Sqe128,
    SqeMixed,
    Cqe32,
}

/// Which of a family's programs runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// May sleep, where the kernel lets programs do so.
    Sleepable,
    NonSleepable,
    /// May sleep, and does without the kfuncs that a kernel need not have:
    /// with dynptrs alone, as on a kernel of the posted interface.
    WithoutKfuncs,
}

impl Variant {
    pub fn sleeps(self) -> bool {
        self != Variant::NonSleepable
    }
}

impl From<bool> for Variant {
    fn from(sleepable: bool) -> Self {
        match sleepable {
            true => Variant::Sleepable,
            false => Variant::NonSleepable,
        }
    }
}

/// One request over one or two buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transfer {
    pub work: Work,
    pub from: Option<Side>,
    pub to: Option<Side>,
    pub len: u64,
    pub ring: RingMode,
    pub mode: Mode,
    pub variant: Variant,
}

impl Work {
    pub const ALL: [Work; 10] = [
        Work::Copy,
        Work::Checksum(Algorithm::Crc32c),
        Work::Checksum(Algorithm::Xxh64),
        Work::Checksum(Algorithm::Adler32),
        Work::Checksum(Algorithm::Xor64),
        Work::Fill(Pattern::Byte),
        Work::Fill(Pattern::Word),
        Work::Fill(Pattern::Counter),
        Work::Fill(Pattern::Random),
        Work::List,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Work::Copy => "copy",
            Work::Checksum(algorithm) => algorithm.name(),
            Work::Fill(Pattern::Byte) => "fill-byte",
            Work::Fill(Pattern::Word) => "fill-word",
            Work::Fill(Pattern::Counter) => "fill-counter",
            Work::Fill(Pattern::Random) => "fill-random",
            Work::List => "chunks",
        }
    }

    /// The line that its cases are counted in.
    pub fn group(self) -> &'static str {
        match self {
            Work::Copy => "copy",
            Work::Checksum(_) => "checksum",
            Work::Fill(_) => "fill",
            Work::List => "chunks",
        }
    }

    pub fn has_source(self) -> bool {
        !matches!(self, Work::Fill(_))
    }

    pub fn has_destination(self) -> bool {
        matches!(self, Work::Copy | Work::Fill(_))
    }
}

impl Split {
    pub fn count(self) -> usize {
        match self {
            Split::One => 1,
            Split::Equal(n) | Split::Ragged(n) | Split::Empty(n) | Split::Overlap(n) => n,
        }
    }

    /// The kind of cut with another number of parts.
    pub fn with_count(self, n: usize) -> Split {
        match self {
            _ if n <= 1 => Split::One,
            Split::One => Split::One,
            Split::Equal(_) => Split::Equal(n),
            Split::Ragged(_) => Split::Ragged(n),
            Split::Empty(_) => Split::Empty(n),
            Split::Overlap(_) => Split::Overlap(n),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Split::One => f.write_str("one"),
            Split::Equal(n) => write!(f, "equal-{n}"),
            Split::Ragged(n) => write!(f, "ragged-{n}"),
            Split::Empty(n) => write!(f, "empty-{n}"),
            Split::Overlap(n) => write!(f, "overlap-{n}"),
        }
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is none of one, equal-N, ragged-N, empty-N, overlap-N (N to 1024)")
        };
        if text == "one" {
            return Ok(Split::One);
        }
        let (name, count) = text.split_once('-').ok_or_else(wrong)?;
        let count = count.parse().ok().filter(|n| (1..=1024).contains(n));
        let count = count.ok_or_else(wrong)?;
        match name {
            "equal" => Ok(Split::Equal(count)),
            "ragged" => Ok(Split::Ragged(count)),
            "empty" => Ok(Split::Empty(count)),
            "overlap" => Ok(Split::Overlap(count)),
            _ => Err(wrong()),
        }
    }
}

/// A plain list of names, both ways.
macro_rules! names {
    ($type:ident: $($variant:ident = $name:literal),* $(,)?) => {
        impl $type {
            pub const ALL: &'static [$type] = &[$($type::$variant),*];

            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = $type::ALL.iter().find(|value| value.name() == text);
                found.copied().ok_or_else(|| {
                    let names: Vec<&str> = $type::ALL.iter().map(|value| value.name()).collect();
                    format!("{text:?} is none of {}", names.join(", "))
                })
            }
        }
    };
}

names!(State: Present = "present", Untouched = "untouched", Absent = "absent", File = "file",
    Swapped = "swapped", ReadOnly = "read-only", Hole = "hole", Revoked = "revoked");
names!(Mode: Inline = "inline", Async = "async", Link = "link", Hardlink = "hardlink",
    Drain = "drain", Skip = "skip-success");
names!(RingMode: Plain = "plain", Sqpoll = "sqpoll", Defer = "defer-taskrun", Coop = "coop",
    NoSqarray = "no-sqarray", Sqe128 = "sqe128", SqeMixed = "sqe-mixed", Cqe32 = "cqe32");

impl Mode {
    /// IOSQE_ASYNC for a request that is alone and goes to a worker, else none.
    pub fn worker_flag(self) -> u8 {
        match self {
            Mode::Async => super::bench::ASYNC,
            _ => 0,
        }
    }
}

impl RingMode {
    pub fn options(self) -> RingOptions {
        match self {
            RingMode::Plain => RingOptions::default(),
            mode => mode.name().parse().expect("the names are the options'"),
        }
    }
}

impl Side {
    pub fn plain(kind: BufferType) -> Self {
        Side {
            kind,
            offset: 0,
            split: Split::One,
            pages: match kind {
                BufferType::Kfixed => PageKind::Kernel,
                _ => PageKind::Base,
            },
            state: State::Present,
        }
    }

    pub fn has_iovecs(&self) -> bool {
        matches!(self.kind, BufferType::Vec | BufferType::RegVec)
    }

    /// Whether its bytes lie in the pages of a block request.
    pub fn is_kernel(&self) -> bool {
        self.pages == PageKind::Kernel
    }

    pub fn is_registered(&self) -> bool {
        matches!(
            self.kind,
            BufferType::Fixed | BufferType::RegVec | BufferType::Kfixed
        )
    }
}

impl Transfer {
    pub fn new(work: Work) -> Self {
        Transfer {
            work,
            from: work.has_source().then(|| Side::plain(BufferType::User)),
            to: work
                .has_destination()
                .then(|| Side::plain(BufferType::User)),
            len: 4096,
            ring: RingMode::Plain,
            mode: Mode::Inline,
            variant: Variant::Sleepable,
        }
    }

    pub fn sides(&self) -> impl Iterator<Item = &Side> {
        self.from.iter().chain(&self.to)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = Side::plain(self.kind);
        let mut keys = Vec::new();
        if self.offset != plain.offset {
            keys.push(format!("offset={}", self.offset));
        }
        if self.split != plain.split {
            keys.push(format!("split={}", self.split));
        }
        if self.pages != plain.pages {
            keys.push(format!("pages={}", self.pages.name()));
        }
        if self.state != plain.state {
            keys.push(format!("state={}", self.state.name()));
        }
        match keys.is_empty() {
            true => write!(f, "{}", self.kind),
            false => write!(f, "{}:{}", self.kind, keys.join(",")),
        }
    }
}

impl FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, keys) = text.split_once(':').unwrap_or((text, ""));
        let kind = BufferType::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| format!("no buffer type {name:?}"))?;
        let mut side = Side::plain(kind);
        for pair in keys.split(',').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("offset", value)) => {
                    side.offset = parse_size(value).map_err(|error| error.to_string())?;
                    if side.offset >= 4096 {
                        return Err(format!("offset={value} is not inside of the first page"));
                    }
                }
                Some(("split", value)) => side.split = value.parse()?,
                Some(("state", value)) => side.state = value.parse()?,
                Some(("pages", value)) => {
                    side.pages = PageKind::ALL
                        .into_iter()
                        .find(|pages| pages.name() == value)
                        .ok_or_else(|| {
                            format!("pages={value} is none of base, thp, huge, kernel")
                        })?;
                }
                _ => {
                    return Err(format!(
                        "{pair:?} is none of offset=, split=, pages=, state="
                    ));
                }
            }
        }
        Ok(side)
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.work.name())?;
        if let Some(from) = &self.from {
            write!(f, " from={from}")?;
        }
        if let Some(to) = &self.to {
            write!(f, " to={to}")?;
        }
        write!(f, " len={}", self.len)?;
        if self.ring != RingMode::Plain {
            write!(f, " ring={}", self.ring.name())?;
        }
        if self.mode != Mode::Inline {
            write!(f, " mode={}", self.mode.name())?;
        }
        f.write_str(match self.variant {
            Variant::Sleepable => "",
            Variant::NonSleepable => " non-sleepable",
            Variant::WithoutKfuncs => " without-kfuncs",
        })
    }
}

impl FromStr for Transfer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let work = Work::ALL.into_iter().find(|work| work.name() == name);
        let mut transfer = Transfer::new(work.ok_or_else(|| format!("no program {name:?}"))?);
        for word in words {
            match word.split_once('=') {
                Some(("from", side)) if transfer.from.is_some() => {
                    transfer.from = Some(side.parse()?);
                }
                Some(("to", side)) if transfer.to.is_some() => transfer.to = Some(side.parse()?),
                Some(("len", len)) => {
                    transfer.len = parse_size(len).map_err(|error| error.to_string())?;
                    if transfer.len > crate::submission::MAX_REQUEST {
                        return Err(format!("len={len}: one request is at most 64M"));
                    }
                }
                Some(("ring", ring)) => transfer.ring = ring.parse()?,
                Some(("mode", mode)) => transfer.mode = mode.parse()?,
                None if word == "non-sleepable" => transfer.variant = Variant::NonSleepable,
                None if word == "without-kfuncs" => transfer.variant = Variant::WithoutKfuncs,
                _ => {
                    return Err(format!(
                        "{word:?} is none of from=, to=, len=, ring=, mode=, non-sleepable, \
                         without-kfuncs"
                    ));
                }
            }
        }
        if !super::shapes::is_possible(&transfer) {
            return Err(format!("{transfer}: these do not go together"));
        }
        Ok(transfer)
    }
}
