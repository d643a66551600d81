// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! struct_ops maps made by hand: one set of loaded programs can be attached to
//! any number of rings under any id, which libbpf's maps, one for each in the
//! object file, cannot.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libbpf_rs::btf::types::Struct;
use libbpf_rs::btf::{Btf, HasSize as _};
use libbpf_rs::libbpf_sys;

use crate::error::Failure;

/// include/uapi/linux/bpf.h: the map is attached by a link.
const BPF_F_LINK: u32 = 1 << 13;

/// `struct bpf_struct_ops_uring_bpf_ops`: what such a map holds.
#[derive(Debug)]
pub struct ValueType {
    /// A map of a kernel type takes BTF of its own all the same.
    btf: OwnedFd,
    type_id: u32,
    size: usize,
    /// Where each member of `struct uring_bpf_ops` stands in it.
    members: BTreeMap<String, usize>,
}

/// The value of one map. Programs are named by their descriptors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ops {
    pub id: u16,
    pub ring_fd: RawFd,
    pub prep: Option<RawFd>,
    pub issue: Option<RawFd>,
    pub fail: Option<RawFd>,
    pub cleanup: Option<RawFd>,
}

/// A link to a ring, and the map behind it: detached when dropped.
#[derive(Debug)]
pub struct Attachment {
    _link: OwnedFd,
    map: OwnedFd,
}

impl Attachment {
    /// By which the kernel knows the map.
    pub fn map_id(&self) -> io::Result<u32> {
        let mut info = libbpf_sys::bpf_map_info::default();
        let mut len = size_of_val(&info) as u32;
        // SAFETY: `info` has room for `len` bytes.
        checked(unsafe {
            libbpf_sys::bpf_map_get_info_by_fd(self.map.as_raw_fd(), &raw mut info, &raw mut len)
        })?;
        Ok(info.id)
    }
}

/// Whether the kernel has a map of this id.
pub fn map_exists(id: u32) -> bool {
    // SAFETY: takes no memory.
    let map = checked(unsafe { libbpf_sys::bpf_map_get_fd_by_id(id) });
    // SAFETY: the kernel just returned this descriptor to us; it is closed.
    map.map(|fd| drop(unsafe { OwnedFd::from_raw_fd(fd) }))
        .is_ok()
}

impl ValueType {
    /// Reads the running kernel's BTF.
    pub fn read() -> Result<Self, Failure> {
        let missing = || Failure::missing(["struct_ops type uring_bpf_ops"]);
        let btf = Btf::from_vmlinux().map_err(|_| Failure::missing(["BTF"]))?;
        let value: Struct<'_> = btf
            .type_by_name("bpf_struct_ops_uring_bpf_ops")
            .ok_or_else(missing)?;
        let ops: Struct<'_> = btf.type_by_name("uring_bpf_ops").ok_or_else(missing)?;
        let data = offsets(&value).get("data").copied().ok_or_else(missing)?;
        let members = offsets(&ops);
        Ok(ValueType {
            btf: load_btf().map_err(|error| Failure::io("load BTF", &error))?,
            type_id: value.type_id().into(),
            size: value.size(),
            members: members
                .into_iter()
                .map(|(name, offset)| (name, data + offset))
                .collect(),
        })
    }

    fn value(&self, ops: &Ops) -> Vec<u8> {
        let mut value = vec![0; self.size];
        let mut put = |name: &str, bytes: &[u8]| {
            if let Some(offset) = self.members.get(name) {
                value[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
        };
        put("id", &ops.id.to_ne_bytes());
        put("ring_fd", &ops.ring_fd.to_ne_bytes());
        let programs = [
            ("prep_fn", ops.prep),
            ("issue_fn", ops.issue),
            ("fail_fn", ops.fail),
            ("cleanup_fn", ops.cleanup),
        ];
        for (name, program) in programs {
            if let Some(fd) = program {
                put(name, &(fd as u64).to_ne_bytes());
            }
        }
        value
    }

    /// Makes a map with this value, not attached to anything.
    pub fn map(&self, ops: &Ops) -> io::Result<OwnedFd> {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            btf_fd: self.btf.as_raw_fd() as u32,
            btf_vmlinux_value_type_id: self.type_id,
            map_flags: BPF_F_LINK,
            ..Default::default()
        };
        // SAFETY: name and options are valid for the call, which keeps neither.
        let map = checked(unsafe {
            libbpf_sys::bpf_map_create(
                libbpf_sys::BPF_MAP_TYPE_STRUCT_OPS,
                c"smoke".as_ptr(),
                4,
                self.size as u32,
                1,
                &raw const options,
            )
        })?;
        // SAFETY: the kernel just returned this descriptor to us.
        let map = unsafe { OwnedFd::from_raw_fd(map) };
        let (key, value) = (0u32, self.value(ops));
        // SAFETY: key and value are of the sizes that the map was made with.
        checked(unsafe {
            libbpf_sys::bpf_map_update_elem(
                map.as_raw_fd(),
                (&raw const key).cast(),
                value.as_ptr().cast(),
                0,
            )
        })?;
        Ok(map)
    }

    /// Attaches a map to the ring that it names.
    pub fn link(&self, map: &OwnedFd) -> io::Result<OwnedFd> {
        // SAFETY: no memory is involved.
        let link = checked(unsafe {
            libbpf_sys::bpf_link_create(
                map.as_raw_fd(),
                0,
                libbpf_sys::BPF_STRUCT_OPS,
                std::ptr::null(),
            )
        })?;
        // SAFETY: the kernel just returned this descriptor to us.
        Ok(unsafe { OwnedFd::from_raw_fd(link) })
    }

    pub fn attach(&self, ops: &Ops) -> io::Result<Attachment> {
        let map = self.map(ops)?;
        Ok(Attachment {
            _link: self.link(&map)?,
            map,
        })
    }
}

/// The least that the kernel takes: one int.
fn load_btf() -> io::Result<OwnedFd> {
    const HEADER: u32 = 24;
    const INT: [u32; 4] = [1, 1 << 24, 4, 32];
    const STRINGS: &[u8] = b"\0i\0";
    let mut btf = vec![0x9f, 0xeb, 1, 0];
    let types = size_of_val(&INT) as u32;
    for word in [HEADER, 0, types, types, STRINGS.len() as u32]
        .into_iter()
        .chain(INT)
    {
        btf.extend(word.to_le_bytes());
    }
    btf.extend(STRINGS);
    // SAFETY: data and size belong together; the call keeps neither.
    let fd = checked(unsafe {
        libbpf_sys::bpf_btf_load(btf.as_ptr().cast(), btf.len() as _, std::ptr::null_mut())
    })?;
    // SAFETY: the kernel just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn offsets(composite: &Struct<'_>) -> BTreeMap<String, usize> {
    use libbpf_rs::btf::types::MemberAttr;
    composite
        .iter()
        .filter_map(|member| {
            let (MemberAttr::Normal { offset: bits } | MemberAttr::BitField { offset: bits, .. }) =
                member.attr;
            Some((member.name?.to_str()?.to_string(), bits as usize / 8))
        })
        .collect()
}

/// libbpf returns negative errnos.
fn checked(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::from_raw_os_error(-result))
    } else {
        Ok(result)
    }
}
