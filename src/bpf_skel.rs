// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The skeletons that build.rs generates from src/bpf, one module per family.

// Generated code answers to its generator's style, not to ours.
#![allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]

macro_rules! skeleton {
    ($name:ident) => {
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));
        }
    };
}

skeleton!(attach);
skeleton!(bench);
skeleton!(blocks);
skeleton!(callbacks);
skeleton!(checksum);
skeleton!(chunks);
skeleton!(copy);
skeleton!(fill);
skeleton!(repro);
skeleton!(several);
