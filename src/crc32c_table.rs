// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The tables of the BPF program's CRC-32C, handed over when it is loaded.

/// Castagnoli's polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Entry `[k][b]`: byte `b` followed by `k` zero bytes.
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            byte += 1;
        }
        k += 1;
    }
    tables
}

static TABLES: [[u32; 256]; 8] = tables();

/// As they lie in the program's read-only data.
pub fn bytes() -> Vec<u8> {
    TABLES
        .iter()
        .flatten()
        .flat_map(|entry| entry.to_ne_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entries_are_those_of_rfc_3720() {
        assert_eq!(TABLES[0][..3], [0, 0xf26b_8303, 0xe13b_70f7]);
    }
}
