// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the driver does with the device of another process: say whose it is,
//! and delete it.
//!
//! libublk has these commands, too. But for each such device it also reads a
//! description in /run, and writes a line on standard error where there is
//! none: as behind a server that was killed while it started, or beside one
//! that just ends.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use libublk::ctrl::UblkCtrl;
use libublk::sys;

use super::control::DRIVER;
use crate::error::Failure;
use crate::ring;

/// The driver, and a ring for the commands to it.
pub struct Driver {
    file: File,
    ring: RefCell<IoUring<squeue::Entry128, cqueue::Entry>>,
}

impl Driver {
    pub fn open() -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(true).open(DRIVER);
        let what = || format!("look at ublk devices: open {DRIVER}");
        let file = file.map_err(|error| Failure::io(what(), &error))?;
        let ring = IoUring::builder().build(1);
        let ring = ring.map_err(|error| ring::setup_failure(&error))?;
        Ok(Driver {
            file,
            ring: RefCell::new(ring),
        })
    }

    /// The token that a device was added with; `None` when there is no such
    /// device any more.
    pub fn token(&self, id: u32) -> Result<Option<u64>, Failure> {
        let mut info = sys::ublksrv_ctrl_dev_info::default();
        let found = self.command(sys::UBLK_U_CMD_GET_DEV_INFO, id, Some(&mut info));
        match found {
            Ok(()) => Ok(Some(info.ublksrv_flags)),
            Err(libc::ENODEV) => Ok(None),
            Err(errno) => Err(Failure::os(format!("look at ublk device {id}"), errno)),
        }
    }

    /// Deletes a device and what libublk described it with. Does not wait for
    /// those who still hold it.
    pub fn delete(&self, id: u32) -> Result<(), Failure> {
        // First the file: the next device may have its number.
        let description = format!("{}/{id:04}.json", UblkCtrl::run_dir());
        match std::fs::remove_file(&description) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::io(format!("remove {description}"), &error));
            }
            _ => {}
        }
        match self.command(sys::UBLK_U_CMD_DEL_DEV_ASYNC, id, None) {
            // Somebody else was faster.
            Ok(()) | Err(libc::ENODEV) => Ok(()),
            Err(errno) => Err(Failure::os(format!("delete ublk device {id}"), errno)),
        }
    }

    /// Has one command done (include/uapi/linux/ublk_cmd.h: struct
    /// ublksrv_ctrl_cmd), or says with which errno it failed.
    fn command(
        &self,
        opcode: u32,
        id: u32,
        mut info: Option<&mut sys::ublksrv_ctrl_dev_info>,
    ) -> Result<(), i32> {
        let mut command = [0; 80];
        command[0..4].copy_from_slice(&id.to_ne_bytes());
        // No queue's.
        command[4..6].copy_from_slice(&u16::MAX.to_ne_bytes());
        if let Some(info) = &mut info {
            let len = size_of::<sys::ublksrv_ctrl_dev_info>() as u16;
            let address = &raw mut **info as u64;
            command[6..8].copy_from_slice(&len.to_ne_bytes());
            command[8..16].copy_from_slice(&address.to_ne_bytes());
        }
        let fd = types::Fd(self.file.as_raw_fd());
        let entry = opcode::UringCmd80::new(fd, opcode).cmd(command).build();
        let mut ring = self.ring.borrow_mut();
        // SAFETY: what the entry names outlives it: its completion is waited
        // for below.
        unsafe { ring.submission().push(&entry) }.expect("the ring holds one command");
        let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        while ring.completion().is_empty() {
            match ring.submit_and_wait(1) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(errno(error)),
                _ => {}
            }
        }
        let completion = ring.completion().next();
        match completion.map_or(-libc::EIO, |completion| completion.result()) {
            0.. => Ok(()),
            failed => Err(-failed),
        }
    }
}

const _: () = {
    assert!(size_of::<sys::ublksrv_ctrl_cmd>() == 32);
    assert!(std::mem::offset_of!(sys::ublksrv_ctrl_cmd, queue_id) == 4);
    assert!(std::mem::offset_of!(sys::ublksrv_ctrl_cmd, len) == 6);
    assert!(std::mem::offset_of!(sys::ublksrv_ctrl_cmd, addr) == 8);
};
