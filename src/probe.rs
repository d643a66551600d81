// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Whether this kernel has what is needed, thing by thing.

use crate::kernel::{
    CHUNK_KFUNCS, ERROR_KFUNC, FEATURE_BIT, GENERAL_KFUNCS, KFUNCS, Kernel, POSTED_SETUP_BIT,
    StructLayout, WITHOUT_BTF, WITHOUT_OPTION,
};
use crate::permission;
use crate::program;
use crate::report::count;
use crate::ring::{self, Ring};
use crate::sys;

const STRUCT_OPS: &str = "struct_ops uring_bpf_ops";

/// What was found of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Present,
    /// There, but not as the interface of the third posting has it. Programs
    /// are relocated, so most differences do no harm.
    Different,
    Absent,
    /// Could not be tried.
    Unknown,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Present => "present",
            State::Different => "different",
            State::Absent => "absent",
            State::Unknown => "unknown",
        }
    }
}

/// One thing that the main job uses, or that some part of it can use.
#[derive(Debug, Clone)]
pub struct Finding {
    pub name: String,
    pub state: State,
    pub detail: String,
    /// Nothing works without it.
    pub needed: bool,
}

impl Finding {
    fn new(name: &str, there: bool, detail: impl Into<String>) -> Self {
        Finding {
            name: name.to_string(),
            state: if there { State::Present } else { State::Absent },
            detail: if there { detail.into() } else { String::new() },
            needed: true,
        }
    }

    /// Why it is absent, where that is known.
    fn absent_for(mut self, why: &str) -> Self {
        if self.state == State::Absent {
            self.detail = why.to_string();
        }
        self
    }

    fn optional(mut self) -> Self {
        self.needed = false;
        self
    }

    fn different_unless(mut self, same: bool) -> Self {
        if self.state == State::Present && !same {
            self.state = State::Different;
        }
        self
    }

    /// Whether the main job can do without what is not there.
    pub fn blocks(&self) -> bool {
        self.needed && matches!(self.state, State::Absent | State::Unknown)
    }
}

/// Everything, in the order in which it matters.
pub fn findings(kernel: &Kernel) -> Vec<Finding> {
    let mut findings = from_btf(kernel);
    if !kernel.has_btf {
        for finding in &mut findings[1..] {
            if finding.state == State::Absent {
                finding.state = State::Unknown;
                finding.detail = String::new();
            }
        }
    }
    findings.extend(from_trying(kernel));
    findings.extend(from_process());
    findings
}

fn from_btf(kernel: &Kernel) -> Vec<Finding> {
    let opcode = kernel.opcode;
    let number = opcode.map_or_else(String::new, |number| number.to_string());
    let mut findings = vec![
        Finding::new("btf", kernel.has_btf, "/sys/kernel/btf/vmlinux").absent_for(WITHOUT_BTF),
        Finding::new("opcode IORING_OP_BPF", opcode.is_some(), number),
        structure(
            STRUCT_OPS,
            kernel.ops.as_ref(),
            kernel.ops_registered,
            |_| true,
        )
        .absent_for(match kernel.probably_without_option() {
            true => WITHOUT_OPTION,
            false => "",
        }),
        structure(
            "struct uring_bpf_data",
            kernel.request.as_ref(),
            true,
            |layout| {
                let pdu = layout.members.get("pdu");
                pdu.is_some_and(|pdu| pdu.offset == 28 && pdu.size == 36)
            },
        ),
        structure(
            "struct io_bpf_buf_desc",
            kernel.descriptor.as_ref(),
            true,
            |layout| layout.size == 16 && offset(layout, "len") == Some(4),
        ),
        structure(
            "struct bpf_iter_uring_buf",
            kernel.iterator.as_ref(),
            true,
            |layout| layout.size == 96,
        ),
    ];
    findings.push(buffer_types(kernel));
    let optional = [ERROR_KFUNC].into_iter().chain(CHUNK_KFUNCS);
    let needed = KFUNCS
        .into_iter()
        .chain(GENERAL_KFUNCS)
        .map(|kfunc| (kfunc, true));
    let optional = optional.map(|kfunc| (kfunc, false));
    for ((name, parameters), needed) in needed.chain(optional) {
        let found = kernel.functions.get(name).copied();
        let detail = found.map_or_else(String::new, |found| count(found as u64, "parameter"));
        let mut finding = Finding::new(&format!("kfunc {name}"), found.is_some(), detail)
            .different_unless(found == Some(parameters));
        finding.needed = needed;
        findings.push(finding);
    }
    findings.push(Finding::new(
        "arena",
        kernel.has_arena,
        "BPF_MAP_TYPE_ARENA",
    ));
    let zero_copy = Finding::new(
        "ublk zero copy",
        kernel.has_ublk_zero_copy && kernel.has_ublk_control,
        "for kfixed buffers",
    )
    .absent_for(match kernel.has_ublk_control {
        true => "the ublk driver is older than Linux 6.15",
        false => "no /dev/ublk-control (CONFIG_BLK_DEV_UBLK; modprobe ublk_drv)",
    });
    findings.push(zero_copy.optional());
    findings
}

