// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Raw system calls: what neither std nor a crate offers.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `struct io_sqring_offsets` (UAPI).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SqOffsets {
    pub head: u32,
    pub tail: u32,
    pub ring_mask: u32,
    pub ring_entries: u32,
    pub flags: u32,
    pub dropped: u32,
    pub array: u32,
    pub resv1: u32,
    pub user_addr: u64,
}

/// `struct io_cqring_offsets` (UAPI).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CqOffsets {
    pub head: u32,
    pub tail: u32,
    pub ring_mask: u32,
    pub ring_entries: u32,
    pub overflow: u32,
    pub cqes: u32,
    pub flags: u32,
    pub resv1: u32,
    pub user_addr: u64,
}

/// `struct io_uring_params` (UAPI).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Params {
    pub sq_entries: u32,
    pub cq_entries: u32,
    pub flags: u32,
    pub sq_thread_cpu: u32,
    pub sq_thread_idle: u32,
    pub features: u32,
    pub wq_fd: u32,
    pub resv: [u32; 3],
    pub sq_off: SqOffsets,
    pub cq_off: CqOffsets,
}

const _: () = assert!(size_of::<Params>() == 120);

/// Creates a ring; `params` comes back filled in.
pub fn io_uring_setup(entries: u32, params: &mut Params) -> io::Result<OwnedFd> {
    // SAFETY: `params` is a valid, exclusive io_uring_params for the call.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut *params) };
    let fd = checked(fd)?;
    // SAFETY: the kernel just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The sysctl kernel.io_uring_disabled (6.6): who may make rings.
pub fn io_uring_disabled() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok()
}

/// Submits and waits; returns the number of entries taken.
pub fn io_uring_enter(
    ring: BorrowedFd<'_>,
    submit: u32,
    complete: u32,
    flags: u32,
) -> io::Result<u32> {
    // SAFETY: no signal mask is passed, so no memory of ours is involved.
    let taken = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            submit,
            complete,
            flags,
            std::ptr::null::<c_void>(),
            0usize,
        )
    };
    checked(taken).map(|taken| taken as u32)
}

/// Waits for a completion, at most so long: ETIME when the time is over.
pub fn io_uring_wait(ring: BorrowedFd<'_>, limit: std::time::Duration) -> io::Result<()> {
    /// IORING_ENTER_GETEVENTS and IORING_ENTER_EXT_ARG (UAPI, 5.11).
    const FLAGS: u32 = 1 << 0 | 1 << 3;
    #[repr(C)]
    struct GetEvents {
        sigmask: u64,
        sigmask_size: u32,
        min_wait_usec: u32,
        timeout: u64,
    }
    let timeout = [limit.as_secs() as i64, i64::from(limit.subsec_nanos())];
    let argument = GetEvents {
        sigmask: 0,
        sigmask_size: 0,
        min_wait_usec: 0,
        timeout: timeout.as_ptr() as u64,
    };
    // SAFETY: a valid io_uring_getevents_arg that names a valid timespec.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            0,
            1,
            FLAGS,
            &raw const argument,
            size_of::<GetEvents>(),
        )
    };
    checked(result).map(drop)
}

/// io_uring_register(2) on a ring, or on none for the calls that need none.
///
/// # Safety
/// `argument` must be what `opcode` asks for, valid for the whole call.
pub unsafe fn io_uring_register(
    ring: Option<BorrowedFd<'_>>,
    opcode: u32,
    argument: *mut c_void,
    count: u32,
) -> io::Result<u32> {
    let fd = ring.map_or(-1, |ring| ring.as_raw_fd());
    // SAFETY: passed on to the caller.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, opcode, argument, count) };
    checked(result).map(|result| result as u32)
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Soft limit on locked memory in bytes; `None` is unlimited.
pub fn locked_memory_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid, exclusive rlimit.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Size of a page of this machine.
pub fn page_size() -> usize {
    // SAFETY: sysconf takes no pointer.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// The file mode creation mask: the permissions that new files do not get.
pub fn umask() -> u32 {
    // SAFETY: takes no pointer. Set and set back: the process makes no files
    // in between, having one thread that does.
    unsafe {
        let mask = libc::umask(0o077);
        libc::umask(mask);
        mask
    }
}

/// Gives an open file without a name (O_TMPFILE) this one; fails where the
/// name is taken.
pub fn link_open_file(file: &std::fs::File, path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;

    let open = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both are strings that live through the call.
    let result = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            open.as_ptr(),
            libc::AT_FDCWD,
            name.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    checked(result.into()).map(drop)
}

/// Takes the lock of an open file, or fails when another open file has it. It
/// goes with the file: at the latest, when the process ends.
pub fn try_lock(file: &std::fs::File) -> io::Result<()> {
    // SAFETY: takes no pointer.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    checked(result.into()).map(drop)
}

/// Takes the lock of an open file, or waits for it.
pub fn lock(file: &std::fs::File) -> io::Result<()> {
    // SAFETY: takes no pointer.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    checked(result.into()).map(drop)
}

/// Gives the lock of an open file back.
pub fn unlock(file: &std::fs::File) -> io::Result<()> {
    // SAFETY: takes no pointer.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
    checked(result.into()).map(drop)
}

/// Lets a write past the limit of a file's size (RLIMIT_FSIZE) fail with EFBIG,
/// which can be told, instead of by a signal.
pub fn ignore_file_size_signal() {
    // SAFETY: no handler of ours runs, and no memory is involved.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Leaves every signal to the other threads of the process.
pub fn block_signals() {
    // SAFETY: the set is filled in before it is used, and both live through
    // the calls, which cannot fail with these arguments.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Takes one of these signals, which must be blocked, within a time.
pub fn wait_for_signal(signals: &[i32], time: std::time::Duration) -> Option<i32> {
    let time = libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    };
    // SAFETY: the set is filled in before it is used, and everything lives
    // through the calls.
    let signal = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time)
    };
    (signal > 0).then_some(signal)
}

/// The kernel's number of this thread.
pub fn thread_id() -> i32 {
    // SAFETY: takes no pointer and cannot fail.
    unsafe { libc::gettid() }
}

/// Does something on each CPU that this thread may run on, in turn, until it
/// says that this was enough.
pub fn on_each_cpu(mut work: impl FnMut() -> bool) -> io::Result<bool> {
    const SIZE: usize = size_of::<libc::cpu_set_t>();
    let set = |cpus: &libc::cpu_set_t| {
        // SAFETY: the set lives through the call.
        checked(unsafe { libc::sched_setaffinity(0, SIZE, cpus) }.into())
    };
    // SAFETY: a set of no CPUs is all zeros.
    let mut all: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives through the call, which fills it in.
    checked(unsafe { libc::sched_getaffinity(0, SIZE, &raw mut all) }.into())?;
    let mut enough = false;
    for cpu in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: both only look at or change bits of a set that is ours.
        let one = unsafe {
            if !libc::CPU_ISSET(cpu, &all) {
                continue;
            }
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut one);
            one
        };
        set(&one)?;
        enough = work();
        if enough {
            break;
        }
    }
    set(&all)?;
    Ok(enough)
}

/// Zeroed memory that has a file descriptor but no name.
pub fn memory_file(name: &std::ffi::CStr, len: usize) -> io::Result<std::fs::File> {
    // SAFETY: the name lives through the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    let fd = checked(fd.into())?;
    // SAFETY: the kernel just returned this descriptor to us.
    let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    file.set_len(len as u64)?;
    Ok(file)
}
