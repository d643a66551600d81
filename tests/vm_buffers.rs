// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Buffers through the kernel's iterators: needs a kernel with IORING_OP_BPF.
//!
//! Random cases come from a seed, printed, and taken from URINGBPF_SEED.

use uringbpf::kernel::{Kernel, Overrides};
use uringbpf::layout::{Random, Shape};
use uringbpf::operation::{Operand, Setup, checksum, chunks, copy, fill};
use uringbpf::pattern;
use uringbpf::ring::Ring;
use uringbpf::spec::{BufferType, PageKind, RingOptions, SqeOptions};
use uringbpf::ublk::Registration;

const TYPES: [BufferType; 5] = [
    BufferType::User,
    BufferType::Fixed,
    BufferType::Vec,
    BufferType::RegVec,
    BufferType::Arena,
];

fn seed() -> u64 {
    let seed = match std::env::var("URINGBPF_SEED") {
        Ok(text) => text.parse().expect("URINGBPF_SEED is a number"),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64),
    };
    eprintln!("URINGBPF_SEED={seed}");
    seed
}

fn setup(seed: u64) -> Setup {
    // What the verifier says about a program that it refuses.
    uringbpf::bpf_log::capture(2);
    Setup {
        kernel: Kernel::read(Overrides::default()),
        ring: RingOptions::default(),
        sqe: SqeOptions::default(),
        depth: 1,
        seed,
        non_sleepable: false,
        registration: Registration::default(),
    }
}

fn plain(kind: BufferType, len: u64, offset: u64, index: u16) -> Operand {
    Operand {
        shape: Shape {
            kind,
            // REG_VEC takes no empty iovec, but no iovec at all.
            segments: match (kind, len) {
                (BufferType::RegVec, 0) => Vec::new(),
                _ => vec![len],
            },
            offset,
            index,
            at: 0,
        },
        pages: PageKind::Base,
    }
}

/// A buffer of some length, split if the type has iovecs.
fn random_operand(kind: BufferType, len: u64, index: u16, random: &mut Random) -> Operand {
    let mut operand = plain(kind, len, random.below(4096), index);
    if operand.shape.has_iovecs() {
        operand.shape.segments = random_split(kind, len, random);
    }
    if operand.shape.is_registered() && random.below(3) == 0 {
        operand.shape.at = random.below(10000);
    }
    operand
}

fn random_split(kind: BufferType, len: u64, random: &mut Random) -> Vec<u64> {
    let most = [1, 2, 3, 8, 100, 1024][random.below(6) as usize];
    let mut cuts: Vec<u64> = (1..most).map(|_| random.below(len + 1)).collect();
    cuts.extend([0, len]);
    cuts.sort_unstable();
    let sizes = cuts.windows(2).map(|pair| pair[1] - pair[0]);
    // REG_VEC takes no empty iovec.
    sizes
        .filter(|size| kind == BufferType::Vec || *size > 0)
        .collect()
}

