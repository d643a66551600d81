// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The signals that end a server.

/// SIGHUP only where it is not ignored: under nohup the server outlives its
/// terminal.
pub fn ending() -> Vec<i32> {
    let all = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP];
    all.into_iter()
        .filter(|signal| *signal != libc::SIGHUP || !is_ignored(*signal))
        .collect()
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: only asks, and fills the structure in where it succeeds.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
