// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The life of a ublk device, served through BPF: needs a kernel with
//! IORING_OP_BPF and ublk zero copy.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use libublk::UblkFlags;
use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder};
use uringbpf::kernel::{Kernel, Overrides};
use uringbpf::layout::Random;
use uringbpf::pattern;
use uringbpf::program::{Family, Plan, Program, Storage};
use uringbpf::registration::Table;
use uringbpf::request::{Descriptor, Request};
use uringbpf::ring::Ring;
use uringbpf::spec::RingOptions;
use uringbpf::submission::entry;
use uringbpf::ublk::{
    BlockOperation, BlockRequest, Device, DeviceOptions, Event, Queue, Registration, cleanup,
};

#[path = "served/tasks.rs"]
mod tasks;
use tasks::{PATIENCE, processes, stat, stuck, wait_until};

const KFIXED: u8 = 3;
const DEPTH: u16 = 8;
const BYTES: usize = 8 << 20;

/// Device numbers are used again at once: one test at a time looks at them.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|lock| lock.into_inner())
}

fn options(registration: Registration) -> DeviceOptions {
    DeviceOptions {
        bytes: BYTES as u64,
        block_size: 512,
        queues: 1,
        depth: DEPTH,
        largest_request: 1 << 20,
        registration,
        write_cache: true,
        discard: false,
    }
}

/// A disk in an arena: every request's bytes go through a BPF program.
struct Disk<'a, 'p> {
    queue: Queue<'a>,
    ring: &'a Ring,
    program: &'a Program<'p>,
    arena: u64,
    held: Vec<Option<BlockRequest>>,
}

impl Disk<'_, '_> {
    /// Until the device is gone.
    fn serve(&mut self) {
        while self.queue.tags() > 0 {
            let Some(completion) = self.ring.completion() else {
                self.ring.submit_and_wait(1).expect("the ring works");
                continue;
            };
            let Some(event) = self.queue.event(&completion) else {
                let tag = completion.user_data as u16;
                self.copied(tag, completion.result);
                continue;
            };
            match event {
                Event::Request(request) => self.arrived(request),
                Event::Registered { tag, slot, result } => {
                    assert_eq!(result, 0, "register");
                    self.copy(tag, slot);
                }
                Event::Unregistered { tag, result, .. } => {
                    assert_eq!(result, 0, "unregister");
                    self.answer(tag);
                }
                Event::Gone(_) => {}
                Event::Refused { tag, result } => panic!("tag {tag}: {result}"),
            }
        }
    }

    fn arrived(&mut self, request: BlockRequest) {
        let tag = request.tag;
        self.held[usize::from(tag)] = Some(request);
        match request.operation {
            BlockOperation::Flush => self.answer(tag),
            _ => match request.slot {
                Some(slot) => self.copy(tag, slot),
                None => self.queue.register(tag, tag).expect("register"),
            },
        }
    }

    fn copy(&mut self, tag: u16, slot: u16) {
        let request = self.held[usize::from(tag)].expect("held");
        let buffer = Descriptor {
            kind: KFIXED,
            buf_index: slot,
            len: request.bytes,
            ..Descriptor::default()
        };
        let place = self.arena + (request.sector << 9);
        let op = match request.operation {
            BlockOperation::Write => "to_arena",
            _ => "from_arena",
        };
        let copy = Request {
            from: buffer,
            to: buffer,
            from_arena: place,
            to_arena: place,
            len: u64::from(request.bytes),
            ..Request::default()
        };
        self.program.set_request(usize::from(tag), copy);
        let id = self.program.id(op);
        let entry = entry(self.ring.opcode(), id, usize::from(tag), 0, u64::from(tag));
        assert!(self.ring.push_bytes(&entry));
    }

    fn copied(&mut self, tag: u16, result: i32) {
        let request = self.held[usize::from(tag)].expect("held");
        assert_eq!(result, request.bytes as i32, "{request:?}");
        match request.slot {
            Some(_) => self.answer(tag),
            None => self.queue.unregister(tag, tag).expect("unregister"),
        }
    }

    fn answer(&mut self, tag: u16) {
        let request = self.held[usize::from(tag)].take().expect("held");
        let bytes = request.bytes as i32;
        self.queue.complete(tag, bytes).expect("complete");
    }
}

