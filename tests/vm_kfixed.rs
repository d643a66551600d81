// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Buffers that the kernel registers, the pages of block requests: needs a
//! kernel with IORING_OP_BPF and ublk zero copy.
//!
//! Random cases come from a seed, printed, and taken from URINGBPF_SEED;
//! URINGBPF_SHAPES says how many of each job there are (default 4; 200 are a
//! thorough run).

use std::path::Path;
use std::sync::OnceLock;

use uringbpf::block_layout::LARGEST_REQUEST;
use uringbpf::kernel::{Kernel, Overrides};
use uringbpf::kernel_buffer::set_client_program;
use uringbpf::layout::{Random, Shape};
use uringbpf::operation::{Operand, Setup, checksum, chunks, copy, fill};
use uringbpf::oracle::{self, Fill};
use uringbpf::spec::{BufferSpec, BufferType, PageKind, RingOptions, SqeOptions};
use uringbpf::ublk::Registration;

const REASON: &str = "a kernel buffer works";
/// Read once: that takes as long as a job.
static KERNEL: OnceLock<Kernel> = OnceLock::new();

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number(
        "URINGBPF_SEED",
        now.map_or(1, |since| since.as_nanos() as u64),
    );
    eprintln!("URINGBPF_SEED={seed}");
    seed
}

fn shapes() -> u64 {
    number("URINGBPF_SHAPES", 4)
}

fn setup(random: &mut Random) -> Setup {
    set_client_program(Path::new(env!("CARGO_BIN_EXE_uringbpf")));
    uringbpf::bpf_log::capture(2);
    let rings = [
        "",
        "",
        "defer-taskrun",
        "no-sqarray",
        "sqe128,cqe32",
        "sqpoll",
        "coop",
    ];
    let ring: RingOptions = match rings[random.below(rings.len() as u64) as usize] {
        "" => RingOptions::default(),
        options => options.parse().expect("ring options"),
    };
    Setup {
        kernel: KERNEL
            .get_or_init(|| Kernel::read(Overrides::default()))
            .clone(),
        ring,
        sqe: SqeOptions {
            asynchronous: random.below(4) == 0,
            ..SqeOptions::default()
        },
        depth: [1, 1, 2, 5, 16][random.below(5) as usize],
        seed: random.next(),
        non_sleepable: false,
        registration: [Registration::Manual, Registration::Auto][random.below(2) as usize],
    }
}

fn random_len(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.below(10),
        1 => (1 + random.below(8)) * 512,
        2 => random.below(3 * 4096),
        3 => random.below(256 << 10),
        // The largest requests, and some that take several.
        4 => LARGEST_REQUEST - 1024 + random.below(1025) - random.below(2) * 8192,
        _ => random.below(6 << 20),
    }
}

/// A kernel buffer, by the command line's own grammar.
fn kernel_operand(len: u64, random: &mut Random) -> Operand {
    let largest = LARGEST_REQUEST - (64 << 10);
    let offset = [0, 512, 511, random.below(4096)][random.below(4) as usize];
    let at = [0, 0, 512, random.below(10_000)][random.below(4) as usize];
    let count = [1, 2, 3, 9, 40][random.below(5) as usize];
    let wanted = match random.below(3) {
        0 if len <= largest => format!("reg-vec:pages=kernel,offset={offset},at={at},iovs={count}"),
        1 if len <= largest => format!("kfixed:offset={offset},at={at},iovs={count}"),
        _ => format!("kfixed:offset={offset},at={at}"),
    };
    let spec: BufferSpec = wanted.parse().expect("a specification");
    let shape = spec.shape(len, 0, random.next());
    // Too short for so many iovecs.
    let shape = shape.unwrap_or_else(|_| {
        let plain: BufferSpec = "kfixed".parse().expect("a specification");
        plain.shape(len, 0, 0).expect("any length")
    });
    Operand {
        shape,
        pages: PageKind::Kernel,
    }
}

/// Any buffer that is not the kernel's.
fn user_operand(len: u64, random: &mut Random) -> Operand {
    let kinds = [
        BufferType::User,
        BufferType::Fixed,
        BufferType::Vec,
        BufferType::RegVec,
        BufferType::Arena,
    ];
    let kind = kinds[random.below(5) as usize];
    let spec = BufferSpec::new(kind);
    let mut shape = spec.shape(len, 0, random.next()).expect("any length");
    shape.offset = random.below(4096);
    Operand {
        shape,
        pages: PageKind::Base,
    }
}

