//! Work on disks that need the device mapper, partition tables, more file systems or a disk that can be pulled: run in
//! the lab VM with `--ignored`.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

mod disk_fixture;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use disk_fixture::{
    Image, LoopDisk, MIB, lock_now, make_filesystem, order, prepare_now, put_away, run, wait_for, words,
};
use mydisks::disk::unmount::{Unmount, unmount};
use mydisks::disk::{
    Cancel, Closing, Cryptsetup, ErrorKind, Locked, Opened, Order, Prepared, Source, leftovers, prepare,
    prepare_with,
};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MoveMountFlags, move_mount};

const KEY: &[u8] = b"first line\nsecond line\n\0rest";
const FAST: [&str; 4] = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];

/// A LUKS container of `size` with a file system in it; no mapping of it is left open.
fn encrypted(kind: &str, arguments: &[&str], filesystem: Option<&str>, size: u64) -> (Image, Order) {
    let image = Image::empty(size);
    let (key, path) = (image.key(KEY), image.path.to_str().unwrap().to_owned());
    let key = key.to_str().unwrap();
    let mut all = vec!["luksFormat", "--batch-mode", "--type", kind, "--key-file", key];
    all.extend(arguments);
    all.push(&path);
    run("cryptsetup", &all);
    let name = unique("format");
    if let Some(filesystem) = filesystem {
        run("cryptsetup", &["open", "--key-file", key, &path, &name]);
        make_filesystem(filesystem, &Path::new("/dev/mapper").join(&name));
        run("cryptsetup", &["close", &name]);
    }
    let order =
        Order { mapping: unique("mydisks-test"), key_file: Some(PathBuf::from(key)), ..image.order() };
    (image, order)
}

fn luks2(filesystem: &str) -> (Image, Order) {
    encrypted("luks2", &FAST, Some(filesystem), 64 * MIB)
}

fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn mapping_exists(name: &str) -> bool {
    leftovers::mappings().unwrap().iter().any(|mapping| mapping.name == name)
}

/// Neither the mapping nor the loop device is left.
fn leaves_nothing(image: &Image, order: &Order) {
    wait_for("the mapping and the loop device to go", || {
        !mapping_exists(&order.mapping) && leftovers::loops(std::slice::from_ref(&image.path)).is_empty()
    });
}

/// Whether `cryptsetup open` runs for this order.
fn is_unlocking(order: &Order) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
        .any(|line| line.contains("cryptsetup") && line.contains(&order.mapping))
}

fn attach(prepared: &Prepared, directory: &Path) -> PathBuf {
    let place = directory.join("place");
    std::fs::create_dir_all(&place).unwrap();
    move_mount(prepared.mount.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
    place
}

#[test]
#[ignore = "needs the lab VM"]
fn luks1_and_luks2_are_opened_with_the_whole_key_file_and_closed_again() {
    for kind in ["luks1", "luks2"] {
        let fast = if kind == "luks1" { &FAST[2..] } else { &FAST[..] };
        let (image, order) = encrypted(kind, fast, Some("ext4"), 64 * MIB);
        let prepared = prepare_now(&Order { hint: Some("crypto_LUKS".to_owned()), ..order.clone() }).unwrap();
        assert_eq!(prepared.opened.mapping.as_ref(), Some(&order.mapping), "{kind}");
        assert_eq!(prepared.filesystem, "ext4");
        let flags = OFlags::CREATE | OFlags::WRONLY;
        drop(openat(&prepared.root, "file", flags, Mode::RUSR).unwrap());

        attach(&prepared, image.directory.path());
        let mounts = leftovers::mounts(image.directory.path()).unwrap();
        assert_eq!(mounts[0].source.to_str().unwrap(), format!("/dev/mapper/{}", order.mapping));
        assert_eq!(leftovers::opened(&mounts[0]).as_ref(), Some(&prepared.opened));
        let left = leftovers::mappings().unwrap();
        let ours = left.iter().find(|mapping| mapping.name == order.mapping).unwrap();
        assert!(!ours.is_dead && ours.open_count > 0 && ours.devnum == prepared.opened.devnum);

        let opened = prepared.opened.clone();
        let place = image.directory.path().join("place");
        assert!(matches!(unmount(&place, prepared.mount_id, true), Unmount::Unmounted));
        drop(prepared);
        assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed), "{kind}");
        assert!(!mapping_exists(&order.mapping));
        assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed), "twice is fine");
        leaves_nothing(&image, &order);
    }
}

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
fn a_wrong_key_is_rejected() {
    let (image, order) = luks2("ext4");
    image.key(b"another key");
    let error = prepare_now(&order).unwrap_err();
    println!("{error}");
    assert_eq!(error.kind, ErrorKind::KeyRejected, "{error}");
    leaves_nothing(&image, &order);
}

