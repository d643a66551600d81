// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Runs BPF programs over the buffers of io_uring requests (IORING_OP_BPF) and
//! verifies every byte of the result in user space.
//!
//! The modules follow the way of the data: arguments ([`cli`]) → buffer
//! specification ([`spec`]) → buffer ([`memory`], [`registration`], [`buffer`])
//! → ring ([`ring`]) → program ([`program`]) → submission ([`submission`]) →
//! verification against the oracle ([`oracle`]) → report
//! ([`report`]).

pub mod announcement;
pub mod arguments;
pub mod bench;
pub mod block_layout;
pub mod blockdev;
pub mod bpf_log;
pub mod bpf_skel;
pub mod buffer;
pub mod cli;
pub mod closed_stdout;
pub mod cmd;
pub mod compare_kernel;
pub mod complaints;
mod crc32c_table;
pub mod errno;
pub mod error;
pub mod file;
pub mod first_process;
pub mod interrupt;
pub mod kernel;
pub mod kernel_buffer;
pub mod layout;
pub(crate) mod leftovers;
pub mod man;
pub mod memory;
pub mod operation;
pub mod options;
pub mod oracle;
pub mod pattern;
pub mod permission;
pub mod probe;
pub mod proc;
pub mod program;
pub mod progress;
pub mod queue;
pub mod registration;
pub mod report;
pub mod repro;
pub mod request;
pub mod revisions;
pub mod ring;
pub mod signature;
pub mod smoke;
pub mod spec;
pub mod stress;
pub mod struct_ops;
pub mod submission;
pub mod sys;
pub mod ublk;
pub mod units;
pub mod version;
