// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! That pins of user pages are counted to the last one: a test of its own, since
//! the kernel counts those of all processes together.

use uringbpf::kernel::{Kernel, Overrides};
use uringbpf::memory::Memory;
use uringbpf::proc::pins;
use uringbpf::registration::Table;
use uringbpf::ring::Ring;
use uringbpf::spec::PageKind;

#[test]
#[ignore = "needs root and io_uring; make test runs it in the VM"]
fn one_registered_page_is_one_pin() {
    let kernel = Kernel::read(Overrides::default());
    let ring = Ring::open(&kernel, &Default::default(), 8).expect("a ring");
    let before = pins().expect("the kernel counts pins");
    for round in 0..300 {
        let mut page = Memory::anonymous(4096, PageKind::Base).expect("a page");
        let table = Table::new(&ring, 1).expect("a table");
        table.add_region(0, &page.region()).expect("a buffer");
        assert_eq!(pins(), Some(before + 1), "round {round}, registered");
        drop(table);
        assert_eq!(pins(), Some(before), "round {round}, unregistered");
    }
}
