// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Memory mappings: base, transparent huge and huge pages.
