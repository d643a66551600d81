// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Ends at the worst moment: rings closed and processes killed with requests
//! in flight, forks that hold every descriptor, memory that runs short,
//! devices and programs that come and go.

use std::time::Duration;

use super::board::Ended;
use crate::errno::Errno;
use crate::error::Failure;
use crate::layout::Random;
use crate::memory::Memory;
use crate::operation::{self, Operand, Setup};
use crate::request::{Descriptor, Request};
use crate::ring::Ring;
use crate::smoke::Stop;
use crate::smoke::bench::{ASYNC, Bench, Session};
use crate::smoke::case::Side;
use crate::smoke::place::lay_out;
use crate::smoke::programs::{Family, Programs};
use crate::spec::{PageKind, RingOptions, SqeOptions};
use crate::submission::entry;
use crate::ublk::Registration;

/// Read by requests that nobody waits for.
const READ: usize = 64 << 10;

/// Requests in flight, in the slot of which nobody looks at the result; then
/// `end` comes over them.
fn with_requests(
    bench: &Bench<'_>,
    count: u64,
    litter: u64,
    end: impl FnOnce(),
) -> Result<Ended, Stop> {
    let mut memory = Memory::anonymous(READ, PageKind::Base)?;
    let ring = Ring::open(&bench.loaded.kernel, &RingOptions::default(), 16)?;
    let session = Session::new(ring);
    let id = session.id(bench.loaded, Family::Checksum, true, "xor64")?;
    let requests = bench.loaded.programs(Family::Checksum, true).requests();
    let request = Request {
        from: Descriptor {
            len: READ as u32,
            addr: memory.region().address(),
            ..Descriptor::default()
        },
        len: READ as u64,
        stream: litter as u32,
        ..Request::default()
    };
    requests.set(litter as usize, request);
    for number in 0..count {
        let entry = entry(
            session.ring.opcode(),
            id as u8,
            litter as usize,
            ASYNC,
            number,
        );
        session.ring.push_bytes(&entry);
    }
    session.ring.submit_and_wait(0)?;
    end();
    drop(session);
    Ok(Ended::Right)
}

/// Closes a ring, and unmaps what its requests read.
pub fn abandon(bench: &Bench<'_>, count: u64, litter: u64) -> Result<Ended, Stop> {
    with_requests(bench, count, litter, || {})
}

/// Kills the process, all threads of it.
pub fn kill(bench: &Bench<'_>, count: u64, litter: u64) -> Result<Ended, Stop> {
    with_requests(bench, count, litter, || {
        // SAFETY: takes no memory.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    })
}

/// A process with a copy of every descriptor and page, for a time. Meanwhile
/// this thread goes on with `during`.
pub fn fork(
    time: u64,
    killed: bool,
    during: impl FnOnce() -> Result<(), Stop>,
) -> Result<Ended, Stop> {
    let pause = libc::timespec {
        tv_sec: 0,
        tv_nsec: (time * 1_000_000) as i64,
    };
    // SAFETY: the child calls nothing that takes a lock or memory.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            // SAFETY: as above; `pause` is the child's own copy.
            unsafe {
                libc::nanosleep(&raw const pause, std::ptr::null_mut());
                libc::_exit(0)
            }
        }
        1.. => {}
        _ => return Err(Failure::os("fork", Errno::last()).into()),
    }
    let result = during();
    let mut status = 0;
    // SAFETY: the process is our child, not yet waited for; `status` is valid.
    unsafe {
        if killed {
            libc::kill(pid, libc::SIGKILL);
        }
        while libc::waitpid(pid, &raw mut status, 0) < 0
            && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
        {}
    }
    result.map(|()| Ended::Right)
}

/// Memory runs short, in one way or another.
pub fn pressure(how: u64) -> Result<Ended, Stop> {
    let set = |name: &str, value: &str| match std::fs::write(format!("/proc/sys/vm/{name}"), value)
    {
        Ok(()) => Ended::Right,
        Err(_) => Ended::LeftOut,
    };
    match how {
        0 => Ok(set("drop_caches", "3")),
        1 => Ok(set("compact_memory", "1")),
        _ => {
            let memory = Memory::anonymous(16 << 20, PageKind::Base)?;
            std::thread::sleep(Duration::from_millis(20));
            drop(memory);
            Ok(Ended::Right)
        }
    }
}

/// Checksums the pages of a block request of a device made for it.
pub fn device(bench: &Bench<'_>, side: &Side, len: u64, seed: u64) -> Result<Ended, Stop> {
    let setup = Setup {
        kernel: bench.loaded.kernel.clone(),
        ring: RingOptions::default(),
        sqe: SqeOptions::default(),
        depth: 1,
        seed,
        non_sleepable: false,
        registration: [Registration::Manual, Registration::Auto][(seed % 2) as usize],
    };
    let (shape, _) = lay_out(
        &Side {
            pages: PageKind::Base,
            ..*side
        },
        len,
        0,
        seed,
    );
    let operand = Operand {
        shape: crate::layout::Shape { at: 0, ..shape },
        pages: side.pages,
    };
    match operation::checksum::run(&setup, &operand, "xxh64") {
        Ok(_) => Ok(Ended::Right),
        Err(Failure::Missing(_)) => Ok(Ended::LeftOut),
        Err(failure) => Err(failure.into()),
    }
}

/// Loads a family's programs, and lets them go.
pub fn load(bench: &Bench<'_>, which: u64, seed: u64) -> Result<Ended, Stop> {
    let families = [Family::Callbacks, Family::Chunks, Family::Several];
    let family = families[which as usize % families.len()];
    let variant = bench.loaded.variant(Random(seed).below(2) == 0);
    Programs::load(family, variant)?;
    Ok(Ended::Right)
}
