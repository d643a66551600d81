// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Whole files through BPF: copy and checksum pipelines.
