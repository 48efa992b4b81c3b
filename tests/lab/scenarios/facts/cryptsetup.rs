//! What cryptsetup(8) does, in particular where a hostile disk is concerned.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::json;

use crate::disks::{self, Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::{Finished, Program};
use crate::{Outcome, forgery, mounts};

const KEY: &[u8] = b"the owner's key\n";

pub(super) fn exit_status_tells_the_kinds_of_failure_apart(lab: &mut Lab) -> Outcome {
    let locked = lab.image(&Recipe::empty().locked(Lock::Luks2, KEY))?;
    let plain = lab.image(&Recipe::plain(Filesystem::Ext4))?;
    assert_eq!(open(&locked, b"another key", "lab")?.code, Some(2), "wrong key");
    assert_eq!(open(&locked, b"", "lab")?.code, Some(1), "empty standard input");
    let not_luks = open(&plain, KEY, "lab")?;
    assert_eq!(not_luks.code, Some(1), "no LUKS header");
    assert!(not_luks.stderr.contains("is not a valid LUKS device"), "{not_luks:?}");
    assert_eq!(open(Path::new("/dev/nosuch"), KEY, "lab")?.code, Some(4), "no such device");
    let no_file = Program::new("cryptsetup")
        .args(["open", "--type", "luks", "--key-file", "/nosuch"])
        .arg(&locked)
        .arg("lab")
        .finish()?;
    assert_eq!(no_file.code, Some(1), "no key file");
    assert_eq!(Program::new("cryptsetup").args(["close", "nosuch"]).finish()?.code, Some(4), "not active");
    assert_eq!(mounts::mappings(), [] as [&str; 0]);
    Ok(())
}

pub(super) fn key_from_standard_input_keeps_its_line_break(lab: &mut Lab) -> Outcome {
    let with_break = lab.image(&Recipe::empty().locked(Lock::Luks2, b"secret\n"))?;
    assert_eq!(open(&with_break, b"secret", "lab")?.code, Some(2));
    assert_eq!(open(&with_break, b"secret\n", "lab")?.code, Some(0));
    close("lab")?;
    let binary = lab.image(&Recipe::empty().locked(Lock::Luks2, b"a\0b\nc"))?;
    assert_eq!(open(&binary, b"a\0b", "lab")?.code, Some(2));
    assert_eq!(open(&binary, b"a\0b\nc", "lab")?.code, Some(0));
    close("lab")
}

pub(super) fn name_that_is_taken_is_refused_with_5(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::empty().locked(Lock::Luks2, KEY))?;
    assert_eq!(open(&image, KEY, "lab")?.code, Some(0));
    assert_eq!(open(&image, KEY, "lab")?.code, Some(5));
    close("lab")
}

pub(super) fn read_only_device_gives_a_read_only_mapping(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::empty().locked(Lock::Luks2, KEY))?;
    let device = Program::new("losetup").args(["-r", "-f", "--show"]).arg(&image).ok()?;
    let device = Path::new(device.trim_end());
    assert_eq!(open(device, KEY, "lab")?.code, Some(0), "without --readonly");
    let node = fs::canonicalize("/dev/mapper/lab")?;
    let name = node.file_name().ok_or("no name")?;
    let read_only = fs::read_to_string(Path::new("/sys/block").join(name).join("ro"))?;
    assert_eq!(read_only.trim(), "1");
    close("lab")?;
    Program::new("losetup").arg("-d").arg(device).ok().map(drop)
}

/// A stranger's disk that any key opens: `key-file` alone does not prove that a disk is the owner's. From version
/// 2.8.1 on cryptsetup refuses it (CVE-2025-59054).
pub(super) fn null_keyslot_opens_with_any_key_in_luks2_of_2_6(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::empty())?;
    forge_null_keyslot(&image, &lab.workshop)?;
    let opened = open(&image, KEY, "lab")?;
    let version = Program::new("cryptsetup").arg("--version").ok()?;
    if refuses_null_keyslots(&version)? {
        assert_ne!(opened.code, Some(0), "{version}: {opened:?}");
        return Ok(());
    }
    assert_eq!(opened.code, Some(0), "{version}: {opened:?}");
    close("lab")
}

