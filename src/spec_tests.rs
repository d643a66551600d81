// SPDX-License-Identifier: MIT OR GPL-2.0-only

use super::*;

fn spec(text: &str) -> BufferSpec {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_bare_type_is_a_buffer_of_any_length() {
    for kind in BufferType::ALL {
        let spec = spec(kind.name());
        assert_eq!((spec.kind(), spec.len()), (kind, None));
    }
}

#[test]
fn every_key_is_read_and_printed_back() {
    let text = "reg-vec:len=1049600,offset=511,iovs=5,index=3,at=8192,pages=thp";
    assert_eq!(spec(text).to_string(), text);
    assert_eq!(
        spec("reg-vec:len=1025K,at=8K").to_string(),
        "reg-vec:len=1049600,at=8192"
    );
}

#[test]
fn explicit_iovecs_define_the_length() {
    assert_eq!(spec("vec:iovs=512+4096+1").len(), Some(4609));
    let shape = spec("vec:iovs=512+0+1").shape(513, 0, 1).unwrap();
    assert_eq!(shape.segments, [512, 0, 1]);
}

#[test]
fn a_count_splits_the_length_without_losing_a_byte() {
    for seed in 0..20 {
        for (text, len) in [
            ("vec:iovs=1024", 5),
            ("reg-vec:iovs=7", 7),
            ("vec:iovs=3", 1 << 20),
        ] {
            let shape = spec(text).shape(len, 0, seed).unwrap();
            assert_eq!(shape.segments.iter().sum::<u64>(), len, "{text}");
            if shape.kind == BufferType::RegVec {
                assert!(!shape.segments.contains(&0), "{shape:?}");
            }
        }
    }
}

#[test]
fn nothing_in_reg_vec_is_no_iovecs() {
    assert!(spec("reg-vec").shape(0, 0, 1).unwrap().segments.is_empty());
    assert!(spec("reg-vec:iovs=9").shape(8, 0, 1).is_err());
}

#[test]
fn sizes_have_units_and_a_limit() {
    for (text, size) in [
        ("0", 0),
        ("7", 7),
        ("4K", 4096),
        ("2m", 2 << 20),
        ("1G", 1 << 30),
    ] {
        assert_eq!(parse_size(text), Ok(size), "{text}");
    }
    for text in [
        "",
        "K",
        "-1",
        "+1",
        "1.5M",
        "1KB",
        "0x10",
        "99999999999999999999",
        "17592186044416G",
        "1T",
        " 1",
        "1 ",
    ] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for text in [
        "",
        ":",
        "users",
        "user:",
        "user:len",
        "user:len=",
        "user:len=1,",
        "user:len=1,len=1",
        "user:index=1",
        "user:iovs=2",
        "fixed:iovs=2",
        "user:at=1",
        "vec:at=1",
        "arena:pages=huge",
        "user:offset=4096",
        "vec:iovs=0",
        "vec:iovs=1025",
        "vec:iovs=-1",
        "vec:iovs=+",
        "vec:iovs=1+",
        "vec:iovs=1+2,len=4",
        "reg-vec:iovs=1+0",
        "fixed:index=16384",
        "fixed:index=-1",
        "fixed:index=x",
        "user:pages=gigantic",
        "user:size=1",
        "USER",
        "user:len=1;offset=2",
        "user:LEN=1",
        "kfixed:pages=base",
        "vec:iovs=1024G+1024G",
    ] {
        assert!(text.parse::<BufferSpec>().is_err(), "{text}");
    }
}

#[test]
fn ring_options_are_a_set() {
    let options: RingOptions = "defer-taskrun,cqe32".parse().unwrap();
    assert!(options.defer_taskrun && options.single_issuer && options.cqe32 && !options.sqpoll);
    for text in ["", "iopoll", "coop,coop", "sqpoll,coop", "coop,"] {
        assert!(text.parse::<RingOptions>().is_err(), "{text}");
    }
}
