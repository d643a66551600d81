// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Defects of attaching and detaching: D5, D6, D14.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;
use std::time::Duration;

use libbpf_rs::{MapCore, MapMut, Object, ObjectBuilder};

use super::Verdict;
use super::child::{self, Attempt};
use super::stage::{LINK, Sqe, Stage, run_one, submit, take};
use crate::errno::{Errno, res_text};
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::ring::Ring;
use crate::smoke::programs::Family;
use crate::spec::RingOptions;

const EVENT_LOOP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/event_loop.bpf.o"));

/// D5: another thread closes the link, so that the read can go on when it has
/// been seen that it does not come back.
pub fn waits(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    const AT_ONCE: Duration = Duration::from_secs(3);
    let stage = Stage::new(kernel, Family::Repro)?;
    let ring = stage.ring()?;
    let attached = stage.attach(&ring, "read", 0)?;
    let (reader, mut writer) = io::pipe().map_err(|error| Failure::io("make a pipe", &error))?;
    let byte = [0u8; 1];
    let read = Sqe {
        flags: LINK,
        fd: reader.as_raw_fd(),
        off: u64::MAX,
        addr: byte.as_ptr() as u64,
        len: 1,
        ..Sqe::read()
    };
    submit(&ring, &[read, stage.request(0, 0)])?;
    let (closed, is_closed) = mpsc::channel();
    std::thread::spawn(move || {
        drop(attached);
        // Nobody listens any more when it took too long.
        let _ = closed.send(());
    });
    let at_once = is_closed.recv_timeout(AT_ONCE).is_ok();
    writer
        .write_all(b"x")
        .map_err(|error| Failure::io("write to a pipe", &error))?;
    let mut results = vec![Vec::new(); 2];
    for _ in 0..2 {
        ring.submit_and_wait_for(AT_ONCE)?;
        take(&ring, &mut results);
        if results.iter().all(|results| !results.is_empty()) {
            break;
        }
    }
    let later = at_once || is_closed.recv_timeout(AT_ONCE).is_ok();
    Ok(match (at_once, later) {
        (true, _) if results.iter().any(Vec::is_empty) => attempt.cannot_tell(
            "the link closes at once, but then the read or the request behind it does not complete",
        ),
        (true, _) => attempt.absent("a link closes while a request of its ops waits for a read"),
        (false, true) => attempt.present(
            "closing a link waited until the read that a request was linked behind had its data",
        ),
        (false, false) => attempt.present(
            "closing a link waits for a request that was linked behind a read, \
             and goes on waiting when that has ended",
        ),
    })
}

/// D6: the first ring's number is given to another ring when the link is
/// closed. The map stays, so that what the first ring has still is there.
pub fn forgets_ring(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    const ID: u16 = 3;
    let stage = Stage::new(kernel, Family::Repro)?;
    let ring = stage.ring()?;
    let other = stage.ring()?;
    let wrong = |what: &str, error: io::Error| Failure::io(what, &error);
    let map = stage
        .value
        .map(&stage.ops(&ring, "read", ID))
        .map_err(|error| wrong("make a map of ops", error))?;
    let link = stage
        .value
        .link(&map)
        .map_err(|error| wrong("attach it", error))?;
    let request = stage.request(ID.into(), 0);
    let attached = run_one(&ring, &request)?;
    if attached != 0 {
        return Ok(attempt.cannot_tell(format!(
            "a request of attached ops ends with {}",
            res_text(attached)
        )));
    }
    let kept = ring
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| wrong("duplicate a descriptor", error))?;
    replace(&ring, &other)?;
    drop(link);
    replace(&ring, &kept)?;
    // The last request in this place was one of the same ops: where they are
    // gone and the kernel has defect D4 as well, it meets them again.
    let left = run_one(&ring, &request)?;
    let text = "the ring that they were attached to loses the ops, whatever has its number then";
    let verdict = match left {
        0 => attempt.present(
            "a ring whose descriptor's number had become another ring's kept the ops of a closed link",
        ),
        other if other != -libc::EOPNOTSUPP => attempt.cannot_tell(format!(
            "a request of ops whose link is closed ends with {}",
            res_text(other)
        )),
        _ if attempt.dangerous => exit_attached(attempt, &stage, text)?,
        _ => attempt.absent(text),
    };
    // The ring goes before what it may still refer to, and takes its time.
    drop((kept, ring, other));
    std::thread::sleep(Duration::from_millis(300));
    drop(map);
    Ok(verdict)
}

