// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A block device every request of which passes through a BPF program: a
//! checksum for each block is kept when it is written and compared when it is
//! read.
//!
//! In memory ([`Backing::Memory`]) the blocks lie in an arena that the programs
//! copy to and from. On a file ([`Backing::File`]) no byte is copied by us:
//! the request's own pages are written to the file and read from it
//! (WRITE_FIXED, READ_FIXED), and the program looks at them in between.
//!
//! [`serve`] is the whole life of a device; one thread per queue ([`server`])
//! does the work. Requests that touch the same block are kept apart by
//! [`locks`], [`sums`] keeps the checksums of a file through a crash,
//! [`groups`] and [`parity`] are what a bad block is rebuilt from.

mod counters;
mod file_lock;
mod fresh;
mod groups;
mod guard;
mod locks;
mod parity;
mod server;
mod signals;
mod store;
mod sums;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use counters::Counters;
pub use fresh::Fresh;
pub use groups::LARGEST_GROUP;
pub use store::Opened;
pub use sums::Recovered;

use crate::cli::Algorithm;
use crate::error::Failure;
use crate::kernel::Kernel;
use crate::report::complain;
use crate::sys;
use crate::ublk::{self, Device, DeviceOptions, Registration};
use groups::{Bad, Blocks};
use guard::or_abandon;
use locks::Locks;
use server::{Inbox, Server};
use store::Store;

/// Bytes of the largest request.
pub const LARGEST_REQUEST: u32 = 1 << 20;

/// Which checksum a block has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BlockAlgorithm {
    #[default]
    Crc32c,
    Xxh64,
}

impl BlockAlgorithm {
    pub const ALL: [BlockAlgorithm; 2] = [BlockAlgorithm::Crc32c, BlockAlgorithm::Xxh64];

    pub fn name(self) -> &'static str {
        Algorithm::from(self).name()
    }

    /// In the file of checksums.
    fn number(self) -> u64 {
        match self {
            BlockAlgorithm::Crc32c => 1,
            BlockAlgorithm::Xxh64 => 2,
        }
    }
}

impl From<BlockAlgorithm> for Algorithm {
    fn from(algorithm: BlockAlgorithm) -> Self {
        match algorithm {
            BlockAlgorithm::Crc32c => Algorithm::Crc32c,
            BlockAlgorithm::Xxh64 => Algorithm::Xxh64,
        }
    }
}

/// Where the blocks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// In an arena, so many bytes of it; gone with the device.
    Memory(u64),
    /// In a file, which is as long as the device; made with this length where
    /// it is missing.
    File(PathBuf, Option<u64>),
}

/// How a device is made and served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub backing: Backing,
    /// Bytes of a block, which has one checksum and is the least that can be
    /// read or written: 512, 1024, 2048 or 4096.
    pub block_size: u32,
    pub algorithm: BlockAlgorithm,
    /// Blocks of a group that has a parity block: up to [`LARGEST_GROUP`], or
    /// 0 to do without.
    pub parity: u32,
    pub queues: u16,
    /// Requests in flight in each queue, up to [`MAX_DEPTH`].
    pub depth: u16,
    pub registration: Registration,
    pub non_sleepable: bool,
}

impl Options {
    /// Refuses what makes no device on any kernel.
    pub fn check(&self) -> Result<(), Failure> {
        store::check_size(self)
    }
}

/// A program has a slot for each request in flight.
pub const MAX_DEPTH: u16 = crate::request::SLOTS as u16;

/// What [`serve`] has to say, to whoever runs it.
pub trait Observer: Sync {
    /// Bytes of the backing file that were looked at before the device starts.
    fn scanned(&self, bytes: u64, of: u64);
    /// The device is there.
    fn ready(&self, device: &Device, opened: &Opened) -> Result<(), Failure>;
    /// A block is not what was written to it, or a request failed.
    fn trouble(&self, what: &str);
    /// About once a second.
    fn tick(&self, counters: &Counters);
    /// SIGUSR1 came.
    fn asked(&self, counters: &Counters);
    /// The device has gone.
    fn ended(&self, counters: &Counters);
}

/// Serves a device until SIGINT, SIGTERM, SIGQUIT or SIGHUP, which it returns
/// as [`Failure::Interrupted`] when everything is written back and the device
/// has gone. Blocks the process's signals from here on, for good.
pub fn serve(kernel: &Kernel, options: &Options, observer: &dyn Observer) -> Result<(), Failure> {
    // Inherited by every thread that is started from here on.
    sys::block_signals();
    let counters = Counters::default();
    // Printing may wait for a reader, and must not keep anything else.
    std::thread::scope(|printing| serve_with(kernel, options, observer, &counters, printing))
}

