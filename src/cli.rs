// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The command line: the one place that names commands, options and what they
//! mean. Help, man pages and completions come from here.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench::plan::{self, Kind, Selection};
use crate::blockdev::{BlockAlgorithm, LARGEST_GROUP, MAX_DEPTH};
use crate::error::Failure;
use crate::kernel::Overrides;
use crate::repro::catalog::{self, Defect};
use crate::spec::{BufferSpec, BufferType, RingOptions, SqeOptions, parse_size};
use crate::stress::plan::Place;
use crate::ublk::Registration;

/// Runs BPF programs over the buffers of io_uring requests (IORING_OP_BPF) and
/// verifies every byte.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80, arg_required_else_help = false)]
#[command(after_help = "\
BUF is TYPE[:KEY=VALUE,…]. Types: user, fixed, vec, kfixed, reg-vec, arena.
Keys: len (bytes; K, M, G), offset (into its first page), iovs (a count, or
sizes: 512+4096+1), index (slot in the buffer table), at (offset inside the
registered buffer), pages (base, huge, thp; kernel: reg-vec over a buffer that
the kernel registered). kfixed and pages=kernel are the pages of block requests,
which come through a ublk device made for the run: --depth of them at once, or
one where there are iovs, which in kfixed are those of the block I/O.

Exit status: 0 all as expected, 1 the kernel or the data was wrong, 2 bad
arguments, 3 something else failed, 4 the kernel lacks what is needed, 130
interrupted.")]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// How results are printed: text for people, or one JSON object per line
    #[arg(long, value_enum, default_value_t, global = true)]
    pub format: Format,
    /// Print results only when something is wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more: causes of errors, then the verifier's log
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Use this instead of what the kernel says: opcode=N, setup-flag=VALUE; or do without the
    /// kfuncs that a kernel need not have: kfuncs=off
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = parse_override)]
    pub kernel_flag: Vec<Override>,
}

impl GlobalArgs {
    /// What clap cannot refuse: a kernel flag that is given twice.
    pub fn check(&self) -> Result<(), Failure> {
        let kinds = self.kernel_flag.iter().map(std::mem::discriminant);
        let different: HashSet<_> = kinds.collect();
        if different.len() < self.kernel_flag.len() {
            return Err(Failure::usage(
                "--kernel-flag: the same flag is given twice",
            ));
        }
        Ok(())
    }

    /// The kernel flags as they are given again, each behind a blank.
    pub fn kernel_flags(&self) -> String {
        let flag = |flag: &Override| match flag {
            Override::Opcode(opcode) => format!(" --kernel-flag opcode={opcode}"),
            Override::SetupFlag(flag) => format!(" --kernel-flag setup-flag={flag:#x}"),
            Override::WithoutKfuncs => " --kernel-flag kfuncs=off".to_string(),
        };
        self.kernel_flag.iter().map(flag).collect()
    }

    pub fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        for flag in &self.kernel_flag {
            match flag {
                Override::Opcode(opcode) => overrides.opcode = Some(*opcode),
                Override::SetupFlag(flag) => overrides.setup_flag = Some(*flag),
                Override::WithoutKfuncs => overrides.without_kfuncs = true,
            }
        }
        overrides
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Human,
    Json,
    /// Test protocol of the kernel's selftests; for `smoke`
    Ktap,
}

/// One `--kernel-flag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Override {
    Opcode(u8),
    SetupFlag(u32),
    WithoutKfuncs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what this kernel has of what is needed
    #[command(after_help = "\
Exit status: 0 the main job can run, whatever differs, 2 bad arguments, 3
something else failed, 4 it cannot run, for want of what the last line names.")]
    Probe(ProbeArgs),
    /// Copy between two buffers, or a file to another
    Copy(CopyArgs),
    /// Checksum a buffer, or files
    Checksum(ChecksumArgs),
    /// Write a pattern to a buffer, or a file
    Fill(FillArgs),
    /// Show the chunks that the kernel's iterator hands out for a buffer
    Chunks(ChunksArgs),
    /// Test everything that this kernel's IORING_OP_BPF must do and refuse
    Smoke(SmokeArgs),
    /// Run random operations from a seed, with teardown at the worst moment
    #[command(after_help = "\
