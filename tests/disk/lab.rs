//! Work that needs the device mapper, more file systems or a disk that can be pulled: run in the lab VM.

mod encrypted;
mod filesystems;
mod mappings;
mod pulled;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use mydisks::disk::{Order, leftovers};

use crate::disk_fixture::{Image, MIB, make_filesystem, run, wait_for};

const KEY: &[u8] = b"first line\nsecond line\n\0rest";
const FAST: [&str; 4] = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];

fn luks2(filesystem: &str) -> (Image, Order) {
    encrypted("luks2", &FAST, Some(filesystem), 64 * MIB)
}

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

fn unique(prefix: &str) -> String {
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
