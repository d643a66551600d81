// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the scripts in `kernel/` do before any kernel is built: with a made-up
//! kernel tree, patches of their own and an empty cache.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// A cache, a kernel tree of four files and a directory of patches.
struct Lab {
    root: TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Lab {
            root: tempfile::tempdir().unwrap(),
        };
        lab.write("tree/Makefile", "VERSION = 7\nPATCHLEVEL = 2\n");
        lab.write("tree/Kbuild", "");
        lab.write("tree/Kconfig", "");
        lab.write("tree/io_uring/io_uring.c", "one\ntwo\nthree\n");
        lab.write("tree/include/uapi/linux/io_uring.h", "IORING_OP_LAST\n");
        fs::create_dir(lab.path("patches")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A patch that turns `two` into `word` in io_uring.c.
    fn patch(&self, name: &str, word: &str) {
        self.write(
            &format!("patches/{name}"),
            &format!(
                "--- a/io_uring/io_uring.c\n+++ b/io_uring/io_uring.c\n@@ -1,3 +1,3 @@\n one\n-two\n+{word}\n three\n"
            ),
        );
    }

    /// A script of `kernel/`, with this lab's cache and nothing inherited that it listens to.
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("kernel")
                .join(name),
        );
        for variable in [
            "BZIMAGE",
            "KDIR",
            "KERNEL_VERSION",
            "EXTRA_PATCHES",
            "PROFILE",
            "CMD",
            "CPUS",
            "MEM",
            "TIMEOUT",
            "ICOUNT",
            "NO_INSTALL",
        ] {
            command.env_remove(variable);
        }
        command
            .env("URINGBPF_CACHE", self.path("cache"))
            .env("KERNEL_PATCHES", self.path("patches"));
        command
    }

    /// The source directory that `kernel/fetch` makes of the tree.
    fn fetch(&self) -> PathBuf {
        let output = self
            .script("fetch")
            .env("KDIR", self.path("tree"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        PathBuf::from(stdout(&output).trim())
    }

    fn apply(&self, source: &Path) -> Output {
        self.script("patch").arg(source).output().unwrap()
    }

    fn key(&self, profile: &str) -> String {
        let output = self
            .script("build")
            .arg("--key")
            .env("KDIR", self.path("tree"))
            .env("PROFILE", profile)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn source_text(source: &Path) -> String {
    fs::read_to_string(source.join("linux/io_uring/io_uring.c")).unwrap()
}

#[test]
fn every_script_explains_itself() {
    let lab = Lab::new();
    for script in ["deps", "fetch", "patch", "build", "boot", "guest"] {
        let output = lab.script(script).arg("--help").output().unwrap();
        assert!(output.status.success(), "{script}");
        assert!(stdout(&output).starts_with("Usage: kernel/"), "{script}");
    }
}

#[test]
fn fetch_names_the_other_ways_when_no_package_is_on_offer() {
    let lab = Lab::new();
    lab.write(
        "apt.conf",
        "Dir::Etc::SourceList \"/dev/null\";\nDir::Etc::SourceParts \"/dev/null\";\n",
    );
    let output = lab
        .script("fetch")
        .env("APT_CONFIG", lab.path("apt.conf"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(
        message.contains("no linux-source package of 7.3 7.2 is on offer"),
        "{message}"
    );
    assert!(
        message.contains("KDIR=") && message.contains("BZIMAGE="),
        "{message}"
    );
}

#[test]
fn fetch_refuses_a_branch_that_the_patches_are_not_for() {
    let output = Lab::new()
        .script("fetch")
        .env("KERNEL_VERSION", "6.1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the patches are for 7.3 7.2"));
}

#[test]
fn fetch_takes_uncommitted_changes_of_a_git_tree_and_no_build_products() {
    let lab = Lab::new();
    lab.write("tree/.gitignore", "*.o\n");
    let git = |arguments: &[&str]| {
        let status = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .args(arguments)
            .current_dir(lab.path("tree"))
            .status();
        assert!(status.unwrap().success());
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "Start"]);
    lab.write("tree/io_uring/io_uring.c", "changed\n");
    lab.write("tree/io_uring/added.c", "added\n");
    lab.write("tree/io_uring/io_uring.o", "object\n");

    let source = lab.fetch();
    assert_eq!(source_text(&source), "changed\n");
    assert!(source.join("linux/io_uring/added.c").exists());
    assert!(!source.join("linux/io_uring/io_uring.o").exists());

    fs::remove_file(lab.path("tree/io_uring/added.c")).unwrap();
    lab.fetch();
    assert!(!source.join("linux/io_uring/added.c").exists());
}

#[test]
fn fetch_leaves_build_products_of_a_plain_tree_behind() {
    let lab = Lab::new();
    lab.write("tree/.config", "CONFIG_A=y\n");
    lab.write("tree/include/generated/autoconf.h", "");
    lab.write("tree/io_uring/io_uring.o", "object\n");
    let source = lab.fetch();
    assert!(source.join("linux/Kbuild").exists());
    for product in [".config", "include/generated", "io_uring/io_uring.o"] {
        assert!(!source.join("linux").join(product).exists(), "{product}");
    }
}

#[test]
fn patch_leaves_the_users_tree_alone() {
    let lab = Lab::new();
    lab.patch("0001-change.patch", "zwei");
    let source = lab.fetch();
    assert!(lab.apply(&source).status.success());
    assert_eq!(source_text(&source), "one\nzwei\nthree\n");
    assert_eq!(
        fs::read_to_string(lab.path("tree/io_uring/io_uring.c")).unwrap(),
        "one\ntwo\nthree\n"
    );
}

#[test]
fn patch_reaches_files_at_the_top_of_the_tree() {
    let lab = Lab::new();
    lab.write(
        "patches/0001-top.patch",
        "--- a/Kconfig\n+++ b/Kconfig\n@@ -0,0 +1 @@\n+new\n--- /dev/null\n+++ b/TOP\n@@ -0,0 +1 @@\n+new\n",
    );
    let source = lab.fetch();
    let output = lab.apply(&source);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        fs::read_to_string(source.join("linux/Kconfig")).unwrap(),
        "new\n"
    );
    assert!(source.join("linux/TOP").exists());
}

#[test]
fn patch_takes_the_variant_of_the_trees_branch() {
    let lab = Lab::new();
    lab.patch("0001-change.patch", "any");
    lab.patch("7.2/0001-change.patch", "variant");
    lab.patch("7.3/0001-change.patch", "other");
    let source = lab.fetch();
    assert!(lab.apply(&source).status.success());
    assert_eq!(source_text(&source), "one\nvariant\nthree\n");
}

#[test]
fn patch_adds_what_only_the_trees_branch_needs() {
    let lab = Lab::new();
    let file = |text| format!("--- /dev/null\n+++ b/ONLY\n@@ -0,0 +1 @@\n+{text}\n");
    lab.write("patches/7.2/0000-only.patch", &file("needed"));
    lab.write("patches/7.3/0000-only.patch", &file("other"));
    lab.patch("0001-change.patch", "any");
    let source = lab.fetch();
    assert!(lab.apply(&source).status.success());
    assert_eq!(source_text(&source), "one\nany\nthree\n");
    let only = fs::read_to_string(source.join("linux/ONLY"));
    assert_eq!(only.expect("made"), "needed\n");
}

#[test]
fn patch_undoes_what_a_removed_patch_did() {
    let lab = Lab::new();
    lab.patch("0001-change.patch", "zwei");
    lab.write(
        "patches/0002-add.patch",
        "--- /dev/null\n+++ b/io_uring/bpf.c\n@@ -0,0 +1 @@\n+new\n",
    );
    let source = lab.fetch();
    assert!(lab.apply(&source).status.success());
    assert!(source.join("linux/io_uring/bpf.c").exists());

    fs::remove_dir_all(lab.path("patches")).unwrap();
    assert!(lab.apply(&source).status.success());
    assert_eq!(source_text(&source), "one\ntwo\nthree\n");
    assert!(!source.join("linux/io_uring/bpf.c").exists());
}

#[test]
fn patch_and_fetch_touch_only_what_changes() {
    let lab = Lab::new();
    lab.patch("0001-change.patch", "zwei");
    let source = lab.fetch();
    assert!(lab.apply(&source).status.success());
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = source.join("linux/io_uring/io_uring.c");
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();

    lab.fetch();
    assert!(lab.apply(&source).status.success());
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), long_ago);

    lab.write("tree/io_uring/io_uring.c", "one\ntwo\nthree\nfour\n");
    lab.fetch();
    assert!(lab.apply(&source).status.success());
    assert_eq!(source_text(&source), "one\nzwei\nthree\nfour\n");
}

