// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Whether stdout was closed when the process began.
//!
//! Before `main` Rust's runtime opens /dev/null in place of a closed stdout,
//! and its writes take EBADF for success: results that went nowhere would look
//! like results that were read. So it is looked at before the runtime starts.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// The C library calls what stands in this section before `main`.
#[used]
// SAFETY: the section holds pointers to functions that take nothing, which this
// one may be called as; it needs nothing of the runtime.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: takes a number and no memory; of a closed descriptor it says EBADF.
    let closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } < 0;
    CLOSED.store(closed, Ordering::Relaxed);
}

pub fn was_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}
