// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What each revision of the interface has: the second and third posting of
//! the kernel series (V2, V3; V3 in March 2026), and the reference kernel, which
//! is `kernel/patches`. Of V2 little is known here, and nothing is guessed.

use std::fmt;

use crate::kernel::{POSTED_SETUP_BIT, StructLayout};

/// A state of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    V2,
    V3,
    Reference,
}

impl Revision {
    pub const ALL: [Revision; 3] = [Revision::V2, Revision::V3, Revision::Reference];

    pub fn name(self) -> &'static str {
        match self {
            Revision::V2 => "v2",
            Revision::V3 => "v3",
            Revision::Reference => "reference",
        }
    }
}

/// What is known of one thing in one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// It is so.
    Is(String),
    /// It is there, under a number that moves with every rebase.
    Moves,
    /// That revision has no such thing.
    None,
    /// Not known here.
    Unknown,
}

/// One thing, and what each revision has of it.
#[derive(Debug, Clone)]
pub struct Thing {
    pub name: &'static str,
    v2: Fact,
    v3: Fact,
    reference: Fact,
}

impl Thing {
    pub fn fact(&self, revision: Revision) -> &Fact {
        match revision {
            Revision::V2 => &self.v2,
            Revision::V3 => &self.v3,
            Revision::Reference => &self.reference,
        }
    }

    /// The same in both, and unknown of V2.
    fn posted(name: &'static str, text: &str) -> Self {
        let fact = Fact::Is(text.to_string());
        Thing {
            name,
            v2: Fact::Unknown,
            v3: fact.clone(),
            reference: fact,
        }
    }

    /// What the reference kernel has over the third posting.
    fn added(name: &'static str, text: &str) -> Self {
        Thing {
            v3: Fact::None,
            ..Thing::posted(name, text)
        }
    }
}

pub const OPCODE: &str = "opcode IORING_OP_BPF";
pub const SETUP_FLAG: &str = "setup flag";
pub const FEATURE: &str = "feature IORING_FEAT_BPF";
pub const BUFFER_TYPES: &str = "enum io_bpf_buf_type";
pub const STRUCTURES: [&str; 4] = [
    "io_bpf_buf_desc",
    "uring_bpf_data",
    "uring_bpf_ops",
    "bpf_iter_uring_buf",
];

/// What a thing is called in a table.
pub fn title(name: &str) -> String {
    match name {
        OPCODE | SETUP_FLAG | FEATURE | BUFFER_TYPES => name.to_string(),
        name if STRUCTURES.contains(&name) => format!("struct {name}"),
        name => format!("kfunc {name}"),
    }
}

/// Everything, in the order of the interface.
pub fn things() -> Vec<Thing> {
    let mut things = vec![
        Thing {
            name: OPCODE,
            v2: Fact::Unknown,
            v3: Fact::Moves,
            reference: Fact::Moves,
        },
        Thing {
            // IORING_SETUP_BPF_OP, which became IORING_SETUP_BPF_EXT.
            v2: Fact::Is(bit(20)),
            ..Thing::posted(SETUP_FLAG, &bit(POSTED_SETUP_BIT))
        },
        Thing::posted(FEATURE, &bit(crate::kernel::FEATURE_BIT)),
        Thing::posted(BUFFER_TYPES, "USER=0 FIXED=1 VEC=2 KFIXED=3 REG_VEC=4"),
        Thing::posted(
            STRUCTURES[0],
            "16 bytes: type@0 reserved@1 buf_index@2 len@4 addr@8",
        ),
        Thing::posted(
            STRUCTURES[1],
            "64 bytes: req_data@0 ops@8 opf@16 issue_flags@20 lock_depth@24 pdu@28",
        ),
        // What follows the callbacks is the kernel's own.
        Thing::posted(
            STRUCTURES[2],
            "id@0 ring_fd@4 prep_fn@8 issue_fn@16 fail_fn@24 cleanup_fn@32",
        ),
        Thing::posted(STRUCTURES[3], "96 bytes: __opaque@0"),
    ];
    things.extend(POSTED_KFUNCS.map(|(name, text)| Thing::posted(name, text)));
    things.extend(ADDED_KFUNCS.map(|(name, text)| Thing::added(name, text)));
    things
}

