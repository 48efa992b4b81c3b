//! Work on disks as a black box, on the machine's own kernel: images and loop devices, no device mapper, no hardware.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

mod disk_fixture;

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use disk_fixture::{
    Image, LoopDisk, MIB, holds_open, lock_now, make_filesystem, prepare_now, put_away, run, wait_for, words,
};
use mydisks::disk::mountinfo::{self, Watch};
use mydisks::disk::unmount::{Expire, Unmount, expire, unmount};
use mydisks::disk::{
    Cancel, Closing, Cryptsetup, DamageWatch, DiskError, ErrorKind, Locked, Opened, Order, Prepared, Saved,
    Source, damage, leftovers, prepare_with, saved,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};
use rustix::mount::{MoveMountFlags, move_mount};

/// Nothing may be left after a failure: no loop device over the image, no descriptor of it.
fn fails(image: &Image, order: &Order) -> DiskError {
    let error = prepare_now(order).map(|_| ()).unwrap_err();
    leaves_nothing(image);
    error
}

fn leaves_nothing(image: &Image) {
    wait_for("the loop device to be freed", || {
        leftovers::loops(std::slice::from_ref(&image.path)).is_empty()
    });
    assert!(!holds_open(&image.path));
}

fn flags(prepared: &Prepared) -> StatVfsMountFlags {
    fstatvfs(&prepared.root).unwrap().f_flag
}

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
fn a_damaged_file_system_is_damaged_in_the_kernels_words() {
    let checksum = Image::of("ext4");
    // In the superblock's reserved part, which only its checksum covers.
    checksum.write(1024 + 0x3F0, b"damage");
    let descriptors = Image::of("ext4");
    // The block after the superblock's: 1 KiB blocks at this size.
    descriptors.write(2048, &[0xA5; 512]);
    for image in [checksum, descriptors] {
        let error = fails(&image, &image.order());
        assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
        assert!(error.message.contains("EXT4-fs (loop"), "{error}");
    }
    let xfs = Image::of("xfs");
    xfs.write(200, b"damage");
    let error = fails(&xfs, &xfs.order());
    assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
}

#[test]
fn what_is_nothing_unknown_or_ambiguous_is_not_guessed() {
    let nothing = Image::empty(MIB);
    let error = fails(&nothing, &nothing.order());
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("Nothing known"), "{error}");

    let swap = Image::empty(MIB);
    run("mkswap", &[swap.path.to_str().unwrap()]);
    let error = fails(&swap, &swap.order());
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("swap, which is not supported"), "{error}");

    let two = Image::empty(4 * MIB);
    two.write(0, b"-rom1fs-");
    two.write(1024, b"\xf5\xfc\x01\xa5");
    let error = fails(&two, &two.order());
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("wipefs"), "{error}");
}

#[test]
fn a_uuid_or_file_system_other_than_configured_is_refused() {
    let image = Image::of("ext4");
    let uuid = run("blkid", &["-p", "-o", "value", "-s", "UUID", image.path.to_str().unwrap()]);
    put_away(prepare_now(&Order { uuid: Some(uuid.to_uppercase()), ..image.order() }).unwrap());
    let other = Some("123e4567-e89b-12d3-a456-426614174000".to_owned());
    let error = fails(&image, &Order { uuid: other.clone(), ..image.order() });
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains(&uuid), "{error}");
    let error = fails(&image, &Order { luks_uuid: other, ..image.order() });
    assert_eq!(error.kind, ErrorKind::WrongContent);
    let error = fails(&image, &Order { filesystem: Some("xfs".to_owned()), ..image.order() });
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("holds ext4"), "{error}");
    put_away(prepare_now(&Order { filesystem: Some("ext4".to_owned()), ..image.order() }).unwrap());
}

