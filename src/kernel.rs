// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What this kernel is: numbers, layouts and names read from its BTF, and what
//! its query interface says. Nothing of the kind stands anywhere else.

use std::collections::{BTreeMap, HashSet};
use std::ffi::c_void;
use std::path::Path;

use libbpf_rs::btf::types::{Composite, Enum, FuncProto, MemberAttr};
use libbpf_rs::btf::{Btf, BtfKind, BtfType, HasSize as _};
use libbpf_rs::{get_print, set_print};

use crate::sys;

/// `IORING_SETUP_BPF_EXT` of the third posting: a macro, so BTF has no trace.
pub const POSTED_SETUP_BIT: u32 = 21;
/// `IORING_FEAT_BPF` of the third posting.
pub const FEATURE_BIT: u32 = 18;
/// `IO_RING_MAX_BPF_OPS`: ids per ring.
pub const IDS: u16 = 16;
/// `IORING_BPF_OP_SHIFT`: where the id stands in `sqe->bpf_op_flags`.
pub const ID_SHIFT: u32 = 24;
/// `REGISTER_QUERY` (include/uapi/linux/io_uring.h, 6.18).
const REGISTER_QUERY: u32 = 35;
/// Every setup flag up to 7.3 (include/uapi/linux/io_uring.h): bits 0 … 20.
const KNOWN_SETUP_FLAGS: u64 = (1 << 21) - 1;

/// The kfuncs that the programs call, with the parameters of the interface.
pub const KFUNCS: [(&str, usize); 6] = [
    ("uring_bpf_set_result", 2),
    ("bpf_iter_uring_buf_new", 4),
    ("bpf_iter_uring_buf_next", 1),
    ("bpf_iter_uring_buf_destroy", 1),
    ("bpf_uring_buf_dynptr", 2),
    ("bpf_uring_buf_dynptr_rdwr", 2),
];
/// Not in the posted series: says which error ended an iteration.
pub const ERROR_KFUNC: (&str, usize) = ("bpf_iter_uring_buf_error", 1);
/// Not in the posted series either: whole chunks at memcpy's cost.
pub const CHUNK_KFUNCS: [(&str, usize); 6] = [
    ("bpf_uring_buf_copy", 5),
    ("bpf_uring_buf_to_arena", 4),
    ("bpf_uring_buf_from_arena", 4),
    ("bpf_uring_buf_fill", 2),
    ("bpf_uring_buf_crc32c", 2),
    ("bpf_uring_buf_xxh64", 4),
];
/// General kfuncs of the kernel that the programs call.
pub const GENERAL_KFUNCS: [(&str, usize); 4] = [
    ("bpf_dynptr_slice", 4),
    ("bpf_dynptr_size", 1),
    ("bpf_dynptr_copy", 5),
    ("bpf_dynptr_memset", 4),
];

/// The ublk driver's function that registers the pages of a request (6.15), and
/// where the driver is described that is a module.
const UBLK_REGISTER: &str = "ublk_register_io_buf";
const UBLK_MODULE: &str = "/sys/kernel/btf/ublk_drv";

/// A structure's size and where its members are, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StructLayout {
    pub size: usize,
    pub members: BTreeMap<String, Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub offset: usize,
    pub size: usize,
}

/// What the user overrides: `--kernel-flag NAME=VALUE`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    pub opcode: Option<u8>,
    /// The flag itself, not its bit number.
    pub setup_flag: Option<u32>,
    /// Programs do without the kfuncs that a kernel need not have.
    pub without_kfuncs: bool,
}

/// Answers of the kernel's query interface (6.18 and later).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query {
    pub opcodes: u32,
    pub features: u64,
    pub setup_flags: u64,
}

/// The facts about the running kernel.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    pub release: String,
    pub has_btf: bool,
    pub opcode: Option<u8>,
    /// `struct uring_bpf_ops`, and whether it is a struct_ops type.
    pub ops: Option<StructLayout>,
    pub ops_registered: bool,
    pub request: Option<StructLayout>,
    pub iterator: Option<StructLayout>,
    pub descriptor: Option<StructLayout>,
    pub buffer_types: BTreeMap<String, i64>,
    /// `enum io_uring_cmd_flags`: what `issue_flags` of a request is made of.
    pub issue_flags: BTreeMap<String, i64>,
    /// Every function of the interface that there is, with its parameters.
    pub functions: BTreeMap<String, usize>,
    pub has_arena: bool,
    /// The ublk driver can register the pages of requests.
    pub has_ublk_zero_copy: bool,
    /// The ublk driver takes devices.
    pub has_ublk_control: bool,
    pub query: Option<Query>,
    pub overrides: Overrides,
}

