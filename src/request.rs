// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The structures that user space and the BPF programs share.
