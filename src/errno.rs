// SPDX-License-Identifier: MIT OR GPL-2.0-only

//! Error numbers with their names: users and kernel people say EFAULT, not 14.

use std::fmt;

/// An error number as the kernel uses it, positive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

/// The kernel's own errors, which never reach user space except through a completion's `res`; libc has no names.
const ENOTSUPP: i32 = 524;
const EIOCBQUEUED: i32 = 529;

macro_rules! names {
    ($number:expr; $($name:ident),* $(,)?) => {
        match $number {
            $(libc::$name => Some(stringify!($name)),)*
            ENOTSUPP => Some("ENOTSUPP"),
            EIOCBQUEUED => Some("EIOCBQUEUED"),
            _ => None,
        }
    };
}

/// The symbolic name of a positive error number, "EFAULT".
pub fn errno_name(number: i32) -> Option<&'static str> {
    names!(
        number;
        EPERM, ENOENT, ESRCH, EINTR, EIO, ENXIO, E2BIG, ENOEXEC, EBADF, ECHILD, EAGAIN, ENOMEM, EACCES, EFAULT,
        ENOTBLK, EBUSY, EEXIST, EXDEV, ENODEV, ENOTDIR, EISDIR, EINVAL, ENFILE, EMFILE, ENOTTY, ETXTBSY, EFBIG,
        ENOSPC, ESPIPE, EROFS, EMLINK, EPIPE, EDOM, ERANGE, EDEADLK, ENAMETOOLONG, ENOLCK, ENOSYS, ENOTEMPTY, ELOOP,
        ENODATA, ETIME, EPROTO, EBADMSG, EOVERFLOW, EBADFD, EILSEQ, EUSERS, ENOTSOCK, EMSGSIZE, ENOPROTOOPT,
        EOPNOTSUPP, ENOBUFS, ENOTCONN, ETIMEDOUT, EALREADY, EINPROGRESS, ESTALE, EDQUOT, ENOMEDIUM, ECANCELED,
        EOWNERDEAD, ENOTRECOVERABLE,
    )
}

impl Errno {
    pub const fn new(number: i32) -> Self {
        Errno(number)
    }

    /// The error in a completion's `res` or a raw system call's result, if it is one.
    pub fn from_result(res: i32) -> Option<Self> {
        (res < 0).then(|| Errno(res.saturating_neg()))
    }

    /// The error of the last libc call of this thread.
    pub fn last() -> Self {
        std::io::Error::last_os_error().into()
    }

    pub const fn number(self) -> i32 {
        self.0
    }

    /// As a completion's `res` carries it.
    pub const fn negated(self) -> i32 {
        -self.0
    }

    /// "EFAULT", or "errno 4711" for a number without a name.
    pub fn name(self) -> String {
        errno_name(self.0).map_or_else(|| format!("errno {}", self.0), str::to_owned)
    }
}

impl From<i32> for Errno {
    /// Takes either sign, so that a `res` and an `errno` both fit.
    fn from(number: i32) -> Self {
        Errno(number.saturating_abs())
    }
}

impl From<std::io::Error> for Errno {
    /// An error that has no number (made up by the standard library) becomes EIO.
    fn from(error: std::io::Error) -> Self {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Display for Errno {
    /// "EFAULT (Bad address)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        match errno_name(self.0) {
            Some(name) if !text.starts_with("Unknown error") => write!(f, "{name} ({text})"),
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

/// A `res` in words: a count of bytes, or "-EFAULT".
pub fn res_text(res: i32) -> String {
    match Errno::from_result(res) {
        Some(errno) => format!("-{}", errno.name()),
        None => res.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names() {
        assert_eq!(Errno::new(libc::EFAULT).name(), "EFAULT");
        assert_eq!(
            Errno::new(libc::EOPNOTSUPP).to_string(),
            "EOPNOTSUPP (Operation not supported)"
        );
        assert_eq!(Errno::new(524).to_string(), "ENOTSUPP");
        assert_eq!(Errno::new(4711).name(), "errno 4711");
        assert_eq!(res_text(-libc::ECANCELED), "-ECANCELED");
        assert_eq!(res_text(4096), "4096");
    }

    #[test]
    fn extreme_results_do_not_overflow() {
        assert_eq!(Errno::from_result(i32::MIN).unwrap().number(), i32::MAX);
        assert_eq!(Errno::from(i32::MIN).number(), i32::MAX);
        assert_eq!(Errno::from_result(0), None);
    }
}