/// Behind the slots of the other one.
fn behind(mut operand: Operand, other: &Operand, depth: usize) -> Operand {
    let parts = uringbpf::operation::parts(&[other, &operand], depth).len();
    operand.shape.index = other.slots(parts) as u16;
    operand
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn random_copies_from_and_to_kernel_buffers_are_exact() {
    let mut random = Random(seed());
    for round in 0..shapes() {
        let setup = setup(&mut random);
        let len = random_len(&mut random);
        let (from, to) = match random.below(3) {
            0 => (
                kernel_operand(len, &mut random),
                user_operand(len, &mut random),
            ),
            1 => (
                user_operand(len, &mut random),
                kernel_operand(len, &mut random),
            ),
            _ => (
                kernel_operand(len, &mut random),
                kernel_operand(len, &mut random),
            ),
        };
        let to = behind(to, &from, setup.depth);
        let via = random.below(4) == 0;
        if let Err(failure) = copy::run(&setup, &from, &to, via) {
            panic!(
                "copy {round}: {failure}\n  from {from:?}\n  to {to:?}\n  {setup:?}\n  via {via}"
            );
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn random_checksums_of_kernel_buffers_are_those_of_user_space() {
    let mut random = Random(seed());
    for round in 0..shapes() {
        let setup = setup(&mut random);
        let len = random_len(&mut random);
        let from = kernel_operand(len, &mut random);
        for algorithm in uringbpf::cli::Algorithm::ALL {
            // One of them, but every one in turn.
            if round % 4 != algorithm as u64 {
                continue;
            }
            let summed = checksum::run(&setup, &from, algorithm.name())
                .unwrap_or_else(|failure| panic!("{round}: {failure}\n  {from:?}\n  {setup:?}"));
            let expected = oracle::digest_of_pattern(algorithm, setup.seed, len);
            assert_eq!(summed.digest, expected, "{round}: {from:?}\n  {setup:?}");
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn random_fills_of_kernel_buffers_reach_the_client() {
    let mut random = Random(seed());
    for round in 0..shapes() {
        let setup = setup(&mut random);
        let len = random_len(&mut random);
        let to = kernel_operand(len, &mut random);
        let word = random.next();
        let fill = match round % 4 {
            0 => Fill::Byte(word as u8),
            1 => Fill::Word(word),
            2 => Fill::Counter(word),
            _ => Fill::Random(word),
        };
        let write = |position, bytes: &mut [u8]| fill.write(position, bytes);
        fill::run(&setup, &to, fill.operation(), fill.argument(), write)
            .unwrap_or_else(|failure| panic!("{round}: {failure}\n  {to:?}\n  {setup:?}"));
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn random_kernel_buffers_come_in_the_chunks_of_their_layout() {
    let mut random = Random(seed());
    for round in 0..shapes() {
        let setup = setup(&mut random);
        let from = kernel_operand(random_len(&mut random), &mut random);
        let listing = chunks::run(&setup, &from)
            .unwrap_or_else(|failure| panic!("{round}: {failure}\n  {from:?}\n  {setup:?}"));
        assert_eq!(listing.wrong, None, "{round}: {from:?}\n  {setup:?}");
        assert_eq!(listing.bytes, from.shape.len());
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn the_smallest_and_the_largest_request_pass() {
    let mut random = Random(1);
    for registration in [Registration::Manual, Registration::Auto] {
        for (len, offset) in [
            (512, 0),
            (512, 3584),
            (1 << 20, 512),
            (LARGEST_REQUEST - 1024, 512),
        ] {
            let setup = Setup {
                registration,
                depth: 1,
                ..setup(&mut random)
            };
            let shape = |index| Shape {
                kind: BufferType::Kfixed,
                segments: vec![len],
                offset,
                index,
                at: 0,
            };
            let operand = |index| Operand {
                shape: shape(index),
                pages: PageKind::Kernel,
            };
            let copied = copy::run(&setup, &operand(0), &operand(1), false).expect(REASON);
            assert_eq!((copied.bytes, copied.requests), (len, 1));
        }
    }
}