#[test]
fn patch_that_does_not_apply_is_named_and_changes_nothing() {
    let lab = Lab::new();
    lab.patch("0001-change.patch", "zwei");
    lab.patch("0002-again.patch", "deux");
    let source = lab.fetch();
    let output = lab.apply(&source);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("0002-again.patch does not apply"),
        "{}",
        stderr(&output)
    );
    assert_eq!(source_text(&source), "one\ntwo\nthree\n");
}

#[test]
fn patch_gives_a_tree_that_has_the_opcode_only_the_extra_ones() {
    let lab = Lab::new();
    lab.write("tree/include/uapi/linux/io_uring.h", "IORING_OP_BPF,\n");
    lab.patch("0001-change.patch", "zwei");
    let source = lab.fetch();
    assert!(lab.apply(&source).status.success());
    assert_eq!(source_text(&source), "one\ntwo\nthree\n");

    let extra = lab.path("patches/0001-change.patch");
    let output = lab
        .script("patch")
        .arg(&source)
        .env("EXTRA_PATCHES", extra)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(source_text(&source), "one\nzwei\nthree\n");
}

#[test]
fn key_of_a_build_follows_patches_and_configuration() {
    let lab = Lab::new();
    lab.patch("0001-change.patch", "zwei");
    let key = lab.key("default");
    assert_eq!(lab.key("default"), key);
    assert_ne!(lab.key("debug"), key);
    lab.patch("0001-change.patch", "deux");
    assert_ne!(lab.key("default"), key);
}

