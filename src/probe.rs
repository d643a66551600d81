// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Whether this kernel has what is needed, thing by thing.
