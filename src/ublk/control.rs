// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The control side of a device, in a thread of its own: libublk's control
//! ring is thread-local, and a signal would end its waits early.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder};
use libublk::io::UblkDev;
use libublk::{UblkError, UblkFlags, sys};

use super::device::{DeviceOptions, Registration};
use super::driver::Driver;
use super::record::Abandoned;
use crate::error::Failure;
use crate::ring::{self, Ring};
use crate::sys::block_signals;

pub const DRIVER: &str = "/dev/ublk-control";
/// A directory for each device (drivers/block/ublk_drv.c: ublk_chr_class), there
/// with the driver.
const DEVICES: &str = "/sys/class/ublk-char";
/// What libublk and other tools of its kind show as the device's target.
const TARGET: &str = "uringbpf";

/// What came of adding a device.
pub struct Added {
    pub id: u32,
    pub char_device: OwnedFd,
    /// The control thread's, open for as long as that lives.
    pub other_char_device: RawFd,
}

enum Order {
    Start {
        threads: Vec<i32>,
        reply: Sender<Result<(), Failure>>,
    },
    Stop {
        reply: Sender<Result<(), Failure>>,
    },
}

/// A device as its driver knows it.
pub struct Control {
    orders: Option<Sender<Order>>,
    /// Whether it could delete the device.
    thread: Option<JoinHandle<bool>>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Control")
    }
}

impl Control {
    /// Adds a device that carries `token`.
    pub fn add(options: &DeviceOptions, token: u64) -> Result<(Self, Added), Failure> {
        check_driver()?;
        let (orders, inbox) = channel();
        let (reply, added) = channel();
        let options = options.clone();
        let thread = std::thread::Builder::new()
            .name("ublk-control".to_string())
            .spawn(move || {
                block_signals();
                match add(&options, token) {
                    Ok((control, device, result)) => {
                        let _ = reply.send(Ok(result));
                        serve(&control, device, &options, &inbox)
                    }
                    Err(failure) => {
                        let _ = reply.send(Err(failure));
                        false
                    }
                }
            })
            .map_err(|error| Failure::io("start a thread", &error))?;
        let control = Control {
            orders: Some(orders),
            thread: Some(thread),
        };
        let added = added.recv().map_err(|_| ended())??;
        Ok((control, added))
    }

    /// Makes the block device appear. `threads` serve its queues.
    pub fn start(&self, threads: Vec<i32>) -> Result<(), Failure> {
        self.order(|reply| Order::Start { threads, reply })
    }

    pub fn stop(&self) -> Result<(), Failure> {
        self.order(|reply| Order::Stop { reply })
    }

    /// Deletes the device, and says whether that went well.
    pub fn delete(&mut self) -> bool {
        self.orders = None;
        let thread = self.thread.take();
        thread.is_some_and(|thread| thread.join().unwrap_or(false))
    }

