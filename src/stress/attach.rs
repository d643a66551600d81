// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Attaching and detaching, on rings of their own: the only results are the
//! program's 7, and -EOPNOTSUPP where nothing is attached.

use std::os::fd::{AsFd, AsRawFd};

use super::board::Ended;
use super::faults::Failing;
use crate::errno::res_text;
use crate::kernel::{ID_SHIFT, IDS};
use crate::layout::Random;
use crate::memory::MappedArray;
use crate::request::{Behaviour, SLOTS};
use crate::ring::Ring;
use crate::smoke::Stop;
use crate::smoke::bench::{ASYNC, Bench, Entry, Session};
use crate::smoke::programs::Family;
use crate::spec::RingOptions;
use crate::struct_ops::{Attachment, Ops};

const SAID: i32 = 7;

/// A ring, and requests that say whether an id of it is attached.
struct Stage<'b, 'l> {
    bench: &'b Bench<'l>,
    session: Session,
    behaviours: MappedArray<Behaviour>,
    slot: u64,
}

impl<'b, 'l> Stage<'b, 'l> {
    fn new(bench: &'b Bench<'l>) -> Result<Self, Stop> {
        let programs = bench.loaded.programs(Family::Callbacks, true);
        let behaviours = programs.array::<Behaviour>("behaviours", SLOTS)?;
        let ring = Ring::open(&bench.loaded.kernel, &RingOptions::default(), 32)?;
        Ok(Stage {
            bench,
            session: Session::new(ring),
            behaviours: behaviours.ok_or("the programs have no map of behaviours")?,
            slot: bench.slots().start,
        })
    }

    fn ops(&self, id: u16, ring_fd: i32) -> Ops {
        let ring = &self.session.ring;
        Ops {
            ring_fd,
            ..self.bench.ops(Family::Callbacks, "callbacks", ring, id)
        }
    }

    fn attach(&self, id: u16) -> std::io::Result<Attachment> {
        let ring_fd = self.session.ring.raw_fd();
        self.bench.loaded.value.attach(&self.ops(id, ring_fd))
    }

    fn say(&self) {
        let behaviour = Behaviour {
            result: SAID,
            sets_result: 1,
            ..Behaviour::default()
        };
        self.behaviours.set(self.slot as usize, behaviour);
    }

    fn entry(&self, id: u16, flags: u8) -> Entry {
        Entry {
            op_flags: u32::from(id) << ID_SHIFT,
            ..self.bench.entry(0, self.slot, flags)
        }
    }

    fn result(&self, id: u16, flags: u8) -> Result<i32, Stop> {
        self.say();
        let entry = self.entry(id, flags);
        let results = self.session.run(&[entry], self.bench.patience(0))?;
        results[0].ok_or_else(|| Stop::Fail("no completion".into()))
    }

    fn expect(&self, id: u16, attached: bool, flags: u8) -> Result<(), Stop> {
        let expected = if attached { SAID } else { -libc::EOPNOTSUPP };
        match self.result(id, flags)? {
            got if got == expected => Ok(()),
            got => Err(Stop::Fail(format!(
                "a request with id {id}, attached: {attached}, ends with {}, expected {}",
                res_text(got),
                res_text(expected)
            ))),
        }
    }
}

/// Rounds of attaching and detaching at random; a taken id is busy.
pub fn storm(bench: &Bench<'_>, rounds: u64, seed: u64) -> Result<Ended, Stop> {
    let stage = Stage::new(bench)?;
    let mut random = Random(seed);
    let mut attached: Vec<Option<Attachment>> = (0..IDS).map(|_| None).collect();
    for _ in 0..rounds {
        for _ in 0..8 {
            let id = random.below(u64::from(IDS)) as u16;
            let taken = attached[usize::from(id)].is_some();
            let flags = [0, ASYNC][random.below(2) as usize];
            match random.below(4) {
                0 => attached[usize::from(id)] = None,
                1 => stage.expect(id, taken, flags)?,
                2 if taken => detach_under_request(&stage, id, &mut attached, flags)?,
                _ => match stage.attach(id) {
                    Ok(new) if !taken => attached[usize::from(id)] = Some(new),
                    Ok(_) => return Err(Stop::Fail(format!("id {id} is attached twice"))),
                    Err(error) if taken && error.raw_os_error() == Some(libc::EBUSY) => {}
                    Err(error) => return Err(Stop::Fail(format!("attach id {id}: {error}"))),
                },
            }
        }
        for id in 0..IDS {
            stage.expect(id, attached[usize::from(id)].is_some(), 0)?;
        }
    }
    Ok(Ended::Right)
}

