// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! How rings are set up and requests submitted: valid when they exist.

use std::fmt;
use std::str::FromStr;

use crate::spec::SpecError;

/// How a ring is set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RingOptions {
    pub sqpoll: bool,
    pub defer_taskrun: bool,
    pub single_issuer: bool,
    pub no_sqarray: bool,
    pub sqe128: bool,
    pub sqe_mixed: bool,
    pub cqe32: bool,
    pub coop: bool,
}

impl FromStr for RingOptions {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut options = RingOptions::default();
        for name in text.split(',') {
            let option = match name {
                "sqpoll" => &mut options.sqpoll,
                "defer-taskrun" => &mut options.defer_taskrun,
                "single-issuer" => &mut options.single_issuer,
                "no-sqarray" => &mut options.no_sqarray,
                "sqe128" => &mut options.sqe128,
                "sqe-mixed" => &mut options.sqe_mixed,
                "cqe32" => &mut options.cqe32,
                "coop" => &mut options.coop,
                _ => {
                    return Err(SpecError::new(format!(
                        "no ring option {name:?}; they are sqpoll, defer-taskrun, \
                         single-issuer, no-sqarray, sqe128, sqe-mixed, cqe32, coop"
                    )));
                }
            };
            if std::mem::replace(option, true) {
                return Err(SpecError::new(format!("{name} is given twice")));
            }
        }
        if options.sqpoll && (options.defer_taskrun || options.coop) {
            return Err(SpecError::new(
                "sqpoll goes with neither defer-taskrun nor coop",
            ));
        }
        if options.sqe128 && options.sqe_mixed {
            return Err(SpecError::new("sqe128 does not go with sqe-mixed"));
        }
        // The kernel wants both; asking for one of them means the pair.
        options.single_issuer |= options.defer_taskrun;
        Ok(options)
    }
}

impl fmt::Display for RingOptions {
    /// As `--ring` takes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.sqpoll, "sqpoll"),
            (self.defer_taskrun, "defer-taskrun"),
            (self.single_issuer, "single-issuer"),
            (self.no_sqarray, "no-sqarray"),
            (self.sqe128, "sqe128"),
            (self.sqe_mixed, "sqe-mixed"),
            (self.cqe32, "cqe32"),
            (self.coop, "coop"),
        ];
        let set: Vec<&str> = names
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&set.join(","))
    }
}

/// How a request is submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SqeOptions {
    pub asynchronous: bool,
    pub link: bool,
    pub hardlink: bool,
    pub drain: bool,
}
