// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Arguments to a command, errors to an exit status.

fn main() {}
