// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A buffer of a request: memory, registration, descriptor, guards.