impl Kernel {
    /// Reads the running kernel. What is absent is `None`, never an error.
    pub fn read(overrides: Overrides) -> Self {
        let mut kernel = Kernel {
            release: release(),
            query: query(),
            has_ublk_control: Path::new("/dev/ublk-control").exists(),
            overrides,
            ..Kernel::default()
        };
        // libbpf says on stderr what a missing file means; we say it in our way.
        let print = get_print();
        set_print(None);
        let btf = Btf::from_vmlinux();
        set_print(print);
        if let Ok(btf) = btf {
            kernel.has_btf = true;
            kernel.read_btf(&btf);
        }
        kernel.opcode = overrides.opcode.or(kernel.opcode);
        kernel
    }

    fn read_btf(&mut self, btf: &Btf<'_>) {
        let types = Named::of(btf);
        self.opcode = types
            .enumerators("io_uring_op")
            .get("IORING_OP_BPF")
            .and_then(|number| u8::try_from(*number).ok());
        self.ops = types.layout("uring_bpf_ops");
        // The value type that register_bpf_struct_ops() asks for.
        self.ops_registered = types.layout("bpf_struct_ops_uring_bpf_ops").is_some();
        self.request = types.layout("uring_bpf_data");
        self.iterator = types.layout("bpf_iter_uring_buf");
        self.descriptor = types.layout("io_bpf_buf_desc");
        self.buffer_types = types.enumerators("io_bpf_buf_type");
        self.issue_flags = types.enumerators("io_uring_cmd_flags");
        self.has_arena = types
            .enumerators("bpf_map_type")
            .contains_key("BPF_MAP_TYPE_ARENA");
        self.has_ublk_zero_copy =
            types.parameters(UBLK_REGISTER).is_some() || names(UBLK_MODULE, UBLK_REGISTER);
        let optional = [&ERROR_KFUNC].into_iter().chain(&CHUNK_KFUNCS);
        let wanted = KFUNCS.iter().chain(&GENERAL_KFUNCS).chain(optional);
        for (name, _) in wanted {
            if let Some(parameters) = types.parameters(name) {
                self.functions.insert(name.to_string(), parameters);
            }
        }
    }

    /// What the main job cannot do without, of that which BTF tells.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut need = |there: bool, what: &str| {
            if !there {
                missing.push(what.to_string());
            }
        };
        need(self.has_btf, &format!("BTF ({WITHOUT_BTF})"));
        if !self.has_btf {
            return missing;
        }
        need(self.opcode.is_some(), "opcode IORING_OP_BPF");
        let ops = match self.probably_without_option() {
            true => format!("struct_ops type uring_bpf_ops ({WITHOUT_OPTION})"),
            false => "struct_ops type uring_bpf_ops".to_string(),
        };
        need(self.ops.is_some() && self.ops_registered, &ops);
        need(self.request.is_some(), "struct uring_bpf_data");
        for (name, _) in KFUNCS.iter().chain(&GENERAL_KFUNCS) {
            need(self.functions.contains_key(*name), &format!("kfunc {name}"));
        }
        need(self.has_arena, "BPF arena");
        missing
    }

    /// Whether the kernel has the opcode's number, which is there in any case,
    /// and nothing to attach programs with.
    pub fn probably_without_option(&self) -> bool {
        let numbered = self.opcode.is_some() && self.overrides.opcode.is_none();
        numbered && !(self.ops.is_some() && self.ops_registered)
    }

    pub fn reports_iteration_errors(&self) -> bool {
        self.functions.contains_key(ERROR_KFUNC.0)
    }

    /// The setup flag, when the kernel itself says which: its query interface
    /// knows one flag more than everybody does, at the posted place.
    pub fn known_setup_flag(&self) -> Option<u32> {
        let posted = 1u32 << POSTED_SETUP_BIT;
        let query = self.query.filter(|_| self.overrides.setup_flag.is_none())?;
        let unknown = query.setup_flags & !KNOWN_SETUP_FLAGS;
        (unknown == u64::from(posted)).then_some(posted)
    }

    /// Setup flags to try, likeliest first.
    pub fn setup_flag_candidates(&self) -> Vec<u32> {
        if let Some(flag) = self.overrides.setup_flag {
            return vec![flag];
        }
        let posted = 1u32 << POSTED_SETUP_BIT;
        let mut candidates = Vec::new();
        if let Some(query) = self.query {
            // The kernel names its flags: those that nobody else uses, the
            // posted one before the others.
            let unknown = query.setup_flags & !KNOWN_SETUP_FLAGS;
            candidates.extend(
                (0..32)
                    .map(|bit| 1u32 << bit)
                    .filter(|flag| unknown & u64::from(*flag) != 0),
            );
            candidates.sort_by_key(|flag| *flag != posted);
        }
        for flag in std::iter::once(posted).chain((0..32).rev().map(|bit| 1u32 << bit)) {
            // The second posting had it at bit 20.
            let used = u64::from(flag) & KNOWN_SETUP_FLAGS & !(1 << 20) != 0;
            if !used && !candidates.contains(&flag) {
                candidates.push(flag);
            }
        }
        candidates
    }
}