/// Of the third posting.
pub const POSTED_KFUNCS: [(&str, &str); 6] = [
    (
        "uring_bpf_set_result",
        "void (struct uring_bpf_data *data, int res)",
    ),
    (
        "bpf_iter_uring_buf_new",
        "int (struct bpf_iter_uring_buf *iter, struct uring_bpf_data *data, \
         struct io_bpf_buf_desc *desc, int direction)",
    ),
    (
        "bpf_iter_uring_buf_next",
        "int * (struct bpf_iter_uring_buf *iter)",
    ),
    (
        "bpf_iter_uring_buf_destroy",
        "void (struct bpf_iter_uring_buf *iter)",
    ),
    (
        "bpf_uring_buf_dynptr",
        "int (struct bpf_iter_uring_buf *it__iter, struct bpf_dynptr *ptr__uninit)",
    ),
    (
        "bpf_uring_buf_dynptr_rdwr",
        "int (struct bpf_iter_uring_buf *it__iter, struct bpf_dynptr *ptr__uninit)",
    ),
];

/// Of kernel/patches.
pub const ADDED_KFUNCS: [(&str, &str); 7] = [
    (
        "bpf_iter_uring_buf_error",
        "int (const struct bpf_iter_uring_buf *it__iter)",
    ),
    (
        "bpf_uring_buf_copy",
        "int (struct bpf_iter_uring_buf *to__iter, u32 to_off, \
         struct bpf_iter_uring_buf *from__iter, u32 from_off, u32 len)",
    ),
    (
        "bpf_uring_buf_to_arena",
        "int (struct bpf_iter_uring_buf *from__iter, u32 from_off, void *to__arena, u32 len)",
    ),
    (
        "bpf_uring_buf_from_arena",
        "int (struct bpf_iter_uring_buf *to__iter, u32 to_off, void *from__arena, u32 len)",
    ),
    (
        "bpf_uring_buf_fill",
        "int (struct bpf_iter_uring_buf *to__iter, u64 word)",
    ),
    (
        "bpf_uring_buf_crc32c",
        "u32 (struct bpf_iter_uring_buf *it__iter, u32 crc)",
    ),
    (
        "bpf_uring_buf_xxh64",
        "int (struct bpf_iter_uring_buf *it__iter, u32 off, u64 *lanes, u32 lanes__sz)",
    ),
];

/// A flag, as both its value and the number of its bit.
pub fn bit(number: u32) -> String {
    format!("{:#x} (bit {number})", 1u64 << number)
}

/// A layout in the words of this module.
pub fn layout_text(name: &str, layout: &StructLayout) -> String {
    let mut members: Vec<_> = layout.members.iter().collect();
    members.sort_by_key(|(_, member)| member.offset);
    // Of the callbacks' structure only what the interface names.
    let known = |member: &str| name != STRUCTURES[2] || member != "ctx";
    let members: Vec<String> = members
        .iter()
        .filter(|(member, _)| known(member))
        .map(|(member, place)| format!("{member}@{}", place.offset))
        .collect();
    match name == STRUCTURES[2] {
        true => members.join(" "),
        false => format!("{} bytes: {}", layout.size, members.join(" ")),
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Is(text) => f.write_str(text),
            Fact::Moves => f.write_str("after the base kernel's last one"),
            Fact::None => f.write_str("none"),
            Fact::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{CHUNK_KFUNCS, ERROR_KFUNC, KFUNCS};

    #[test]
    fn signatures_have_the_parameters_that_the_programs_pass() {
        let things = things();
        let kfuncs = KFUNCS.into_iter().chain([ERROR_KFUNC]).chain(CHUNK_KFUNCS);
        for (name, parameters) in kfuncs {
            let thing = things.iter().find(|thing| thing.name == name);
            let fact = thing.expect(name).fact(Revision::Reference);
            let listed = fact.to_string().split(", ").count();
            assert_eq!(listed, parameters, "{name}: {fact}");
        }
    }

    #[test]
    fn the_reference_has_all_of_the_third_posting_as_it_was_posted() {
        for thing in things() {
            match thing.fact(Revision::V3) {
                Fact::None => assert!(matches!(thing.fact(Revision::Reference), Fact::Is(_))),
                fact => assert_eq!(fact, thing.fact(Revision::Reference), "{}", thing.name),
            }
        }
    }

    #[test]
    fn of_the_second_posting_the_flag_alone_is_known() {
        for thing in things() {
            let known = *thing.fact(Revision::V2) != Fact::Unknown;
            assert_eq!(known, thing.name == SETUP_FLAG, "{}", thing.name);
        }
    }
}
