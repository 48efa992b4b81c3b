//! What cannot be entered says why by its errno, at once, and leaves nothing behind.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::io::Errno;
use serde_json::{Value, json};

use super::{KEY, config, errno, is_mounted, key_line, list, status_of, wait_for_state};
use crate::daemon::{self, CONFIG, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::qmp::Shape;
use crate::scenarios::facts::forge_null_keyslot;
use crate::{Outcome, disks, forgery, mounts};

pub(super) fn plain_disk_is_refused_when_a_key_is_configured(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    lab.plug(&backing, "SWAPPED")?;
    lab.start(&config("SWAPPED", &key_line()?))?;
    refused("backup", Errno::MEDIUMTYPE)
}

/// A header that any key opens (see the facts) is not the owner's disk.
pub(super) fn any_key_header_is_refused(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::empty())?;
    forge_null_keyslot(&image, &lab.workshop)?;
    let backing = disks::publish(&image, &lab.share, "forged.disk")?;
    lab.plug(&backing, "FORGED")?;
    lab.start(&config("FORGED", &key_line()?))?;
    refused("backup", Errno::MEDIUMTYPE)
}

/// What somebody can do to the owner's disk without the key, so that the key still opens it.
pub(super) fn header_that_turns_encryption_off_is_refused(lab: &mut Lab) -> Outcome {
    lab.start(&config("FORGED", &key_line()?))?;
    let null = |metadata: &mut Value| metadata["segments"]["0"]["encryption"] = json!("cipher_null-ecb");
    let linear = |metadata: &mut Value| metadata["segments"]["0"]["type"] = json!("linear");
    let decrypting = |metadata: &mut Value| {
        metadata["config"]["requirements"] = json!({ "mandatory": ["online-reencrypt-v2"] });
    };
    forged_is_refused(lab, "null cipher", |disk, second| forgery::change(disk, &[0, second], 0, null))?;
    forged_is_refused(lab, "linear", |disk, second| forgery::change(disk, &[0, second], 0, linear))?;
    forged_is_refused(lab, "second copy", |disk, second| forgery::change(disk, &[second], 9, null))?;
    forged_is_refused(lab, "re-encryption", |disk, second| {
        forgery::change(disk, &[0, second], 0, decrypting)
    })?;
    let image = lab.image(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks1, KEY))?;
    let disk = File::options().write(true).open(&image)?;
    disk.write_all_at(b"cipher_null\0", 8)?;
    disk.write_all_at(b"ecb\0", 40)?;
    plugged_is_refused(lab, &image, "LUKS1")
}

fn forged_is_refused(lab: &mut Lab, what: &str, forge: impl Fn(&File, u64) -> Outcome) -> Outcome {
    let image = lab.image(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = File::options().read(true).write(true).open(&image)?;
    forge(&disk, forgery::copy_size(&disk)?)?;
    plugged_is_refused(lab, &image, what)
}

fn plugged_is_refused(lab: &mut Lab, image: &Path, what: &str) -> Outcome {
    let backing = disks::publish(image, &lab.share, "forged.disk")?;
    let disk = lab.plug(&backing, "FORGED")?;
    wait_for_state("backup", "ready")?;
    refused("backup", Errno::MEDIUMTYPE).map_err(|error| format!("{what}: {error}"))?;
    let error = status_of("backup")?["error"].to_string();
    assert!(error.contains("tampered"), "{what}: {error}");
    lab.pull(&disk)?;
    wait_for_state("backup", "absent")
}

pub(super) fn wrong_key_is_rejected(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, b"another key"))?;
    lab.plug(&backing, "LOCKED")?;
    lab.start(&config("LOCKED", &key_line()?))?;
    refused("backup", Errno::KEYREJECTED)
}

pub(super) fn key_file_must_be_there_and_closed_to_others(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "LOCKED")?;
    let key = daemon::write_key("backup.key", KEY)?;
    lab.start(&config("LOCKED", &format!("key-file = {key:?}")))?;
    let aside = key.with_extension("aside");
    fs::rename(&key, &aside)?;
    refused("backup", Errno::NOKEY).map_err(|error| format!("missing: {error}"))?;
    symlink(&aside, &key)?;
    refused("backup", Errno::NOKEY).map_err(|error| format!("symlink: {error}"))?;
    fs::remove_file(&key)?;
    fs::rename(&aside, &key)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o404))?;
    refused("backup", Errno::NOKEY).map_err(|error| format!("readable by others: {error}"))?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o440))?;
    refused("backup", Errno::NOKEY).map_err(|error| format!("readable by its group: {error}"))?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400))?;
    chown(&key, Some(1000), None)?;
    refused("backup", Errno::NOKEY).map_err(|error| format!("not root's: {error}"))?;
    chown(&key, Some(0), None)?;
    assert_eq!(list("backup")?, ["hello"], "with the key as it should be");
    Ok(())
}