/// Why things are missing, and what to do about it.
pub const WITHOUT_BTF: &str =
    "no /sys/kernel/btf/vmlinux: build the kernel with CONFIG_DEBUG_INFO_BTF";
pub const WITHOUT_OPTION: &str = "probably built without CONFIG_IO_URING_BPF_EXT";

/// Whether a module's BTF has this name, among its strings.
fn names(module: &str, name: &str) -> bool {
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    std::fs::read(module).is_ok_and(|btf| btf.windows(wanted.len()).any(|part| part == wanted))
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_string())
        .unwrap_or_default()
}

/// The types that this module asks for, found in one pass over all.
struct Named<'b> {
    found: Vec<(&'b str, BtfType<'b>)>,
}

impl<'b> Named<'b> {
    fn of(btf: &'b Btf<'_>) -> Self {
        const TYPES: [&str; 10] = [
            "io_uring_op",
            "uring_bpf_ops",
            "bpf_struct_ops_uring_bpf_ops",
            "uring_bpf_data",
            "bpf_iter_uring_buf",
            "io_bpf_buf_desc",
            "io_bpf_buf_type",
            "io_uring_cmd_flags",
            "bpf_map_type",
            UBLK_REGISTER,
        ];
        let optional = [&ERROR_KFUNC].into_iter().chain(&CHUNK_KFUNCS);
        let kfuncs = KFUNCS.iter().chain(&GENERAL_KFUNCS).chain(optional);
        let wanted: HashSet<&str> = kfuncs.map(|(name, _)| *name).chain(TYPES).collect();
        let found = btf
            .type_by_kind::<BtfType<'_>>()
            .filter_map(|found| Some((found.name()?.to_str()?, found)))
            .filter(|(name, _)| wanted.contains(name))
            .collect();
        Named { found }
    }

    /// A name may stand for a forward declaration or a typedef as well.
    fn get(&self, name: &str, kind: BtfKind) -> Option<BtfType<'b>> {
        let found = self.found.iter();
        let mut of_kind = found.filter(|(n, found)| *n == name && found.kind() == kind);
        of_kind.next().map(|(_, found)| *found)
    }

    fn layout(&self, name: &str) -> Option<StructLayout> {
        let composite = Composite::try_from(self.get(name, BtfKind::Struct)?).ok()?;
        let mut layout = StructLayout {
            size: composite.size(),
            ..StructLayout::default()
        };
        let mut starts: Vec<(String, usize)> = composite
            .iter()
            .filter_map(|member| {
                let bits = match member.attr {
                    MemberAttr::Normal { offset } => offset,
                    MemberAttr::BitField { offset, .. } => offset,
                };
                Some((member.name?.to_str()?.to_string(), bits as usize / 8))
            })
            .collect();
        starts.sort_by_key(|(_, offset)| *offset);
        // A member reaches as far as the next one begins: padding counts, which
        // is right for what we ask of it (is there room in the pdu?).
        for (index, (name, offset)) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map_or(layout.size, |next| next.1);
            let member = Member {
                offset: *offset,
                size: end - offset,
            };
            layout.members.insert(name.clone(), member);
        }
        Some(layout)
    }

    fn enumerators(&self, name: &str) -> BTreeMap<String, i64> {
        let list = self
            .get(name, BtfKind::Enum)
            .and_then(|found| Enum::try_from(found).ok());
        list.iter()
            .flat_map(|list| list.iter())
            .filter_map(|member| Some((member.name?.to_str()?.to_string(), member.value)))
            .collect()
    }

    fn parameters(&self, function: &str) -> Option<usize> {
        let found = self.get(function, BtfKind::Func)?;
        let prototype = FuncProto::try_from(found.next_type()?).ok()?;
        Some(prototype.len())
    }
}