Exit status: 0 nothing was wrong, 1 a result, the kernel's log or what is left
behind was wrong, 2 bad arguments, 3 something else failed, 4 the kernel lacks
the opcode, 130 interrupted.")]
    Stress(StressArgs),
    /// Look for the known defects of kernels with IORING_OP_BPF
    #[command(after_help = "\
list explains each defect in three lines; run says of each whether this kernel
has it: present, absent, or cannot tell and why.

Exit status: 0 no defect is present, 1 some are present, 2 bad arguments, 3
something else failed, 4 the kernel lacks the opcode, 130 interrupted. What
cannot be told fails nothing.")]
    Repro(ReproArgs),
    /// Do block I/O for the commands that have kernel buffers
    #[command(hide = true)]
    Client,
    /// Serve a block device that checks every block
    #[command(
        override_usage = "uringbpf ublk [OPTIONS] --size SIZE\n       uringbpf ublk [OPTIONS] --backing FILE [--size SIZE]\n       uringbpf ublk --cleanup"
    )]
    Ublk(UblkArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Write the man pages
    Man(ManArgs),
    /// Measure throughput and cost per request against baselines
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Compare this kernel with a revision of the interface: names, numbers, layouts, kfuncs, and
    /// which commands work
    #[arg(long, value_enum, value_name = "SPEC")]
    pub compare: Option<Compare>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compare {
    /// The second posting, of which little is known
    V2,
    /// The third posting
    V3,
    /// kernel/patches
    Reference,
    /// Each of them
    All,
}

/// How requests are made and submitted, for commands on buffers.
#[derive(Debug, Clone, Args)]
pub struct RequestArgs {
    /// Ring options: sqpoll, defer-taskrun, single-issuer, no-sqarray, sqe128, sqe-mixed, cqe32, coop
    #[arg(long, value_name = "OPTION,…")]
    pub ring: Option<RingOptions>,
    /// Have the requests issued by a worker thread (IOSQE_ASYNC)
    #[arg(long = "async")]
    pub asynchronous: bool,
    /// Link requests that depend on one another (IOSQE_IO_LINK)
    #[arg(long, conflicts_with = "hardlink")]
    pub link: bool,
    /// Hard-link requests that depend on one another (IOSQE_IO_HARDLINK)
    #[arg(long)]
    pub hardlink: bool,
    /// Drain the ring before each request (IOSQE_IO_DRAIN)
    #[arg(long)]
    pub drain: bool,
    /// Requests in flight: 1 for buffers, 8 blocks for files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub depth: Option<u32>,
    /// Load programs that must not sleep, even where the kernel takes others;
    /// they cannot wait for the ring's lock, as a worker thread would have to
    #[arg(long, conflicts_with_all = ["asynchronous", "drain"])]
    pub non_sleepable: bool,
    /// Have the kernel register the pages of block requests by itself
    /// (UBLK_F_AUTO_BUF_REG); without, it is asked to, request by request
    #[arg(long)]
    pub auto_buf_reg: bool,
    /// Repeat a run: what it printed as its seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl RequestArgs {
    /// Requests in flight on buffers.
    pub fn depth(&self) -> usize {
        self.depth.unwrap_or(1) as usize
    }

    /// Who registers the pages of block requests.
    pub fn registration(&self) -> Registration {
        match self.auto_buf_reg {
            true => Registration::Auto,
            false => Registration::Manual,
        }
    }

    pub fn ring_options(&self) -> RingOptions {
        self.ring.unwrap_or_default()
    }

    pub fn sqe_options(&self) -> SqeOptions {
        SqeOptions {
            asynchronous: self.asynchronous,
            link: self.link,
            hardlink: self.hardlink,
            drain: self.drain,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    override_usage = "uringbpf copy [OPTIONS] --from BUF --to BUF\n       uringbpf copy [OPTIONS] SOURCE DEST"
)]
pub struct CopyArgs {
    /// Buffer to read
    #[arg(long, value_name = "BUF", requires = "to", conflicts_with_all = ["source", "dest"])]
    pub from: Option<BufferSpec>,
    /// Buffer to write
    #[arg(long, value_name = "BUF", requires = "from")]
    pub to: Option<BufferSpec>,
    /// Copy in two requests, through an arena
    #[arg(long, value_enum, requires = "from")]
    pub via: Option<Via>,
    /// File to read
    #[arg(required_unless_present = "from", requires = "dest")]
    pub source: Option<PathBuf>,
    /// File to make identical to it
    #[arg(required_unless_present = "from")]
    pub dest: Option<PathBuf>,
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub request: RequestArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Via {
    Arena,
}

/// How files are read and written.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// Bytes of a file that one request handles
    #[arg(long, value_name = "SIZE", default_value = "256K", value_parser = parse_block)]
    pub block: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum Algorithm {
    #[default]
    Crc32c,
    Xxh64,
    Adler32,
    /// XOR of the 64-bit little-endian words: RAID parity
    Xor64,
}

impl Algorithm {
    pub const ALL: [Algorithm; 4] = [
        Algorithm::Crc32c,
        Algorithm::Xxh64,
        Algorithm::Adler32,
        Algorithm::Xor64,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32c => "crc32c",
            Algorithm::Xxh64 => "xxh64",
            Algorithm::Adler32 => "adler32",
            Algorithm::Xor64 => "xor64",
        }
    }

    /// Hexadecimal digits of a digest.
    pub fn digits(self) -> usize {
        match self {
            Algorithm::Crc32c | Algorithm::Adler32 => 8,
            Algorithm::Xxh64 | Algorithm::Xor64 => 16,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    override_usage = "uringbpf checksum [OPTIONS] --from BUF\n       uringbpf checksum [OPTIONS] FILE…"
)]
pub struct ChecksumArgs {
    /// Which checksum
    #[arg(short, long, value_enum, default_value_t)]
    pub algorithm: Algorithm,
    /// Buffer to checksum
    #[arg(long, value_name = "BUF", conflicts_with_all = ["files", "check"])]
    pub from: Option<BufferSpec>,
    /// Read checksums from the files and check them
    #[arg(short, long)]
    pub check: bool,
    /// Files to checksum
    #[arg(required_unless_present = "from", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub file: FileArgs,
    #[command(flatten)]
    pub request: RequestArgs,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "uringbpf fill [OPTIONS] --to BUF\n       uringbpf fill [OPTIONS] FILE --len SIZE"
)]
pub struct FillArgs {
    /// Buffer to fill
    #[arg(long, value_name = "BUF", conflicts_with_all = ["file", "len"])]
    pub to: Option<BufferSpec>,
    /// File to write
    #[arg(required_unless_present = "to", requires = "len")]
    pub file: Option<PathBuf>,
    /// Bytes of the file
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "file")]
    pub len: Option<u64>,
    /// What to write
    #[command(flatten)]
    pub pattern: PatternArgs,
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub request: RequestArgs,
}

