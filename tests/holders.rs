//! Who keeps a disk busy, as a black box on the machine's own kernel: each child process or kernel user of an image's
//! file system is named, and nobody else.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

mod disk_fixture;

use std::fs::{File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use disk_fixture::{Image, LoopDisk, MIB, lock_now, prepare_now, run, wait_for};
use mydisks::disk::holders::{Holder, Holders, Subject, Use, holders};
use mydisks::disk::unmount::{Expire, Unmount, expire, unmount};
use mydisks::disk::{Closing, Locked, Opened};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MoveMountFlags, move_mount};

/// A file system that is mounted in the directory of its image.
struct Mounted {
    place: PathBuf,
    mount: u64,
    opened: Opened,
    // Dropped last: the directory holds the mount point.
    _image: Image,
}

impl Mounted {
    fn new(filesystem: &str) -> Self {
        let image = Image::of(filesystem);
        let place = image.directory.path().join("place");
        std::fs::create_dir(&place).unwrap();
        let prepared = prepare_now(&image.order()).unwrap();
        let directory = openat(CWD, &place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(prepared.mount.as_fd(), "", directory.as_fd(), "", flags).unwrap();
        Self { place, mount: prepared.mount_id, opened: prepared.opened.clone(), _image: image }
    }

    fn users(&self) -> Holders {
        holders(Subject::mounted(self.mount).unwrap().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.place.join(name);
        File::create(&path).unwrap();
        path
    }

    /// A copy of a program on the disk.
    fn program(&self) -> PathBuf {
        let path = self.place.join("program");
        std::fs::copy("/bin/sleep", &path).unwrap();
        path
    }

    fn is_busy(&self) -> bool {
        matches!(unmount(&self.place, self.mount, false), Unmount::Busy)
    }

    /// Nobody is found any more, and the kernel agrees.
    fn put_away(self) {
        wait_for("its users to go", || self.users() == Holders::default());
        assert!(matches!(unmount(&self.place, self.mount, false), Unmount::Unmounted));
        wait_for("it to be locked", || lock_now(&self.opened, Closing::IfUnused) == Ok(Locked::Closed));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that failed has left it mounted.
        unmount(&self.place, self.mount, true);
    }
}

/// A process that does nothing until it is dropped.
struct Idler(Child);

impl Idler {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    fn sleep() -> Command {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").stdin(Stdio::null());
        command
    }

    fn uses(&self, found: &Holders) -> Vec<Use> {
        let is_it = |holder: &&Holder| matches!(holder, Holder::Process { pid, .. } if *pid == self.0.id());
        let Some(Holder::Process { uses, .. }) = found.named.iter().find(is_it) else { return Vec::new() };
        uses.clone()
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The idler is named with this use, nothing else is, and the disk is busy with it alone.
fn is_named(mounted: &Mounted, idler: &Idler, one: &Use) {
    // A child of another test has this process's descriptors until its own program begins.
    wait_for(&format!("nothing but {one} to be named"), || {
        let found = mounted.users();
        found.named.len() == 1 && idler.uses(&found) == std::slice::from_ref(one)
    });
    assert!(mounted.is_busy());
}

/// The dynamic loader of this machine, of which a program can be an argument.
fn loader() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/ld-linux")).unwrap();
    PathBuf::from(line.split_whitespace().last().unwrap())
}

#[test]
fn each_way_in_which_a_process_uses_a_disk_is_named() {
    // On btrfs, stat shows another device number than the mount table.
    for filesystem in ["ext4", "btrfs"] {
        let mounted = Mounted::new(filesystem);
        let place = mounted.place.clone();
        wait_for("nobody to be named", || mounted.users() == Holders::default());

        let idler = Idler::start(Idler::sleep().current_dir(&place));
        is_named(&mounted, &idler, &Use::WorkingDirectory(place.clone()));
        drop(idler);

        let script = "chroot $ARGV[0] or die; sleep 1000";
        let idler = Idler::start(Command::new("/usr/bin/perl").args(["-e", script]).arg(&place));
        is_named(&mounted, &idler, &Use::Root(place.clone()));
        drop(idler);

        let file = mounted.file("a file");
        let idler = Idler::start(Idler::sleep().stdin(File::open(&file).unwrap()));
        is_named(&mounted, &idler, &Use::File(file));
        drop(idler);

        let program = mounted.program();
        let idler = Idler::start(Command::new(&program).arg("1000"));
        is_named(&mounted, &idler, &Use::Program(program.clone()));
        drop(idler);

        let idler = Idler::start(Command::new(loader()).arg(&program).arg("1000"));
        is_named(&mounted, &idler, &Use::Mapped(program));
        drop(idler);
        mounted.put_away();
    }
}

#[test]
fn a_process_is_told_with_its_user_and_an_escaped_name() {
    let mounted = Mounted::new("ext4");
    let script = "$0 = \"a\\n\\e[2J\"; sleep 1000";
    let mut command = Command::new("/usr/bin/perl");
    command.args(["-e", script]).uid(65534).gid(65534).current_dir(&mounted.place);
    let idler = Idler::start(&mut command);
    let place = mounted.place.display();
    let expected = format!("pid {} (nobody, a\\n\\u{{1b}}[2J): working directory {place}", idler.0.id());
    wait_for("it to be told so", || mounted.users().sentence() == expected);
    drop(idler);
    mounted.put_away();
}

#[test]
fn a_file_that_is_open_in_another_mount_namespace_is_named() {
    let mounted = Mounted::new("ext4");
    let file = mounted.file("file");
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args(["--mount", "--propagation", "slave", "/bin/sh", "-c", "exec sleep 1000 <\"$0\""])
        .arg(&file);
    let idler = Idler::start(&mut command);
    wait_for("the process to be named", || idler.uses(&mounted.users()) == [Use::File(file.clone())]);
    drop(idler);
    mounted.put_away();
}

#[test]
fn what_keeps_an_unmounted_disk_open_is_named() {
    let mounted = Mounted::new("ext4");
    let file = mounted.file("file");
    let elsewhere = Idler::start(Command::new("/usr/bin/unshare").args([
        "--mount",
        "--propagation",
        "private",
        "/bin/sleep",
        "1000",
    ]));
    let holds = Idler::start(Idler::sleep().stdin(File::open(&file).unwrap()));
    let device = Idler::start(Idler::sleep().stdin(File::open(&mounted.opened.device).unwrap()));
    let of_disk = || holders(Subject::unmounted(&mounted.opened));
    let in_namespace = Use::Namespace(mounted.place.clone());
    wait_for("the other namespace to be named", || elsewhere.uses(&of_disk()).contains(&in_namespace));
    assert!(of_disk().named.contains(&Holder::Mount(mounted.place.clone())));

    assert!(matches!(unmount(&mounted.place, mounted.mount, true), Unmount::Unmounted));
    wait_for("the three to be all that is named", || of_disk().named.len() == 3);
    let found = of_disk();
    assert_eq!(elsewhere.uses(&found), [in_namespace]);
    // The kernel shows the path from the mount on, which nothing is above any more.
    assert_eq!(holds.uses(&found), [Use::File("/file".into())]);
    assert_eq!(device.uses(&found), [Use::Device(mounted.opened.device.clone())]);
    drop((elsewhere, holds, device));
    wait_for("it to be locked", || lock_now(&mounted.opened, Closing::IfUnused) == Ok(Locked::Closed));
    wait_for("nobody to be named", || of_disk() == Holders::default());
}

#[test]
fn what_the_kernel_has_on_a_disk_is_named() {
    let mounted = Mounted::new("ext4");
    let image = mounted.file("inner image");
    File::options().write(true).open(&image).unwrap().set_len(4 * MIB).unwrap();
    let inner = LoopDisk::new(&image, &[]);
    let expected = Holder::Loop { device: inner.node.clone(), file: image, on_it: Vec::new() };
    wait_for("the loop device to be named", || mounted.users().named == [expected.clone()]);
    assert!(mounted.is_busy());
    drop(inner);
    wait_for("the loop device to go", || mounted.users() == Holders::default());

    let below = mounted.place.join("below");
    std::fs::create_dir(&below).unwrap();
    run("mount", &["-t", "tmpfs", "tmpfs", below.to_str().unwrap()]);
    let expected = Holder::MountBelow { at: below.clone(), kind: "tmpfs".into() };
    wait_for("the mount to be named", || mounted.users().named == [expected.clone()]);
    assert!(mounted.is_busy());
    run("umount", &[below.to_str().unwrap()]);

    let swap = mounted.place.join("swap file");
    std::fs::write(&swap, vec![0; MIB as usize]).unwrap();
    std::fs::set_permissions(&swap, Permissions::from_mode(0o600)).unwrap();
    run("mkswap", &[swap.to_str().unwrap()]);
    run("swapon", &[swap.to_str().unwrap()]);
    let found = mounted.users();
    run("swapoff", &[swap.to_str().unwrap()]);
    assert!(found.named.contains(&Holder::Swap(swap)), "{found:?}");
    mounted.put_away();
}

#[test]
fn to_look_for_users_is_no_use() {
    let mounted = Mounted::new("ext4");
    wait_for("nobody to be named", || mounted.users() == Holders::default());
    // A child of another test may have had our descriptors until now.
    wait_for("it to be marked", || matches!(expire(&mounted.place, mounted.mount), Expire::Marked));
    assert_eq!(mounted.users(), Holders::default());
    assert!(matches!(expire(&mounted.place, mounted.mount), Expire::Unmounted));
    wait_for("it to be locked", || lock_now(&mounted.opened, Closing::IfUnused) == Ok(Locked::Closed));
}

#[test]
fn many_holders_are_counted() {
    let mounted = Mounted::new("ext4");
    let idlers: Vec<_> = (0..25).map(|_| Idler::start(Idler::sleep().current_dir(&mounted.place))).collect();
    wait_for("those that are not named to be counted", || {
        let found = mounted.users();
        (found.named.len(), found.more, found.gave_up) == (20, 5, None)
    });
    assert!(mounted.users().sentence().ends_with("; and 5 more"));
    drop(idlers);
    mounted.put_away();
}

#[test]
fn a_mount_that_is_none_has_no_subject() {
    assert_eq!(Subject::mounted(u64::MAX).unwrap(), None);
}
