// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Measurements on a kernel with IORING_OP_BPF, as short as they can be: that
//! every kind of work runs and is verified, in every way of submitting it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use uringbpf::bench::allocations::{self, Allocations, REQUESTS, Trace};
use uringbpf::bench::case::{Case, Work};
use uringbpf::bench::plan::{Kind, Selection, cases};
use uringbpf::bench::record::Record;
use uringbpf::bench::rings::with_rings;
use uringbpf::bench::rounds::{Timing, alternate};
use uringbpf::cli::Algorithm;
use uringbpf::error::Failure;
use uringbpf::kernel::{Kernel, Overrides};
use uringbpf::oracle::Fill;
use uringbpf::spec::BufferType::{self, Arena, Fixed, RegVec, User, Vec as Vectored};
use uringbpf::sys::thread_id;

const TIMING: Timing = Timing {
    rounds: 5,
    round: Duration::from_micros(100),
};

fn kernel(without_kfuncs: bool) -> Kernel {
    Kernel::read(Overrides {
        without_kfuncs,
        ..Overrides::default()
    })
}

fn measure(kernel: &Kernel, case: &Case) -> Result<Record, Failure> {
    let rounds = with_rings(kernel, case, |measured, baseline| {
        alternate(&TIMING, &|| Ok(()), measured, baseline)
    })?;
    Ok(Record::new(case, &rounds))
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn every_kind_of_work_is_measured_and_verified() {
    let kernel = kernel(false);
    for kind in [
        Kind::Cost,
        Kind::Copy,
        Kind::Checksum,
        Kind::Fill,
        Kind::Pipeline,
    ] {
        let selection = Selection {
            kinds: vec![kind],
            types: vec![BufferType::User, BufferType::Arena],
            sizes: vec![9000],
            ..Selection::default()
        };
        for case in cases(&selection) {
            let record =
                measure(&kernel, &case).unwrap_or_else(|failure| panic!("{case}: {failure}"));
            assert!(record.nanoseconds.median > 0.0, "{record:?}");
            assert_eq!(record.nanoseconds.rounds, TIMING.rounds);
            assert_eq!(
                record.ratio.is_none(),
                record.ratio_refused.is_some(),
                "{record:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn depth_links_and_rings_are_measured() {
    let kernel = kernel(false);
    let base = Case::new(Work::Copy(Fixed, Arena), 4096);
    for case in [
        Case { depth: 64, ..base },
        Case {
            depth: 7,
            linked: true,
            ..base
        },
        Case { rings: 3, ..base },
        Case {
            depth: 4,
            ..Case::new(Work::ReadCopyWrite, 4096)
        },
        Case {
            ops: 16,
            table: 1 << 14,
            ..base
        },
    ] {
        measure(&kernel, &case).unwrap_or_else(|failure| panic!("{case:?}: {failure}"));
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn programs_do_without_the_kfuncs_that_a_kernel_need_not_have() {
    let kernel = kernel(true);
    for work in [
        Work::Copy(Fixed, Arena),
        Work::Copy(Arena, User),
        Work::Copy(Vectored, RegVec),
        Work::Checksum(Algorithm::Crc32c, Fixed),
        Work::Checksum(Algorithm::Xxh64, Fixed),
        Work::Fill(Fill::Byte(7), Fixed),
        Work::Fill(Fill::Word(7 << 32 | 9), User),
    ] {
        for size in [1, 4095, 4096, 12345] {
            let case = Case::new(work, size);
            measure(&kernel, &case).unwrap_or_else(|failure| panic!("{case}: {failure}"));
        }
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_request_allocates_nothing_once_the_ring_has_seen_a_few() {
    allocations::measure(&kernel(false), &|| Ok(()), |work, allocated| {
        assert_eq!(allocated, Allocations::default(), "{work}");
        Ok(())
    })
    .expect("requests are traced");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn what_is_allocated_is_counted() {
    let trace = Trace::open().expect("tracefs is mounted");
    let instance = format!("/sys/kernel/tracing/instances/uringbpf-{}", thread_id());
    assert!(Path::new(&instance).exists(), "{instance}");
    let mut open = || {
        File::open("/dev/null").expect("/dev/null opens");
        Ok(())
    };
    let allocated = trace.count(&mut open).expect("the trace is read");
    drop(trace);
    assert!(!Path::new(&instance).exists(), "{instance}");
    // The path's name and the file, of some hundred bytes each.
    assert!(allocated.count >= 2 * REQUESTS as u64, "{allocated:?}");
    assert!(allocated.bytes >= 256 * REQUESTS as u64, "{allocated:?}");
}