#[derive(Debug, Clone, Copy, Args)]
#[group(multiple = false)]
pub struct PatternArgs {
    /// This byte everywhere (the default, 0xa5)
    #[arg(long, value_name = "N", value_parser = parse_byte)]
    pub byte: Option<u8>,
    /// This 64-bit word, little endian
    #[arg(long, value_name = "N", value_parser = parse_word)]
    pub word: Option<u64>,
    /// 64-bit words that count up from N
    #[arg(long, value_name = "N", value_parser = parse_word, num_args = 0..=1, default_missing_value = "0")]
    pub counter: Option<u64>,
    /// Pseudo-random words from the seed N
    #[arg(long, value_name = "N", value_parser = parse_word, num_args = 0..=1, default_missing_value = "0")]
    pub random: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ChunksArgs {
    /// Buffer to look at
    #[arg(value_name = "BUF")]
    pub buffer: BufferSpec,
    #[command(flatten)]
    pub request: RequestArgs,
}

#[derive(Debug, Args)]
pub struct SmokeArgs {
    /// Fewer values of everything: some seconds
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// All combinations, and a look at resources after each case: hours
    #[arg(long)]
    pub full: bool,
    /// Only cases whose `GROUP: NAME` contains this; may be given again
    #[arg(long, value_name = "TEXT")]
    pub filter: Vec<String>,
    /// Only this case, in the words of --list
    #[arg(long, value_name = "NAME", conflicts_with_all = ["filter", "quick", "full"])]
    pub case: Option<String>,
    /// Print the cases and run none
    #[arg(long)]
    pub list: bool,
    /// Repeat a run: what it printed as its seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub struct StressArgs {
    /// Repeat a run: what it printed as its seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How long operations are begun, in seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub seconds: u64,
    /// Threads of each process
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub threads: u8,
    /// Processes; with all their threads 16 at the most
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub processes: u8,
    /// Print the first N operations of each thread, and run none
    #[arg(long, value_name = "N", conflicts_with = "only")]
    pub list: Option<u64>,
    /// Run only this operation, once, as a failure names it
    #[arg(long, value_name = "PROCESS.THREAD.NUMBER", value_parser = parse_operation_name)]
    pub only: Option<(Place, u64)>,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
}

fn parse_operation_name(text: &str) -> Result<(Place, u64), String> {
    let parts: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([process, thread, number]) => {
            let (process, thread) = (*process as usize, *thread as usize);
            Ok((Place { process, thread }, *number))
        }
        _ => Err("three numbers are wanted: PROCESS.THREAD.NUMBER".to_string()),
    }
}

