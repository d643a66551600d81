// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Submission queue entries for `/dev/ublkcN`, and what their `user_data` says.

use std::os::fd::RawFd;

use libublk::sys;

/// include/uapi/linux/io_uring.h: IORING_OP_URING_CMD.
const URING_CMD: u8 = 46;

/// Set in the `user_data` of whatever a [`Queue`](super::Queue) submits: the
/// other users of its ring leave it clear.
pub const DEVICE: u64 = 1 << 63;

/// What an entry asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A first or a further request for this tag.
    Fetch,
    Register,
    Unregister,
}

/// An entry's `user_data`: its kind, queue, table slot and tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub kind: Kind,
    pub queue: u16,
    pub slot: u16,
    pub tag: u16,
}

impl Name {
    pub fn user_data(self) -> u64 {
        let kind = match self.kind {
            Kind::Fetch => 1,
            Kind::Register => 2,
            Kind::Unregister => 3,
        };
        DEVICE
            | kind << 48
            | u64::from(self.queue) << 32
            | u64::from(self.slot) << 16
            | u64::from(self.tag)
    }

    /// `None` for what no queue submitted.
    pub fn of(user_data: u64) -> Option<Self> {
        let kind = match (user_data & DEVICE, user_data >> 48 & 0x7fff) {
            (DEVICE, 1) => Kind::Fetch,
            (DEVICE, 2) => Kind::Register,
            (DEVICE, 3) => Kind::Unregister,
            _ => return None,
        };
        Some(Name {
            kind,
            queue: (user_data >> 32) as u16,
            slot: (user_data >> 16) as u16,
            tag: user_data as u16,
        })
    }
}

/// `struct ublksrv_io_cmd` in an entry: 16 bytes at byte 48.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    pub opcode: u32,
    pub name: Name,
    pub result: i32,
    /// For registrations the table slot, else 0.
    pub addr: u64,
    /// `sqe->addr`: where the kernel registers the next request's buffer by
    /// itself, with UBLK_F_AUTO_BUF_REG.
    pub auto_slot: u16,
}

impl Command {
    pub fn entry(self, char_device: RawFd) -> [u8; 64] {
        let mut entry = [0; 64];
        entry[0] = URING_CMD;
        entry[4..8].copy_from_slice(&char_device.to_ne_bytes());
        entry[8..12].copy_from_slice(&self.opcode.to_ne_bytes());
        entry[16..24].copy_from_slice(&u64::from(self.auto_slot).to_ne_bytes());
        entry[32..40].copy_from_slice(&self.name.user_data().to_ne_bytes());
        entry[48..50].copy_from_slice(&self.name.queue.to_ne_bytes());
        entry[50..52].copy_from_slice(&self.name.tag.to_ne_bytes());
        entry[52..56].copy_from_slice(&self.result.to_ne_bytes());
        entry[56..64].copy_from_slice(&self.addr.to_ne_bytes());
        entry
    }
}

const _: () = {
    assert!(size_of::<sys::ublksrv_io_cmd>() == 16);
    assert!(std::mem::offset_of!(sys::ublksrv_io_cmd, result) == 4);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_its_user_data_and_nobody_elses_does() {
        for kind in [Kind::Fetch, Kind::Register, Kind::Unregister] {
            let name = Name {
                kind,
                queue: 0xfffe,
                slot: 0x1234,
                tag: 0xffff,
            };
            assert_eq!(Name::of(name.user_data()), Some(name));
            assert_eq!(Name::of(name.user_data() & !DEVICE), None);
        }
        assert_eq!(Name::of(DEVICE), None);
        assert_eq!(Name::of(127), None);
    }
}
