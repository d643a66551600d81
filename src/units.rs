// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Sizes, rates and times as people read them: binary prefixes, three digits.

use std::time::Duration;

use crate::report::count;

const PREFIXES: [&str; 5] = ["", "Ki", "Mi", "Gi", "Ti"];

/// "1 MiB", "4609 bytes", "1234567890 bytes (1.15 GiB)": nothing is rounded
/// away.
pub fn exact(bytes: u64) -> String {
    let power = (1..PREFIXES.len())
        .rev()
        .find(|power| bytes > 0 && bytes.is_multiple_of(1 << (10 * power)));
    match power {
        Some(power) => format!("{} {}B", bytes >> (10 * power), PREFIXES[power]),
        None if bytes < 1 << 20 => count(bytes, "byte"),
        None => format!("{bytes} bytes ({})", size(bytes)),
    }
}

/// "512 B", "1.15 GiB".
pub fn size(bytes: u64) -> String {
    scaled(bytes as f64, "B")
}

/// "488 MiB/s".
pub fn rate(bytes_per_second: f64) -> String {
    scaled(bytes_per_second, "B/s")
}

/// The rate of so many bytes in a time, which may be none.
pub fn rate_of(bytes: u64, took: Duration) -> String {
    rate(bytes as f64 / took.as_secs_f64().max(1e-9))
}

/// "12 ms", "2.1 s".
pub fn time(took: Duration) -> String {
    match took.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

fn scaled(mut value: f64, unit: &str) -> String {
    let mut power = 0;
    // What would be rounded to 1024 is 1 of the next.
    while value >= 1023.5 && power + 1 < PREFIXES.len() {
        value /= 1024.0;
        power += 1;
    }
    let number = match power {
        0 => format!("{value:.0}"),
        _ => digits(value),
    };
    format!("{number} {}{unit}", PREFIXES[power])
}

/// Three digits, or all that stand before the point.
pub fn digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_sizes_are_short_and_others_exact() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (512, "512 bytes"),
            (4096, "4 KiB"),
            (300_001, "300001 bytes"),
            (1 << 20, "1 MiB"),
            (3 << 19, "1536 KiB"),
            (1 << 30, "1 GiB"),
            (1_234_567_890, "1234567890 bytes (1.15 GiB)"),
            (1 << 40, "1 TiB"),
        ] {
            assert_eq!(exact(bytes), text);
        }
    }

    #[test]
    fn rounded_sizes_have_three_digits_and_the_prefix_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 << 10, "10.0 KiB"),
            (100 << 10, "100 KiB"),
            (1023 << 10, "1023 KiB"),
            ((1 << 20) - 1, "1.00 MiB"),
            (1 << 50, "1024 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(rate(4.096e9), "3.81 GiB/s");
    }

    #[test]
    fn no_time_is_no_rate_without_end() {
        assert_eq!(rate_of(0, Duration::ZERO), "0 B/s");
        assert_eq!(rate_of(1 << 30, Duration::from_millis(2100)), "488 MiB/s");
        assert_eq!(time(Duration::from_millis(12)), "12 ms");
        assert_eq!(time(Duration::from_millis(2100)), "2.1 s");
    }
}
