// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Results on stdout, for people and as JSON lines.
