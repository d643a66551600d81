// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The errors that a user reaches on a kernel with the opcode: permissions,
//! limits, a machine that lacks something, full disks, signals. Those of any
//! machine are in tests/error_table.rs.

mod rows;

use std::collections::HashSet;
use std::fs;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};
use rows::{PLAIN, Row, check, row};

/// root, but for these capabilities.
const NO_BPF: &str = r#"exec setpriv --bounding-set=-bpf,-sys_admin "$@""#;
const NO_PERFMON: &str = r#"exec setpriv --bounding-set=-perfmon,-sys_admin "$@""#;
const NO_SYS_ADMIN: &str = r#"exec setpriv --bounding-set=-sys_admin "$@""#;
/// Nobody, without any.
const NOBODY: &str = r#"exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@""#;
/// Nobody, who may load programs.
const BPF_USER: &str = r#"exec setpriv --reuid=65534 --regid=65534 --clear-groups \
    --inh-caps=+bpf,+perfmon --ambient-caps=+bpf,+perfmon "$@""#;
const NO_LOCKED_MEMORY: &str = r#"exec prlimit --memlock=0 setpriv --bounding-set=-ipc_lock "$@""#;
const LITTLE_LOCKED_MEMORY: &str =
    r#"exec prlimit --memlock=65536 setpriv --bounding-set=-ipc_lock "$@""#;
/// In a mount namespace, so that it is gone afterwards.
const NO_BTF: &str = r#"exec unshare -m sh -ec '
    mkdir empty; mount --bind empty /sys/kernel/btf; exec "$@"' sh "$@""#;
const NO_UBLK: &str = r#"exec unshare -m sh -ec '
    mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/zero c 1 5
    mknod /dev/urandom c 1 9; exec "$@"' sh "$@""#;
const NO_UBLK_SAID: &str = r#"exec unshare -m sh -ec '
    mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/zero c 1 5
    mknod /dev/urandom c 1 9; "$@" >out; grep "^ublk zero copy" out >&2' sh "$@""#;
/// 64 KiB of disk, in the directory `disk`, on which nothing new may be left.
const SMALL_DISK: &str = r#"mkdir disk; exec unshare -m sh -c '
    mount -t tmpfs -o size=64k none disk; "$@"; status=$?
    find disk -name "*new*" >&2; exit $status' sh "$@""#;
const READ_ONLY_DISK: &str = r#"mkdir disk; exec unshare -m sh -ec '
    mount -t tmpfs -o ro none disk; exec "$@"' sh "$@""#;
const FULL_OUTPUT: &str = r#"exec "$@" >/dev/full"#;
const CLOSED_OUTPUT: &str = r#"exec "$@" >&-"#;
/// In the midst of its work: where it catches SIGTERM, it does SIGINT.
const INT: &str = r#"env --default-signal=INT "$@" >/dev/null &
    until grep -q "^SigCgt:.*[4-7c-f]...$" /proc/$!/status; do sleep 0.05; done
    sleep 0.5; kill -INT $!; wait $!"#;
const TERM: &str = r#""$@" >/dev/null &
    until grep -q "^SigCgt:.*[4-7c-f]...$" /proc/$!/status; do sleep 0.05; done
    sleep 0.5; kill -TERM $!; wait $!"#;
/// As soon as it catches SIGTERM.
const INT_AT_ONCE: &str = r#"env --default-signal=INT "$@" >/dev/null &
    until grep -q "^SigCgt:.*[4-7c-f]...$" /proc/$!/status; do sleep 0.01; done
    kill -INT $!; wait $!"#;
/// Once it has said something.
const INT_AT_WORK: &str = r#"env --default-signal=INT "$@" >out &
    until [ -s out ]; do sleep 0.05; done; kill -INT $!; wait $!"#;
const TERM_AT_WORK: &str = r#""$@" >out &
    until [ -s out ]; do sleep 0.05; done; kill -TERM $!; wait $!"#;

const COPY: &str = "copy --from user:len=4K --to fixed";

const WANT_BPF: &str = "uringbpf: load * programs: EPERM (Operation not permitted): \
    run as root, or with CAP_BPF";