fn offset(layout: &StructLayout, member: &str) -> Option<usize> {
    layout.members.get(member).map(|member| member.offset)
}

fn structure(
    name: &str,
    layout: Option<&StructLayout>,
    usable: bool,
    same: impl Fn(&StructLayout) -> bool,
) -> Finding {
    let Some(layout) = layout.filter(|_| usable) else {
        return Finding::new(name, false, "");
    };
    let mut members: Vec<_> = layout.members.iter().collect();
    members.sort_by_key(|(_, member)| member.offset);
    let members: Vec<String> = members
        .iter()
        .map(|(name, member)| format!("{name}@{}", member.offset))
        .collect();
    let detail = format!("{} bytes: {}", layout.size, members.join(" "));
    Finding::new(name, true, detail).different_unless(same(layout))
}

fn buffer_types(kernel: &Kernel) -> Finding {
    let expected = ["USER", "FIXED", "VEC", "KFIXED", "REG_VEC"];
    let found: Vec<String> = expected
        .iter()
        .zip(0..)
        .filter(|(name, number)| {
            kernel.buffer_types.get(&format!("IO_BPF_BUF_{name}")) == Some(number)
        })
        .map(|(name, number)| format!("{name}={number}"))
        .collect();
    Finding::new(
        "enum io_bpf_buf_type",
        !kernel.buffer_types.is_empty(),
        found.join(" "),
    )
    .different_unless(found.len() == expected.len())
}

/// What no BTF tells: tried where the rest is there and we are allowed to.
fn from_trying(kernel: &Kernel) -> Vec<Finding> {
    let unknown = |name: &str, why: &str| Finding {
        name: name.to_string(),
        state: State::Unknown,
        detail: why.to_string(),
        needed: true,
    };
    let feature = feature(kernel);
    let not_tried = |why: &str| {
        vec![
            unknown("setup flag", why),
            feature.clone(),
            unknown("sleepable callbacks", why).optional(),
        ]
    };
    if !kernel.missing().is_empty() {
        return not_tried("not tried: needs what is absent");
    }
    let flag = match program::setup_flag(kernel) {
        Ok(flag) => flag,
        Err(failure) => return not_tried(&failure.to_string()),
    };
    let setup = Finding::new(
        "setup flag",
        true,
        format!("{flag:#x} (bit {})", flag.trailing_zeros()),
    )
    .different_unless(flag == 1 << POSTED_SETUP_BIT);
    vec![setup, feature, sleepable(kernel)]
}

fn feature(kernel: &Kernel) -> Finding {
    let name = "feature IORING_FEAT_BPF";
    let features = match kernel.query {
        Some(query) => Some(query.features),
        None => Ring::with_flags(0, 1, 0)
            .ok()
            .map(|ring| u64::from(ring.features())),
    };
    let there = features.is_some_and(|features| features & (1 << FEATURE_BIT) != 0);
    Finding::new(name, there, format!("bit {FEATURE_BIT}")).optional()
}

fn sleepable(kernel: &Kernel) -> Finding {
    let there = program::try_out(kernel).unwrap_or(false);
    Finding::new("sleepable callbacks", there, "issue_fn may sleep").optional()
}

fn from_process() -> Vec<Finding> {
    let lacking = permission::lacking();
    let mut privileges = Finding::new("privileges", lacking.is_empty(), "CAP_BPF CAP_PERFMON");
    if !lacking.is_empty() {
        privileges.detail = format!("without {}", lacking.join(", "));
    }
    let limit = match sys::locked_memory_limit() {
        None => "unlimited".to_string(),
        Some(limit) => format!("{} KiB", limit >> 10),
    };
    let mut memory = Finding::new("locked-memory limit", true, limit).optional();
    if sys::locked_memory_limit() == Some(0) {
        memory.state = State::Absent;
    }
    let ring = Ring::with_flags(0, 1, 0);
    let mut io_uring = Finding::new("io_uring", ring.is_ok(), "");
    if let Err(error) = ring {
        io_uring.detail = ring::setup_failure(&error).to_string();
    }
    vec![io_uring, privileges, memory]
}

