// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A ring's table of registered buffers.

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use crate::buffer::Buffer;
use crate::error::Failure;
use crate::memory::Region;
use crate::ring::Ring;
use crate::sys;

/// UAPI opcodes of io_uring_register(2).
const UNREGISTER_BUFFERS: u32 = 1;
const REGISTER_BUFFERS2: u32 = 15;
const REGISTER_BUFFERS_UPDATE: u32 = 16;
const REGISTER_SPARSE: u32 = 1;

/// io_buffer_validate() of the kernel.
const LARGEST: u64 = 1 << 30;

#[repr(C)]
#[derive(Default)]
struct Register {
    count: u32,
    flags: u32,
    reserved: u64,
    data: u64,
    tags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
    tags: u64,
    count: u32,
    reserved2: u32,
}

/// Refuses a buffer that is too long to be registered.
pub fn check_len(len: u64) -> Result<(), Failure> {
    match len > LARGEST {
        true => Err(Failure::usage(format!(
            "a registered buffer of {len} bytes: the kernel takes at most 1 GiB"
        ))),
        false => Ok(()),
    }
}

/// A sparse table on a ring; emptied before the memory goes, which the borrow
/// sees to.
#[derive(Debug)]
pub struct Table<'t> {
    ring: &'t Ring,
    memory: PhantomData<&'t [u8]>,
}

impl<'t> Table<'t> {
    /// An empty table with `slots` places.
    pub fn new(ring: &'t Ring, slots: u32) -> Result<Self, Failure> {
        let mut register = Register {
            count: slots,
            flags: REGISTER_SPARSE,
            ..Register::default()
        };
        // SAFETY: a valid io_uring_rsrc_register that names no memory.
        let result = unsafe {
            sys::io_uring_register(
                Some(ring.as_fd()),
                REGISTER_BUFFERS2,
                (&raw mut register).cast::<c_void>(),
                size_of::<Register>() as u32,
            )
        };
        result.map_err(|error| failure("register a table of buffers", &error))?;
        Ok(Table {
            ring,
            memory: PhantomData,
        })
    }

    /// Registers what a buffer's layout asks for, if it asks for anything.
    pub fn add(&self, buffer: &Buffer<'t>) -> Result<(), Failure> {
        match buffer.registration() {
            Some((index, address, len)) => self.set(index, address, len),
            None => Ok(()),
        }
    }

    /// Registers a whole region.
    pub fn add_region(&self, index: u16, region: &Region<'t>) -> Result<(), Failure> {
        self.set(index, region.address(), region.len() as u64)
    }

    /// Empties a place, also while requests use what is in it.
    pub fn remove(&self, index: u16) -> Result<(), Failure> {
        self.set(index, 0, 0)
    }

    fn set(&self, index: u16, address: u64, len: u64) -> Result<(), Failure> {
        check_len(len)?;
        let iovec = libc::iovec {
            iov_base: address as *mut c_void,
            iov_len: len as usize,
        };
        let mut update = Update {
            offset: u32::from(index),
            data: &raw const iovec as u64,
            count: 1,
            ..Update::default()
        };
        // SAFETY: a valid io_uring_rsrc_update2 that names one iovec, whose
        // memory lives for 't and is unregistered before that ends.
        let result = unsafe {
            sys::io_uring_register(
                Some(self.ring.as_fd()),
                REGISTER_BUFFERS_UPDATE,
                (&raw mut update).cast::<c_void>(),
                size_of::<Update>() as u32,
            )
        };
        result
            .map(drop)
            .map_err(|error| failure(&format!("register {len} bytes as buffer {index}"), &error))
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        // SAFETY: takes no argument. A failure leaves the buffers to the
        // ring's end, which pins pages longer but harms nobody.
        let _ = unsafe {
            sys::io_uring_register(
                Some(self.ring.as_fd()),
                UNREGISTER_BUFFERS,
                std::ptr::null_mut(),
                0,
            )
        };
    }
}

fn failure(what: &str, error: &io::Error) -> Failure {
    let failure = Failure::io(what, error);
    match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            let limit = sys::locked_memory_limit();
            let now = limit.map_or_else(String::new, |limit| format!(", now {} KiB", limit >> 10));
            failure.next(format!(
                "raise RLIMIT_MEMLOCK (ulimit -l{now}) or run with CAP_IPC_LOCK"
            ))
        }
        _ => failure,
    }
}
