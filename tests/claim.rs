//! A whole disk is claimed for somebody else only while nothing on the host has it. On loop devices.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

mod disk_fixture;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use disk_fixture::{Image, LoopDisk, MIB, make_filesystem, prepare_now, put_away, run, wait_for};
use mydisks::disk::{DiskError, ErrorKind, claim};

fn refusal(disk: &LoopDisk) -> DiskError {
    claim(&disk.node, disk.sequence(), "guest").map(drop).unwrap_err()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn while_a_disk_is_claimed_nothing_can_mount_it() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let place = image.directory.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let claimed = claim(&disk.node, disk.sequence(), "guest").unwrap();
    assert_eq!(refusal(&disk).kind, ErrorKind::Busy, "claimed already");
    let mounted = Command::new("mount").args([&disk.node, &place]).output().unwrap();
    assert!(!mounted.status.success());
    drop(claimed);
    run("mount", &[text(&disk.node), text(&place)]);
    let error = refusal(&disk);
    run("umount", &[text(&place)]);
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.message.contains(text(&disk.node)) && error.message.contains(text(&place)), "{error}");
    claim(&disk.node, disk.sequence(), "guest").map(drop).unwrap();
}

#[test]
fn a_disk_with_a_mounted_partition_is_in_use_and_it_is_said_which() {
    let image = Image::empty(64 * MIB);
    let disk = LoopDisk::new(&image.path, &[]);
    let (_, partition) = disk.partition(1, 1, 32);
    make_filesystem("ext4", &partition);
    claim(&disk.node, disk.sequence(), "guest").map(drop).unwrap();
    let place = image.directory.path().join("place");
    std::fs::create_dir(&place).unwrap();
    run("mount", &[text(&partition), text(&place)]);
    let error = refusal(&disk);
    run("umount", &[text(&place)]);
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.message.contains(text(&partition)) && error.message.contains(text(&place)), "{error}");
}

#[test]
fn a_disk_under_a_loop_device_is_in_use() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let upper = LoopDisk::new(&disk.node, &[]);
    let error = refusal(&disk);
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.message.contains(text(&upper.node)), "{error}");
    drop(upper);
    wait_for("the loop device to go", || claim(&disk.node, disk.sequence(), "guest").is_ok());
}

#[test]
fn another_plug_of_a_disk_is_not_claimed() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let error = claim(&disk.node, disk.sequence() + 1, "guest").map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Absent);
}

/// QEMU opens a disk without a claim, so that the kernel would mount beside it.
#[test]
fn a_disk_that_a_virtual_machine_has_open_is_neither_mounted_nor_claimed_for_another() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let machine = Machine::start(&disk.node);
    let name = machine.name.as_str();
    for error in [refusal(&disk), prepare_now(&disk.order(&[])).map(drop).unwrap_err()] {
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
        assert!(error.message.ends_with(&format!("is in use by the virtual machine {name}")), "{error}");
    }
    claim(&disk.node, disk.sequence(), name).map(drop).unwrap();
    drop(machine);
    claim(&disk.node, disk.sequence(), "guest").map(drop).unwrap();
    put_away(prepare_now(&disk.order(&[])).unwrap());
}

/// A process that has a disk open, and a pid file where libvirt has those of virtual machines.
struct Machine {
    name: String,
    pid_file: PathBuf,
    process: Child,
}

impl Machine {
    fn start(disk: &Path) -> Self {
        let disk = File::options().read(true).write(true).open(disk).unwrap();
        let process = Command::new("sleep").arg("1000").stdin(disk).spawn().unwrap();
        let name = format!("mydisks-test-{}", process.id());
        let directory = Path::new("/run/libvirt/qemu");
        std::fs::create_dir_all(directory).unwrap();
        let pid_file = directory.join(format!("{name}.pid"));
        std::fs::write(&pid_file, process.id().to_string()).unwrap();
        Self { name, pid_file, process }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.pid_file);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