#[test]
#[ignore = "needs the lab VM"]
fn a_damaged_header_is_damaged() {
    let (luks2, luks2_order) = luks2("ext4");
    // The JSON areas of both header copies.
    luks2.write(4096, &[0; 64]);
    luks2.write(16384 + 4096, &[0; 64]);
    let (luks1, luks1_order) = encrypted("luks1", &FAST[2..], Some("ext4"), 64 * MIB);
    // Offset of the payload, and the hash's name.
    luks1.write(72, &[0xFF; 40]);
    for (image, order) in [(luks2, luks2_order), (luks1, luks1_order)] {
        let error = prepare_now(&order).unwrap_err();
        println!("{error}");
        assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
        leaves_nothing(&image, &order);
    }
}

#[test]
#[ignore = "needs the lab VM"]
fn a_header_with_the_null_cipher_is_refused_however_it_was_opened() {
    for kind in ["luks1", "luks2"] {
        let fast = if kind == "luks1" { &FAST[2..] } else { &FAST[..] };
        let arguments: Vec<&str> = fast.iter().copied().chain(["--cipher", "cipher_null-ecb"]).collect();
        let image = Image::empty(64 * MIB);
        // cryptsetup takes nothing but the empty passphrase for such a header.
        let empty = image.directory.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        let (path, empty) = (image.path.to_str().unwrap(), empty.to_str().unwrap());
        let mut all = vec!["luksFormat", "--batch-mode", "--type", kind, "--key-file", empty];
        all.extend(&arguments);
        all.push(path);
        run("cryptsetup", &all);
        let order =
            Order { mapping: unique("mydisks-test"), key_file: Some(image.key(KEY)), ..image.order() };
        let error = prepare_now(&order).unwrap_err();
        println!("{kind}: {:?}: {error}", error.kind);
        assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
        assert!(error.message.contains("tampered"), "{error}");
        leaves_nothing(&image, &order);

        let disk = LoopDisk::new(&image.path, &[]);
        let node = disk.node.to_str().unwrap();
        run("cryptsetup", &["open", "--key-file", empty, node, &order.mapping]);
        make_filesystem("ext4", &Path::new("/dev/mapper").join(&order.mapping));
        let taken = Order { source: disk.order(&[]).source, ..order.clone() };
        let error = prepare_now(&taken).unwrap_err();
        assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
        assert!(error.message.contains("does not encrypt"), "{error}");
        run("cryptsetup", &["close", &order.mapping]);
    }
}

