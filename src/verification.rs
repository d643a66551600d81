// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Comparison of what the kernel did with what it must do.