fn random_len(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.below(10),
        1 => random.below(3 * 4096),
        2 => random.below(256 << 10),
        _ => random.below(8 << 20),
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn every_pair_of_types_copies_every_length_around_a_page() {
    let setup = setup(seed());
    for from in TYPES {
        for to in TYPES {
            let offsets = [(0, 0), (1, 4095), (512, 512)];
            let lengths = [0, 1, 7, 4095, 4096, 4097, 12345];
            for (len, (at, to_at)) in lengths.into_iter().zip(offsets.into_iter().cycle()) {
                let source = plain(from, len, at, 0);
                let result = copy::run(&setup, &source, &plain(to, len, to_at, 1), false);
                let copied = result.unwrap_or_else(|failure| {
                    panic!("{from:?} at {at} to {to:?} at {to_at}, {len} bytes: {failure}")
                });
                assert_eq!(copied.bytes, len);
            }
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn random_copies_are_exact_to_the_byte() {
    let seed = seed();
    let base = setup(seed);
    let mut random = Random(seed);
    for number in 0..500 {
        let setup = Setup {
            seed: random.next(),
            depth: [1, 1, 3][random.below(3) as usize],
            ..base.clone()
        };
        let (from, to) = (
            TYPES[random.below(5) as usize],
            TYPES[random.below(5) as usize],
        );
        let len = random_len(&mut random);
        let from = random_operand(from, len, 0, &mut random);
        let to = random_operand(to, len, 1, &mut random);
        let via = random.below(4) == 0;
        if let Err(failure) = copy::run(&setup, &from, &to, via) {
            panic!("copy {number}: {failure}\n  from {from:?}\n  to {to:?}\n  via arena {via}");
        }
    }
}

fn expected_digest(algorithm: &str, seed: u64, len: u64) -> u64 {
    let mut bytes = vec![0; len as usize];
    pattern::fill(seed, 0, &mut bytes);
    match algorithm {
        "crc32c" => u64::from(crc32c::crc32c(&bytes)),
        "xxh64" => xxhash_rust::xxh64::xxh64(&bytes, 0),
        "adler32" => u64::from(adler2::adler32_slice(&bytes)),
        "xor64" => bytes.chunks(8).fold(0, |sum, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sum ^ u64::from_le_bytes(word)
        }),
        other => panic!("{other}"),
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn every_checksum_of_every_type_is_that_of_the_best_crate() {
    let mut random = Random(seed());
    for algorithm in ["crc32c", "xxh64", "adler32", "xor64"] {
        for kind in TYPES {
            for round in 0..5 {
                let len = if round == 0 { 0 } else { random.below(40000) };
                let mut setup = setup(random.next());
                setup.depth = 1 + (round % 3);
                let from = random_operand(kind, len, 0, &mut random);
                let summed = checksum::run(&setup, &from, algorithm)
                    .unwrap_or_else(|failure| panic!("{algorithm} of {from:?}: {failure}"));
                let expected = expected_digest(algorithm, setup.seed, len);
                assert_eq!(summed.digest, expected, "{algorithm} of {from:?}");
            }
        }
    }
}

fn fill_word(operation: &str, word: u64, index: u64) -> u64 {
    match operation {
        "fill_byte" => u64::from_ne_bytes([word as u8; 8]),
        "fill_word" => word,
        "fill_count" => word.wrapping_add(index),
        "fill_random" => {
            Random(word.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))).next()
        }
        other => panic!("{other}"),
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn every_fill_of_every_type_is_exact_over_odd_chunks() {
    let mut random = Random(seed());
    for operation in ["fill_byte", "fill_word", "fill_count", "fill_random"] {
        for kind in TYPES {
            for round in 0..5 {
                let len = if round == 0 { 0 } else { random.below(40000) };
                let mut setup = setup(random.next());
                setup.depth = 1 + (round % 3);
                let word = random.next();
                let to = random_operand(kind, len, 0, &mut random);
                let expected = |position: u64, bytes: &mut [u8]| {
                    for (at, byte) in (position..).zip(bytes) {
                        *byte = fill_word(operation, word, at / 8).to_le_bytes()[(at % 8) as usize];
                    }
                };
                fill::run(&setup, &to, operation, word, expected)
                    .unwrap_or_else(|failure| panic!("{operation} of {to:?}: {failure}"));
            }
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn chunks_are_cut_where_pages_and_segments_end() {
    let mut random = Random(seed());
    for _ in 0..20 {
        let setup = setup(random.next());
        for kind in [
            BufferType::User,
            BufferType::Fixed,
            BufferType::Vec,
            BufferType::RegVec,
        ] {
            let len = random.below(30000);
            let from = random_operand(kind, len, 0, &mut random);
            let listing = chunks::run(&setup, &from).expect("the list is read");
            assert_eq!(listing.wrong, None, "{from:?}");
            assert_eq!(listing.bytes, len);
        }
    }
}

/// What lies in one piece of memory is cut into its pages all the way.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn chunks_of_huge_pages_are_cut_at_every_page() {
    let setup = setup(seed());
    for kind in [BufferType::User, BufferType::Fixed, BufferType::RegVec] {
        for offset in [0, 1, 511, 4095] {
            let mut from = plain(kind, (2 << 20) + 1, offset, 0);
            from.pages = PageKind::Thp;
            let listing = chunks::run(&setup, &from).expect("the list is read");
            assert_eq!(listing.wrong, None, "{from:?}");
            assert_eq!(listing.bytes, (2 << 20) + 1);
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_request_of_64_mib_is_one_request_and_more_is_split() {
    let setup = setup(seed());
    let len = 64 << 20;
    for (from, to) in [
        (BufferType::User, BufferType::Fixed),
        (BufferType::Fixed, BufferType::Arena),
    ] {
        let copied = copy::run(
            &setup,
            &plain(from, len, 5, 0),
            &plain(to, len, 9, 1),
            false,
        )
        .expect("64 MiB copy");
        assert_eq!(copied.requests, 1);
        let copied = copy::run(
            &setup,
            &plain(from, len + 1, 5, 0),
            &plain(to, len + 1, 9, 1),
            false,
        )
        .expect("64 MiB + 1 copy");
        assert_eq!(copied.requests, 2);
    }
    for algorithm in ["crc32c", "xxh64", "adler32", "xor64"] {
        let from = plain(BufferType::User, len + 4097, 3, 0);
        let summed = checksum::run(&setup, &from, algorithm).expect("checksum");
        assert_eq!(
            summed.digest,
            expected_digest(algorithm, setup.seed, len + 4097)
        );
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn every_ring_option_copies_alike() {
    let rings = [
        RingOptions {
            sqpoll: true,
            ..RingOptions::default()
        },
        RingOptions {
            defer_taskrun: true,
            ..RingOptions::default()
        },
        RingOptions {
            single_issuer: true,
            ..RingOptions::default()
        },
        RingOptions {
            no_sqarray: true,
            ..RingOptions::default()
        },
        RingOptions {
            sqe128: true,
            ..RingOptions::default()
        },
        RingOptions {
            cqe32: true,
            ..RingOptions::default()
        },
        RingOptions {
            coop: true,
            ..RingOptions::default()
        },
        RingOptions {
            no_sqarray: true,
            sqe128: true,
            cqe32: true,
            defer_taskrun: true,
            ..RingOptions::default()
        },
    ];
    let base = setup(seed());
    for ring in rings {
        for sqe in sqe_options() {
            let setup = Setup {
                ring,
                sqe,
                depth: 7,
                ..base.clone()
            };
            let from = plain(BufferType::RegVec, 50001, 17, 0);
            let to = plain(BufferType::Vec, 50001, 100, 1);
            for via in [false, true] {
                copy::run(&setup, &from, &to, via).unwrap_or_else(|failure| {
                    panic!("{ring:?} {sqe:?} via arena {via}: {failure}")
                });
            }
        }
    }
}

fn sqe_options() -> [SqeOptions; 5] {
    let none = SqeOptions::default();
    [
        none,
        SqeOptions {
            asynchronous: true,
            ..none
        },
        SqeOptions { link: true, ..none },
        SqeOptions {
            hardlink: true,
            ..none
        },
        SqeOptions {
            drain: true,
            ..none
        },
    ]
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn programs_that_may_not_sleep_copy_resident_memory() {
    let setup = Setup {
        non_sleepable: true,
        ..setup(seed())
    };
    for from in TYPES {
        for to in TYPES {
            let result = copy::run(
                &setup,
                &plain(from, 70000, 1, 0),
                &plain(to, 70000, 2, 1),
                false,
            );
            let copied = result.unwrap_or_else(|failure| panic!("{from:?} to {to:?}: {failure}"));
            assert!(!copied.sleepable);
        }
    }
}

/// A polling thread takes entries when it gets to it: a full wave of them waits
/// for those before it.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_whole_wave_fits_behind_entries_that_nobody_has_taken_yet() {
    const WAVE: usize = 8;
    const ROUNDS: usize = 500;
    let kernel = Kernel::read(Overrides::default());
    for options in ["coop", "sqpoll"] {
        let options: RingOptions = options.parse().expect("ring options");
        let ring = Ring::without_ops(&kernel, &options, WAVE as u32).expect("a ring");
        let mut completions = 0;
        for round in 0..ROUNDS {
            // Some that nobody has submitted, or that the thread has not seen. It
            // may also have completed the last wave and not said so yet.
            ring.make_room(round % WAVE).expect("room");
            for _ in 0..round % WAVE {
                assert!(ring.push_bytes(&[0; 64]), "a NOP");
            }
            ring.make_room(WAVE).expect("room");
            for _ in 0..WAVE {
                assert!(ring.push_bytes(&[0; 64]), "{options}, round {round}");
            }
            let want = WAVE + round % WAVE;
            let taken = ring.complete(want).expect("completions");
            completions += taken.len();
            assert!(taken.iter().all(|completion| completion.result == 0));
        }
        let expected: usize = (0..ROUNDS).map(|round| WAVE + round % WAVE).sum();
        assert_eq!(completions, expected, "{options}");
    }
}
