// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a run must not leave behind: links, programs and maps of struct_ops,
//! pinned pages, ublk devices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libbpf_rs::query::{LinkInfoIter, LinkTypeInfo, MapInfoIter, ProgInfoIter};
use libbpf_rs::{MapType, ProgramType};

use crate::error::Failure;
use crate::proc::pins;
use crate::ublk;

/// What ends with a ring or a process does so a little later.
const SETTLE: Duration = Duration::from_secs(30);

/// What there is, by the kernel's ids.
#[derive(Debug, Clone, Default)]
pub struct Present {
    links: BTreeSet<u32>,
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    devices: BTreeSet<String>,
    pins: Option<u64>,
}

impl Present {
    pub fn look() -> Self {
        let links = LinkInfoIter::default()
            .filter(|link| matches!(link.info, LinkTypeInfo::StructOps(_)))
            .map(|link| link.id);
        let programs = ProgInfoIter::default()
            .filter(|program| program.ty == ProgramType::StructOps)
            .map(|program| program.id);
        let maps = MapInfoIter::default()
            .filter(|map| matches!(map.ty, MapType::StructOps | MapType::Arena))
            .map(|map| map.id);
        let devices = std::fs::read_dir("/sys/class/ublk-char")
            .into_iter()
            .flatten();
        Present {
            links: links.collect(),
            programs: programs.collect(),
            maps: maps.collect(),
            devices: devices
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect(),
            pins: pins(),
        }
    }

    /// What is there now and was not before, in words.
    fn more_than(&self, before: &Present) -> Vec<String> {
        let mut more = Vec::new();
        let mut new = |what: &str, now: &BTreeSet<u32>, then: &BTreeSet<u32>| {
            let count = now.difference(then).count();
            if count > 0 {
                more.push(format!("{count} {what}"));
            }
        };
        new("struct_ops links", &self.links, &before.links);
        new("struct_ops programs", &self.programs, &before.programs);
        new("struct_ops and arena maps", &self.maps, &before.maps);
        let devices: Vec<_> = self.devices.difference(&before.devices).collect();
        if !devices.is_empty() {
            more.push(format!("ublk devices {devices:?}"));
        }
        if let (Some(now), Some(then)) = (self.pins, before.pins)
            && now > then
        {
            more.push(format!("{} pinned pages", now - then));
        }
        more
    }
}

/// What is left of a run whose processes and programs have ended; nothing
/// where all is well. Devices of killed processes are removed first, as the
/// next run would do.
pub fn left_since(before: &Present) -> Result<Vec<String>, Failure> {
    let until = Instant::now() + SETTLE;
    loop {
        ublk::cleanup()?;
        let more = Present::look().more_than(before);
        if more.is_empty() || Instant::now() > until {
            return Ok(more);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_left_over() {
        let before = Present {
            links: [1, 2].into(),
            pins: Some(5),
            ..Present::default()
        };
        let after = Present {
            links: [2].into(),
            pins: Some(3),
            ..Present::default()
        };
        assert!(after.more_than(&before).is_empty());
        let after = Present {
            links: [2, 3].into(),
            programs: [9].into(),
            pins: Some(7),
            ..Present::default()
        };
        let expected = [
            "1 struct_ops links",
            "1 struct_ops programs",
            "2 pinned pages",
        ];
        assert_eq!(after.more_than(&before), expected);
    }
}
