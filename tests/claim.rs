//! A whole disk is claimed for somebody else only while nothing on the host has it. On loop devices.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

mod disk_fixture;

use std::path::Path;
use std::process::Command;

use disk_fixture::{Image, LoopDisk, MIB, make_filesystem, run, wait_for};
use mydisks::disk::{DiskError, ErrorKind, claim};

fn refusal(disk: &LoopDisk) -> DiskError {
    claim(&disk.node, disk.sequence()).map(drop).unwrap_err()
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
    let claimed = claim(&disk.node, disk.sequence()).unwrap();
    assert_eq!(refusal(&disk).kind, ErrorKind::Busy, "claimed already");
    let mounted = Command::new("mount").args([&disk.node, &place]).output().unwrap();
    assert!(!mounted.status.success());
    drop(claimed);
    run("mount", &[text(&disk.node), text(&place)]);
    let error = refusal(&disk);
    run("umount", &[text(&place)]);
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.message.contains(text(&disk.node)) && error.message.contains(text(&place)), "{error}");
    claim(&disk.node, disk.sequence()).map(drop).unwrap();
}

#[test]
fn a_disk_with_a_mounted_partition_is_in_use_and_it_is_said_which() {
    let image = Image::empty(64 * MIB);
    let disk = LoopDisk::new(&image.path, &[]);
    let (_, partition) = disk.partition(1, 1, 32);
    make_filesystem("ext4", &partition);
    claim(&disk.node, disk.sequence()).map(drop).unwrap();
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
    wait_for("the loop device to go", || claim(&disk.node, disk.sequence()).is_ok());
}

#[test]
fn another_plug_of_a_disk_is_not_claimed() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let error = claim(&disk.node, disk.sequence() + 1).map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Absent);
}