    fn order(
        &self,
        order: impl FnOnce(Sender<Result<(), Failure>>) -> Order,
    ) -> Result<(), Failure> {
        let (reply, answer) = channel();
        let orders = self.orders.as_ref().ok_or_else(ended)?;
        orders.send(order(reply)).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}

fn ended() -> Failure {
    Failure::environment("ublk: the control thread has ended")
}

fn add(options: &DeviceOptions, token: u64) -> Result<(UblkCtrl, UblkDev, Added), Failure> {
    let automatic = options.registration == Registration::Auto;
    check_features(automatic)?;
    let mut flags = u64::from(sys::UBLK_F_SUPPORT_ZERO_COPY);
    if automatic {
        flags |= u64::from(sys::UBLK_F_AUTO_BUF_REG);
    }
    let control = UblkCtrlBuilder::default()
        .name(TARGET)
        .nr_queues(options.queues)
        .depth(options.depth)
        .io_buf_bytes(options.largest_request)
        .ctrl_flags(flags)
        .ctrl_target_flags(token)
        .dev_flags(UblkFlags::UBLK_DEV_F_ADD_DEV)
        .build()
        .map_err(|error| failure("add a ublk device", &error))?;
    // What the driver cannot do it takes out of the flags.
    let info = control.dev_info();
    require(info.flags, automatic)?;
    // Nor does it say that it makes fewer queues than it was asked for.
    if info.nr_hw_queues != options.queues {
        return Err(Failure::usage(format!(
            "{} queues: the ublk driver makes one for each CPU at most, {} here",
            options.queues, info.nr_hw_queues
        )));
    }
    let parameters = parameters(options);
    let target = |device: &mut UblkDev| {
        device.tgt.dev_size = options.bytes;
        device.tgt.params = parameters;
        Ok(())
    };
    let device = UblkDev::new(TARGET.to_string(), target, &control)
        .map_err(|error| failure(&format!("open {}", control.get_cdev_path()), &error))?;
    // SAFETY: the device holds this descriptor open for as long as it exists.
    let char_device = unsafe { BorrowedFd::borrow_raw(device.tgt.fds[0]) };
    let char_device = char_device
        .try_clone_to_owned()
        .map_err(|error| Failure::io(control.get_cdev_path(), &error))?;
    let added = Added {
        id: info.dev_id,
        char_device,
        other_char_device: device.tgt.fds[0],
    };
    Ok((control, device, added))
}

fn parameters(options: &DeviceOptions) -> sys::ublk_params {
    let shift = options.block_size.trailing_zeros() as u8;
    let mut parameters = sys::ublk_params {
        types: sys::UBLK_PARAM_TYPE_BASIC,
        basic: sys::ublk_param_basic {
            logical_bs_shift: shift,
            physical_bs_shift: shift.max(12),
            io_min_shift: shift.max(12),
            io_opt_shift: options.largest_request.ilog2() as u8,
            max_sectors: options.largest_request >> 9,
            dev_sectors: options.bytes >> 9,
            ..Default::default()
        },
        ..Default::default()
    };
    if options.write_cache {
        parameters.basic.attrs = sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA;
    }
    if options.discard {
        parameters.types |= sys::UBLK_PARAM_TYPE_DISCARD;
        parameters.discard = sys::ublk_param_discard {
            discard_granularity: options.block_size,
            max_discard_sectors: u32::MAX >> 9,
            max_write_zeroes_sectors: u32::MAX >> 9,
            max_discard_segments: 1,
            ..Default::default()
        };
    }
    parameters
}

fn serve(
    control: &UblkCtrl,
    device: UblkDev,
    options: &DeviceOptions,
    inbox: &Receiver<Order>,
) -> bool {
    while let Ok(order) = inbox.recv() {
        match order {
            Order::Start { threads, reply } => {
                let _ = reply.send(start(control, &device, options, &threads));
            }
            Order::Stop { reply } => {
                let stopped = checked("stop the ublk device", control.stop_dev());
                let _ = reply.send(stopped);
            }
        }
    }
    // Once nobody has the char device open, the driver fails what is in
    // flight by itself: a delete that comes before would wait for ever.
    drop(device);
    // Not waiting: what still holds the device, a mounted file system for
    // one, may do so for long.
    control.del_dev_async().is_ok_and(|result| result >= 0)
}

fn start(
    control: &UblkCtrl,
    device: &UblkDev,
    options: &DeviceOptions,
    threads: &[i32],
) -> Result<(), Failure> {
    for (queue, thread) in threads.iter().enumerate() {
        checked(
            "describe the ublk device",
            control.configure_queue(device, queue as u16, *thread),
        )?;
    }
    for _ in 0..options.queues {
        // No buffers of ours are involved; without this it waits for them.
        device.notify_buffer_registration_complete(false);
    }
    checked("start the ublk device", control.start_dev(device))
}

/// Removes the device of a process that has ended, if it is still there. After
/// a failure it may be.
pub fn remove(abandoned: &Abandoned) -> Result<Option<u32>, Failure> {
    let find = || {
        block_signals();
        match (device_ids()?, abandoned.device()) {
            (None, _) => Ok(None),
            (Some(ids), Some(id)) if !ids.contains(&id) => Ok(None),
            (Some(_), Some(id)) => remove_own(vec![id], abandoned.token()),
            // It ended while it was adding the device.
            (Some(ids), None) => remove_own(ids, abandoned.token()),
        }
    };
    std::thread::scope(|scope| scope.spawn(find).join().map_err(|_| ended())?)
}

/// Deletes the one of these devices that carries the token.
fn remove_own(ids: Vec<u32>, token: u64) -> Result<Option<u32>, Failure> {
    let mut unknown = None;
    let driver = match ids.is_empty() {
        true => return Ok(None),
        false => Driver::open()?,
    };
    for id in ids {
        match driver.token(id) {
            Ok(Some(its)) if its == token => {
                driver.delete(id)?;
                return Ok(Some(id));
            }
            // Somebody else's, or gone.
            Ok(_) => {}
            Err(failure) => unknown = Some(failure),
        }
    }
    match unknown {
        Some(failure) => Err(failure),
        None => Ok(None),
    }
}

/// The devices that the driver has; `None` where there is no driver, and so no
/// device. Nodes in /dev may be missing, as in a container; sysfs tells of all.
fn device_ids() -> Result<Option<Vec<u32>>, Failure> {
    let entries = match std::fs::read_dir(DEVICES) {
        Ok(entries) => entries,
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && Path::new("/sys/class").exists() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(Failure::io(format!("read {DEVICES}"), &error)),
    };
    let id = |name: &str| name.strip_prefix("ublkc")?.parse().ok();
    let ids = entries.flatten();
    Ok(Some(
        ids.filter_map(|entry| id(entry.file_name().to_str()?))
            .collect(),
    ))
}

/// Whether devices with this registration can be added.
pub fn check(registration: Registration) -> Result<(), Failure> {
    check_driver()?;
    let features = || {
        block_signals();
        check_features(registration == Registration::Auto)
    };
    // libublk's control ring stays with the thread that asks.
    std::thread::scope(|scope| scope.spawn(features).join()).map_err(|_| ended())?
}

fn check_driver() -> Result<(), Failure> {
    match std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(DRIVER)
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::missing([
            "the ublk driver (CONFIG_BLK_DEV_UBLK; where it is a module: modprobe ublk_drv)",
        ])),
        Err(error) => {
            let failure = Failure::io(format!("open {DRIVER}"), &error);
            Err(failure.next("run as root, or with CAP_SYS_ADMIN"))
        }
    }
}

