//! File systems and partition tables that not every kernel has.

use std::path::PathBuf;

use mydisks::disk::{ErrorKind, Order, leftovers};

use super::{FAST, encrypted, leaves_nothing};
use crate::disk_fixture::{
    Image, LoopDisk, MIB, make_filesystem, prepare_now, put_away, run, wait_for, words,
};

#[test]
#[ignore = "needs the lab VM"]
fn every_file_system_of_the_kernel_is_mounted_plain_and_encrypted() {
    let known = |driver: &str| {
        std::process::Command::new("modprobe").args(["-q", driver]).status().unwrap().success()
    };
    for filesystem in ["ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "exfat", "ntfs3"] {
        let plain = Image::of(filesystem);
        if !known(filesystem) {
            let error = prepare_now(&plain.order()).unwrap_err();
            assert!(error.message.contains("no driver for"), "{error}");
            continue;
        }
        let prepared = prepare_now(&plain.order()).unwrap();
        assert_eq!(prepared.filesystem, filesystem);
        put_away(prepared);
        let size = if filesystem == "xfs" { 340 } else { 160 };
        let (image, order) = encrypted("luks2", &FAST, Some(filesystem), size * MIB);
        let prepared = prepare_now(&order).unwrap();
        assert_eq!(prepared.filesystem, filesystem);
        put_away(prepared);
        leaves_nothing(&image, &order);
    }
}

#[test]
#[ignore = "needs the lab VM"]
fn an_option_that_a_driver_refuses_late_is_still_told_as_an_option() {
    for filesystem in ["ext4", "xfs", "btrfs", "vfat", "exfat"] {
        let image = Image::of(filesystem);
        let error = prepare_now(&Order { options: words(&["nonsense"]), ..image.order() }).unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadOption, "{filesystem}: {error}");
        assert!(error.message.contains("nonsense"), "{filesystem}: {error}");
        println!("{error}");
    }
}

#[test]
#[ignore = "needs the lab VM"]
fn the_partitions_of_an_image_are_found_in_both_kinds_of_table() {
    for label in ["dos", "gpt"] {
        let image = Image::empty(80 * MIB);
        let script = image.directory.path().join("script");
        std::fs::write(&script, format!("label: {label}\nsize=32MiB\nsize=32MiB\n")).unwrap();
        let command = format!("sfdisk -q {} < {}", image.path.display(), script.display());
        run("sh", &["-c", &command]);
        let disk = LoopDisk::new(&image.path, &["--partscan"]);
        let second = PathBuf::from(format!("{}p2", disk.node.display()));
        wait_for("the partition's node", || second.exists());
        make_filesystem("vfat", &second);
        drop(disk);
        wait_for("the loop device to go", || leftovers::loops(std::slice::from_ref(&image.path)).is_empty());
        for partition in [None, Some(2)] {
            let prepared = prepare_now(&Order { partition, ..image.order() }).unwrap();
            assert!(prepared.opened.device.to_str().unwrap().ends_with("p2"), "{label}");
            put_away(prepared);
        }
        let error = prepare_now(&Order { partition: Some(1), ..image.order() }).unwrap_err();
        assert_eq!(error.kind, ErrorKind::WrongContent);
    }
}