fn serve_with<'scope, 'env>(
    kernel: &Kernel,
    options: &Options,
    observer: &'env dyn Observer,
    counters: &'env Counters,
    printing: &'scope std::thread::Scope<'scope, 'env>,
) -> Result<(), Failure> {
    let ending = signals::ending();
    let scan = |at, of| {
        observer.scanned(at, of);
        match sys::wait_for_signal(&ending, Duration::ZERO) {
            Some(signal) => Err(Failure::Interrupted(signal)),
            None => Ok(()),
        }
    };
    options.check()?;
    // Before much memory is filled, or a large file read, for nothing.
    ublk::check_for(options.registration)?;
    let (mut store, opened) = Store::open(options, &scan)?;
    let device = Device::add(DeviceOptions {
        bytes: store.bytes(),
        block_size: options.block_size,
        queues: options.queues,
        depth: options.depth,
        largest_request: LARGEST_REQUEST,
        registration: options.registration,
        write_cache: store.is_file(),
        discard: true,
    })?;
    store.begin(options)?;
    let shared = Shared {
        kernel,
        options,
        device: &device,
        store: &store,
        locks: Locks::default(),
        counters,
        inboxes: (0..options.queues)
            .map(|_| Inbox::new())
            .collect::<Result<_, _>>()?,
        started: AtomicBool::new(false),
        failed: AtomicBool::new(false),
        failure: OnceLock::new(),
        observer,
    };
    // One at a time: who does not read the first answer gets no second.
    let answering = Arc::new(AtomicBool::new(false));
    let ask = || {
        if !answering.swap(true, Ordering::SeqCst) {
            let answering = Arc::clone(&answering);
            printing.spawn(move || {
                observer.asked(counters);
                answering.store(false, Ordering::SeqCst);
            });
        }
    };
    let served = std::thread::scope(|scope| run(scope, &shared, &opened, &ending, &ask));
    let started = shared.started.into_inner();
    drop(device);
    // Where a queue failed, the next server looks at what was in flight.
    let orderly = !started || matches!(served, Ok(()) | Err(Failure::Interrupted(_)));
    let closed = match orderly {
        true => store.close(),
        false => {
            drop(store);
            Ok(())
        }
    };
    observer.ended(counters);
    // The first thing that went wrong is the reason for what came after it.
    match served {
        Err(failure @ Failure::Interrupted(_)) => closed.and(Err(failure)),
        other => other.and(closed),
    }
}

/// What the threads of a device have in common.
struct Shared<'a> {
    kernel: &'a Kernel,
    options: &'a Options,
    device: &'a Device,
    store: &'a Store,
    locks: Locks,
    counters: &'a Counters,
    inboxes: Vec<Inbox>,
    /// There is a block device, so there may have been requests.
    started: AtomicBool,
    /// A queue is not served any more: the others must not wait for it.
    failed: AtomicBool,
    /// Why, unless its thread panicked.
    failure: OnceLock<Failure>,
    observer: &'a dyn Observer,
}

impl Shared<'_> {
    /// Ends the service of all queues without waiting for their requests: the
    /// driver fails them once the queues are closed.
    fn abandon(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.device.give_up();
        for inbox in &self.inboxes {
            inbox.wake();
        }
    }

    /// Counts a bad block, and says what became of it.
    fn tell(&self, bad: &Bad) {
        let Bad { block, found, .. } = *bad;
        let (before, is, behind) = match bad.rebuilt {
            Some(true) => ("rebuilt ", "was", ""),
            Some(false) => ("", "is", "; its group does not give it back"),
            None => ("", "is", ""),
        };
        let size = u64::from(self.store.block_size());
        let digits = Algorithm::from(self.options.algorithm).digits();
        self.counters.mismatches.add(1);
        self.counters
            .rebuilt
            .add(u64::from(bad.rebuilt == Some(true)));
        self.observer.trouble(&format!(
            "{before}block {block} (bytes {}..{}): {} {is} {found:0digits$x}, expected \
             {:0digits$x}{behind}",
            block * size,
            (block + 1) * size,
            self.options.algorithm.name(),
            self.store.sum(block),
        ));
    }
}