const WANT_RING: &str = "uringbpf: io_uring_setup: EPERM (Operation not permitted): \
    sysctl kernel.io_uring_disabled is 2, which forbids it to all: set it to 0";
const WANT_MEMLOCK: &str = "uringbpf: register * as buffer 0: ENOMEM (Cannot allocate memory): \
    raise RLIMIT_MEMLOCK (ulimit -l, now * KiB) or run with CAP_IPC_LOCK";
const WANT_BTF: &str = "uringbpf: missing here: BTF (no /sys/kernel/btf/vmlinux: \
    build the kernel with CONFIG_DEBUG_INFO_BTF)";
const CLOSED: &str = "uringbpf: write to stdout: EBADF (Bad file descriptor): \
    it is closed: send it to /dev/null where nobody reads";
const FULL: &str = "uringbpf: write to stdout: ENOSPC (No space left on device): make room there";

/// One table at a time: they look at what is left in the kernel, and one of
/// them disables io_uring.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|lock| lock.into_inner())
}

/// What a run could leave in the kernel: links, maps, programs, ublk devices.
fn objects() -> HashSet<String> {
    let devices = fs::read_dir("/dev").expect("devtmpfs is mounted");
    let devices = devices
        .filter_map(Result::ok)
        .map(|entry| entry.file_name());
    let devices = devices.map(|name| name.to_string_lossy().into_owned());
    LinkInfoIter::default()
        .map(|link| format!("link {}", link.id))
        .chain(MapInfoIter::default().map(|map| format!("map {}", map.id)))
        .chain(ProgInfoIter::default().map(|program| format!("program {}", program.id)))
        .chain(devices.filter(|name| name.starts_with("ublkc") || name.starts_with("ublkb")))
        .collect()
}

/// Runs the rows, and expects nothing of them in the kernel afterwards.
fn check_all(rows: &[Row]) {
    let alone = alone();
    check_alone(rows, &alone);
}

fn check_alone(rows: &[Row], _alone: &MutexGuard<'_, ()>) {
    let before = objects();
    check(rows);
    let new = || -> Vec<String> { objects().difference(&before).cloned().collect() };
    // The kernel frees some of it only after a grace period.
    let end = Instant::now() + Duration::from_secs(60);
    while !new().is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(new(), [""; 0], "left in the kernel");
}

/// The sysctl kernel.io_uring_disabled, which is for the whole machine: set
/// back whatever becomes of the test.
struct Disabled;

impl Disabled {
    fn set(value: &str) -> Self {
        fs::write("/proc/sys/kernel/io_uring_disabled", value).expect("root may");
        Disabled
    }
}