#[test]
fn a_hint_is_never_trusted() {
    let image = Image::of("ext4");
    for hint in ["xfs", "ext2", "vfat", "crypto_LUKS", "no-such-type", ""] {
        // An option that only the right driver knows.
        let options = words(&["data=ordered"]);
        let order = Order { hint: Some(hint.to_owned()), options, ..image.order() };
        let prepared = prepare_now(&order).unwrap_or_else(|error| panic!("{hint}: {error}"));
        assert_eq!(prepared.filesystem, "ext4", "{hint}");
        put_away(prepared);
    }
    let hint = Some("ext4".to_owned());
    let order = Order { hint: hint.clone(), options: words(&["nonsense"]), ..image.order() };
    assert_eq!(fails(&image, &order).kind, ErrorKind::BadOption);
    let nothing = Image::empty(MIB);
    let order = Order { hint: hint.clone(), ..nothing.order() };
    assert_eq!(fails(&nothing, &order).kind, ErrorKind::WrongContent);
    let luks = Image::with_luks_header();
    assert_eq!(fails(&luks, &Order { hint: hint.clone(), ..luks.order() }).kind, ErrorKind::NoKey);
    let key_file = Some(luks.key(b"key"));
    let order = Order { hint: hint.clone(), key_file, ..image.order() };
    assert_eq!(fails(&image, &order).kind, ErrorKind::WrongContent);
    let damaged = Image::of("ext4");
    damaged.write(2048, &[0xA5; 512]);
    assert_eq!(fails(&damaged, &Order { hint, ..damaged.order() }).kind, ErrorKind::Damaged);
}

#[test]
fn nobody_can_swap_in_a_plain_disk_for_an_encrypted_one() {
    let image = Image::of("ext4");
    let error = fails(&image, &Order { key_file: Some(image.key(b"key")), ..image.order() });
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("not encrypted"), "{error}");
    let luks = Image::with_luks_header();
    assert_eq!(fails(&luks, &luks.order()).kind, ErrorKind::NoKey);
    let missing = Some(luks.directory.path().join("missing"));
    assert_eq!(fails(&luks, &Order { key_file: missing, ..luks.order() }).kind, ErrorKind::NoKey);
    let other = Some("00000000-e89b-12d3-a456-426614174000".to_owned());
    let order = Order { key_file: Some(luks.key(b"key")), luks_uuid: other, ..luks.order() };
    assert_eq!(fails(&luks, &order).kind, ErrorKind::WrongContent);
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

#[test]
fn what_is_cancelled_or_late_before_it_begins_does_nothing() {
    let image = Image::of("ext4");
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    let cryptsetup = Cryptsetup::default();
    assert_eq!(prepare_with(&cryptsetup, &image.order(), &cancel).unwrap_err().kind, ErrorKind::TimedOut);
    let late = Order { deadline: Instant::now(), ..image.order() };
    assert_eq!(fails(&image, &late).kind, ErrorKind::TimedOut);
}

/// A directory with a `cryptsetup` that is this script.
fn fake_cryptsetup(image: &Image, script: &str) -> Cryptsetup {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let directory = image.directory.path().join(format!("bin{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&directory).unwrap();
    let program = directory.join("cryptsetup");
    // Written by another process: a descriptor for writing that a fork of a parallel test inherits for a moment would
    // make the execution fail with ETXTBSY.
    let written = Command::new("/bin/sh")
        .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\""])
        .arg(&program)
        .arg(script)
        .status();
    assert!(written.unwrap().success());
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    Cryptsetup::in_directories(vec![directory])
}

fn unlock_with(image: &Image, script: &str, key: &[u8]) -> DiskError {
    let order = Order { key_file: Some(image.key(key)), ..image.order() };
    let cryptsetup = fake_cryptsetup(image, script);
    let error = prepare_with(&cryptsetup, &order, &Cancel::new().unwrap()).map(|_| ()).unwrap_err();
    leaves_nothing(image);
    error
}

