// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A ublk device of this process.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Mutex;

use libublk::sys;

use super::control::Control;
use super::record::Record;
use crate::error::Failure;
use crate::sys::{page_size, thread_id};

/// What libublk takes.
const LARGEST_REQUEST: u32 = 32 << 20;

/// Who puts the pages of a request into the ring's table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Registration {
    /// [`Queue::register`](super::Queue::register) does.
    #[default]
    Manual,
    /// The kernel does, before the request arrives (UBLK_F_AUTO_BUF_REG).
    Auto,
}

/// How a device is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Its size; a multiple of `block_size`.
    pub bytes: u64,
    /// The logical block: 512, 1024, 2048 or 4096 bytes.
    pub block_size: u32,
    pub queues: u16,
    /// Requests at once in each queue: 1 to 4096.
    pub depth: u16,
    /// Bytes of the largest request: whole pages, up to 32 MiB. The block
    /// layer sends no request beyond `max_sectors_kb` of the device's queue in
    /// sysfs, which may be less.
    pub largest_request: u32,
    pub registration: Registration,
    /// Written data is safe only after a flush, which the device then gets
    /// (and requests that are `durable`). Without, it gets no flush at all.
    pub write_cache: bool,
    /// It gets discards and requests to write zeros.
    pub discard: bool,
}

impl DeviceOptions {
    fn check(&self) -> Result<(), Failure> {
        let wrong = |what: &str| Err(Failure::usage(format!("ublk device: {what}")));
        let page = page_size() as u32;
        if !self.block_size.is_power_of_two() || !(512..=4096).contains(&self.block_size) {
            return wrong("the block size is 512, 1024, 2048 or 4096");
        }
        if self.bytes == 0 || !self.bytes.is_multiple_of(u64::from(self.block_size)) {
            return wrong("the size is a multiple of the block size, and not 0");
        }
        if self.queues == 0 || u32::from(self.queues) > sys::UBLK_MAX_NR_QUEUES {
            return wrong("a device has 1 to 4096 queues");
        }
        if self.depth == 0 || u32::from(self.depth) > sys::UBLK_MAX_QUEUE_DEPTH {
            return wrong("a queue takes 1 to 4096 requests");
        }
        if !self.largest_request.is_multiple_of(page)
            || !(page..=LARGEST_REQUEST).contains(&self.largest_request)
        {
            return wrong("the largest request is whole pages, up to 32 MiB");
        }
        Ok(())
    }
}

/// A device: there from [`Device::add`] until it is dropped.
#[derive(Debug)]
pub struct Device {
    control: Mutex<Control>,
    /// Until the device is deleted.
    record: Option<Record>,
    options: DeviceOptions,
    id: u32,
    /// Closed before the device is deleted, like that of every queue.
    char_device: Option<OwnedFd>,
    /// libublk's own: open until the control thread ends.
    other_char_device: RawFd,
    /// Of the character device.
    device_number: u64,
    /// What takes their place in [`Device::give_up`].
    nothing: File,
    /// The threads that opened the queues.
    threads: Mutex<Vec<i32>>,
}

/// Stops a device from another thread.
#[derive(Debug, Clone, Copy)]
pub struct Stopper<'a>(&'a Device);

impl Device {
    /// Adds a device that has no block device yet, after removing those that
    /// a dead `uringbpf` left. What this kernel lacks for it is a
    /// [`Failure::Missing`].
    pub fn add(options: DeviceOptions) -> Result<Self, Failure> {
        options.check()?;
        // What others left is no reason to do without a device of our own.
        let _ = super::cleanup();
        // From here on a crash leaves nothing that the next run cannot find:
        // the token is on record before a device carries it.
        let mut record = Record::create()?;
        let nothing =
            File::open("/dev/null").map_err(|error| Failure::io("open /dev/null", &error))?;
        let (control, added) = Control::add(&options, record.token())?;
        record.note_device(added.id);
        Ok(Device {
            control: Mutex::new(control),
            record: Some(record),
            options,
            id: added.id,
            device_number: device_of(added.char_device.as_raw_fd()).unwrap_or_default(),
            char_device: Some(added.char_device),
            other_char_device: added.other_char_device,
            nothing,
            threads: Mutex::new(Vec::new()),
        })
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn options(&self) -> &DeviceOptions {
        &self.options
    }

    /// The block device's node, once started.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.id))
    }

    /// Makes the block device appear; every queue must be open.
    pub fn start(&self) -> Result<(), Failure> {
        let threads = self.threads.lock().unwrap_or_else(|lock| lock.into_inner());
        // The driver waits for all of them, and not killably by us.
        assert_eq!(
            threads.len(),
            usize::from(self.options.queues),
            "every queue is open before the device starts"
        );
        self.control().start(threads.clone())
    }

    /// Takes the block device away, after writing back what the page cache
    /// holds of it: its queues must be served until [`Event::Gone`] came for
    /// every tag, so this is another thread's call.
    ///
    /// [`Event::Gone`]: super::Event::Gone
    pub fn stop(&self) -> Result<(), Failure> {
        self.control().stop()
    }

    /// For when a queue is not served any more. The driver fails the requests
    /// that nobody answered when nobody has the character device open, and
    /// [`Device::start`] and [`Device::stop`] may be waiting for them. So this
    /// closes it, but for the queues, which whoever serves them has to drop.
    /// None can be opened after it.
    pub fn give_up(&self) {
        let own = self.char_device.as_ref().map(AsRawFd::as_raw_fd);
        for descriptor in own.into_iter().chain([self.other_char_device]) {
            if device_of(descriptor) != Some(self.device_number) {
                // Given up already; or the control thread has panicked, and
                // somebody else got the number.
                continue;
            }
            // Their owners close them as ever.
            // SAFETY: both are open, and nobody relies on which file they
            // stand for.
            unsafe { libc::dup3(self.nothing.as_raw_fd(), descriptor, libc::O_CLOEXEC) };
        }
    }

    /// Something to stop it with that can be given away.
    pub fn stopper(&self) -> Stopper<'_> {
        Stopper(self)
    }

    pub(super) fn char_device(&self) -> Result<OwnedFd, Failure> {
        let open = self.char_device.as_ref();
        open.expect("open until the device is dropped")
            .try_clone()
            .map_err(|error| Failure::io(format!("/dev/ublkc{}", self.id), &error))
    }

    pub(super) fn queue_opened(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(|lock| lock.into_inner());
        threads.push(thread_id());
    }

    fn control(&self) -> std::sync::MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

/// Which device a descriptor stands for.
fn device_of(descriptor: RawFd) -> Option<u64> {
    // SAFETY: it is filled in where the call succeeds, which does not care
    // whether the descriptor is open.
    unsafe {
        let mut found = std::mem::zeroed::<libc::stat>();
        (libc::fstat(descriptor, &raw mut found) == 0).then_some(found.st_rdev)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // While somebody has it open, the driver waits for answers to the
        // requests in flight.
        self.char_device = None;
        let deleted = self.control().delete();
        if let Some(record) = self.record.take().filter(|_| deleted) {
            record.retire();
        }
    }
}

impl Stopper<'_> {
    pub fn stop(&self) -> Result<(), Failure> {
        self.0.stop()
    }
}
