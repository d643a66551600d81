// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Makes a failing request simpler for as long as it still fails.

use std::time::{Duration, Instant};

use super::case::{Mode, RingMode, Side, Split, State, Transfer, Variant};
use super::shapes::is_possible;
use crate::spec::{BufferType, PageKind};

/// A failure is not worth more time than this.
const LIMIT: Duration = Duration::from_secs(5);

/// The simplest request found that fails, too, and what is said about it.
pub fn shrink<E>(
    failing: Transfer,
    mut fails: impl FnMut(&Transfer) -> Result<Option<String>, E>,
) -> Result<(Transfer, Option<String>), E> {
    let until = Instant::now() + LIMIT;
    let (mut simplest, mut why) = (failing, None);
    'simpler: loop {
        for candidate in simpler(&simplest) {
            if Instant::now() > until {
                break 'simpler;
            }
            if let Some(found) = fails(&candidate)? {
                simplest = candidate;
                why = Some(found);
                continue 'simpler;
            }
        }
        break;
    }
    Ok((simplest, why))
}

/// Requests that differ from this one in one thing, which is simpler in them;
/// the biggest steps first.
fn simpler(transfer: &Transfer) -> Vec<Transfer> {
    let mut candidates = Vec::new();
    let mut add = |candidate: Transfer| {
        if candidate != *transfer && is_possible(&candidate) && !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    };
    add(Transfer {
        ring: RingMode::Plain,
        ..*transfer
    });
    add(Transfer {
        mode: Mode::Inline,
        ..*transfer
    });
    add(Transfer {
        variant: Variant::Sleepable,
        ..*transfer
    });
    let from = transfer.from.map(|side| simpler_sides(&side));
    for side in from.unwrap_or_default() {
        add(Transfer {
            from: Some(side),
            ..*transfer
        });
    }
    let to = transfer.to.map(|side| simpler_sides(&side));
    for side in to.unwrap_or_default() {
        add(Transfer {
            to: Some(side),
            ..*transfer
        });
    }
    let len = transfer.len;
    for shorter in [
        0,
        1,
        8,
        512,
        4096,
        8192,
        len / 4096 * 4096,
        len / 2,
        len.saturating_sub(1),
    ] {
        if shorter < len {
            add(Transfer {
                len: shorter,
                ..*transfer
            });
        }
    }
    candidates
}

fn simpler_sides(side: &Side) -> Vec<Side> {
    let mut sides = vec![
        Side {
            state: State::Present,
            ..*side
        },
        Side {
            pages: PageKind::Base,
            ..*side
        },
        Side {
            split: Split::One,
            ..*side
        },
        Side {
            kind: BufferType::User,
            split: Split::One,
            pages: match side.pages {
                PageKind::Kernel => PageKind::Base,
                pages => pages,
            },
            ..*side
        },
    ];
    let count = side.split.count();
    for fewer in [2, 3, count / 2, count.saturating_sub(1)] {
        if fewer < count {
            sides.push(Side {
                split: side.split.with_count(fewer),
                ..*side
            });
        }
    }
    if !matches!(side.split, Split::One | Split::Equal(_)) {
        sides.push(Side {
            split: Split::Equal(count),
            ..*side
        });
    }
    for offset in [0, 1, 8, 512] {
        if offset < side.offset {
            sides.push(Side { offset, ..*side });
        }
    }
    sides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrunk(text: &str, fails: impl Fn(&Transfer) -> bool) -> String {
        let failing = text.parse().expect("a case");
        let found = shrink(failing, |transfer| {
            Ok::<_, ()>(fails(transfer).then(String::new))
        });
        found.expect("nothing fails").0.to_string()
    }

    #[test]
    fn what_a_failure_does_not_need_goes() {
        let case = "copy from=vec:offset=511,split=ragged-255 to=reg-vec:split=equal-8,offset=4095 \
                    len=65537 ring=sqpoll mode=async";
        assert_eq!(shrunk(case, |_| true), "copy from=user to=user len=0");
        let needs_two = |t: &Transfer| t.from.is_some_and(|from| from.split.count() > 1);
        assert_eq!(
            shrunk(case, needs_two),
            "copy from=vec:split=equal-2 to=user len=2"
        );
        let needs_kernel = |t: &Transfer| t.to.is_some_and(|to| to.is_kernel());
        let kernel = "copy from=kfixed:split=ragged-8,offset=511 \
                      to=reg-vec:split=ragged-3,pages=kernel len=8193 ring=cqe32";
        assert_eq!(
            shrunk(kernel, needs_kernel),
            "copy from=user to=reg-vec:pages=kernel len=0"
        );
        let needs_async = |t: &Transfer| t.mode == Mode::Async && t.len > 4096;
        assert_eq!(
            shrunk(case, needs_async),
            "copy from=user to=user len=4097 mode=async"
        );
    }
}