fn run<'scope, 'env>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    shared: &'env Shared<'env>,
    opened: &Opened,
    ending: &[i32],
    ask: &dyn Fn(),
) -> Result<(), Failure> {
    let (taken, ready) = channel();
    let threads: Vec<_> = (0..shared.options.queues)
        .map(|index| {
            let taken = taken.clone();
            let serve = move || {
                let opened = || {
                    let _ = taken.send(());
                };
                Server::run(shared, index, opened).inspect_err(|failure| {
                    let _ = shared.failure.set(failure.clone());
                })
            };
            let body = move || or_abandon(|| shared.abandon(), serve);
            std::thread::Builder::new()
                .name(format!("ublk-queue-{index}"))
                .spawn_scoped(scope, body)
        })
        .collect();
    drop(taken);
    let supervised = or_abandon(
        || shared.abandon(),
        || {
            let open = threads.iter().all(Result::is_ok)
                && (0..shared.options.queues).all(|_| ready.recv().is_ok());
            match open {
                true => supervise(shared, opened, ending, ask),
                false => {
                    shared.abandon();
                    Ok(None)
                }
            }
        },
    );
    let mut first = None;
    for thread in threads {
        let ended = match thread {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(Failure::environment("a queue's thread panicked"))),
            Err(error) => Err(Failure::io("start a queue's thread", &error)),
        };
        if let Err(failure) = ended {
            first.get_or_insert(failure);
        }
    }
    match (first, supervised?) {
        (Some(failure), _) => Err(failure),
        (None, Some(signal)) => Err(Failure::Interrupted(signal)),
        (None, None) => Ok(()),
    }
}

/// Starts the device, and waits for a reason to stop it: the signal, or `None`
/// where a queue has failed.
fn supervise(
    shared: &Shared<'_>,
    opened: &Opened,
    ending: &[i32],
    ask: &dyn Fn(),
) -> Result<Option<i32>, Failure> {
    unless_failed(shared, "start the ublk device", || shared.device.start())?;
    shared.started.store(true, Ordering::Relaxed);
    keep_pages_stable(shared.device);
    shared.observer.ready(shared.device, opened)?;
    opened.bad.iter().for_each(|bad| shared.tell(bad));
    let signals = [ending, &[libc::SIGUSR1]].concat();
    loop {
        let signal = sys::wait_for_signal(&signals, Duration::from_secs(1));
        if shared.failed.load(Ordering::SeqCst) {
            return Ok(None);
        }
        match signal {
            Some(libc::SIGUSR1) => ask(),
            Some(signal) => {
                // Waits for what the page cache holds to be written back.
                unless_failed(shared, "stop the ublk device", || shared.device.stop())?;
                return Ok(Some(signal));
            }
            None => shared.observer.tick(shared.counters),
        }
    }
}

/// How long the driver may take, once a queue has failed, to fail the requests
/// of all of them.
const GIVEN_UP: Duration = Duration::from_secs(30);

/// Does what waits for requests to be answered. A queue that fails meanwhile
/// has [`Device::give_up`] called, which ends the wait; should the driver not
/// see it so, only the end of the process is left: what remains of the device
/// then is for the next start to remove.
fn unless_failed(
    shared: &Shared<'_>,
    what: &str,
    work: impl FnOnce() -> Result<(), Failure> + Send,
) -> Result<(), Failure> {
    let (done, waiting) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = done.send(work());
        });
        let mut failed = None;
        loop {
            match waiting.recv_timeout(Duration::from_secs(1)) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => shared.observer.tick(shared.counters),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::environment(format!("{what}: a thread panicked")));
                }
            }
            if shared.failed.load(Ordering::SeqCst)
                && failed.get_or_insert_with(Instant::now).elapsed() > GIVEN_UP
            {
                let unknown = Failure::environment("a queue's thread panicked");
                let failure = shared.failure.get().unwrap_or(&unknown);
                complain(format!(
                    "uringbpf: {failure}; and the driver does not {what}: ublk --cleanup, or the \
                     next start, removes it"
                ));
                std::process::exit(failure.exit_status().into());
            }
        }
    })
}

/// Between the checksum of a page and its write nobody may change it: for
/// pages of the page cache the kernel sees to that when the device asks for it.
fn keep_pages_stable(device: &Device) {
    let path = format!("/sys/block/ublkb{}/queue/stable_writes", device.id());
    // Where sysfs is not mounted, a page that changes in flight reads as an
    // error, not as good.
    let _ = std::fs::write(path, "1");
}
