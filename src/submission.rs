// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Submission queue entries of IORING_OP_BPF and their completions.

use crate::error::Failure;
use crate::kernel::ID_SHIFT;
use crate::program::Program;
use crate::request::{Request, SLOTS};
use crate::ring::Ring;
use crate::spec::SqeOptions;

/// `sqe->flags` (UAPI).
const IOSQE_IO_DRAIN: u8 = 1 << 1;
pub const IOSQE_IO_LINK: u8 = 1 << 2;
pub const IOSQE_IO_HARDLINK: u8 = 1 << 3;
const IOSQE_ASYNC: u8 = 1 << 4;

/// The most that one request handles; what is longer is split.
pub const MAX_REQUEST: u64 = 64 << 20;

/// An entry that runs operation `id` on the request in `slot`.
pub fn entry(opcode: u8, id: u8, slot: usize, flags: u8, user_data: u64) -> [u8; 64] {
    let mut entry = [0; 64];
    entry[0] = opcode;
    entry[1] = flags;
    // No file: a program's own use of the field would begin here.
    entry[4..8].copy_from_slice(&(-1i32).to_ne_bytes());
    entry[8..16].copy_from_slice(&(slot as u64).to_ne_bytes());
    entry[28..32].copy_from_slice(&(u32::from(id) << ID_SHIFT).to_ne_bytes());
    entry[32..40].copy_from_slice(&user_data.to_ne_bytes());
    entry
}

/// A request, ready to go.
#[derive(Debug, Clone, Copy)]
pub struct Submission {
    pub id: u8,
    pub request: Request,
    /// Starts only when the one before it has succeeded.
    pub after_previous: bool,
}

/// A request that has completed.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// `cqe.res`.
    pub result: i32,
    /// With what the program said about it.
    pub request: Request,
}

/// Runs every submission, up to `depth` in flight; outcomes in the same order.
/// Returns when all have completed: no memory is in use any more.
pub fn run(
    ring: &Ring,
    program: &Program<'_>,
    submissions: &[Submission],
    options: &SqeOptions,
    depth: usize,
) -> Result<Vec<Outcome>, Failure> {
    let width = depth.clamp(1, SLOTS).min(ring.capacity());
    let mut outcomes = Vec::with_capacity(submissions.len());
    let mut rest = submissions;
    while !rest.is_empty() {
        let (wave, later) = rest.split_at(wave_length(rest, width, options));
        wave_of(ring, program, wave, options, &mut outcomes)?;
        rest = later;
    }
    Ok(outcomes)
}

/// How many of the submissions go together. Without a link, one that must run
/// after another waits for that one's completion.
fn wave_length(rest: &[Submission], width: usize, options: &SqeOptions) -> usize {
    let linked = options.link || options.hardlink;
    let ordered = rest.iter().skip(1).position(|next| next.after_previous);
    match ordered {
        Some(before) if !linked => (before + 1).min(width),
        _ => width.min(rest.len()),
    }
}

fn wave_of(
    ring: &Ring,
    program: &Program<'_>,
    wave: &[Submission],
    options: &SqeOptions,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Failure> {
    // A chain of links must not be cut by a submission in its midst.
    ring.make_room(wave.len())?;
    for (slot, submission) in wave.iter().enumerate() {
        program.set_request(slot, submission.request);
        let mut flags = 0;
        if options.asynchronous {
            flags |= IOSQE_ASYNC;
        }
        if options.drain {
            flags |= IOSQE_IO_DRAIN;
        }
        let last = slot + 1 == wave.len();
        if options.link && !last {
            flags |= IOSQE_IO_LINK;
        }
        if options.hardlink && !last {
            flags |= IOSQE_IO_HARDLINK;
        }
        let entry = entry(ring.opcode(), submission.id, slot, flags, slot as u64);
        assert!(
            ring.push_bytes(&entry),
            "a wave is no longer than the queue"
        );
    }
    let mut results = vec![None; wave.len()];
    for completion in ring.complete(wave.len())? {
        let slot = completion.user_data as usize;
        match results.get_mut(slot) {
            Some(result @ None) => *result = Some(completion.result),
            _ => {
                return Err(Failure::mismatch(format!(
                    "a second completion, or one that nobody asked for: user_data {}, res {}",
                    completion.user_data, completion.result
                )));
            }
        }
    }
    outcomes.extend(
        results
            .into_iter()
            .enumerate()
            .map(|(slot, result)| Outcome {
                result: result.expect("as many completions as requests, none twice"),
                request: program.request(slot),
            }),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_fields_where_the_uapi_has_them() {
        let entry = entry(65, 3, 7, IOSQE_IO_LINK, 9);
        assert_eq!(entry[0], 65);
        assert_eq!(entry[1], 4);
        assert_eq!(entry[8], 7);
        assert_eq!(entry[28..32], (3u32 << 24).to_ne_bytes());
        assert_eq!(entry[32], 9);
    }

    #[test]
    fn an_ordered_request_waits_unless_it_is_linked() {
        let plain = Submission {
            id: 0,
            request: Request::default(),
            after_previous: false,
        };
        let after = Submission {
            after_previous: true,
            ..plain
        };
        let linked = SqeOptions {
            link: true,
            ..SqeOptions::default()
        };
        assert_eq!(
            wave_length(&[plain, plain, after], 8, &SqeOptions::default()),
            2
        );
        assert_eq!(wave_length(&[plain, after], 8, &linked), 2);
        assert_eq!(wave_length(&[plain, plain, plain], 2, &linked), 2);
    }
}