#[test]
fn build_takes_an_image_of_the_users_as_it_is() {
    let lab = Lab::new();
    lab.write("image", "not looked at");
    let output = lab
        .script("build")
        .env("BZIMAGE", lab.path("image"))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(
        stdout(&output).trim(),
        lab.path("image").canonicalize().unwrap().to_str().unwrap()
    );
    assert!(!lab.path("cache").exists());
}

#[test]
fn build_refuses_a_profile_that_does_not_exist() {
    let output = Lab::new()
        .script("build")
        .env("PROFILE", "fast")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("PROFILE=fast"));
}

#[test]
fn boot_refuses_what_it_cannot_do() {
    let lab = Lab::new();
    let no_command = lab.script("boot").output().unwrap();
    assert_eq!(no_command.status.code(), Some(2));
    for (variable, value) in [("CPUS", "none"), ("MEM", "4"), ("TIMEOUT", "1h")] {
        let output = lab
            .script("boot")
            .arg("true")
            .env(variable, value)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{variable}");
        assert!(
            stderr(&output).contains(&format!("{variable}={value}")),
            "{}",
            stderr(&output)
        );
    }
    // Neither what is not there nor what is no file is an image.
    for image in [lab.path("no image"), lab.path("tree")] {
        for (script, status) in [("boot", 125), ("build", 1)] {
            let output = lab
                .script(script)
                .args((script == "boot").then_some("true"))
                .env("BZIMAGE", &image)
                .output()
                .unwrap();
            let expected = format!(
                "kernel/{script}: BZIMAGE={}: no such file\n",
                image.display()
            );
            assert_eq!(stderr(&output), expected);
            assert_eq!(output.status.code(), Some(status), "{script}");
        }
    }
    assert!(!lab.path("cache").exists());
}

#[test]
fn deps_only_lists_what_is_missing_when_told_not_to_install() {
    let lab = Lab::new();
    fs::create_dir(lab.path("bin")).unwrap();
    for command in [
        "bash", "dirname", "basename", "sort", "xargs", "cat", "env", "echo", "grep",
    ] {
        let from = ["/usr/bin", "/bin"]
            .iter()
            .map(|directory| Path::new(directory).join(command))
            .find(|path| path.exists());
        symlink(from.unwrap(), lab.path("bin").join(command)).unwrap();
    }
    let output = lab
        .script("deps")
        .env("PATH", lab.path("bin"))
        .env("NO_INSTALL", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(
        message.contains("bison") && message.contains("qemu-system-x86"),
        "{message}"
    );

    let output = lab
        .script("deps")
        .env("PATH", lab.path("bin"))
        .env("NO_INSTALL", "1")
        .env("BZIMAGE", "image")
        .output()
        .unwrap();
    assert!(!stderr(&output).contains("bison"), "{}", stderr(&output));
}
