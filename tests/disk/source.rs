//! Which disk, partition or image is opened, and that it is the one meant and nobody else's.

use std::path::{Path, PathBuf};

use mydisks::disk::{ErrorKind, Order, Source, leftovers};

use crate::disk_fixture::{Image, LoopDisk, MIB, make_filesystem, prepare_now, put_away, run, wait_for};

#[test]
fn an_image_that_is_not_there_or_no_file_is_told_as_such() {
    let image = Image::empty(MIB);
    let of = |path: &Path| Order { source: Source::Image(path.to_owned()), ..image.order() };
    let missing = image.directory.path().join("missing");
    assert_eq!(prepare_now(&of(&missing)).unwrap_err().kind, ErrorKind::Absent);
    let directory = prepare_now(&of(image.directory.path())).unwrap_err();
    assert!(directory.message.contains("directory") || directory.message.contains("regular"), "{directory}");
    let fifo = image.directory.path().join("fifo");
    run("mkfifo", &[fifo.to_str().unwrap()]);
    assert!(prepare_now(&of(&fifo)).unwrap_err().message.contains("not a regular file"));
}

#[test]
fn another_plug_of_a_disk_is_not_the_disk() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let mut order = disk.order(&[]);
    if let Source::Device { diskseq, .. } = &mut order.source {
        *diskseq -= 1;
    }
    let error = prepare_now(&order).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Absent);
    assert!(error.message.contains("unplugged"), "{error}");
}

#[test]
fn a_disk_that_is_mounted_elsewhere_is_busy_and_it_is_said_where() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let place = image.directory.path().join("elsewhere");
    std::fs::create_dir(&place).unwrap();
    run("mount", &[disk.node.to_str().unwrap(), place.to_str().unwrap()]);
    let error = prepare_now(&disk.order(&[])).unwrap_err();
    let by_image = prepare_now(&image.order()).unwrap_err();
    run("umount", &[place.to_str().unwrap()]);
    for error in [error, by_image] {
        assert_eq!(error.kind, ErrorKind::Busy);
        assert!(error.message.contains(place.to_str().unwrap()), "{error}");
    }
    put_away(prepare_now(&disk.order(&[])).unwrap());
}

#[test]
fn a_disk_has_one_owner_even_while_its_mount_is_detached() {
    for filesystem in ["ext4", "btrfs"] {
        let image = Image::of(filesystem);
        let first = prepare_now(&image.order()).unwrap();
        assert_eq!(prepare_now(&image.order()).unwrap_err().kind, ErrorKind::Busy, "{filesystem}");
        put_away(first);
        put_away(prepare_now(&image.order()).unwrap());
    }
}

#[test]
fn an_image_attached_by_hand_is_used_where_it_is_and_left_attached() {
    let image = Image::of("ext4");
    let by_hand = LoopDisk::new(&image.path, &[]);
    let prepared = prepare_now(&image.order()).unwrap();
    assert_eq!((&prepared.opened.device, &prepared.opened.loop_device), (&by_hand.node, &None));
    put_away(prepared);
    assert_eq!(leftovers::loops(std::slice::from_ref(&image.path)).len(), 1);
    drop(by_hand);
    let _part = LoopDisk::new(&image.path, &["--offset", "1048576"]);
    assert_eq!(prepare_now(&image.order()).unwrap_err().kind, ErrorKind::Busy);
}

/// A disk of two partitions, 32 MiB each. The table is on the disk, so that a udev daemon which has the kernel read it
/// again takes nothing away; a kernel that reads no such tables is told of the partitions.
fn partitioned(image: &Image) -> (LoopDisk, Vec<(u32, PathBuf)>) {
    let script = image.directory.path().join("table");
    std::fs::write(&script, "label: dos\nstart=1MiB, size=32MiB\nstart=33MiB, size=32MiB\n").unwrap();
    run("sh", &["-c", &format!("sfdisk -q {} < {}", image.path.display(), script.display())]);
    let disk = LoopDisk::new(&image.path, &["--partscan"]);
    let partitions = vec![disk.partition(1, 1, 32), disk.partition(2, 33, 32)];
    wait_for("the partitions' nodes", || partitions.iter().all(|(_, node)| node.exists()));
    (disk, partitions)
}

#[test]
fn without_a_number_the_only_partition_with_content_is_used() {
    let image = Image::empty(80 * MIB);
    let (disk, partitions) = partitioned(&image);
    let error = prepare_now(&disk.order(&partitions)).unwrap_err();
    assert!(error.message.contains("Nothing known"), "{error}");

    make_filesystem("ext4", &partitions[1].1);
    let only = prepare_now(&disk.order(&partitions)).unwrap();
    assert_eq!(only.opened.device, partitions[1].1);
    assert_eq!(only.opened.disk_sequence, disk.sequence());
    put_away(only);

    make_filesystem("ext2", &partitions[0].1);
    let error = prepare_now(&disk.order(&partitions)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::WrongContent);
    for (_, node) in &partitions {
        assert!(error.message.contains(node.to_str().unwrap()), "{error}");
    }
    let uuid = run("blkid", &["-p", "-o", "value", "-s", "UUID", partitions[0].1.to_str().unwrap()]);
    let by_uuid = prepare_now(&Order { uuid: Some(uuid), ..disk.order(&partitions) }).unwrap();
    assert_eq!(by_uuid.opened.device, partitions[0].1);
    put_away(by_uuid);
}

#[test]
fn a_partition_is_used_by_its_number_and_proven_to_have_it() {
    let image = Image::empty(80 * MIB);
    let (disk, partitions) = partitioned(&image);
    make_filesystem("ext4", &partitions[0].1);
    let order = |number| Order { partition: Some(number), ..disk.order(&partitions) };
    put_away(prepare_now(&order(1)).unwrap());
    assert_eq!(prepare_now(&order(2)).unwrap_err().kind, ErrorKind::WrongContent);
    let absent = prepare_now(&order(3)).unwrap_err();
    assert_eq!(absent.kind, ErrorKind::Absent);
    assert!(absent.message.contains("1, 2"), "{absent}");

    let crossed = [(1, partitions[1].1.clone()), (2, partitions[0].1.clone())];
    let order = Order { partition: Some(2), ..disk.order(&crossed) };
    assert_eq!(prepare_now(&order).unwrap_err().kind, ErrorKind::Absent);
}