#[test]
#[ignore = "needs the lab VM"]
fn what_is_inside_is_looked_at_and_the_mapping_closed_if_it_is_wrong() {
    let (image, order) = encrypted("luks2", &FAST, None, 64 * MIB);
    let error = prepare_now(&order).unwrap_err();
    assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
    leaves_nothing(&image, &order);
    let (image, order) = luks2("ext4");
    let error = prepare_now(&Order { filesystem: Some("xfs".to_owned()), ..order.clone() }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
    leaves_nothing(&image, &order);
    let error = prepare_now(&Order { options: words(&["nonsense"]), ..order.clone() }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadOption, "{error}");
    leaves_nothing(&image, &order);
}

#[test]
#[ignore = "needs the lab VM"]
fn the_uuid_of_an_encrypted_disk_may_be_the_headers_or_the_file_systems() {
    let (image, order) = luks2("ext4");
    let header = run("cryptsetup", &["luksUUID", image.path.to_str().unwrap()]);
    let luks_uuid = Some(header.clone());
    let prepared = prepare_now(&Order { luks_uuid, uuid: Some(header), ..order.clone() }).unwrap();
    let mapping = format!("/dev/mapper/{}", order.mapping);
    let inside = run("blkid", &["-p", "-o", "value", "-s", "UUID", &mapping]);
    put_away(prepared);
    put_away(prepare_now(&Order { uuid: Some(inside), ..order.clone() }).unwrap());
    let other = Some("00000000-e89b-12d3-a456-426614174000".to_owned());
    let error = prepare_now(&Order { uuid: other, ..order.clone() }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
    leaves_nothing(&image, &order);
}

/// With the header's own mapping open, over a loop device that stays.
fn opened_by_hand(image: &Image, order: &Order, name: &str) -> (LoopDisk, Order) {
    let disk = LoopDisk::new(&image.path, &[]);
    let key = order.key_file.as_ref().unwrap().to_str().unwrap();
    run("cryptsetup", &["open", "--key-file", key, disk.node.to_str().unwrap(), name]);
    let order = Order { source: disk.order(&[]).source, ..order.clone() };
    (disk, order)
}

#[test]
#[ignore = "needs the lab VM"]
fn a_mapping_of_an_earlier_run_is_taken_over_without_a_key() {
    let (image, order) = luks2("ext4");
    let (_disk, order) = opened_by_hand(&image, &order, &order.mapping);
    std::fs::remove_file(order.key_file.as_ref().unwrap()).unwrap();
    let nowhere = Cryptsetup::in_directories(Vec::new());
    let prepared = prepare_with(&nowhere, &order, &Cancel::new().unwrap()).unwrap();
    assert_eq!(prepared.opened.mapping.as_ref(), Some(&order.mapping));
    let twice = prepare_with(&nowhere, &order, &Cancel::new().unwrap()).unwrap_err();
    assert_eq!(twice.kind, ErrorKind::Busy, "{twice}");
    let without = prepare_now(&Order { key_file: None, ..order.clone() }).unwrap_err();
    assert_eq!(without.kind, ErrorKind::NoKey);
    put_away(prepared);
}

#[test]
#[ignore = "needs the lab VM"]
fn a_disk_unlocked_by_hand_under_another_name_is_busy() {
    let (image, order) = luks2("ext4");
    let (_disk, order) = opened_by_hand(&image, &order, "by-hand");
    let error = prepare_now(&order).unwrap_err();
    run("cryptsetup", &["close", "by-hand"]);
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.message.contains("by-hand"), "{error}");
}

#[test]
#[ignore = "needs the lab VM"]
fn a_name_over_another_disk_is_freed_if_unused_and_named_if_not() {
    let (first, order) = luks2("ext4");
    let (second, second_order) = luks2("ext4");
    let (_disk, _) = opened_by_hand(&second, &second_order, &order.mapping);
    let user = File::open(Path::new("/dev/mapper").join(&order.mapping)).unwrap();
    let error = prepare_now(&order).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
    assert!(error.message.contains(&order.mapping) && error.message.contains("/dev/loop"), "{error}");
    drop(user);
    let prepared = prepare_now(&order).unwrap();
    assert_eq!(prepared.opened.mapping.as_ref(), Some(&order.mapping));
    put_away(prepared);
    leaves_nothing(&first, &order);
}

#[test]
#[ignore = "needs the lab VM"]
fn a_mapping_in_use_is_held_or_goes_with_its_last_user() {
    let (image, order) = luks2("ext4");
    let prepared = prepare_now(&order).unwrap();
    let opened = prepared.opened.clone();
    let user = File::open(Path::new("/dev/mapper").join(&order.mapping)).unwrap();
    drop(prepared);
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Held));
    assert_eq!(lock_now(&opened, Closing::WhenUnused), Ok(Locked::WhenUnused));
    assert!(mapping_exists(&order.mapping));
    drop(user);
    leaves_nothing(&image, &order);
    let somebody_elses = Opened { devnum: opened.devnum + 100, ..opened };
    assert_eq!(lock_now(&somebody_elses, Closing::IfUnused), Ok(Locked::Closed));
}

