//! Work on disks as a black box, on the machine's own kernel: images and loop devices, no device mapper, no hardware.
//! What needs more is in `lab`, and runs there with `--ignored`.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

mod content;
#[path = "../disk_fixture/mod.rs"]
mod disk_fixture;
mod lab;
mod loss;
mod mounting;
mod source;
mod unlocking;
mod unmounting;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use disk_fixture::{Image, holds_open, prepare_now, wait_for};
use mydisks::disk::{DiskError, Order, Prepared, leftovers};
use rustix::fs::CWD;
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

/// Attaches a prepared mount to a fresh directory in this one.
fn attach(prepared: &Prepared, directory: &Path) -> PathBuf {
    let place = directory.join("place");
    std::fs::create_dir_all(&place).unwrap();
    move_mount(prepared.mount.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
    place
}