pub(super) fn absent_disk_is_no_medium(lab: &mut Lab) -> Outcome {
    lab.start(&config("NOWHERE", ""))?;
    assert_eq!(status_of("backup")?["state"], "absent");
    refused("backup", Errno::NOMEDIUM)?;
    let unknown = fs::metadata(super::name("nosuch")).err().and_then(|error| error.raw_os_error());
    assert_eq!(unknown, Some(Errno::NOENT.raw_os_error()));
    Ok(())
}

pub(super) fn twins_are_refused_until_one_is_pulled(lab: &mut Lab) -> Outcome {
    let first = lab.disk(&Recipe::plain(Filesystem::Ext4).file("first", ""))?;
    let second = lab.disk(&Recipe::plain(Filesystem::Ext4).file("second", ""))?;
    let first = lab.plug(&first, "TWIN")?;
    lab.plug(&second, "TWIN")?;
    lab.start(&config("TWIN", ""))?;
    refused("backup", Errno::NOTUNIQ)?;
    lab.pull(&first)?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello", "second"]);
    Ok(())
}

pub(super) fn other_file_system_than_configured_is_refused(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Vfat))?;
    lab.plug(&backing, "OTHER")?;
    lab.start(&config("OTHER", "filesystem = \"ext4\""))?;
    refused("backup", Errno::MEDIUMTYPE)
}

pub(super) fn wild_serials_harm_nothing(lab: &mut Lab) -> Outcome {
    let good = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    let wild = lab.disk(&Recipe::empty())?;
    lab.plug(&good, "GOOD")?;
    lab.start(&config("GOOD", ""))?;
    for serial in
        ["../../etc/passwd", "a\"b'c`d$(e)", "two words", "line\nbreak", "\u{e9}\u{1f4be}", "..", ""]
    {
        let disk = lab.plug(&wild, serial)?;
        assert_eq!(list("backup")?, ["hello"], "beside {serial:?}");
        let status = fs::read_to_string(super::name(".status/status.json"))?;
        let parsed: serde_json::Value = serde_json::from_str(&status)?;
        let others = parsed["devices"].as_array().map_or(0, Vec::len);
        assert!(others > 0, "the stranger is shown: {status}");
        let summary = fs::read_to_string(super::name(".status/summary"))?;
        let is_clean = summary.chars().all(|character| character == '\n' || !character.is_control());
        assert!(is_clean, "{summary:?}");
        lab.pull(&disk)?;
    }
    let shape = Shape::Uas { vendor: "a/b\\c".into(), product: "..".into(), serial: "'; x".into() };
    lab.plug_as(&wild, &shape)?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

pub(super) fn bad_config_mounts_nothing(_: &mut Lab) -> Outcome {
    daemon::write_config("[mounts.backup]\ndisks = [\"A\"]\nkeyfile = \"/x\"\n")?;
    daemon::install_fstab("nofail")?;
    let mounted = daemon::mount_by_fstab()?;
    assert_ne!(mounted.code, Some(0));
    assert!(mounted.stderr.contains(&format!("{CONFIG}:3:1")), "{}", mounted.stderr);
    assert!(mounted.stderr.contains("key-file"), "suggests the nearest key: {}", mounted.stderr);
    assert_eq!(mounts::at(MOUNTPOINT.as_ref())?, []);
    assert_eq!(daemon::processes(), [] as [i32; 0]);
    let refused = Program::new(daemon::BINARY).args(["check", CONFIG]).finish()?;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    Ok(())
}

/// Entering fails with this errno, is explained in the status, and nothing stays unlocked or mounted.
fn refused(mount: &str, expected: Errno) -> Outcome {
    let found = errno(mount);
    if found != Some(expected.raw_os_error()) {
        let found = found.map(Errno::from_raw_os_error);
        return Err(format!("entering {mount} gives {found:?} instead of {expected:?}").into());
    }
    assert_eq!(mounts::mappings(), [] as [&str; 0]);
    assert!(!is_mounted(mount));
    let error = status_of(mount)?["error"].clone();
    assert!(error.as_str().is_some_and(|words| !words.is_empty()), "the reason in words: {error}");
    Ok(())
}
