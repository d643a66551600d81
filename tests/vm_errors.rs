// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the interface refuses, and what is left behind by a process that is
//! killed: needs a kernel with IORING_OP_BPF.

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};
use uringbpf::kernel::{Kernel, Overrides};
use uringbpf::layout::Random;
use uringbpf::memory::{Memory, Region};
use uringbpf::program::{Family, Plan, Program, Storage};
use uringbpf::registration::Table;
use uringbpf::request::{Descriptor, Request};
use uringbpf::ring::Ring;
use uringbpf::spec::{PageKind, RingOptions, SqeOptions};
use uringbpf::submission::{Submission, run};

const USER: u8 = 0;
const FIXED: u8 = 1;
const VEC: u8 = 2;
const KFIXED: u8 = 3;
const REG_VEC: u8 = 4;
const PAGE: u64 = 4096;

/// What a request that reads a buffer of this description completes with.
struct Bench<'r> {
    ring: &'r Ring,
    program: Program<'r>,
}

impl Bench<'_> {
    fn result(&self, kind: u8, buf_index: u16, addr: u64, len: u32) -> i32 {
        self.describe(Descriptor {
            kind,
            reserved: 0,
            buf_index,
            len,
            addr,
        })
    }

    fn describe(&self, from: Descriptor) -> i32 {
        let submission = Submission {
            id: self.program.id("xor64"),
            request: Request {
                from,
                ..Request::default()
            },
            after_previous: false,
        };
        let options = SqeOptions::default();
        run(self.ring, &self.program, &[submission], &options, 1).expect("it completes")[0].result
    }
}

