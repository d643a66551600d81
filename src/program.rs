// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Loaded and attached BPF programs.