#[derive(Debug, Args)]
pub struct ReproArgs {
    /// What to do
    #[arg(value_enum)]
    pub action: ReproAction,
    /// Only these: D1 to D14, X1
    #[arg(value_name = "DEFECT", value_parser = catalog::named)]
    pub defects: Vec<&'static Defect>,
    /// Also do what can take the machine down, or leave a process behind that cannot be killed
    #[arg(long)]
    pub dangerous: bool,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReproAction {
    /// Explain the defects
    List,
    /// Say of each whether this kernel has it
    Run,
}

#[derive(Debug, Args)]
pub struct UblkArgs {
    /// Bytes of the device: of memory, all taken at the start, or of a backing file that is new
    #[arg(long, value_name = "SIZE", value_parser = parse_size, required_unless_present_any = ["backing", "cleanup"])]
    pub size: Option<u64>,
    /// File that holds the data; its checksums are kept beside it, in
    /// FILE.uringbpf-sums
    #[arg(long, value_name = "FILE")]
    pub backing: Option<PathBuf>,
    /// Bytes of a block, each of which has a checksum: 512, 1K, 2K or 4K
    #[arg(long, value_name = "SIZE", default_value = "4096", value_parser = parse_device_block)]
    pub block: u32,
    /// Which checksum
    #[arg(short, long, value_enum, default_value_t)]
    pub algorithm: BlockAlgorithm,
    /// Keep a parity block for each group of so many blocks, up to 64, and rebuild from it a block
    /// that is not what was written; a file's is kept in FILE.uringbpf-parity
    #[arg(long, value_name = "N", default_value = "none", value_parser = parse_parity)]
    pub parity: u32,
    /// Queues, each of which has a ring and a thread of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub queues: u16,
    /// Requests in flight in each queue
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=MAX_DEPTH as i64))]
    pub depth: u16,
    /// Register each request's pages by hand, not by UBLK_F_AUTO_BUF_REG
    #[arg(long)]
    pub register: bool,
    /// Load programs that must not sleep, even where the kernel takes others
    #[arg(long)]
    pub non_sleepable: bool,
    /// Remove the devices that a uringbpf which was killed has left, and end
    #[arg(long, exclusive = true)]
    pub cleanup: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where to; made where it is missing
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Measure only these kinds of work
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,…")]
    pub work: Vec<Kind>,
    /// Only these buffer types: user, fixed, vec, reg-vec, arena
    #[arg(long = "type", value_delimiter = ',', value_name = "TYPE,…", value_parser = parse_bench_type)]
    pub types: Vec<BufferType>,
    /// Bytes of a request
    #[arg(long = "size", value_delimiter = ',', value_name = "SIZE,…", value_parser = parse_bench_size)]
    pub sizes: Vec<u64>,
    /// Requests submitted together, 1 to 64
    #[arg(long = "depth", value_delimiter = ',', value_name = "N,…", value_parser = parse_bench_depth)]
    pub depths: Vec<usize>,
    /// Link the requests that are submitted together
    #[arg(long)]
    pub link: bool,
    /// Rings at once, each with a thread of its own
    #[arg(long, value_name = "N", value_parser = parse_bench_depth)]
    pub rings: Option<usize>,
    /// Rounds of each case, in alternation with its baseline
    #[arg(long, value_name = "N", default_value = "11", value_parser = parse_rounds)]
    pub rounds: usize,
    /// Milliseconds of a round
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub time: u64,
    /// Draw throughput and time over size into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Only the figures of docs/performance.md: nanoseconds, which are
    /// instructions where the clock counts them (make bench)
    #[arg(long, conflicts_with_all = ["work", "types", "sizes", "depths", "link", "rings", "svg"])]
    pub yardstick: bool,
    /// The figures per page over requests of one page to 64 MiB, as text
    #[arg(long, conflicts_with_all = ["work", "types", "sizes", "depths", "link", "rings", "svg", "yardstick"])]
    pub scaling: bool,
    /// The memory that the kernel allocates for a request of each kind, once
    /// the ring is warm (needs tracefs); status 1 if it is any
    #[arg(long, conflicts_with_all = ["work", "types", "sizes", "depths", "link", "rings", "svg", "yardstick", "scaling"])]
    pub allocations: bool,
    /// Say what changed between two runs (--format json); status 1 if anything is slower
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with_all = ["work", "types", "sizes", "depths", "link", "rings", "svg", "yardstick", "scaling", "allocations"])]
    pub compare: Vec<PathBuf>,
}