pub(super) fn null_cipher_needs_an_empty_key_in_luks1(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::empty())?;
    File::options().write(true).open(&image)?.set_len(20 << 20)?;
    let empty = lab.workshop.join("empty.disk");
    fs::write(&empty, "")?;
    let cipher = ["--type", "luks1", "--pbkdf-force-iterations", "1000", "--cipher", "cipher_null-ecb"];
    Program::new("cryptsetup").args(["-q", "luksFormat"]).args(cipher).args([&image, &empty]).ok()?;
    assert_eq!(open(&image, KEY, "lab")?.code, Some(2));
    Ok(())
}

/// The owner's key, and the data in the clear: neither the key nor the digest notices a changed cipher of the data.
pub(super) fn changed_cipher_of_the_data_is_accepted(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::empty().locked(Lock::Luks2, KEY))?;
    let disk = File::options().read(true).write(true).open(&image)?;
    forgery::change(&disk, &[0, forgery::copy_size(&disk)?], 0, |metadata| {
        metadata["segments"]["0"]["encryption"] = json!("cipher_null-ecb");
    })?;
    let opened = open(&image, KEY, "lab")?;
    assert_eq!(opened.code, Some(0), "{opened:?}");
    let table = Program::new("dmsetup").args(["table", "lab"]).ok()?;
    assert!(table.contains("crypt cipher_null-ecb"), "{table}");
    close("lab")
}

/// The header from a file in memory that is named through this process, the data from the disk: the same mapping.
pub(super) fn detached_header_in_memory_gives_the_same_mapping(lab: &mut Lab) -> Outcome {
    for lock in [Lock::Luks1, Lock::Luks2] {
        let image = lab.image(&Recipe::empty().locked(lock, KEY))?;
        let device = Program::new("losetup").args(["-f", "--show"]).arg(&image).ok()?;
        let device = Path::new(device.trim_end());
        assert_eq!(open(device, KEY, "lab")?.code, Some(0));
        let attached = described("lab")?;
        close("lab")?;
        let header = File::from(rustix::fs::memfd_create("header", rustix::fs::MemfdFlags::CLOEXEC)?);
        let mut bytes = vec![0; 16 << 20];
        File::open(&image)?.read_exact_at(&mut bytes, 0)?;
        header.write_all_at(&bytes, 0)?;
        // Nothing of the header is left on the disk.
        File::options().write(true).open(&image)?.write_all_at(&vec![0; 1 << 20], 0)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), header.as_raw_fd());
        Program::new("cryptsetup")
            .args(["open", "--type", "luks", "--key-file=-", "--header", &path])
            .arg(device)
            .arg("lab")
            .input(KEY)
            .ok()?;
        assert_eq!(described("lab")?, attached, "{lock:?}");
        close("lab")?;
        Program::new("losetup").arg("-d").arg(device).ok()?;
    }
    Ok(())
}

pub(super) fn mapping_outlives_the_pull_until_deferred_close_and_lazy_umount(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = lab.plug(&backing, "PULLED")?;
    disks::unlock(&disk.devnode, KEY, "lab")?;
    let point = Path::new("/run/lab-pulled");
    fs::create_dir_all(point)?;
    Program::new("mount").arg("/dev/mapper/lab").arg(point).ok()?;
    let busy = File::open(point.join("hello"))?;
    lab.pull(&disk)?;
    assert_eq!(mounts::mappings(), ["lab"], "the mapping stays");
    assert_eq!(mounts::at(point)?.len(), 1, "the mount stays");
    let refused = Program::new("cryptsetup").args(["close", "lab"]).finish()?;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    Program::new("cryptsetup").args(["close", "--deferred", "lab"]).ok()?;
    Program::new("umount").arg("-l").arg(point).ok()?;
    assert_eq!(mounts::mappings(), ["lab"], "an open file holds it");
    drop(busy);
    crate::wait::until_true("the mapping to go", crate::wait::PATIENCE, || mounts::mappings().is_empty())
}