#[test]
#[ignore = "needs the lab VM"]
fn a_slow_key_ends_at_the_deadline_and_when_cancelled_and_leaves_nothing() {
    // Far more than this machine does in the time given.
    let slow = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "4000"];
    let (image, order) = encrypted("luks2", &slow, None, 64 * MIB);
    let key = image.key(KEY);
    let (key, path) = (key.to_str().unwrap(), image.path.to_str().unwrap());
    run(
        "cryptsetup",
        &["luksAddKey", "--batch-mode", "--key-file", key, "--key-slot", "1", "--pbkdf", "argon2id"]
            .into_iter()
            .chain([
                "--pbkdf-force-iterations",
                "4",
                "--pbkdf-memory",
                "400000",
                "--pbkdf-parallel",
                "1",
                path,
                key,
            ])
            .collect::<Vec<_>>(),
    );
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path, "0"]);
    let late = Order { deadline: Instant::now() + Duration::from_secs(2), ..order.clone() };
    let error = prepare_now(&late).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
    assert!(error.message.contains("did not end in time and was killed"), "{error}");
    leaves_nothing(&image, &order);

    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| prepare(&order, &cancel));
        wait_for("cryptsetup to start", || is_unlocking(&order));
        cancel.cancel();
        let error = work.join().unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::TimedOut);
        assert!(error.message.contains("was cancelled and killed"), "{error}");
    });
    leaves_nothing(&image, &order);
}

#[test]
#[ignore = "needs the lab VM"]
fn a_write_protected_encrypted_disk_is_read_only() {
    let (image, order) = luks2("ext4");
    let disk = LoopDisk::new(&image.path, &["--read-only"]);
    let order = Order { source: disk.order(&[]).source, ..order };
    let prepared = prepare_now(&order).unwrap();
    assert!(prepared.read_only && prepared.notes.iter().any(|note| note.contains("write-protected")));
    put_away(prepared);
}

#[test]
#[ignore = "needs the lab VM"]
fn authenticated_encryption_has_a_device_between_and_is_understood() {
    let arguments: Vec<&str> =
        FAST.into_iter().chain(["--integrity", "hmac-sha256", "--integrity-no-wipe"]).collect();
    let (image, order) = encrypted("luks2", &arguments, None, 64 * MIB);
    // Unwiped sectors cannot be read: nothing is recognised, or reading fails. What matters is that the mapping is
    // proven to be over this disk, and closed.
    let error = prepare_now(&order).unwrap_err();
    println!("{error}");
    assert!(!error.message.contains("another device"), "{error}");
    leaves_nothing(&image, &order);
    assert!(!mapping_exists(&format!("{}_dif", order.mapping)));
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

/// A SCSI disk in memory (scsi_debug) that can be pulled and plugged; it keeps its content. There is one.
struct Pluggable {
    host: PathBuf,
    _only: MutexGuard<'static, ()>,
}

impl Pluggable {
    fn new() -> Self {
        static ONLY: Mutex<()> = Mutex::new(());
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        if !Path::new("/sys/module/scsi_debug").exists() {
            run("modprobe", &["scsi_debug", "dev_size_mb=64", "delay=0"]);
        }
        let adapters = std::fs::read_dir("/sys/bus/pseudo/drivers/scsi_debug/adapter0").unwrap();
        let host = adapters
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("host"))
            .unwrap();
        Self { host, _only: only }
    }

    /// The disk's node, once udev is done with it.
    fn plug(&self) -> PathBuf {
        let name = self.host.file_name().unwrap().to_str().unwrap().to_owned();
        let scan = Path::new("/sys/class/scsi_host").join(&name).join("scan");
        std::fs::write(scan, "- - -").unwrap();
        let mut node = None;
        wait_for("the disk", || {
            let mut disks = std::fs::read_dir("/sys/block").unwrap();
            node = disks.find_map(|disk| {
                let disk = disk.ok()?;
                let path = disk.path().canonicalize().ok()?;
                let is_ours = path.to_str()?.contains(&format!("/{name}/"));
                is_ours.then(|| Path::new("/dev").join(disk.file_name()))
            });
            node.is_some()
        });
        run("udevadm", &["settle"]);
        node.unwrap()
    }

    fn pull(node: &Path) {
        let name = node.file_name().unwrap();
        std::fs::write(Path::new("/sys/block").join(name).join("device/delete"), "1").unwrap();
    }

    fn order(node: &Path) -> Order {
        let name = node.file_name().unwrap();
        let diskseq = std::fs::read_to_string(Path::new("/sys/block").join(name).join("diskseq")).unwrap();
        let diskseq = diskseq.trim().parse().unwrap();
        order(Source::Device { disk: node.to_owned(), diskseq, partitions: Vec::new() })
    }
}