/// A request that was prepared keeps its programs to its end.
fn detach_under_request(
    stage: &Stage<'_, '_>,
    id: u16,
    attached: &mut [Option<Attachment>],
    flags: u8,
) -> Result<(), Stop> {
    stage.say();
    let entry = stage.entry(id, flags);
    let patience = stage.bench.patience(0);
    let results = stage.session.run_while(&[entry], patience, || {
        attached[usize::from(id)] = None;
        Ok(())
    })?;
    match results[0] {
        Some(SAID) => stage.expect(id, false, 0),
        got => Err(Stop::Fail(format!(
            "a request in flight while its programs are detached ends with {}, expected {SAID}",
            got.map_or("nothing".to_string(), res_text)
        ))),
    }
}

/// Attached through a descriptor that then is another ring's.
pub fn descriptors(bench: &Bench<'_>, seed: u64) -> Result<Ended, Stop> {
    let failed = |what: &str, error: &std::io::Error| Stop::Fail(format!("{what}: {error}"));
    let (one, other) = (Stage::new(bench)?, Stage::new(bench)?);
    let mut random = Random(seed);
    let id = random.below(u64::from(IDS)) as u16;
    let duplicate = one.session.ring.as_fd().try_clone_to_owned();
    let duplicate = duplicate.map_err(|error| failed("dup", &error))?;
    let ops = one.ops(id, duplicate.as_raw_fd());
    let attachment = bench.loaded.value.attach(&ops);
    let attachment = attachment.map_err(|error| failed("attach through a dup", &error))?;
    one.expect(id, true, 0)?;
    // SAFETY: takes no memory; the number is ours, and stays so.
    let reused = unsafe { libc::dup2(other.session.ring.raw_fd(), duplicate.as_raw_fd()) };
    if reused < 0 {
        return Err(failed("dup2", &std::io::Error::last_os_error()));
    }
    one.expect(id, true, ASYNC)?;
    other.expect(id, false, 0)?;
    let second = match random.below(2) {
        0 => None,
        _ => Some(other.attach(id).map_err(|error| failed("attach", &error))?),
    };
    match random.below(2) {
        0 => drop(attachment),
        _ => {
            let both = [one.entry(id, ASYNC), one.entry(id, ASYNC)];
            one.say();
            let results = one.session.run_while(&both, bench.patience(0), || {
                drop(attachment);
                Ok(())
            })?;
            if results != [Some(SAID); 2] {
                return Err(Stop::Fail(format!(
                    "requests under a detach end with {results:?}, expected {SAID}"
                )));
            }
        }
    }
    one.expect(id, false, 0)?;
    other.expect(id, second.is_some(), 0)?;
    drop(duplicate);
    drop(one);
    other.expect(id, second.is_some(), ASYNC)?;
    Ok(Ended::Right)
}

/// Attaches and runs a request while an allocation of the kernel's fails: each
/// step works or says so, and what it leaves works afterwards.
pub fn fault(bench: &Bench<'_>, nth: u64, seed: u64) -> Result<Ended, Stop> {
    let stage = Stage::new(bench)?;
    let id = Random(seed).below(u64::from(IDS)) as u16;
    stage.say();
    let Some(failing) = Failing::nth(nth) else {
        return Ok(Ended::LeftOut);
    };
    let attached = stage.attach(id);
    let result = match attached.is_ok() {
        true => Some(stage.result(id, ASYNC)),
        false => None,
    };
    drop(failing);
    let allowed = |errno: i32| matches!(errno, libc::ENOMEM | libc::EAGAIN | libc::EFAULT);
    let mut refused = false;
    if let Err(error) = &attached {
        refused = true;
        if !error.raw_os_error().is_some_and(allowed) {
            return Err(Stop::Fail(format!("attach while memory is short: {error}")));
        }
    }
    match result.transpose()? {
        None | Some(SAID) => {}
        Some(result) if allowed(-result) => refused = true,
        Some(result) => {
            let got = res_text(result);
            return Err(Stop::Fail(format!(
                "a request while memory is short ends with {got}"
            )));
        }
    }
    stage.expect(id, attached.is_ok(), 0)?;
    drop(attached);
    let again = stage.attach(id);
    let again = again.map_err(|error| Stop::Fail(format!("attach again: {error}")))?;
    stage.expect(id, true, ASYNC)?;
    drop(again);
    Ok(if refused {
        Ended::Refused
    } else {
        Ended::Right
    })
}
