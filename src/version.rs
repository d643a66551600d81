// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What `--version` says: of the tool, of what it knows, of this machine.

use crate::kernel::{Kernel, Overrides};

/// The tool's version, the interface that it knows, libbpf's version, and the
/// running kernel's with the number that the opcode has in it.
pub fn long() -> String {
    format!(
        "uringbpf {}\ninterface: IORING_OP_BPF as of V3 and kernel/patches (probe --compare)\n\
         libbpf: {}\n{}",
        env!("CARGO_PKG_VERSION"),
        libbpf(),
        running(&Kernel::read(Overrides::default()))
    )
}

fn libbpf() -> String {
    // SAFETY: takes nothing, and returns numbers.
    let (major, minor) = unsafe {
        (
            libbpf_rs::libbpf_sys::libbpf_major_version(),
            libbpf_rs::libbpf_sys::libbpf_minor_version(),
        )
    };
    format!("{major}.{minor}")
}

fn running(kernel: &Kernel) -> String {
    let release = &kernel.release;
    match kernel.opcode {
        Some(number) => format!("kernel: {release}, IORING_OP_BPF is opcode {number}"),
        None if kernel.has_btf => format!("kernel: {release}, without IORING_OP_BPF"),
        None => format!("kernel: {release}, without BTF, which would tell of IORING_OP_BPF"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_said_to_have_the_opcode_only_where_it_has() {
        let mut kernel = Kernel {
            release: "7.3".to_string(),
            ..Kernel::default()
        };
        assert!(running(&kernel).contains("without BTF"));
        kernel.has_btf = true;
        assert_eq!(running(&kernel), "kernel: 7.3, without IORING_OP_BPF");
        kernel.opcode = Some(65);
        assert_eq!(running(&kernel), "kernel: 7.3, IORING_OP_BPF is opcode 65");
    }
}
