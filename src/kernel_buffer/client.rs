// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The client of the block device: a process of its own, since whoever waits
//! for block I/O cannot die before it ends, and the server must be able to.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, ErrorKind, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use io_uring::{IoUring, opcode, types};

use super::message::{Direction, Order, Part, Report};
use crate::buffer::Buffer;
use crate::error::Failure;
use crate::memory::Memory;

/// Takes one order after the other from `input`, carries each out and reports,
/// until there are no more.
pub fn run(input: &mut impl BufRead, output: &mut impl Write) -> Result<(), Failure> {
    let mut line = String::new();
    loop {
        line.clear();
        let read = input.read_line(&mut line);
        read.map_err(|error| Failure::io("read the order", &error))?;
        if line.is_empty() {
            // The server has gone, or needs no more.
            return Ok(());
        }
        let order = serde_json::from_str(&line)
            .map_err(|error| Failure::usage(format!("no order of a server: {error}")))?;
        let report = carry_out(&order).unwrap_or_else(|failure| Report::Failed {
            what: failure.to_string(),
            errno: None,
        });
        let report = serde_json::to_string(&report)
            .map_err(|error| Failure::environment(format!("write the report: {error}")))?;
        match writeln!(output, "{report}").and_then(|()| output.flush()) {
            // The server has gone, and with it whom to tell.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|error| Failure::io("write the report", &error))?,
        }
    }
}

fn carry_out(order: &Order) -> Result<Report, Failure> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&order.device)
        .map_err(|error| Failure::io(format!("open {}", order.device.display()), &error))?;
    let mut memories = Vec::new();
    for part in &order.parts {
        memories.push(memory(part)?);
    }
    let mut buffers = Vec::new();
    for (part, memory) in order.parts.iter().zip(&mut memories) {
        let layout = part.layout.clone();
        buffers.push(Buffer::new(part.shape.clone(), layout, memory.region()));
    }
    if let Some(report) = transfer(order, &buffers, device.as_raw_fd())? {
        return Ok(report);
    }
    for (part, buffer) in order.parts.iter().zip(&buffers) {
        let Some(expected) = part.expected else {
            continue;
        };
        if let Some(wrong) = buffer.compare(|position, bytes| expected.write(position, bytes)) {
            let what = match part.direction {
                Direction::Write => "what it wrote",
                Direction::Read => "what it read",
            };
            return Ok(Report::Wrong(format!("{what}: {wrong}")));
        }
    }
    Ok(Report::Verified)
}

fn memory(part: &Part) -> Result<Memory, Failure> {
    let open = |path: &Path| File::options().read(true).write(true).open(path);
    let file = open(&part.memory)
        .map_err(|error| Failure::io(format!("open {}", part.memory.display()), &error))?;
    Memory::shared(file, part.layout.size as usize)
}

/// Does all I/O at once; a report when some of it fails.
fn transfer(
    order: &Order,
    buffers: &[Buffer<'_>],
    device: RawFd,
) -> Result<Option<Report>, Failure> {
    let mut requests = Vec::new();
    for (part, buffer) in order.parts.iter().zip(buffers) {
        for (request, sector) in part.requests() {
            let iovecs: Vec<libc::iovec> = request
                .iovecs
                .iter()
                .map(|place| buffer.iovec(place))
                .collect();
            requests.push((part.direction, iovecs, sector, request.len()));
        }
    }
    let failed = |what: &str, error: &std::io::Error| Failure::io(what, error);
    let mut ring = IoUring::new((requests.len() as u32).next_power_of_two())
        .map_err(|error| failed("io_uring_setup of the client", &error))?;
    for (number, (direction, iovecs, sector, _)) in requests.iter().enumerate() {
        let (fd, count) = (types::Fd(device), iovecs.len() as u32);
        let entry = match direction {
            Direction::Write => opcode::Writev::new(fd, iovecs.as_ptr(), count)
                .offset(sector << 9)
                .build(),
            Direction::Read => opcode::Readv::new(fd, iovecs.as_ptr(), count)
                .offset(sector << 9)
                .build(),
        };
        // SAFETY: iovecs and the memory that they name live until every
        // completion has come, below.
        unsafe { ring.submission().push(&entry.user_data(number as u64)) }
            .map_err(|_| Failure::environment("the client's queue is full"))?;
    }
    let mut report = None;
    let mut done = 0;
    while done < requests.len() {
        match ring.submit_and_wait(1) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => {
                return Err(failed("io_uring_enter of the client", &error));
            }
            _ => {}
        }
        for completion in ring.completion() {
            done += 1;
            let (direction, _, sector, bytes) = &requests[completion.user_data() as usize];
            if i64::from(completion.result()) != *bytes as i64 {
                let what = format!("{direction:?} of {bytes} bytes at sector {sector}");
                report.get_or_insert(Report::Failed {
                    what: match completion.result() {
                        result @ 0.. => format!("{what}: {result} bytes"),
                        _ => what,
                    },
                    errno: Some(-completion.result()).filter(|errno| *errno > 0),
                });
            }
        }
    }
    Ok(report)
}