fn check_features(automatic: bool) -> Result<(), Failure> {
    let Some(features) = UblkCtrl::get_features() else {
        // It asks over a ring of its own and does not say why it failed.
        Ring::with_flags(0, 1, 0).map_err(|error| ring::setup_failure(&error))?;
        return Err(Failure::missing([
            "a ublk driver that tells its features (Linux 6.5)",
        ]));
    };
    require(features, automatic)
}

/// Flags of a driver or of a device must have what we need.
fn require(flags: u64, automatic: bool) -> Result<(), Failure> {
    let needed = [
        (
            sys::UBLK_F_SUPPORT_ZERO_COPY,
            "ublk zero copy (Linux 6.15)",
            true,
        ),
        (
            sys::UBLK_F_AUTO_BUF_REG,
            "UBLK_F_AUTO_BUF_REG (Linux 6.16)",
            automatic,
        ),
    ];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(flag, _, wanted)| *wanted && flags & u64::from(*flag) == 0)
        .map(|(_, name, _)| *name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Failure::missing(missing))
    }
}

/// libublk passes EBUSY on as a success.
fn checked(what: &str, result: Result<i32, UblkError>) -> Result<(), Failure> {
    match result {
        Ok(0..) => Ok(()),
        Ok(errno) => Err(Failure::os(what, -errno)),
        Err(error) => Err(failure(what, &error)),
    }
}

fn failure(what: &str, error: &UblkError) -> Failure {
    match error {
        UblkError::UringIOError(errno) | UblkError::OtherError(errno) => {
            let failure = Failure::os(what, errno.abs());
            match errno.abs() {
                libc::EPERM | libc::EACCES => failure.next("run as root, or with CAP_SYS_ADMIN"),
                _ => failure,
            }
        }
        UblkError::IOError(error) => Failure::io(what, error),
        other => Failure::environment(format!("{what}: {other}")),
    }
}
