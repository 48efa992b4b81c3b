//! Mounts that are attached: their identity, how they go, and that it is noticed.

use std::fs::File;

use mydisks::disk::mountinfo::Watch;
use mydisks::disk::unmount::{Expire, Unmount, expire, unmount};
use mydisks::disk::{Closing, Locked, Order, leftovers};

use crate::attach;
use crate::disk_fixture::{Image, lock_now, prepare_now, words};

#[test]
fn a_mount_keeps_its_identity_when_it_is_attached_and_shows_its_device() {
    let image = Image::of("ext4");
    let prepared = prepare_now(&Order { options: words(&["nosuid", "nodev"]), ..image.order() }).unwrap();
    let place = attach(&prepared, image.directory.path());
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
    let place = attach(&prepared, image.directory.path());
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
    let place = attach(&prepared, image.directory.path());
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
    let place = attach(&prepared, image.directory.path());
    watch.wait(&[], None).unwrap();
    let (id, opened) = (prepared.mount_id, prepared.opened.clone());
    drop(prepared);
    assert!(matches!(unmount(&place, id, false), Unmount::Unmounted));
    watch.wait(&[], None).unwrap();
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed));
}