/// What keeps the main job from running, by name: what is absent, and only
/// where nothing is, what could not be looked at for want of it.
pub fn blocking(findings: &[Finding]) -> Vec<String> {
    let of = |state| {
        let found = findings.iter().filter(|f| f.blocks() && f.state == state);
        let name = |found: &Finding| match found.name.as_str() {
            // What one needs to know is the reason.
            "privileges" | "io_uring" | "btf" | STRUCT_OPS if !found.detail.is_empty() => {
                format!("{} ({})", found.name, found.detail)
            }
            name => name.to_string(),
        };
        found.map(name).collect::<Vec<String>>()
    };
    let absent = of(State::Absent);
    match absent.is_empty() {
        true => of(State::Unknown),
        false => absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revisions::{ADDED_KFUNCS, POSTED_KFUNCS};

    #[test]
    fn a_kernel_without_anything_blocks_on_each_needed_thing() {
        let findings = from_btf(&Kernel::default());
        let blocking: Vec<&str> = findings
            .iter()
            .filter(|finding| finding.blocks())
            .map(|finding| finding.name.as_str())
            .collect();
        assert!(blocking.contains(&"opcode IORING_OP_BPF"));
        assert!(blocking.contains(&"kfunc bpf_uring_buf_dynptr"));
        assert!(!blocking.contains(&"kfunc bpf_iter_uring_buf_error"));
        assert!(!blocking.contains(&"ublk zero copy"));
    }

    #[test]
    fn without_btf_that_alone_is_what_is_missing() {
        let findings = findings(&Kernel::default());
        let blocking = blocking(&findings);
        assert_eq!(
            blocking[0],
            "btf (no /sys/kernel/btf/vmlinux: build the kernel with CONFIG_DEBUG_INFO_BTF)"
        );
        assert!(!blocking.iter().any(|name| name.contains("opcode")));
    }

    #[test]
    fn a_kernel_without_the_option_is_said_to_be_one() {
        let kernel = Kernel {
            has_btf: true,
            opcode: Some(65),
            ..Kernel::default()
        };
        let blocking = blocking(&from_btf(&kernel));
        assert_eq!(
            blocking[0],
            "struct_ops uring_bpf_ops (probably built without CONFIG_IO_URING_BPF_EXT)"
        );
    }

    #[test]
    fn every_kfunc_of_the_interface_is_listed() {
        let findings = from_btf(&Kernel::default());
        for (name, _) in POSTED_KFUNCS.iter().chain(&ADDED_KFUNCS) {
            let name = format!("kfunc {name}");
            assert!(findings.iter().any(|found| found.name == name), "{name}");
        }
    }

    #[test]
    fn a_driver_that_takes_no_devices_copies_nothing() {
        let find = |kernel: &Kernel| {
            let findings = from_btf(kernel);
            let found = findings.iter().find(|f| f.name == "ublk zero copy");
            let found = found.expect("always listed");
            (found.state, found.detail.clone())
        };
        let mut kernel = Kernel {
            has_ublk_zero_copy: true,
            ..Kernel::default()
        };
        let absent = "no /dev/ublk-control (CONFIG_BLK_DEV_UBLK; modprobe ublk_drv)";
        assert_eq!(find(&kernel), (State::Absent, absent.to_string()));
        kernel.has_ublk_control = true;
        assert_eq!(find(&kernel).0, State::Present);
        kernel.has_ublk_zero_copy = false;
        assert_eq!(find(&kernel).1, "the ublk driver is older than Linux 6.15");
    }

    #[test]
    fn a_moved_pdu_is_different_and_blocks_nothing() {
        let mut layout = StructLayout {
            size: 64,
            ..StructLayout::default()
        };
        let pdu = crate::kernel::Member {
            offset: 24,
            size: 40,
        };
        layout.members.insert("pdu".to_string(), pdu);
        let kernel = Kernel {
            request: Some(layout),
            ..Kernel::default()
        };
        let findings = from_btf(&kernel);
        let found = findings.iter().find(|f| f.name == "struct uring_bpf_data");
        let found = found.expect("always listed");
        assert_eq!(found.state, State::Different);
        assert!(!found.blocks());
    }
}
