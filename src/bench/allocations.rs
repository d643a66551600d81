// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the kernel allocates for a request once the ring has seen a few: the
//! events kmalloc, kmem_cache_alloc and mm_page_alloc of this thread.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::case::{Case, Work};
use super::rounds::{Step, Stop};
use super::stage::with_case;
use crate::cli::Algorithm;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::oracle::Fill;
use crate::permission;
use crate::spec::BufferType::{Arena, Fixed, RegVec, User, Vec as Vectored};
use crate::sys;

/// Where tracefs is mounted.
const TRACEFS: &str = "/sys/kernel/tracing";
/// The events, each with the field that tells how much.
const EVENTS: [(&str, &str); 3] = [
    ("kmalloc", "bytes_alloc="),
    ("kmem_cache_alloc", "bytes_alloc="),
    ("mm_page_alloc", "order="),
];
/// Requests before the count, for what is made once and kept.
const WARM_UP: usize = 8;
/// Requests that are counted.
pub const REQUESTS: usize = 64;
/// Bytes of a page, and of a request.
const PAGE: u64 = 4096;
const SIZE: u64 = 64 * PAGE;
/// Of a VEC or REG_VEC buffer: more than fit beside a request.
const SEGMENTS: u64 = 32;

/// What was allocated in a number of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocations {
    pub count: u64,
    pub bytes: u64,
}

/// Every kind of buffer and of work.
const WORKS: [Work; 12] = [
    Work::Empty,
    Work::Prepare,
    Work::Iterate(User),
    Work::Iterate(Fixed),
    Work::Iterate(Vectored),
    Work::Iterate(RegVec),
    Work::IterateDest(User),
    Work::Copy(Fixed, Arena),
    Work::Copy(Arena, Vectored),
    Work::Copy(Vectored, RegVec),
    Work::Checksum(Algorithm::Xxh64, User),
    Work::Fill(Fill::Byte(0xa5), Fixed),
];

/// What [`REQUESTS`] requests of each work allocate, after a warm-up.
pub fn measure(
    kernel: &Kernel,
    stop: Stop<'_>,
    mut tell: impl FnMut(Work, Allocations) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let trace = Trace::open()?;
    for work in WORKS {
        stop()?;
        let case = Case {
            segments: SEGMENTS,
            ..Case::new(work, SIZE)
        };
        let allocations = with_case(kernel, &case, |step, _| trace.count(step))?;
        tell(work, allocations)?;
    }
    Ok(())
}

/// A trace buffer of our own, which nobody else's tracing disturbs. It goes
/// with the value.
#[derive(Debug)]
pub struct Trace {
    /// tracing_on, kept open: to open a file allocates. Closed before the
    /// instance goes, which is busy as long as a file of it is open.
    switch: File,
    instance: Instance,
}

/// A directory of tracefs' instances, removed with the value.
#[derive(Debug)]
struct Instance(PathBuf);

impl Trace {
    /// A trace of the calling thread's allocations, not yet switched on.
    /// Missing where tracefs is not mounted.
    pub fn open() -> Result<Self, Failure> {
        let instances = Path::new(TRACEFS).join("instances");
        if !instances.exists() {
            return Err(Failure::missing([format!(
                "tracefs at {TRACEFS} (mount -t tracefs tracefs {TRACEFS})"
            )]));
        }
        let directory = instances.join(format!("uringbpf-{}", sys::thread_id()));
        fs::create_dir(&directory).map_err(|error| {
            let failure = Failure::io(format!("make {}", directory.display()), &error);
            match permission::lockdown() {
                Some(mode) => failure.next(format!(
                    "the kernel is locked down ({mode}), which can forbid tracing"
                )),
                None => failure,
            }
        })?;
        let instance = Instance(directory);
        let switch = instance.0.join("tracing_on");
        let switch = File::options()
            .write(true)
            .open(&switch)
            .map_err(|error| Failure::io(format!("open {}", switch.display()), &error))?;
        let trace = Trace { switch, instance };
        trace.turn(b"0")?;
        trace.write("set_event_pid", &sys::thread_id().to_string())?;
        for (event, _) in EVENTS {
            trace.write(&format!("events/kmem/{event}/enable"), "1")?;
        }
        Ok(trace)
    }

    /// What [`REQUESTS`] runs of `step` allocate, after a warm-up.
    pub fn count(&self, step: Step<'_>) -> Result<Allocations, Failure> {
        for _ in 0..WARM_UP {
            step()?;
        }
        self.write("trace", "")?;
        self.turn(b"1")?;
        for _ in 0..REQUESTS {
            step()?;
        }
        self.turn(b"0")?;
        let path = self.instance.0.join("trace");
        let text = fs::read_to_string(&path)
            .map_err(|error| Failure::io(format!("read {}", path.display()), &error))?;
        total(&text)
    }

    fn turn(&self, state: &[u8]) -> Result<(), Failure> {
        (&self.switch)
            .write_all(state)
            .map_err(|error| Failure::io("write to tracing_on", &error))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        let path = self.instance.0.join(file);
        fs::write(&path, text)
            .map_err(|error| Failure::io(format!("write {text:?} to {}", path.display()), &error))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // An instance is removed as an empty directory is, with all its files.
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("uringbpf: remove {}: {error}", self.0.display());
        }
    }
}

/// The sum of a trace's events.
fn total(text: &str) -> Result<Allocations, Failure> {
    let mut total = Allocations::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.contains("LOST") {
            return Err(Failure::environment("the trace lost events").next("use a larger buffer"));
        }
        let Some((amount, field)) = EVENTS
            .iter()
            .filter(|(event, _)| line.contains(&format!(" {event}: ")))
            .find_map(|(_, field)| Some((amount(line, field)?, *field)))
        else {
            return Err(Failure::environment(format!(
                "read the trace: unexpected line {line:?}"
            )));
        };
        total.count += 1;
        total.bytes += match field {
            "order=" => PAGE << amount,
            _ => amount,
        };
    }
    Ok(total)
}

/// The number behind `field`.
fn amount(line: &str, field: &str) -> Option<u64> {
    let (_, rest) = line.split_once(field)?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
# tracer: nop
#
 uringbpf-97 [000] ..... 1.0: kmalloc: call_site=a+0x1/0x2 ptr=1 bytes_req=40 bytes_alloc=64 gfp_flags=GFP_KERNEL node=-1 accounted=false
 uringbpf-97 [000] ..... 1.1: kmem_cache_alloc: call_site=b+0x1/0x2 ptr=2 bytes_req=96 bytes_alloc=96 gfp_flags=GFP_KERNEL node=-1 accounted=false
 uringbpf-97 [000] ..... 1.2: mm_page_alloc: page=3 pfn=0x1 order=2 migratetype=1 gfp_flags=GFP_KERNEL
";

    #[test]
    fn events_add_up_to_bytes() {
        let expected = Allocations {
            count: 3,
            bytes: 64 + 96 + 4 * PAGE,
        };
        assert_eq!(total(TRACE), Ok(expected));
        assert_eq!(total("# tracer: nop\n"), Ok(Allocations::default()));
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_not_zero() {
        for line in [
            "CPU:0 [LOST 12 EVENTS]",
            " uringbpf-97 [000] ..... 1.0: kmalloc: call_site=a ptr=1",
        ] {
            total(line).expect_err(line);
        }
    }
}