fn open(device: &Path, key: &[u8], name: &str) -> Outcome<Finished> {
    Program::new("cryptsetup")
        .args(["open", "--type", "luks", "--key-file=-"])
        .arg(device)
        .arg(name)
        .input(key)
        .finish()
}

fn close(name: &str) -> Outcome {
    crate::udevdb::settle()?;
    Program::new("cryptsetup").args(["close", name]).ok().map(drop)
}

fn refuses_null_keyslots(version: &str) -> Outcome<bool> {
    let numbers = version.split_whitespace().nth(1).ok_or("no version")?;
    let parts: Vec<u32> = numbers.split('.').filter_map(|part| part.parse().ok()).collect();
    Ok(parts >= vec![2, 8, 1])
}

/// Anti-forensic merge (SHA-256, 64-byte key) of 3999 stripes of zeros: what the last stripe is xored with.
const ZERO_STRIPES: [u8; 64] = [
    0x82, 0x56, 0x6f, 0xe9, 0x2f, 0x94, 0x2f, 0x7b, 0x30, 0xd9, 0x46, 0x83, 0xc4, 0x51, 0x10, 0x3f, 0xb7,
    0xd7, 0xdc, 0xfe, 0x78, 0x8a, 0x7a, 0xcb, 0x9e, 0x9a, 0x8e, 0xfc, 0x41, 0x4b, 0x67, 0xc8, 0xc2, 0xf9,
    0x64, 0x7e, 0x8c, 0xe6, 0x5f, 0xbf, 0x27, 0xe1, 0x65, 0x08, 0x4b, 0x62, 0xf1, 0xcb, 0xc8, 0x67, 0xa9,
    0x8b, 0x52, 0x2c, 0x61, 0x25, 0x98, 0x6f, 0xf1, 0xc1, 0x65, 0xde, 0x96, 0xf5,
];

/// What a stranger does who knows nothing of the owner's key: a LUKS2 header with a volume key of their own, kept
/// in the clear in a keyslot that says it is encrypted with `cipher_null`.
pub(crate) fn forge_null_keyslot(image: &Path, workshop: &Path) -> Outcome {
    let volume_key = [7; 64];
    let key_file = workshop.join("volume-key.disk");
    fs::write(&key_file, volume_key)?;
    let file = File::options().read(true).write(true).open(image)?;
    file.set_len(20 << 20)?;
    Program::new("cryptsetup")
        .args([
            "-q",
            "luksFormat",
            "--type",
            "luks2",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
        ])
        .args(["--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256", "--key-file=-"])
        .args([Path::new("--volume-key-file"), &key_file, image])
        .input("the stranger's own")
        .ok()?;
    let copies = [0, forgery::copy_size(&file)?];
    forgery::change(&file, &copies, 0, |metadata| {
        metadata["keyslots"]["0"]["area"]["encryption"] = json!("cipher_null-ecb");
    })?;
    // Where luksFormat puts the first key.
    let material = 2 * copies[1];
    let last: Vec<u8> = volume_key.iter().zip(ZERO_STRIPES).map(|(key, mask)| key ^ mask).collect();
    file.write_all_at(&vec![0; 64 * 3999], material)?;
    Ok(file.write_all_at(&last, material + 64 * 3999)?)
}

/// UUID and table of a mapping, without the key.
fn described(name: &str) -> Outcome<String> {
    let table = Program::new("dmsetup").args(["table", name]).ok()?;
    Ok(Program::new("dmsetup").args(["info", "-c", "--noheadings", "-o", "uuid", name]).ok()? + &table)
}
