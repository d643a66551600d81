// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The source pattern: every byte depends on its position, over all 64 bits of
//! it, so that a swapped or repeated page, word or byte shows.

/// SplitMix64's finaliser over seed and word number: no two words of a stream
/// are alike in any regular way.
fn word_at(seed: u64, index: u64) -> u64 {
    let mut z =
        (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_add(index.wrapping_mul(0xd134_2543_de82_ef95));
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

/// The byte at a position of the stream with this seed.
pub fn byte_at(seed: u64, position: u64) -> u8 {
    word_at(seed, position / 8).to_le_bytes()[(position % 8) as usize]
}

/// The bytes from `start` on.
pub fn fill(seed: u64, start: u64, bytes: &mut [u8]) {
    let head = ((8 - start % 8) % 8).min(bytes.len() as u64) as usize;
    let (first, rest) = bytes.split_at_mut(head);
    for (i, byte) in first.iter_mut().enumerate() {
        *byte = byte_at(seed, start + i as u64);
    }
    let words = (start + head as u64) / 8..;
    for (index, chunk) in words.zip(rest.chunks_mut(8)) {
        let word = word_at(seed, index).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_start_and_length_gives_the_same_bytes() {
        for start in [0u64, 1, 7, 8, 4095, u64::MAX / 2] {
            for len in [0usize, 1, 7, 8, 9, 64, 4097] {
                let mut bytes = vec![0; len];
                fill(3, start, &mut bytes);
                for (i, byte) in bytes.iter().enumerate() {
                    assert_eq!(*byte, byte_at(3, start + i as u64), "{start} {len} {i}");
                }
            }
        }
    }
}
