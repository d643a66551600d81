// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The source pattern: every byte depends on its position.