impl Drop for Disabled {
    fn drop(&mut self) {
        let _ = fs::write("/proc/sys/kernel/io_uring_disabled", "0");
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_missing_permission_is_named() {
    let nobody = "uringbpf: load * programs: EPERM (Operation not permitted): \
        run as root, or with CAP_BPF, CAP_PERFMON";
    let admin = "uringbpf: add a ublk device: EPERM (Operation not permitted): \
        run as root, or with CAP_SYS_ADMIN";
    check_all(&[
        row(NO_BPF, COPY, 3, WANT_BPF),
        row(NO_BPF, "copy file new", 3, WANT_BPF),
        row(NO_BPF, "checksum file", 3, WANT_BPF),
        row(NO_BPF, "fill new --len 1K", 3, WANT_BPF),
        row(NO_BPF, "chunks user", 3, WANT_BPF),
        row(NO_BPF, "smoke --quick", 3, WANT_BPF),
        row(NO_BPF, "repro run D3", 0, ""),
        row(NO_BPF, "bench --work cost --svg new.svg", 3, WANT_BPF),
        row(NO_BPF, "bench --yardstick", 3, WANT_BPF),
        row(
            NO_BPF,
            "stress --seconds 1 --seed 5",
            3,
            "stress: seed 5, 1 s\nuringbpf: load * programs: EPERM (Operation not \
             permitted): run as root, or with CAP_BPF",
        ),
        row(
            NO_BPF,
            "ublk --size 1M",
            3,
            "uringbpf: make the BPF map arena of 256 entries: EPERM (Operation not permitted): \
             run as root, or with CAP_BPF",
        ),
        row(
            NO_BPF,
            "probe",
            4,
            "uringbpf: missing here: privileges (without CAP_BPF)",
        ),
        row(
            NO_PERFMON,
            COPY,
            3,
            "uringbpf: load * programs: EPERM (Operation not permitted): \
             run as root, or with CAP_PERFMON",
        ),
        row(NOBODY, COPY, 3, nobody),
        row(NOBODY, "smoke --quick", 3, nobody),
        row(
            NOBODY,
            "probe",
            4,
            "uringbpf: missing here: privileges (without CAP_BPF, CAP_PERFMON)",
        ),
        // Programs need no CAP_SYS_ADMIN, block devices do.
        row(NO_SYS_ADMIN, COPY, 0, ""),
        row(
            NO_SYS_ADMIN,
            "copy --from kfixed:len=4K --to user",
            3,
            admin,
        ),
        row(NO_SYS_ADMIN, "ublk --size 1M", 3, admin),
        row(BPF_USER, COPY, 0, ""),
        row(
            BPF_USER,
            "ublk --size 1M",
            3,
            "uringbpf: ublk: no directory for the record of the device: set XDG_RUNTIME_DIR or run as root",
        ),
        row(
            r#"export XDG_RUNTIME_DIR=$PWD; exec setpriv --reuid=65534 --clear-groups \
                --inh-caps=+bpf,+perfmon --ambient-caps=+bpf,+perfmon "$@""#,
            "ublk --size 1M",
            3,
            "uringbpf: open /dev/ublk-control: EACCES (Permission denied): \
             run as root, or with CAP_SYS_ADMIN",
        ),
    ]);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_limit_is_named() {
    let descriptors = "EMFILE (Too many open files): raise RLIMIT_NOFILE (ulimit -n)";
    let size = "write new: EFBIG (File too large): raise the limit of a file's size (ulimit -f)";
    let descriptors = format!("uringbpf: *: {descriptors}").leak();
    let size = format!("uringbpf: {size}").leak();
    check_all(&[
        row(LITTLE_LOCKED_MEMORY, COPY, 0, ""),
        row(
            LITTLE_LOCKED_MEMORY,
            "copy --from fixed:len=1M --to user",
            3,
            WANT_MEMLOCK,
        ),
        row(NO_LOCKED_MEMORY, COPY, 3, WANT_MEMLOCK),
        row(NO_LOCKED_MEMORY, "copy file new", 3, WANT_MEMLOCK),
        row(NO_LOCKED_MEMORY, "checksum file", 3, WANT_MEMLOCK),
        row(NO_LOCKED_MEMORY, "fill new --len 1M", 3, WANT_MEMLOCK),
        row(NO_LOCKED_MEMORY, "chunks user", 0, ""),
        row(r#"ulimit -n 6; exec "$@""#, COPY, 3, descriptors),
        row(r#"ulimit -n 8; exec "$@""#, COPY, 3, descriptors),
        row(r#"ulimit -n 12; exec "$@""#, COPY, 3, descriptors),
        row(r#"ulimit -n 6; exec "$@""#, "copy file new", 3, descriptors),
        row(r#"ulimit -f 20; exec "$@""#, "copy file new", 3, size),
        row(r#"ulimit -f 20; exec "$@""#, "fill new --len 1M", 3, size),
        row(
            r#"ulimit -f 20; exec "$@""#,
            "ublk --backing new --size 1M",
            3,
            "uringbpf: set the size of new: EFBIG (File too large): raise the limit of a file's size (ulimit -f)",
        ),
    ]);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn io_uring_that_the_administrator_disabled_is_named() {
    let alone = alone();
    let all = Disabled::set("2");
    check_alone(
        &[
            row(PLAIN, COPY, 3, WANT_RING),
            row(PLAIN, "copy file new", 3, WANT_RING),
            row(PLAIN, "checksum file", 3, WANT_RING),
            row(PLAIN, "fill new --len 1K", 3, WANT_RING),
            row(PLAIN, "chunks user", 3, WANT_RING),
            row(PLAIN, "smoke --quick", 3, WANT_RING),
            row(PLAIN, "repro run D3", 0, ""),
            row(PLAIN, "bench --work cost", 3, WANT_RING),
            row(PLAIN, "ublk --size 1M", 3, WANT_RING),
            row(
                PLAIN,
                "probe",
                4,
                "uringbpf: missing here: io_uring (io_uring_setup: EPERM (Operation not permitted): \
                 sysctl kernel.io_uring_disabled is 2, which forbids it to all: set it to 0)",
            ),
        ],
        &alone,
    );
    drop(all);
    let _some = Disabled::set("1");
    check_alone(
        &[
            row(PLAIN, COPY, 0, ""),
            row(
                BPF_USER,
                COPY,
                3,
                "uringbpf: io_uring_setup: EPERM (Operation not permitted): sysctl \
                 kernel.io_uring_disabled is 1: run as root, or in the group that \
                 kernel.io_uring_group names",
            ),
        ],
        &alone,
    );
}

/// What containers do, and what a locked-down kernel looks like from here: all
/// capabilities, and yet EPERM.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn system_calls_that_are_filtered_are_named() {
    let bpf = "uringbpf: load * programs: EPERM (Operation not permitted): all \
        capabilities are there, so seccomp, a security module or lockdown forbids it";
    let ring = "uringbpf: io_uring_setup: EPERM (Operation not permitted): seccomp (of a \
        container?) or a security module forbids it";
    let hidden = "uringbpf: io_uring_setup: ENOSYS (Function not implemented): seccomp (of a \
        container?) hides io_uring";
    let enter = "uringbpf: io_uring_enter: EPERM (Operation not permitted)*";
    let register = "uringbpf: *: EPERM (Operation not permitted)*";
    let mut rows = Vec::new();
    for words in [COPY, "copy file new", "smoke --quick"] {
        rows.push(row(PLAIN, words, 3, bpf).without(libc::SYS_bpf, libc::EPERM));
        rows.push(row(PLAIN, words, 3, ring).without(libc::SYS_io_uring_setup, libc::EPERM));
    }
    rows.extend([
        row(PLAIN, COPY, 3, hidden).without(libc::SYS_io_uring_setup, libc::ENOSYS),
        row(PLAIN, "ublk --size 1M", 3, ring).without(libc::SYS_io_uring_setup, libc::EPERM),
        row(PLAIN, COPY, 3, enter).without(libc::SYS_io_uring_enter, libc::EPERM),
        row(PLAIN, "copy file new", 3, enter).without(libc::SYS_io_uring_enter, libc::EPERM),
        row(PLAIN, COPY, 3, register).without(libc::SYS_io_uring_register, libc::EPERM),
        row(PLAIN, "copy file new", 3, register).without(libc::SYS_io_uring_register, libc::EPERM),
    ]);
    check_all(&rows);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn what_the_kernel_was_built_without_is_named() {
    let ublk = "uringbpf: missing here: the ublk driver (CONFIG_BLK_DEV_UBLK; where it is a \
        module: modprobe ublk_drv)";
    check_all(&[
        row(NO_BTF, COPY, 4, WANT_BTF),
        row(NO_BTF, "copy file new", 4, WANT_BTF),
        row(NO_BTF, "checksum file", 4, WANT_BTF),
        row(NO_BTF, "fill new --len 1K", 4, WANT_BTF),
        row(NO_BTF, "chunks user", 4, WANT_BTF),
        row(NO_BTF, "smoke --quick", 4, WANT_BTF),
        row(NO_BTF, "stress --seconds 1", 4, WANT_BTF),
        row(NO_BTF, "repro run D3", 4, WANT_BTF),
        row(NO_BTF, "bench --work cost", 4, WANT_BTF),
        row(NO_BTF, "ublk --size 1M", 4, WANT_BTF),
        row(
            NO_BTF,
            "probe",
            4,
            "uringbpf: missing here: btf (no /sys/kernel/btf/vmlinux: build the kernel with CONFIG_DEBUG_INFO_BTF)",
        ),
        row(NO_UBLK, COPY, 0, ""),
        // Its line is made stderr's.
        row(
            NO_UBLK_SAID,
            "probe",
            0,
            "ublk zero copy                     absent    no /dev/ublk-control*",
        ),
        row(NO_UBLK, "copy --from kfixed:len=4K --to user", 4, ublk),
        row(NO_UBLK, "chunks kfixed:len=4K", 4, ublk),
        row(NO_UBLK, "ublk --size 1M", 4, ublk),
        row(NO_UBLK, "ublk --backing new --size 1M", 4, ublk),
        row(NO_UBLK, "ublk --cleanup", 0, ""),
        // Another number, flag and program than this kernel's.
        row(
            PLAIN,
            "--kernel-flag setup-flag=0x80000000 copy --from user --to vec",
            4,
            "uringbpf: missing here: a setup flag for BPF programs (name it with \
             --kernel-flag setup-flag=VALUE)",
        ),
        row(
            PLAIN,
            "--kernel-flag opcode=200 copy --from user --to vec --seed 5",
            1,
            "uringbpf: *EINVAL*",
        ),
    ]);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn files_that_cannot_be_used_are_named() {
    let full = "ENOSPC (No space left on device): make room there";
    let read_only = "EROFS (Read-only file system): name a place that can be written to";
    let denied = "EACCES (Permission denied): change its permissions, or run as a user who may";
    let line =
        |what: &str, why: &str| -> &'static str { format!("uringbpf: {what}: {why}").leak() };
    let small = |what| line(what, full);
    let read_only = |what| line(what, read_only);
    let bench = "bench --work cost --type user --size 4K --rounds 1 --time 1 --svg";
    let bench = |path: &str| -> &'static str { format!("{bench} {path}").leak() };
    check_all(&[
        row(SMALL_DISK, "copy file disk/new", 3, small("write disk/new")),
        row(
            SMALL_DISK,
            "fill disk/new --len 1M",
            3,
            small("write disk/new"),
        ),
        row(SMALL_DISK, "man disk", 3, small("write disk/*")),
        row(
            r#"mkdir disk; exec unshare -m sh -c 'mount -t tmpfs -o size=4k none disk; head -c 4096 /dev/zero >disk/full
                "$@"; status=$?; find disk -name "*new*" >&2; exit $status' sh "$@""#,
            bench("disk/new.svg"),
            3,
            small("write disk/new.svg"),
        ),
        row(
            SMALL_DISK,
            "ublk --backing disk/new --size 16M",
            3,
            small("allocate disk/new.uringbpf-sums"),
        ),
        row(CLOSED_OUTPUT, COPY, 3, CLOSED),
        row(CLOSED_OUTPUT, "copy file copied --quiet", 0, ""),
        row(FULL_OUTPUT, COPY, 3, FULL),
        row(FULL_OUTPUT, "checksum file", 3, FULL),
        row(FULL_OUTPUT, "copy file copied --quiet", 0, ""),
        row(FULL_OUTPUT, "chunks user", 3, FULL),
        row(FULL_OUTPUT, "fill --to user", 3, FULL),
        row(
            FULL_OUTPUT,
            "smoke --case 'copy from=user to=vec len=1'",
            3,
            FULL,
        ),
        row(FULL_OUTPUT, "--format ktap smoke --quick", 3, FULL),
        row(FULL_OUTPUT, "repro run D3", 3, FULL),
        row(FULL_OUTPUT, "bench --work cost", 3, FULL),
        row(FULL_OUTPUT, "stress --seconds 1 --json", 3, FULL),
        row(FULL_OUTPUT, "ublk --size 1M", 3, FULL),
        row(
            READ_ONLY_DISK,
            "copy file disk/new",
            3,
            read_only("create disk/new"),
        ),
        row(
            READ_ONLY_DISK,
            "fill disk/new --len 1",
            3,
            read_only("create disk/new"),
        ),
        row(
            READ_ONLY_DISK,
            bench("disk/new"),
            3,
            read_only("create disk/new"),
        ),
        row(
            READ_ONLY_DISK,
            "man disk",
            3,
            read_only("create disk/uringbpf.1"),
        ),
        row(
            READ_ONLY_DISK,
            "ublk --backing disk/new --size 1M",
            3,
            read_only("open disk/new"),
        ),
        row(
            PLAIN,
            "copy missing new",
            3,
            line("open missing", "ENOENT (No such file or directory)"),
        ),
        row(
            PLAIN,
            "copy file no/new",
            3,
            line("create no/new", "ENOENT (No such file or directory)"),
        ),
        row(
            PLAIN,
            "copy . new",
            3,
            line("read .", "EISDIR (Is a directory): name a file"),
        ),
        row(
            PLAIN,
            "copy file .",
            3,
            line("create .", "EISDIR (Is a directory): name a file"),
        ),
        row(
            PLAIN,
            "copy file file",
            2,
            "uringbpf: file and file are the same file",
        ),
        row(
            PLAIN,
            "copy file /dev/full",
            3,
            "uringbpf: /dev/full is there and no regular file: it would be replaced by one",
        ),
        row(
            PLAIN,
            "checksum missing",
            3,
            line("open missing", "ENOENT (No such file or directory)"),
        ),
        row(
            PLAIN,
            "checksum .",
            3,
            line("read .", "EISDIR (Is a directory): name a file"),
        ),
        row(
            PLAIN,
            "checksum --check missing",
            3,
            line("read missing", "ENOENT (No such file or directory)"),
        ),
        row(
            PLAIN,
            "checksum --check file",
            3,
            "uringbpf: file: no crc32c line in it: name the --algorithm that it was made with",
        ),
        row(
            r#""$1" checksum file >list; echo more >>file; exec "$@""#,
            "checksum --check list",
            1,
            "uringbpf: 1 computed checksum did not match",
        ),
        row(
            r#""$1" checksum file >list; rm file; exec "$@""#,
            "checksum --check list",
            3,
            "uringbpf: open file: ENOENT (No such file or directory)\nuringbpf: 1 listed file could not be summed",
        ),
        row(
            r#"chmod 0 file; exec setpriv --reuid=65534 --clear-groups \
                --inh-caps=+bpf,+perfmon --ambient-caps=+bpf,+perfmon "$@""#,
            "checksum file",
            3,
            line("open file", denied),
        ),
        row(
            BPF_USER,
            "copy file /etc/new",
            3,
            line("create /etc/new", denied),
        ),
        row(
            PLAIN,
            "ublk --backing .",
            3,
            line("open .", "EISDIR (Is a directory): name a file"),
        ),
        row(
            PLAIN,
            "ublk --backing new",
            3,
            line("open new", "ENOENT (No such file or directory)"),
        ),
        row(
            PLAIN,
            "ublk --backing file",
            2,
            "uringbpf: 100000 bytes are no whole blocks of 4096",
        ),
        row(
            r#"flock file "$@""#,
            "ublk --backing file --block 512",
            3,
            "uringbpf: lock file: EAGAIN (Resource temporarily unavailable): somebody else uses this file",
        ),
    ]);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn signals_end_a_run_cleanly() {
    const ENDED: &str = "uringbpf: interrupted";
    let large = |how: &str| -> &'static str { format!("truncate -s 100G file; {how}").leak() };
    check_all(&[
        row(INT, "fill new --len 100G", 130, ENDED),
        row(large(INT), "checksum file", 130, ENDED),
        row(large(TERM), "copy file new", 143, ENDED),
        row(INT_AT_WORK, "repro run", 130, ENDED),
        row(INT, "smoke", 130, ENDED),
        row(TERM, "smoke --format ktap", 143, ENDED),
        row(TERM_AT_WORK, "ublk --size 1M", 143, ENDED),
        row(INT_AT_WORK, "ublk --size 1M", 130, ENDED),
        // Its device goes, too.
        row(
            INT_AT_ONCE,
            "copy --from kfixed:len=256M --to user --depth 8",
            130,
            ENDED,
        ),
        row(INT, "bench", 130, ENDED),
        row(TERM, "bench --rings 4", 143, ENDED),
        row(INT, "bench --scaling", 130, ENDED),
        row(
            INT,
            "stress --seed 5 --seconds 600",
            130,
            "stress: seed 5, 600 s\nuringbpf: interrupted",
        ),
        row(TERM, "--quiet stress --seed 5 --seconds 600", 143, ENDED),
    ]);
}