#[test]
fn cryptsetup_gets_the_checked_key_on_stdin_and_nothing_from_a_shell() {
    let image = Image::with_luks_header();
    let log = image.directory.path().join("log");
    let script = format!("{{ printf '%s\\n' \"$@\"; cat; }} > {}; exit 2", log.display());
    let error = unlock_with(&image, &script, b"top\nsecret\n");
    assert_eq!(error.kind, ErrorKind::KeyRejected);
    let log = std::fs::read_to_string(log).unwrap();
    let (arguments, key) = log.split_at(log.find("top").unwrap());
    assert_eq!(key, "top\nsecret\n");
    let arguments: Vec<_> = arguments.lines().collect();
    assert_eq!(arguments[0], "open");
    assert!(arguments.windows(2).any(|pair| pair == ["--key-file", "-"]));
    assert!(arguments[arguments.len() - 2].starts_with("/dev/loop"));
    assert!(arguments[arguments.len() - 1].starts_with("mydisks-test-"));
}

#[test]
fn cryptsetup_gets_the_header_that_was_checked_and_none_that_was_refused() {
    let image = Image::with_luks_header();
    let copy = image.directory.path().join("copy");
    let script = format!(
        "while [ $# -gt 0 ]; do if [ \"$1\" = --header ]; then cp \"$2\" {}; fi; shift; done; exit 2",
        copy.display()
    );
    assert_eq!(unlock_with(&image, &script, b"key").kind, ErrorKind::KeyRejected);
    let (given, disk) = (std::fs::read(&copy).unwrap(), std::fs::read(&image.path).unwrap());
    assert_eq!(given[..592], disk[..592]);
    std::fs::remove_file(&copy).unwrap();

    image.write(8, b"cipher_null");
    let error = unlock_with(&image, &script, b"key");
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("cipher_null") && error.message.contains("tampered"), "{error}");
    assert!(!copy.exists(), "cryptsetup was started");
}

#[test]
fn however_cryptsetup_fails_it_is_said_and_nothing_is_left() {
    let image = Image::with_luks_header();
    for (script, kind, word) in [
        (
            "echo No key available with this passphrase. >&2; exit 2",
            ErrorKind::KeyRejected,
            "No key available",
        ),
        ("echo Device /dev/x is not a valid LUKS device. >&2; exit 1", ErrorKind::Damaged, "not a valid"),
        ("exit 3", ErrorKind::Exhausted, "memory"),
        ("exit 5", ErrorKind::Busy, "in use"),
        ("printf '\\033[31m\\377\\0garbage\\n\\n' >&2; exit 99", ErrorKind::Other, "garbage"),
        ("kill -SEGV $$", ErrorKind::Other, "signal 11"),
        // It lies: there is no mapping.
        ("exit 0", ErrorKind::Other, "is not there"),
    ] {
        let error = unlock_with(&image, script, b"key");
        assert_eq!(error.kind, kind, "{script}: {error}");
        assert!(error.message.contains(word), "{script}: {error}");
        assert!(!error.message.contains(char::is_control), "{error:?}");
    }
    let order = Order { key_file: Some(image.key(b"key")), ..image.order() };
    let nowhere = Cryptsetup::in_directories(vec![image.directory.path().join("nowhere")]);
    let error = prepare_with(&nowhere, &order, &Cancel::new().unwrap()).unwrap_err();
    assert!(error.message.contains("not installed"), "{error}");
}

#[test]
fn a_cryptsetup_that_hangs_is_killed_at_the_deadline_and_when_cancelled() {
    let image = Image::with_luks_header();
    let started = image.directory.path().join("started");
    let cryptsetup =
        fake_cryptsetup(&image, &format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", started.display()));
    let is_running = || {
        let pid = std::fs::read_to_string(&started).unwrap();
        Path::new("/proc").join(pid.trim()).exists()
    };
    let key_file = Some(image.key(b"key"));

    let deadline = Instant::now() + Duration::from_secs(2);
    let order = Order { key_file: key_file.clone(), deadline, ..image.order() };
    let error = prepare_with(&cryptsetup, &order, &Cancel::new().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut);
    assert!(!is_running(), "still running after the deadline");
    std::fs::remove_file(&started).unwrap();

    let order = Order { key_file, ..image.order() };
    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| prepare_with(&cryptsetup, &order, &cancel));
        wait_for("the program to start", || started.exists());
        cancel.cancel();
        assert_eq!(work.join().unwrap().unwrap_err().kind, ErrorKind::TimedOut);
    });
    assert!(!is_running(), "still running after the cancellation");
    leaves_nothing(&image);
}