/// Serves a disk while `client` uses it.
fn with_disk(registration: Registration, client: impl FnOnce(&Path) + Send) {
    let device = Device::add(options(registration)).expect("a device");
    let (opened, ready) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let device = &device;
        let server = scope.spawn(move || {
            let kernel = Kernel::read(Overrides::default());
            let ring = Ring::open(&kernel, &RingOptions::default(), 4 * u32::from(DEPTH));
            let ring = ring.expect("a ring");
            let _table = Table::new(&ring, u32::from(DEPTH)).expect("a table");
            let mut storage = Storage::default();
            let plan = Plan {
                ops: vec!["to_arena", "from_arena"],
                arena: BYTES,
                ..Plan::default()
            };
            let program = Program::attach(&ring, &mut storage, Family::Copy, &plan);
            let program = program.expect("programs");
            let arena = program.arena().expect("memory").expect("an arena");
            let queue = Queue::open(device, &ring, 0, 0).expect("a queue");
            opened.send(()).expect("somebody waits");
            let mut disk = Disk {
                queue,
                ring: &ring,
                program: &program,
                arena: arena.address(),
                held: vec![None; usize::from(DEPTH)],
            };
            disk.serve();
        });
        ready.recv().expect("the queue opens");
        device.start().expect("it starts");
        client(&device.path());
        device.stop().expect("it stops");
        server.join().expect("the server ends");
    });
}

fn dd(arguments: &[String]) {
    let status = Command::new("dd")
        .arg("status=none")
        .args(arguments)
        .status();
    assert!(status.expect("dd").success(), "dd {arguments:?}");
}

