// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A ring that BPF programs can be attached to.