/// A ring whose table has `region` in slot 1 of 4, and a program that reads.
fn with_bench(check: impl Fn(&Bench<'_>, u64)) {
    let mut memory = Memory::anonymous(4 * PAGE as usize, PageKind::Base).expect("memory");
    let region: Region<'_> = memory.region();
    let kernel = Kernel::read(Overrides::default());
    let ring = Ring::open(&kernel, &RingOptions::default(), 4).expect("a ring");
    let table = Table::new(&ring, 4).expect("a table");
    table.add_region(1, &region).expect("registered");
    let mut storage = Storage::default();
    let plan = Plan {
        ops: vec!["xor64"],
        ..Plan::default()
    };
    let program = Program::attach(&ring, &mut storage, Family::Checksum, &plan).expect("attached");
    let bench = Bench {
        ring: &ring,
        program,
    };
    check(&bench, region.address());
}

fn iovec(base: u64, len: u64) -> libc::iovec {
    libc::iovec {
        iov_base: base as *mut _,
        iov_len: len as usize,
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn ranges_outside_of_registered_buffers_are_efault() {
    with_bench(|bench, start| {
        let size = 4 * PAGE as u32;
        assert_eq!(bench.result(FIXED, 1, start, size), size as i32);
        assert_eq!(bench.result(FIXED, 1, start, 0), 0);
        assert_eq!(bench.result(FIXED, 1, start, size + 1), -libc::EFAULT);
        assert_eq!(bench.result(FIXED, 1, start + 1, size), -libc::EFAULT);
        assert_eq!(bench.result(FIXED, 1, start - 1, 1), -libc::EFAULT);
        assert_eq!(bench.result(FIXED, 1, u64::MAX, 1), -libc::EFAULT);
        assert_eq!(bench.result(FIXED, 1, start, u32::MAX), -libc::EFAULT);
        assert_eq!(
            bench.result(FIXED, 0, start, 1),
            -libc::EFAULT,
            "empty slot"
        );
        assert_eq!(
            bench.result(FIXED, 9, start, 1),
            -libc::EFAULT,
            "past the table"
        );
        assert_eq!(bench.result(KFIXED, 0, 0, 1), -libc::EFAULT, "empty slot");
    });
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn bad_descriptions_have_the_errno_of_the_interface() {
    with_bench(|bench, start| {
        assert_eq!(bench.result(5, 0, start, 1), -libc::EINVAL, "type 5");
        assert_eq!(bench.result(255, 0, start, 1), -libc::EINVAL, "type 255");
        assert_eq!(bench.result(USER, 0, PAGE, 1), -libc::EFAULT, "unmapped");
        assert_eq!(
            bench.result(VEC, 0, PAGE, 1),
            -libc::EFAULT,
            "no array there"
        );
        assert_eq!(
            bench.result(REG_VEC, 1, PAGE, 1),
            -libc::EFAULT,
            "no array there"
        );
        let one = [iovec(start, 1)];
        let array = one.as_ptr() as u64;
        assert_eq!(bench.result(VEC, 0, array, 1), 1);
        assert_eq!(bench.result(VEC, 0, array, 0), 0);
        assert_eq!(bench.result(REG_VEC, 1, array, 1), 1);
        assert_eq!(bench.result(REG_VEC, 1, array, 0), 0);
        let many = vec![iovec(start, 1); 1025];
        let array = many.as_ptr() as u64;
        assert_eq!(bench.result(VEC, 0, array, 1024), 1024);
        assert_eq!(bench.result(VEC, 0, array, 1025), -libc::EINVAL);
        assert_eq!(bench.result(REG_VEC, 1, array, 1024), 1024);
        assert_eq!(bench.result(REG_VEC, 1, array, 1025), -libc::EINVAL);
        let past = [iovec(start, 1), iovec(start + 4 * PAGE, 1)];
        assert_eq!(
            bench.result(REG_VEC, 1, past.as_ptr() as u64, 2),
            -libc::EFAULT
        );
        let empty = [iovec(start, 1), iovec(start, 0)];
        assert_eq!(bench.result(VEC, 0, empty.as_ptr() as u64, 2), 1);
        assert_eq!(
            bench.result(REG_VEC, 1, empty.as_ptr() as u64, 2),
            -libc::EFAULT
        );
    });
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn memory_that_ends_inside_the_range_is_an_error_where_the_kernel_tells() {
    let tells = Kernel::read(Overrides::default()).reports_iteration_errors();
    with_bench(|bench, start| {
        let second = (start + PAGE) as *mut libc::c_void;
        // SAFETY: the second page of a mapping of this test alone, which does
        // not read it before it is readable again.
        let protect = |protection| unsafe { libc::mprotect(second, PAGE as usize, protection) };
        assert_eq!(protect(libc::PROT_NONE), 0);
        let result = bench.result(USER, 0, start, 2 * PAGE as u32);
        assert_eq!(protect(libc::PROT_READ | libc::PROT_WRITE), 0);
        let expected = if tells { -libc::EFAULT } else { PAGE as i32 };
        assert_eq!(result, expected);
    });
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_slot_that_is_none_fails_in_prep() {
    with_bench(|bench, _| {
        let entry = uringbpf::submission::entry(
            bench.ring.opcode(),
            bench.program.id("xor64"),
            uringbpf::request::SLOTS,
            0,
            0,
        );
        assert!(bench.ring.push_bytes(&entry));
        let completions = bench.ring.complete(1).expect("it completes");
        assert_eq!(completions[0].result, -libc::EINVAL);
    });
}

/// What a dead process could leave in the kernel: links, maps, programs (by
/// id, which is not given twice), and the number of pages that stay pinned.
struct Objects {
    ids: HashSet<(&'static str, u32)>,
    pinned: i64,
}

impl Objects {
    fn now() -> Objects {
        // Each CPU keeps a part of the counters until this is written to.
        std::fs::write("/proc/sys/vm/stat_refresh", "1").expect("procfs is mounted");
        let vmstat = std::fs::read_to_string("/proc/vmstat").expect("procfs is mounted");
        let value = |name: &str| -> i64 {
            let line = vmstat.lines().find_map(|line| line.strip_prefix(name));
            line.expect("the counter is there")
                .trim()
                .parse()
                .expect("a number")
        };
        let links = LinkInfoIter::default().map(|link| ("link", link.id));
        let maps = MapInfoIter::default().map(|map| ("map", map.id));
        let programs = ProgInfoIter::default().map(|program| ("program", program.id));
        Objects {
            ids: links.chain(maps).chain(programs).collect(),
            pinned: value("nr_foll_pin_acquired ") - value("nr_foll_pin_released "),
        }
    }

    /// What is there now and was not there `before`: objects, pinned pages.
    /// What an earlier test left to the kernel may go away in between.
    fn new_since(before: &Objects) -> (Vec<(&'static str, u32)>, i64) {
        let now = Objects::now();
        let mut ids: Vec<_> = now.ids.difference(&before.ids).copied().collect();
        ids.sort();
        (ids, (now.pinned - before.pinned).max(0))
    }
}

/// The tool with locked memory that counts and is enough for one run only:
/// whatever a run left locked, a later one would miss.
fn with_little_locked_memory(words: &[&str]) -> Command {
    let mut command = Command::new("prlimit");
    command
        .args(["--memlock=12582912", "setpriv", "--bounding-set=-ipc_lock"])
        .arg(env!("CARGO_BIN_EXE_uringbpf"))
        .args(words)
        .stdout(Stdio::null());
    command
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_killed_process_leaves_nothing_behind() {
    let seed = std::env::var("URINGBPF_SEED").map_or(u64::from(std::process::id()), |seed| {
        seed.parse().expect("URINGBPF_SEED is a number")
    });
    println!("URINGBPF_SEED={seed}");
    let before = Objects::now();
    let mut random = Random(seed);
    let copy = ["copy", "--from", "user:len=8M", "--to", "fixed"];
    let words = [&copy[..], &["--via", "arena", "--depth", "4"]].concat();
    for _ in 0..50 {
        let mut child = with_little_locked_memory(&words)
            .stderr(Stdio::null())
            .spawn()
            .expect("the tool starts");
        std::thread::sleep(Duration::from_millis(random.below(1200)));
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
    // The kernel frees some of it only after a grace period.
    let end = Instant::now() + Duration::from_secs(60);
    while Objects::new_since(&before) != (vec![], 0) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
    let left = Objects::new_since(&before);
    assert_eq!(left, (vec![], 0), "objects with their ids, pinned pages");
    let status = with_little_locked_memory(&copy).status();
    assert!(
        status.expect("the tool starts").success(),
        "the next run works, with as little locked memory"
    );
    let more = ["copy", "--from", "user:len=16M", "--to", "fixed"];
    let status = with_little_locked_memory(&more)
        .stderr(Stdio::null())
        .status();
    assert_eq!(
        status.expect("the tool starts").code(),
        Some(3),
        "and locked memory was counted"
    );
}