#[test]
#[ignore = "needs the lab VM"]
fn a_pulled_disk_that_is_still_held_comes_back_at_once_under_a_stand_in_name() {
    let slot = Pluggable::new();
    let node = slot.plug();
    let directory = tempfile::tempdir().unwrap();
    let image = Image::empty(MIB);
    let key = image.key(KEY);
    let mut all = vec!["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", key.to_str().unwrap()];
    all.extend(FAST);
    all.push(node.to_str().unwrap());
    run("cryptsetup", &all);
    let mapping = unique("mydisks-pulled");
    run("cryptsetup", &["open", "--key-file", key.to_str().unwrap(), node.to_str().unwrap(), &mapping]);
    make_filesystem("ext4", &Path::new("/dev/mapper").join(&mapping));
    run("cryptsetup", &["close", &mapping]);

    let with_key = |node: &Path| Order {
        key_file: Some(key.clone()),
        mapping: mapping.clone(),
        ..Pluggable::order(node)
    };
    let first = prepare_now(&with_key(&node)).unwrap();
    let place = attach(&first, directory.path());
    let (id, opened) = (first.mount_id, first.opened.clone());
    drop(first);
    let writer = File::create(place.join("file")).unwrap();
    let stale = with_key(&node);
    Pluggable::pull(&node);
    assert_eq!(prepare_now(&stale).unwrap_err().kind, ErrorKind::Absent);
    assert!(matches!(unmount(&place, id, true), Unmount::Unmounted));

    let again = slot.plug();
    let second = prepare_now(&with_key(&again)).unwrap();
    let stand_in = format!("{mapping}:2");
    assert_eq!(second.opened.mapping.as_ref(), Some(&stand_in));
    assert_eq!(lock_now(&opened, Closing::WhenUnused), Ok(Locked::WhenUnused));
    assert!(leftovers::mappings().unwrap().iter().any(|left| left.name == mapping && left.is_dead));
    drop(writer);
    wait_for("the stale mapping to go", || !mapping_exists(&mapping));
    put_away(second);
    let third = prepare_now(&with_key(&again)).unwrap();
    assert_eq!(third.opened.mapping.as_ref(), Some(&mapping));
    put_away(third);
    Pluggable::pull(&again);
}

#[test]
#[ignore = "needs the lab VM"]
fn a_disk_pulled_while_it_is_unlocked_is_absent_and_leaves_nothing() {
    let slot = Pluggable::new();
    let node = slot.plug();
    let image = Image::empty(MIB);
    let key = image.key(KEY);
    let mut all = vec!["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", key.to_str().unwrap()];
    all.extend(["--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "100000"]);
    all.push(node.to_str().unwrap());
    run("cryptsetup", &all);
    let order = Order { key_file: Some(key), mapping: unique("mydisks-pulled"), ..Pluggable::order(&node) };
    std::thread::scope(|scope| {
        let work = scope.spawn(|| prepare_now(&order));
        wait_for("cryptsetup to start", || is_unlocking(&order));
        Pluggable::pull(&node);
        let error = work.join().unwrap().unwrap_err();
        println!("{error}");
        assert_eq!(error.kind, ErrorKind::Absent, "{error}");
    });
    wait_for("the mapping to go", || !mapping_exists(&order.mapping));
}
