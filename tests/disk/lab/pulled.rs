//! A disk that is pulled and plugged in again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mydisks::disk::unmount::{Unmount, unmount};
use mydisks::disk::{Closing, ErrorKind, Locked, Order, Source, leftovers};

use super::{FAST, KEY, is_unlocking, mapping_exists, unique};
use crate::attach;
use crate::disk_fixture::{
    Image, MIB, lock_now, make_filesystem, order, prepare_now, put_away, run, wait_for,
};

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
