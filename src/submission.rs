// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Submission queue entries of IORING_OP_BPF and their completions.