/// Gives a ring's number to something else.
fn replace(ring: &Ring, by: impl AsFd) -> Result<(), Failure> {
    let by = by.as_fd().as_raw_fd();
    // SAFETY: takes no memory. The number stays open, so who owns it closes
    // what is there then.
    match unsafe { libc::dup3(by, ring.raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(Failure::os("duplicate a descriptor", Errno::last())),
        _ => Ok(()),
    }
}

/// A process that exits with its ops attached must do just that.
fn exit_attached(attempt: &Attempt, stage: &Stage<'_>, text: &str) -> Result<Verdict, Failure> {
    // SAFETY: takes no memory, and this process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let attached = stage
            .ring()
            .and_then(|ring| Ok((stage.attach(&ring, "read", 0)?, ring)));
        // SAFETY: takes no memory; whatever is open closes now.
        unsafe { libc::_exit(if attached.is_ok() { 0 } else { 1 }) }
    }
    match child::wait(pid, Duration::from_secs(10)) {
        Some(0) => Ok(attempt.absent(format!("{text}; a process exits with a link attached"))),
        Some(status) if libc::WIFSIGNALED(status) => {
            Ok(attempt
                .present("a process that exited with a link attached was killed by the kernel"))
        }
        Some(_) => Ok(attempt.cannot_tell("a second process could not attach")),
        None => Ok(attempt.present("a process that exits with a link attached does not end")),
    }
}

/// D14
pub fn excludes_event_loop(kernel: &Kernel, attempt: &Attempt) -> Result<Verdict, Failure> {
    if libbpf_rs::btf::Btf::from_vmlinux()
        .ok()
        .and_then(|btf| {
            btf.type_by_name::<libbpf_rs::btf::types::Struct<'_>>("io_uring_bpf_ops")
                .map(drop)
        })
        .is_none()
    {
        return Ok(
            attempt.cannot_tell("this kernel has no event-loop ops (CONFIG_IO_URING_BPF_OPS)")
        );
    }
    let stage = Stage::new(kernel, Family::Repro)?;
    // Event loops want such a ring.
    let options: RingOptions = "defer-taskrun"
        .parse()
        .map_err(|_| Failure::usage("ring"))?;
    let ring = Ring::open(kernel, &options, 8)?;

    // Each alone, then in both orders.
    drop(stage.attach(&ring, "read", 0)?);
    if let Err(why) = EventLoop::load(&ring)?.attach() {
        // Perhaps they are kept from every ring that can have the others.
        let plain = Ring::without_ops(kernel, &options, 8)?;
        return Ok(match EventLoop::load(&plain)?.attach() {
            Ok(_) => attempt.present(format!(
                "event-loop ops on a ring that can have others: {why}; on one that cannot they are attached"
            )),
            Err(why) => {
                attempt.cannot_tell(format!("event-loop ops alone cannot be attached: {why}"))
            }
        });
    }

    let mut second = EventLoop::load(&ring)?;
    let link = second.attach().map_err(Failure::environment)?;
    let behind = stage.attach(&ring, "read", 0);
    let behind_loop = behind.as_ref().err().map(Failure::to_string);
    drop(behind);
    drop(link);

    let before = stage.attach(&ring, "read", 0)?;
    let mut third = EventLoop::load(&ring)?;
    let link = third.attach();
    let loop_behind = link.as_ref().err().cloned();
    drop(link);
    drop(before);

    let why: Vec<String> = [
        behind_loop.map(|why| format!("beside event-loop ops: {why}")),
        loop_behind.map(|why| format!("event-loop ops beside others: {why}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    Ok(match why.is_empty() {
        true => attempt.absent("both kinds of ops are attached to one ring, in either order"),
        false => attempt.present(why.join("; ")),
    })
}

/// Event-loop ops for one ring.
struct EventLoop(Object);

impl EventLoop {
    fn load(ring: &Ring) -> Result<Self, Failure> {
        let wrong =
            |error: libbpf_rs::Error| Failure::environment(format!("load event-loop ops: {error}"));
        let mut open = ObjectBuilder::default()
            .open_memory(EVENT_LOOP)
            .map_err(wrong)?;
        for mut map in open.maps_mut() {
            if map.name() == "event_loop" {
                let value = map.initial_value_mut().expect("struct_ops maps have one");
                // Our own declaration of it: a pointer, then ring_fd.
                value[8..12].copy_from_slice(&ring.raw_fd().to_ne_bytes());
            }
        }
        Ok(EventLoop(open.load().map_err(wrong)?))
    }

    fn attach(&mut self) -> Result<libbpf_rs::Link, String> {
        let mut maps = self.0.maps_mut();
        let map: Option<MapMut<'_>> = maps.find(|map| map.name() == "event_loop");
        let mut map = map.expect("it is in the object");
        map.attach_struct_ops().map_err(|error| error.to_string())
    }
}