/// `struct io_uring_query_hdr` and `io_uring_query_opcode` (UAPI, 6.18).
fn query() -> Option<Query> {
    #[repr(C)]
    #[derive(Default)]
    struct Header {
        next_entry: u64,
        query_data: u64,
        query_op: u32,
        size: u32,
        result: i32,
        resv: [u32; 3],
    }
    #[repr(C)]
    #[derive(Default)]
    struct Opcodes {
        nr_request_opcodes: u32,
        nr_register_opcodes: u32,
        feature_flags: u64,
        ring_setup_flags: u64,
        enter_flags: u64,
        sqe_flags: u64,
        nr_query_opcodes: u32,
        pad: u32,
    }
    let mut opcodes = Opcodes::default();
    let mut header = Header {
        query_data: &raw mut opcodes as u64,
        size: size_of::<Opcodes>() as u32,
        ..Header::default()
    };
    // SAFETY: header and what it points to are valid, exclusive structures of
    // the sizes that they name; a kernel without the call fails with EINVAL.
    let result = unsafe {
        sys::io_uring_register(None, REGISTER_QUERY, (&raw mut header).cast::<c_void>(), 0)
    };
    if result.is_err() || header.result < 0 {
        return None;
    }
    Some(Query {
        opcodes: opcodes.nr_request_opcodes,
        features: opcodes.feature_flags,
        setup_flags: opcodes.ring_setup_flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_posted_flag_is_tried_first_without_a_query_interface() {
        let candidates = Kernel::default().setup_flag_candidates();
        assert_eq!(candidates[0], 1 << 21);
        assert!(candidates.contains(&(1 << 20)), "the second posting's flag");
    }

    #[test]
    fn an_unknown_flag_of_the_query_interface_comes_before_guesses() {
        let kernel = Kernel {
            query: Some(Query {
                setup_flags: KNOWN_SETUP_FLAGS | 1 << 25,
                ..Query::default()
            }),
            ..Kernel::default()
        };
        assert_eq!(kernel.setup_flag_candidates()[..2], [1 << 25, 1 << 21]);
    }

    #[test]
    fn an_override_is_the_only_candidate() {
        let kernel = Kernel {
            overrides: Overrides {
                setup_flag: Some(1 << 7),
                ..Overrides::default()
            },
            ..Kernel::default()
        };
        assert_eq!(kernel.setup_flag_candidates(), [1 << 7]);
    }

    #[test]
    fn a_kernel_without_btf_lacks_one_thing_only() {
        assert_eq!(
            Kernel::default().missing(),
            ["BTF (no /sys/kernel/btf/vmlinux: build the kernel with CONFIG_DEBUG_INFO_BTF)"]
        );
    }

    #[test]
    fn a_kernel_with_the_opcode_alone_is_said_to_lack_its_option() {
        let mut kernel = Kernel {
            has_btf: true,
            opcode: Some(65),
            ..Kernel::default()
        };
        let line = crate::error::Failure::missing(kernel.missing()).to_string();
        assert_eq!(
            line,
            "missing here: struct_ops type uring_bpf_ops (probably built without \
             CONFIG_IO_URING_BPF_EXT), struct uring_bpf_data and 11 more (uringbpf probe lists all)"
        );
        // A number that the user gave says nothing of the kernel.
        kernel.overrides.opcode = Some(65);
        assert_eq!(kernel.missing()[0], "struct_ops type uring_bpf_ops");
    }

    #[test]
    fn a_name_in_btf_is_a_whole_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, b"\0ublk_register_io_buf_x\0y\0").expect("it is ours");
        let path = file.path().to_str().expect("text");
        assert!(names(path, "y"));
        assert!(!names(path, UBLK_REGISTER));
        assert!(!names("/no/such/module", "y"));
    }
}
