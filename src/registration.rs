// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A ring's table of registered buffers.
