// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Buffer specifications and ring options: valid when they exist.
