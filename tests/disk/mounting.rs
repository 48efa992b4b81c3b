//! Mounting: every file system, its options, and where nobody sees it.

use std::fs::File;
use std::io::Read;

use mydisks::disk::{ErrorKind, Order, Prepared, mountinfo};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};

use crate::disk_fixture::{Image, LoopDisk, prepare_now, put_away, words};
use crate::{fails, leaves_nothing};

#[test]
fn each_file_system_is_mounted_where_nobody_sees_it_and_put_away_without_a_trace() {
    for filesystem in ["ext2", "ext3", "ext4", "xfs", "btrfs"] {
        let image = Image::of(filesystem);
        let prepared = prepare_now(&image.order()).unwrap();
        assert_eq!(prepared.filesystem, filesystem);
        assert!(!prepared.read_only && prepared.notes.is_empty(), "{filesystem}: {:?}", prepared.notes);
        let table = mountinfo::read().unwrap();
        assert!(!table.iter().any(|mount| mount.id == prepared.mount_id), "{filesystem} is visible");

        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = openat(&prepared.root, "file", flags, Mode::RUSR).unwrap();
        rustix::io::write(&file, b"kept").unwrap();
        drop(file);
        put_away(prepared);
        leaves_nothing(&image);

        let again = prepare_now(&Order { hint: Some(filesystem.to_owned()), ..image.order() }).unwrap();
        let file = openat(&again.root, "file", OFlags::RDONLY, Mode::empty()).unwrap();
        let mut kept = String::new();
        File::from(file).read_to_string(&mut kept).unwrap();
        assert_eq!(kept, "kept", "{filesystem}");
        put_away(again);
    }
}

#[test]
fn a_file_system_without_a_driver_is_said_to_have_none() {
    for filesystem in ["vfat", "exfat", "ntfs3"] {
        let image = Image::of(filesystem);
        match prepare_now(&image.order()) {
            Ok(prepared) => {
                assert_eq!(prepared.filesystem, filesystem);
                put_away(prepared);
            }
            Err(error) => {
                assert!(error.message.contains(&format!("no driver for {filesystem}")), "{error}");
                leaves_nothing(&image);
            }
        }
    }
}

#[test]
fn nosuid_and_nodev_hold_on_the_detached_mount_already() {
    let image = Image::of("ext4");
    let plain = prepare_now(&image.order()).unwrap();
    assert!(!flags(&plain).intersects(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV));
    put_away(plain);
    let options = words(&["nosuid", "nodev", "noexec", "noatime", "acl"]);
    let careful = prepare_now(&Order { options, ..image.order() }).unwrap();
    let expected = StatVfsMountFlags::NOSUID
        | StatVfsMountFlags::NODEV
        | StatVfsMountFlags::NOEXEC
        | StatVfsMountFlags::NOATIME;
    assert!(flags(&careful).contains(expected), "{:?}", flags(&careful));
    put_away(careful);
}

#[test]
fn read_only_is_read_only_by_option_and_by_write_protection() {
    let image = Image::of("ext4");
    let by_option = prepare_now(&Order { options: words(&["ro"]), ..image.order() }).unwrap();
    assert!(by_option.read_only && by_option.notes.is_empty());
    assert!(flags(&by_option).contains(StatVfsMountFlags::RDONLY));
    put_away(by_option);

    let disk = LoopDisk::new(&image.path, &["--read-only"]);
    let protected = prepare_now(&disk.order(&[])).unwrap();
    assert!(protected.read_only && flags(&protected).contains(StatVfsMountFlags::RDONLY));
    assert!(protected.notes.iter().any(|note| note.contains("write-protected")), "{:?}", protected.notes);
    put_away(protected);
}

#[test]
fn an_option_that_the_kernel_refuses_is_named_with_the_kernels_words() {
    for (filesystem, option) in
        [("ext4", "nonsense"), ("ext4", "data=nonsense"), ("xfs", "nonsense=1"), ("btrfs", "nonsense")]
    {
        let image = Image::of(filesystem);
        let options = words(&["nosuid", option]);
        let error = fails(&image, &Order { options, ..image.order() });
        assert_eq!(error.kind, ErrorKind::BadOption, "{error}");
        // By the fs context of newer kernels, and by the log of older ones.
        assert!(error.message.contains("nonsense"), "{error}");
    }
    let image = Image::of("ext4");
    let error = fails(&image, &Order { options: words(&["source=/dev/null"]), ..image.order() });
    assert_eq!(error.kind, ErrorKind::BadOption);
}

fn flags(prepared: &Prepared) -> StatVfsMountFlags {
    fstatvfs(&prepared.root).unwrap().f_flag
}
