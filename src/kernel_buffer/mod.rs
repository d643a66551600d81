// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Buffers that only the kernel holds: the pages of block requests.
//!
//! The tool is the server of a ublk device of its own, and a child process is
//! the device's client. Both map the memory of the buffer. The client does
//! block I/O from and to it, past the page cache, so that its pages are those
//! of the requests; the server registers the requests it gets in the table of
//! the job's ring and keeps them until the job is done. Then the client's I/O
//! ends, and both look at every byte.

mod client;
mod held;
mod lender;
mod loan;
mod message;
mod zeros;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

pub use client::run as run_client;
pub use lender::{Depot, Lender, Lent};
pub use loan::{Borrowed, Loan};
pub use message::{Direction, Expected, Part};
use message::{Order, Report};

use crate::block_layout::{LARGEST_REQUEST, SECTOR};
use crate::error::Failure;
use crate::interrupt::Watch;
use crate::layout::Layout;
use crate::ublk::{Device, DeviceOptions, Registration};

/// Sectors at either end of the device that the client leaves alone: where
/// others look for partitions.
const MARGIN: u64 = 2048;
/// Tags for the requests of others.
const SPARE: u16 = 8;
/// The name of the command that [`run_client`] is behind.
pub const CLIENT: &str = "client";

/// The program that has the command [`CLIENT`], where it is not the running
/// one: for tests, which have a program of their own.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Has clients run by this program.
pub fn set_client_program(program: &Path) {
    PROGRAM.get_or_init(|| program.to_path_buf());
}

/// A device for one job, and its client. Made before the job's ring, so that
/// it is deleted after that: what is in flight then has ended.
#[derive(Debug)]
pub struct Server {
    // The client goes last: it may wait for the device.
    device: Device,
    client: Mutex<Option<Client>>,
    watch: Watch,
}

impl Server {
    /// A device that takes all requests of these layouts at once; `None` when
    /// they have none.
    pub fn for_layouts(
        registration: Registration,
        layouts: &[&Layout],
    ) -> Result<Option<Self>, Failure> {
        let requests = || layouts.iter().flat_map(|layout| &layout.requests);
        if requests().next().is_none() {
            return Ok(None);
        }
        let depth = u16::try_from(requests().count())
            .ok()
            .and_then(|count| count.checked_add(SPARE))
            .filter(|depth| *depth <= 4096)
            .ok_or_else(|| {
                Failure::usage(format!(
                    "{} block requests at once: the device takes {}",
                    requests().count(),
                    4096 - SPARE
                ))
            })?;
        let sectors: u64 = requests().map(message::sectors).sum();
        let watch = Watch::begin()?;
        let device = Device::add(DeviceOptions {
            bytes: (sectors + 2 * MARGIN) * SECTOR,
            block_size: SECTOR as u32,
            queues: 1,
            depth,
            largest_request: LARGEST_REQUEST as u32,
            registration,
            write_cache: false,
            discard: false,
        })?;
        Ok(Some(Server {
            device,
            client: Mutex::new(None),
            watch,
        }))
    }

    /// Entries that the job's ring needs at least.
    pub fn entries(&self) -> u32 {
        u32::from(self.device.options().depth)
    }

    /// Slots in a row that it needs of the job's table for itself; the last
    /// one stays empty.
    pub fn slots(&self) -> u16 {
        self.filled_slots() + 1
    }

    /// For the pages of others, or for those of any request.
    fn filled_slots(&self) -> u16 {
        match self.takes_any_slot() {
            true => 1,
            false => self.device.options().depth,
        }
    }

    /// Whether requests go to the slots that their buffers name, and not to
    /// those that the kernel chooses.
    pub fn takes_any_slot(&self) -> bool {
        self.device.options().registration == Registration::Manual
    }

    fn start_client(&self, order: &Order) -> Result<RawFd, Failure> {
        let mut client = Client::start()?;
        client.order(order)?;
        let fd = client.answers.get_ref().as_raw_fd();
        *self.client() = Some(client);
        Ok(fd)
    }

    fn client(&self) -> std::sync::MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    /// What the client says; waits for it.
    fn report(&self) -> Result<Report, Failure> {
        match &mut *self.client() {
            Some(client) => client.report(),
            None => Err(Failure::environment("there is no client")),
        }
    }
}

/// The process that does the block I/O. Killed when dropped.
#[derive(Debug)]
struct Client {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    fn start() -> Result<Self, Failure> {
        let failed = |error| Failure::io("start the client of the block device", &error);
        let program = match PROGRAM.get() {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(failed)?,
        };
        let mut process = Command::new(program)
            .arg(CLIENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A terminal's signals are for the server, which ends the client.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (orders, answers) = pipes.expect("both are pipes");
        Ok(Client {
            process,
            orders,
            answers: BufReader::new(answers),
        })
    }

    fn order(&mut self, order: &Order) -> Result<(), Failure> {
        let line = serde_json::to_string(order)
            .map_err(|error| Failure::environment(format!("order block I/O: {error}")))?;
        writeln!(self.orders, "{line}")
            .and_then(|()| self.orders.flush())
            .map_err(|error| Failure::io("order block I/O from the client", &error))
    }

    fn report(&mut self) -> Result<Report, Failure> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        read.map_err(|error| Failure::io("read what the client reports", &error))?;
        serde_json::from_str(&line).map_err(|_| {
            Failure::environment(
                "the client of the block device ended before its I/O did: \
                 it was killed, or says why above",
            )
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Its I/O and every byte went well, or what did not.
fn judge(report: Report) -> Result<(), Failure> {
    match report {
        Report::Verified => Ok(()),
        Report::Wrong(what) => Err(Failure::mismatch(format!("the client finds {what}"))),
        Report::Failed { what, errno } => {
            let what = format!("block I/O of the client: {what}");
            Err(match errno {
                Some(errno) => Failure::os(what, errno),
                None => Failure::environment(what),
            })
        }
    }
}
