// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the tool does where memory is short.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard};

use uringbpf::proc::number;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn uringbpf(words: &str) -> Output {
    Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_uringbpf")])
        .args(words.split(' '))
        .output()
        .expect("it runs")
}

fn meminfo(name: &str) -> u64 {
    number("/proc/meminfo", name).expect("a line of /proc/meminfo") << 10
}

/// Fills the memory with the page cache of a device, which is there as long as
/// somebody has it open: it can all be reclaimed, but next to nothing is free.
fn fill_the_page_cache(device: &File) {
    let mut bytes = vec![0; 4 << 20];
    let mut position = 0;
    let end = meminfo("MemFree") + (256 << 20);
    while position < end {
        device
            .read_exact_at(&mut bytes, position)
            .expect("the device is larger than the memory");
        position += bytes.len() as u64;
    }
}

/// Runs a command, which is to succeed.
fn shell(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status();
    assert!(status.expect("sh runs").success(), "{command}");
}

/// Keeps the reclaiming thread away from a CPU that is not idle; until this is
/// dropped.
struct Reclaim;

impl Reclaim {
    fn on_an_idle_cpu() -> Self {
        shell("taskset -cp 0 $(pgrep kswapd0) && chrt -ip 0 $(pgrep kswapd0)");
        Reclaim
    }
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        shell("chrt -op 0 $(pgrep kswapd0) && taskset -p ffffffff $(pgrep kswapd0)");
    }
}

/// The kernel takes the pages of an arena without reclaiming any: touching one
/// that is not there killed the tool with SIGSEGV.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn an_arena_has_its_pages_where_the_page_cache_has_taken_all() {
    let _alone = alone();
    let device = File::open("/dev/nullb0").expect("CONFIG_BLK_DEV_NULL_BLK");
    let _reclaim = Reclaim::on_an_idle_cpu();
    fill_the_page_cache(&device);
    let free = meminfo("MemFree") >> 20;
    let command = format!("copy --from arena:len={free}M --to arena");
    let output = Command::new("taskset")
        .args(["-c", "0", env!("CARGO_BIN_EXE_uringbpf")])
        .args(command.split(' '))
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{command}: {output:?}");
}

/// Memory taken out of the way as huge pages, until this is dropped.
struct HugePages {
    before: String,
}

impl HugePages {
    const RESERVED: &'static str = "/proc/sys/vm/nr_hugepages";

    fn leave(bytes: u64) -> Self {
        let before = std::fs::read_to_string(Self::RESERVED).expect("huge pages");
        let taken = HugePages { before };
        let more = meminfo("MemAvailable").saturating_sub(bytes) >> 21;
        let all = more + taken.before.trim().parse::<u64>().expect("a number");
        std::fs::write(Self::RESERVED, all.to_string()).expect("sysctl");
        taken
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        std::fs::write(Self::RESERVED, &self.before).expect("sysctl");
    }
}

/// The disk in memory that no memory is there for is refused, before anybody
/// is killed for it.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn what_the_memory_cannot_hold_is_refused() {
    let _alone = alone();
    // An arena is at most 4 GiB: no more than that may be left.
    let _taken = HugePages::leave(2 << 30);
    // What has just been freed may not be counted yet.
    let held = (meminfo("MemAvailable") >> 20) + 1024;
    for (words, what) in [
        (
            format!("ublk --size {held}M"),
            format!("--size {}", held << 20),
        ),
        (
            format!("fill --to arena:len={held}M"),
            "the arena".to_string(),
        ),
    ] {
        let output = uringbpf(&words);
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{words}: {line}");
        assert!(
            line.lines().count() == 1
                && line.starts_with(&format!("uringbpf: {what}: "))
                && line.ends_with(" are available: free memory, or ask for less\n"),
            "{words}: {line}"
        );
    }
}