#[test]
fn a_cryptsetup_that_hangs_in_the_kernel_is_left_behind() {
    let image = Image::with_luks_header();
    // Whoever writes to a frozen file system waits beyond SIGKILL.
    let frozen = Frozen::new();
    let started = image.directory.path().join("started");
    let file = frozen.place.join("file");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; : > {1}", started.display(), file.display());
    let cryptsetup = fake_cryptsetup(&image, &script);
    let deadline = Instant::now() + Duration::from_secs(2);
    let order = Order { key_file: Some(image.key(b"key")), deadline, ..image.order() };
    let error = prepare_with(&cryptsetup, &order, &Cancel::new().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut);
    assert!(error.message.contains("was killed, but hangs in the kernel"), "{error}");
    let pid = std::fs::read_to_string(&started).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    leaves_nothing(&image);
    drop(frozen);
    wait_for("the process to be gone", || !process.exists());
}

/// A file system that takes no write until it is dropped.
struct Frozen {
    place: PathBuf,
    _image: Image,
}

impl Frozen {
    fn new() -> Self {
        let image = Image::of("ext4");
        let place = image.directory.path().join("frozen");
        std::fs::create_dir(&place).unwrap();
        run("mount", &["-o", "loop", image.path.to_str().unwrap(), place.to_str().unwrap()]);
        run("fsfreeze", &["--freeze", place.to_str().unwrap()]);
        Self { place, _image: image }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let place = self.place.to_str().unwrap();
        run("fsfreeze", &["--unfreeze", place]);
        // Whoever hung is in it for a moment still.
        run("umount", &["--lazy", place]);
    }
}

/// Attaches a prepared mount to a fresh directory.
fn attach(prepared: &Prepared, image: &Image) -> PathBuf {
    let place = image.directory.path().join("place");
    std::fs::create_dir_all(&place).unwrap();
    move_mount(prepared.mount.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
    place
}

#[test]
fn a_mount_keeps_its_identity_when_it_is_attached_and_shows_its_device() {
    let image = Image::of("ext4");
    let prepared = prepare_now(&Order { options: words(&["nosuid", "nodev"]), ..image.order() }).unwrap();
    let place = attach(&prepared, &image);
    let mounts = leftovers::mounts(image.directory.path()).unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!((mounts[0].id, &mounts[0].mount_point), (prepared.mount_id, &place));
    assert_eq!(mounts[0].source, prepared.opened.device.as_os_str());
    assert!(mounts[0].options.starts_with("rw,nosuid,nodev"), "{}", mounts[0].options);
    // As a successor would find it.
    assert_eq!(leftovers::opened(&mounts[0]).as_ref(), Some(&prepared.opened));

    let (id, opened) = (prepared.mount_id, prepared.opened.clone());
    drop(prepared);
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Held));
    assert!(matches!(unmount(&place, id, false), Unmount::Unmounted));
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed));
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed), "twice is fine");
}

#[test]
fn a_mount_expires_when_nobody_touched_it_between_two_attempts() {
    let image = Image::of("ext4");
    let prepared = prepare_now(&image.order()).unwrap();
    let (id, opened) = (prepared.mount_id, prepared.opened.clone());
    let place = attach(&prepared, &image);
    assert!(matches!(expire(&place, id), Expire::Busy), "our own descriptors make it busy");
    drop(prepared);
    assert!(matches!(expire(&place, id), Expire::Marked));
    std::fs::read_dir(&place).unwrap();
    assert!(matches!(expire(&place, id), Expire::Marked), "touched since");
    let file = File::create(place.join("file")).unwrap();
    assert!(matches!(expire(&place, id), Expire::Busy));
    assert!(matches!(unmount(&place, id, false), Unmount::Busy));
    drop(file);
    assert!(matches!(expire(&place, id), Expire::Marked));
    assert!(matches!(expire(&place, id + 1_000_000), Expire::NotMounted), "not that mount");
    assert!(matches!(expire(&place, id), Expire::Unmounted));
    assert!(matches!(expire(&place, id), Expire::NotMounted));
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed));
}

