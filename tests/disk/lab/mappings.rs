//! Mappings that are there already, and those that stay in use.

use std::fs::File;
use std::path::Path;

use mydisks::disk::{Cancel, Closing, Cryptsetup, ErrorKind, Locked, Opened, Order, prepare_with};

use super::{leaves_nothing, luks2, mapping_exists};
use crate::disk_fixture::{Image, LoopDisk, lock_now, prepare_now, put_away, run};

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

/// With the header's own mapping open, over a loop device that stays.
fn opened_by_hand(image: &Image, order: &Order, name: &str) -> (LoopDisk, Order) {
    let disk = LoopDisk::new(&image.path, &[]);
    let key = order.key_file.as_ref().unwrap().to_str().unwrap();
    run("cryptsetup", &["open", "--key-file", key, disk.node.to_str().unwrap(), name]);
    let order = Order { source: disk.order(&[]).source, ..order.clone() };
    (disk, order)
}
