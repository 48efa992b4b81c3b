//! What is known of errors that a file system found, and of what a disk has not got.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mydisks::disk::unmount::{Unmount, unmount};
use mydisks::disk::{Closing, DamageWatch, Locked, Opened, Saved, damage, saved, saved_by_others};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::attach;
use crate::disk_fixture::{Image, LoopDisk, MIB, lock_now, prepare_now, put_away, run};

#[test]
fn an_error_that_ext4_finds_is_told_and_counted_and_the_watch_keeps_nothing_mounted() {
    let image = Image::of("ext4");
    let watch = DamageWatch::new().unwrap();
    let prepared = prepare_now(&image.order()).unwrap();
    assert_eq!(prepared.errors, 0);
    watch.add(prepared.mount.as_fd());
    let place = attach(&prepared, image.directory.path());
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
fn a_disk_has_saved_everything_unless_it_is_another_plug_by_now() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let opened = opened(&disk);
    assert!(matches!(saved(&opened), Saved::Yes));
    let earlier = Opened { disk_sequence: opened.disk_sequence - 1, ..opened.clone() };
    assert!(matches!(saved(&earlier), Saved::Pulled));
}

#[test]
fn a_disk_that_others_have_mounted_is_asked_when_they_have_unmounted_it() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let place = image.directory.path().join("place");
    fs::create_dir(&place).unwrap();
    run("mount", &[disk.node.to_str().unwrap(), place.to_str().unwrap()]);
    let opened = opened(&disk);
    let while_mounted = saved_by_others(&opened);
    run("umount", &[place.to_str().unwrap()]);
    assert!(while_mounted.is_none(), "{while_mounted:?}");
    assert!(matches!(saved_by_others(&opened), Some(Saved::Yes)));
}

#[test]
fn a_mapping_that_is_closed_leaves_the_disk_to_be_asked() {
    let image = Image::of("ext4");
    let disk = LoopDisk::new(&image.path, &[]);
    let opened = Opened { mapping: Some("no-such-mapping".to_owned()), devnum: 0, ..opened(&disk) };
    assert!(matches!(saved_by_others(&opened), Some(Saved::Yes)));
    let earlier = Opened { disk_sequence: opened.disk_sequence - 1, ..opened };
    assert!(matches!(saved_by_others(&earlier), Some(Saved::Pulled)));
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

/// Whether it is readable without waiting.
fn is_told(watch: &DamageWatch) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
}

fn opened(disk: &LoopDisk) -> Opened {
    let devnum = std::fs::metadata(&disk.node).unwrap().rdev();
    Opened { device: disk.node.clone(), devnum, disk_sequence: disk.sequence(), ..Opened::default() }
}