#[test]
fn a_lazy_unmount_takes_it_away_from_under_its_users() {
    let image = Image::of("ext4");
    let prepared = prepare_now(&image.order()).unwrap();
    let (id, opened) = (prepared.mount_id, prepared.opened.clone());
    let place = attach(&prepared, &image);
    drop(prepared);
    let file = File::create(place.join("file")).unwrap();
    assert!(matches!(unmount(&place, id, true), Unmount::Unmounted));
    assert!(matches!(unmount(&place, id, true), Unmount::NotMounted));
    assert_eq!(lock_now(&opened, Closing::WhenUnused), Ok(Locked::WhenUnused));
    drop(file);
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed));
}

#[test]
fn a_watch_tells_of_a_mount_and_of_its_end() {
    let image = Image::of("ext4");
    let prepared = prepare_now(&image.order()).unwrap();
    let watch = Watch::new().unwrap();
    let place = attach(&prepared, &image);
    watch.wait(&[], None).unwrap();
    let (id, opened) = (prepared.mount_id, prepared.opened.clone());
    drop(prepared);
    assert!(matches!(unmount(&place, id, false), Unmount::Unmounted));
    watch.wait(&[], None).unwrap();
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed));
}

/// Whether it is readable without waiting.
fn is_told(watch: &DamageWatch) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
}

#[test]
fn an_error_that_ext4_finds_is_told_and_counted_and_the_watch_keeps_nothing_mounted() {
    let image = Image::of("ext4");
    let watch = DamageWatch::new().unwrap();
    let prepared = prepare_now(&image.order()).unwrap();
    assert_eq!(prepared.errors, 0);
    watch.add(prepared.mount.as_fd());
    let place = attach(&prepared, &image);
    let (id, opened) = (prepared.mount_id, prepared.opened.clone());
    drop(prepared);
    assert!(!is_told(&watch));
    let name = opened.device.file_name().unwrap();
    fs::write(Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error"), "by hand").unwrap();
    assert!(is_told(&watch));
    assert!(watch.drain());
    assert!(!is_told(&watch) && !watch.drain());
    // Some kernels count what follows of it too.
    let found = damage(opened.devnum);
    assert!(found.count >= 1 && !found.last.is_empty(), "{found}");
    assert!(matches!(unmount(&place, id, false), Unmount::Unmounted));
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed));
    let prepared = prepare_now(&image.order()).unwrap();
    assert!(prepared.errors >= found.count, "it remembers");
    put_away(prepared);
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

fn opened(disk: &LoopDisk) -> Opened {
    let devnum = std::fs::metadata(&disk.node).unwrap().rdev();
    Opened { device: disk.node.clone(), devnum, disk_sequence: disk.sequence(), ..Opened::default() }
}

#[test]
fn a_disk_has_saved_everything_unless_it_is_another_plug_by_now() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let opened = opened(&disk);
    assert!(matches!(saved(&opened), Saved::Yes));
    let earlier = Opened { disk_sequence: opened.disk_sequence - 1, ..opened.clone() };
    assert!(matches!(saved(&earlier), Saved::Pulled));
}

#[test]
fn a_disk_that_failed_to_write_and_told_nobody_has_not_saved_everything() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=1m", "none", place]);
    let image = directory.path().join("image");
    File::create(&image).unwrap().set_len(8 * MIB).unwrap();
    let disk = LoopDisk::new(&image, &[]);
    let mut device = File::options().write(true).open(&disk.node).unwrap();
    device.write_all(&vec![1; 4 << 20]).unwrap();
    // What the kernel has not written by now, it writes at this moment, and says nothing.
    drop(device);
    let saved = saved(&opened(&disk));
    let device = disk.node.display().to_string();
    drop(disk);
    run("umount", &["--lazy", place]);
    let Saved::Failed(error) = saved else { panic!("{saved:?}") };
    assert!(error.message.contains("cannot be flushed") && error.message.contains(&device), "{error}");
}
