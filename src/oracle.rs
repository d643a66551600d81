// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the result must be, from the specification alone.
