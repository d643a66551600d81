// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the result must be, from the specification alone: digests by
//! well-kept crates, patterns by their definition. Shares no code with the
//! BPF programs.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::Xxh64;

use crate::cli::Algorithm;
use crate::pattern;

/// A checksum in the making.
pub enum Digest {
    Crc32c(u32),
    Xxh64(Box<Xxh64>),
    Adler32(adler2::Adler32),
    Xor64(Xor64),
}

impl Digest {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc32c => Digest::Crc32c(0),
            Algorithm::Xxh64 => Digest::Xxh64(Box::new(Xxh64::new(0))),
            Algorithm::Adler32 => Digest::Adler32(adler2::Adler32::new()),
            Algorithm::Xor64 => Digest::Xor64(Xor64::default()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Digest::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, bytes),
            Digest::Xxh64(state) => state.update(bytes),
            Digest::Adler32(state) => state.write_slice(bytes),
            Digest::Xor64(state) => state.update(bytes),
        }
    }

    /// The digest; 32-bit ones in the low half.
    pub fn finish(&self) -> u64 {
        match self {
            Digest::Crc32c(sum) => u64::from(*sum),
            Digest::Xxh64(state) => state.digest(),
            Digest::Adler32(state) => u64::from(state.checksum()),
            Digest::Xor64(state) => state.sum,
        }
    }
}

/// XOR of the little-endian 64-bit words of a stream, the last one padded
/// with zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Xor64 {
    sum: u64,
    /// Bytes so far; decides where in its word the next one belongs.
    len: u64,
}

impl Xor64 {
    fn update(&mut self, bytes: &[u8]) {
        let head = ((8 - self.len % 8) % 8).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(head);
        for byte in head {
            self.sum ^= u64::from(*byte) << (self.len % 8 * 8);
            self.len += 1;
        }
        for part in rest.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.sum ^= u64::from_le_bytes(word);
        }
        self.len += rest.len() as u64;
    }
}

/// The digest of `len` bytes of the source pattern.
pub fn digest_of_pattern(algorithm: Algorithm, seed: u64, len: u64) -> u64 {
    let mut digest = Digest::new(algorithm);
    let mut block = vec![0; 64 << 10];
    let mut position = 0;
    while position < len {
        let part = (len - position).min(block.len() as u64);
        let bytes = &mut block[..part as usize];
        pattern::fill(seed, position, bytes);
        digest.update(bytes);
        position += part;
    }
    digest.finish()
}

/// What a fill writes: a stream of little-endian 64-bit words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fill {
    Byte(u8),
    Word(u64),
    /// Counts up from here.
    Counter(u64),
    /// SplitMix64 from this seed.
    Random(u64),
}

impl Fill {
    pub fn name(self) -> &'static str {
        match self {
            Fill::Byte(_) => "byte",
            Fill::Word(_) => "word",
            Fill::Counter(_) => "counter",
            Fill::Random(_) => "random",
        }
    }

    /// The operation of the `fill` programs that writes it.
    pub fn operation(self) -> &'static str {
        match self {
            Fill::Byte(_) => "fill_byte",
            Fill::Word(_) => "fill_word",
            Fill::Counter(_) => "fill_count",
            Fill::Random(_) => "fill_random",
        }
    }

    /// The fill that an operation writes with this argument.
    pub fn of_operation(operation: &str, argument: u64) -> Option<Self> {
        let fills = [
            Fill::Byte(argument as u8),
            Fill::Word(argument),
            Fill::Counter(argument),
            Fill::Random(argument),
        ];
        fills.into_iter().find(|fill| fill.operation() == operation)
    }

    /// The operation's argument.
    pub fn argument(self) -> u64 {
        match self {
            Fill::Byte(byte) => u64::from(byte),
            Fill::Word(word) | Fill::Counter(word) | Fill::Random(word) => word,
        }
    }

    fn word_at(self, index: u64) -> u64 {
        match self {
            Fill::Byte(byte) => u64::from_ne_bytes([byte; 8]),
            Fill::Word(word) => word,
            Fill::Counter(first) => first.wrapping_add(index),
            Fill::Random(seed) => {
                let step = (index.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let z = seed.wrapping_add(step);
                let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }
    }

    /// The bytes of the stream from `position` on.
    pub fn write(self, position: u64, bytes: &mut [u8]) {
        let mut index = position / 8;
        let mut skip = (position % 8) as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = self.word_at(index).to_le_bytes();
            let part = (8 - skip).min(rest.len());
            let (now, later) = rest.split_at_mut(part);
            now.copy_from_slice(&word[skip..skip + part]);
            rest = later;
            skip = 0;
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(algorithm: Algorithm, parts: &[&[u8]]) -> u64 {
        let mut digest = Digest::new(algorithm);
        for part in parts {
            digest.update(part);
        }
        digest.finish()
    }

    #[test]
    fn digests_are_those_of_the_published_test_vectors() {
        let check = b"123456789".as_slice();
        let table = [
            (Algorithm::Crc32c, check, 0xe306_9283),
            (Algorithm::Crc32c, b"", 0),
            (Algorithm::Adler32, b"Wikipedia", 0x11e6_0398),
            (Algorithm::Adler32, b"", 1),
            (Algorithm::Xxh64, b"", 0xef46_db37_51d8_e999),
            (Algorithm::Xxh64, b"a", 0xd24e_c4f1_a98c_6e5b),
            (Algorithm::Xor64, b"", 0),
            (Algorithm::Xor64, check, 0x3837_3635_3433_3231 ^ 0x39),
        ];
        for (algorithm, bytes, expected) in table {
            assert_eq!(
                digest(algorithm, &[bytes]),
                expected,
                "{algorithm:?} {bytes:?}"
            );
        }
    }

    #[test]
    fn a_digest_does_not_depend_on_how_the_stream_is_cut() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        for algorithm in Algorithm::ALL {
            let whole = digest(algorithm, &[&bytes]);
            for cut in [1, 3, 8, 31, 32, 33, 999] {
                let parts: Vec<&[u8]> = bytes.chunks(cut).collect();
                assert_eq!(digest(algorithm, &parts), whole, "{algorithm:?} by {cut}");
            }
        }
    }

    #[test]
    fn a_fill_is_the_same_from_any_position() {
        for fill in [
            Fill::Byte(7),
            Fill::Word(1 << 60 | 5),
            Fill::Counter(u64::MAX),
            Fill::Random(3),
        ] {
            let mut whole = [0; 100];
            fill.write(0, &mut whole);
            for start in 0..100 {
                let mut part = vec![0; 100 - start];
                fill.write(start as u64, &mut part);
                assert_eq!(part, whole[start..], "{fill:?} from {start}");
            }
        }
    }
}