fn what_is_written_reads_back(registration: Registration) {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("data");
    let back = directory.path().join("back");
    let mut bytes = vec![0; (5 << 20) + 512 * 3];
    pattern::fill(7, 0, &mut bytes);
    std::fs::write(&file, &bytes).expect("write");
    let mut node = PathBuf::new();
    with_disk(registration, |path| {
        node = path.to_path_buf();
        let skip = 512 * 9;
        dd(&[
            format!("if={}", file.display()),
            format!("of={}", path.display()),
            format!("seek={skip}"),
            "oflag=direct,seek_bytes".into(),
            "bs=1M".into(),
            "conv=fsync".into(),
        ]);
        dd(&[
            format!("if={}", path.display()),
            format!("of={}", back.display()),
            format!("skip={skip}"),
            format!("count={}", bytes.len()),
            "iflag=direct,skip_bytes,count_bytes".into(),
            "bs=1M".into(),
        ]);
    });
    assert!(
        std::fs::read(&back).expect("read") == bytes,
        "the same bytes"
    );
    assert!(!node.exists(), "the device is gone");
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn what_is_written_reads_back_with_manual_registration() {
    what_is_written_reads_back(Registration::Manual);
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn what_is_written_reads_back_with_automatic_registration() {
    what_is_written_reads_back(Registration::Auto);
}

/// A request that nobody answers any more must not keep a stop waiting.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_device_that_is_given_up_stops_with_a_request_in_flight() {
    let _alone = alone();
    let device = Device::add(options(Registration::Auto)).expect("a device");
    let (opened, ready) = channel();
    let (came, request) = channel();
    let (give_up, given_up) = channel::<()>();
    let (stopped, stopping) = channel();
    std::thread::scope(|scope| {
        let device = &device;
        scope.spawn(move || {
            let kernel = Kernel::read(Overrides::default());
            let ring = Ring::open(&kernel, &RingOptions::default(), u32::from(DEPTH));
            let ring = ring.expect("a ring");
            let _table = Table::new(&ring, u32::from(DEPTH)).expect("a table");
            let queue = Queue::open(device, &ring, 0, 0).expect("a queue");
            opened.send(()).expect("somebody waits");
            while ring.completion().is_none() {
                ring.submit_and_wait(1).expect("the ring works");
            }
            came.send(()).expect("somebody waits");
            // The queue and the ring go now, and the request with them.
            let _ = given_up.recv();
            drop(queue);
        });
        ready.recv().expect("the queue opens");
        device.start().expect("it starts");
        // Nobody need ask: the kernel looks for partitions.
        request.recv().expect("a request");
        scope.spawn(move || stopped.send(device.stop()));
        let waits = stopping.recv_timeout(Duration::from_millis(500));
        assert_eq!(waits, Err(RecvTimeoutError::Timeout), "for the request");
        device.give_up();
        // Both may fail together.
        device.give_up();
        drop(give_up);
        assert_eq!(stopping.recv_timeout(PATIENCE), Ok(Ok(())));
    });
    drop(device);
    assert_eq!(left_over(), Vec::<PathBuf>::new());
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn cleaning_up_leaves_a_living_device_alone() {
    let _alone = alone();
    let device = Device::add(options(Registration::Manual)).expect("a device");
    let node = PathBuf::from(format!("/dev/ublkc{}", device.id()));
    assert_eq!(cleanup(), Ok(Vec::new()));
    assert!(node.exists(), "{}", node.display());
    drop(device);
    assert!(!node.exists(), "{}", node.display());
    let records = std::fs::read_dir("/run/uringbpf/ublk").expect("records");
    assert_eq!(records.count(), 0);
}

/// A device that another tool has made, with a token of its own.
fn foreign() -> UblkCtrl {
    UblkCtrlBuilder::default()
        .name("foreign")
        .nr_queues(1)
        .depth(1)
        .ctrl_target_flags(0x1234)
        .dev_flags(UblkFlags::UBLK_DEV_F_ADD_DEV)
        .build()
        .expect("a device")
}

#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn cleaning_up_removes_what_a_dead_server_left_and_nothing_of_others() {
    let _alone = alone();
    let foreign = foreign();
    let node = PathBuf::from(foreign.get_cdev_path());
    let (mut server, id) = server();
    let cleaned = || {
        let output = uringbpf(&["ublk", "--cleanup"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{output:?}");
        // Also where nothing but the driver knows of a device, as of the foreign one.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(cleaned(), "nothing to remove\n", "while it serves");
    kill(server.id());
    server.wait().expect("it ends");
    let own = PathBuf::from(format!("/dev/ublkc{id}"));
    assert!(own.exists(), "a dead server leaves its device");

    // One whose device's number was never noted, and one whose number has gone
    // to somebody else.
    let records = Path::new("/run/uringbpf/ublk");
    let record = |name: &str, text: &str| std::fs::write(records.join(name), text);
    record("0000000000000001", "token 0000000000000001\npid 1\n").expect("written");
    let id_of_foreign = foreign.dev_info().dev_id;
    let text = format!("token 0000000000000002\npid 1\ndevice {id_of_foreign}\n");
    record("0000000000000002", &text).expect("written");

    let removed = format!("removed ublk device {id}, whose server has ended\n");
    assert_eq!(cleaned(), removed);
    wait_until("its device goes", || !own.exists());
    assert!(node.exists(), "that of another tool stays");
    assert_eq!(std::fs::read_dir(records).expect("records").count(), 0);
    drop(foreign);
}

/// Where nobody can tell whose a device is, its record stays.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_device_that_nobody_can_look_at_is_not_forgotten() {
    let _alone = alone();
    let (mut server, _) = server();
    kill(server.id());
    server.wait().expect("it ends");
    // Without the driver's node, as in a container; other tests are not to see.
    let hidden = Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg("mount -t tmpfs none /dev && \"$0\" ublk --cleanup")
        .arg(env!("CARGO_BIN_EXE_uringbpf"))
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&hidden.stderr);
    assert_eq!(hidden.status.code(), Some(3), "{said}");
    assert!(said.contains("look at ublk device"), "{said}");
    assert_ne!(left_over(), Vec::<PathBuf>::new());
    let cleaned = uringbpf(&["ublk", "--cleanup"]).status().expect("it runs");
    assert!(cleaned.success());
    wait_until("nothing is left over", || left_over().is_empty());
}

/// A server to be killed, and its device's number.
fn server() -> (Child, String) {
    let mut server = uringbpf(&["ublk", "--size", "1M"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(server.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("readable");
    let id = line.trim_end().strip_prefix("/dev/ublkb");
    (server, id.expect("a device").to_string())
}

fn uringbpf(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uringbpf"));
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The children of a process.
fn children(process: u32) -> Vec<u32> {
    let parent = process.to_string();
    let is_child = |path: &PathBuf| stat(path).is_some_and(|(_, fields)| fields[1] == parent);
    let id = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
    let children = processes().into_iter().filter(is_child);
    children.filter_map(id).collect()
}

/// What is left of ublk devices and of what belongs to them.
fn left_over() -> Vec<PathBuf> {
    let list = |directory: &str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let is_device = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ublkb") || name.starts_with("ublkc")
    };
    let mut left: Vec<PathBuf> = list("/dev").into_iter().filter(is_device).collect();
    left.extend(list("/run/uringbpf/ublk"));
    left.extend(list("/run/ublksrvd"));
    left
}

/// How often something is killed: URINGBPF_KILLS.
fn rounds() -> u32 {
    match std::env::var("URINGBPF_KILLS") {
        Ok(text) => text.parse().expect("URINGBPF_KILLS is a number"),
        Err(_) => 4,
    }
}

/// Kills server (even rounds) or client (odd ones) somewhere in a run.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn after_a_kill_at_any_moment_the_next_run_leaves_nothing_behind() {
    let _alone = alone();
    let seed = match std::env::var("URINGBPF_SEED") {
        Ok(text) => text.parse().expect("URINGBPF_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    };
    eprintln!("URINGBPF_SEED={seed}");
    let mut random = Random(seed);
    let job = [
        "copy",
        "--from",
        "kfixed:len=8M",
        "--to",
        "kfixed",
        "--depth",
        "8",
    ];
    let begin = Instant::now();
    assert!(uringbpf(&job).status().expect("it runs").success());
    let whole = begin.elapsed().as_millis() as u64;

    let (mut servers, mut clients) = (0, 0);
    for round in 0..rounds() {
        let mut server = uringbpf(&job).spawn().expect("it starts");
        let is_here = || match round % 2 {
            0 => !left_over().is_empty(),
            _ => !children(server.id()).is_empty(),
        };
        let begin = Instant::now();
        while !is_here() && begin.elapsed().as_millis() < u128::from(2 * whole) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(random.below(whole / 8)));
        match children(server.id()).first() {
            Some(client) if round % 2 == 1 => {
                clients += 1;
                kill(*client);
            }
            _ => {
                servers += u32::from(!left_over().is_empty());
                kill(server.id());
            }
        }
        server.wait().expect("it ends");
    }
    eprintln!("killed with a device there: {servers} servers, {clients} clients");
    // A run that had ended, or not begun, leaves nothing to clean up.
    assert!(
        servers > 0 && (clients > 0 || rounds() < 2),
        "none was killed with its device there"
    );
    assert!(uringbpf(&job).status().expect("it runs").success());
    // What was in flight ends by itself.
    wait_until("nothing is left over", || left_over().is_empty());
    wait_until("no task waits for a dead server", || stuck().is_empty());
}

fn kill(process: u32) {
    let status = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .status();
    // It may have ended by itself.
    status.expect("kill runs");
}

/// SIGINT and SIGTERM end a run with its device; the shell sees which it was.
#[test]
#[ignore = "needs a kernel with IORING_OP_BPF; make test runs it in the VM"]
fn a_signal_takes_the_device_along() {
    let _alone = alone();
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        // Of a client that does not go on, the requests never come.
        let mut server = uringbpf(&["copy", "--from", "kfixed:len=64M", "--to", "user"])
            .spawn()
            .expect("it starts");
        let begin = Instant::now();
        let client = loop {
            match children(server.id()).first() {
                Some(client) => break *client,
                None => assert!(begin.elapsed() < PATIENCE, "no client"),
            }
        };
        let send = |signal: &str, process: u32| {
            let arguments = [format!("-{signal}"), process.to_string()];
            Command::new("kill")
                .args(arguments)
                .status()
                .expect("kill runs");
        };
        send("STOP", client);
        send(signal, server.id());
        let ended = server.wait().expect("it ends");
        assert_eq!(ended.code(), Some(status), "{ended:?}");
        assert_eq!(left_over(), Vec::<PathBuf>::new(), "{signal}");
    }
}
