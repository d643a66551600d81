// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A file system and fio on `uringbpf ublk`: needs a kernel with IORING_OP_BPF
//! and ublk zero copy, e2fsprogs, fio.
//!
//! URINGBPF_FILES says how many files are copied, URINGBPF_FIO_SECONDS how long
//! fio writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;
use uringbpf::layout::Random;
use uringbpf::pattern;

mod served;
use served::{Identity, ended, start};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A server, the device that it serves, and where that is mounted.
struct Disk {
    server: Child,
    path: PathBuf,
    identity: Identity,
    mounted: TempDir,
}

impl Disk {
    fn serve(words: &[&str]) -> Self {
        let (server, path) = start(words);
        Disk {
            server,
            identity: Identity::of(&path),
            path,
            mounted: tempfile::tempdir_in("/dev/shm").expect("a directory"),
        }
    }

    /// Does something with the mounted file system.
    fn mounted<T>(&self, work: impl FnOnce(&Path) -> T) -> T {
        let place = self.mounted.path();
        run("mount", &[self.path.as_ref(), place]);
        let result = work(place);
        run("umount", &[place]);
        result
    }

    /// Ends the server, which must have had nothing to complain of.
    fn end(self) {
        // SAFETY: our own child, which nobody has waited for yet.
        let sent = unsafe { libc::kill(self.server.id() as i32, libc::SIGINT) };
        assert_eq!(sent, 0);
        let (status, said) = ended(self.server);
        assert_eq!(status, Some(130));
        assert_eq!(said, "uringbpf: interrupted\n");
        assert!(self.identity.is_gone(), "{:?} has gone", self.identity);
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

fn check(disk: &Disk) {
    run("e2fsck", &[Path::new("-fn"), &disk.path]);
}

/// Files of many lengths, by name, in directories of a hundred.
fn tree(count: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut random = Random(count);
    let file = |number: u64| {
        let mut bytes = vec![0; random.below(12_000) as usize];
        pattern::fill(number, 0, &mut bytes);
        (PathBuf::from(format!("{}/{number}", number / 100)), bytes)
    };
    (0..count).map(file).collect()
}

fn write(place: &Path, tree: &BTreeMap<PathBuf, Vec<u8>>) {
    for (name, bytes) in tree {
        let path = place.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}

fn compare(place: &Path, tree: &BTreeMap<PathBuf, Vec<u8>>) {
    for (name, bytes) in tree {
        let found = fs::read(place.join(name)).expect("read");
        assert!(found == *bytes, "{}", name.display());
    }
}

/// Random writes, read back and verified, two jobs at sixteen requests each.
/// fio that runs out of time verifies nothing after its last pass of writes:
/// so it does that now and then while it writes.
fn fio(disk: &Disk) {
    let seconds = number("URINGBPF_FIO_SECONDS", 2);
    let output = Command::new("fio")
        .arg(format!("--filename={}", disk.path.display()))
        .arg(format!("--runtime={seconds}"))
        .args(["--name=verify", "--rw=randwrite", "--direct=1"])
        .args(["--ioengine=io_uring", "--iodepth=16", "--numjobs=2"])
        .args(["--bs=4k", "--time_based"])
        .args(["--size=32m", "--offset_increment=32m"])
        .args(["--verify=crc32c", "--verify_fatal=1"])
        .args(["--verify_state_save=0", "--verify_backlog=64"])
        .arg("--output-format=json")
        .output()
        .expect("fio");
    let said = String::from_utf8_lossy(&output.stdout);
    let cause = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{cause}");
    // Notes come first.
    let json = said.find('{').map(|start| &said[start..]);
    let report = serde_json::from_str(json.expect("a report"));
    let report: serde_json::Value = report.expect("JSON");
    let jobs = report["jobs"].as_array().expect("jobs");
    assert_eq!(jobs.len(), 2, "{said}");
    for job in jobs {
        let number = |value: &serde_json::Value| value.as_u64().expect("a number");
        // There only where it is told to go on after errors.
        let errors = job["total_err"].as_u64().unwrap_or(0);
        assert_eq!((number(&job["error"]), errors), (0, 0), "{said}");
        // What a job that only writes reads, it verifies.
        let (written, verified) = (&job["write"]["io_bytes"], &job["read"]["io_bytes"]);
        println!("fio: written {written}, verified {verified} bytes");
        assert!(
            number(verified) > 0 && 2 * number(verified) > number(written),
            "written {written}, verified {verified}"
        );
    }
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn a_file_system_in_memory_keeps_its_files() {
    let tree = tree(number("URINGBPF_FILES", 300));
    let disk = Disk::serve(&["--size", "512M"]);
    run("mkfs.ext4", &[Path::new("-q"), &disk.path]);
    disk.mounted(|place| write(place, &tree));
    check(&disk);
    disk.mounted(|place| compare(place, &tree));
    fio(&disk);
    disk.end();
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF and ublk; make test runs it in the VM"]
fn a_file_system_on_a_file_outlives_its_server() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let backing = directory.path().join("disk");
    let backing = backing.to_str().expect("text");
    let tree = tree(number("URINGBPF_FILES", 300));
    let disk = Disk::serve(&["--backing", backing, "--size", "512M", "--queues", "2"]);
    run("mkfs.ext4", &[Path::new("-q"), &disk.path]);
    disk.mounted(|place| write(place, &tree));
    check(&disk);
    disk.end();
    let disk = Disk::serve(&["--backing", backing]);
    check(&disk);
    disk.mounted(|place| compare(place, &tree));
    fio(&disk);
    disk.end();
}