impl BenchArgs {
    pub fn selection(&self) -> Selection {
        Selection {
            kinds: self.work.clone(),
            types: self.types.clone(),
            sizes: self.sizes.clone(),
            depths: self.depths.clone(),
            linked: self.link,
            rings: self.rings,
        }
    }
}

fn parse_bench_type(text: &str) -> Result<BufferType, String> {
    let known = plan::TYPES.into_iter().find(|kind| kind.name() == text);
    known.ok_or_else(|| format!("{text:?} is none of user, fixed, vec, reg-vec, arena"))
}

fn parse_bench_size(text: &str) -> Result<u64, String> {
    bounded(text, 1, 64 << 20)
}

fn parse_bench_depth(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(depth @ 1..=64) => Ok(depth),
        _ => Err(format!("{text} is not from 1 to 64")),
    }
}

fn parse_rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rounds @ 1..=10_000) => Ok(rounds),
        _ => Err(format!("{text} is not from 1 to 10000")),
    }
}

fn parse_override(text: &str) -> Result<Override, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    if name == "kfuncs" {
        return match value {
            "off" => Ok(Override::WithoutKfuncs),
            _ => Err(format!("kfuncs={value}: only kfuncs=off has a meaning")),
        };
    }
    let number = parse_word(value)?;
    let range = || format!("{value} is out of range");
    match name {
        "opcode" => u8::try_from(number)
            .map(Override::Opcode)
            .map_err(|_| range()),
        "setup-flag" => match u32::try_from(number) {
            Ok(flag) if flag.is_power_of_two() => Ok(Override::SetupFlag(flag)),
            _ => Err(format!("{value} is not one bit of 32")),
        },
        _ => Err(format!(
            "no kernel flag {name:?}; they are opcode, setup-flag, kfuncs"
        )),
    }
}

/// A number, decimal or with 0x.
fn parse_word(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
        _ if text.starts_with('+') => return Err(format!("{text:?} is no 64-bit number")),
        _ => text.parse(),
    };
    number.map_err(|_| format!("{text:?} is no 64-bit number"))
}

fn parse_byte(text: &str) -> Result<u8, String> {
    u8::try_from(parse_word(text)?).map_err(|_| format!("{text} is no byte (0 to 255)"))
}

fn parse_block(text: &str) -> Result<u64, String> {
    bounded(text, 4096, 16 << 20)
}

fn parse_device_block(text: &str) -> Result<u32, String> {
    let size = bounded(text, 512, 4096)? as u32;
    if !size.is_power_of_two() {
        return Err(format!("{text} is none of 512, 1K, 2K, 4K"));
    }
    Ok(size)
}

/// Blocks of a group; 0 for none.
fn parse_parity(text: &str) -> Result<u32, String> {
    match text.parse() {
        _ if text == "none" => Ok(0),
        Ok(blocks @ 0..=LARGEST_GROUP) => Ok(blocks),
        _ => Err(format!(
            "{text} is neither none nor from 1 to {LARGEST_GROUP}"
        )),
    }
}

fn bounded(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let size = parse_size(text).map_err(|error| error.to_string())?;
    if !(least..=most).contains(&size) {
        return Err(format!("{text} is not from {least} to {most} bytes"));
    }
    Ok(size)
}
