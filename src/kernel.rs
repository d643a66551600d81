// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What this kernel is: numbers, layouts and names read from its BTF.
