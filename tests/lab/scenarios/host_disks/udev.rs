//! What the rule in config/ has udev say of configured devices.

use std::fs;
use std::path::Path;

use super::{KEY, config, head, key_line, list};
use crate::daemon::{self, BINARY};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::{Outcome, udevdb};

const RULES: &str = "/run/udev/rules.d/61-mydisks.rules";

/// The rule, as `make install` writes it, until it is dropped.
struct Rule;

impl Rule {
    fn install() -> Outcome<Rule> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/61-mydisks.rules");
        let directory = Path::new(BINARY).parent().ok_or("the program has no directory")?;
        let text = fs::read_to_string(source)?.replace("@BINDIR@", &directory.to_string_lossy());
        fs::create_dir_all("/run/udev/rules.d")?;
        fs::write(RULES, text)?;
        let rule = Rule;
        Program::new("udevadm").args(["control", "--reload"]).ok()?;
        Ok(rule)
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        let _ = fs::remove_file(RULES);
        let _ = Program::new("udevadm").args(["control", "--reload"]).finish();
    }
}

/// Both properties, or neither.
fn is_ignored(name: &str) -> Outcome<bool> {
    let known = udevdb::of_block(name)?;
    let property = |name: &str| known.get(name).map(String::as_str);
    match (property("UDISKS_IGNORE"), property("UDISKS_AUTO")) {
        (Some("1"), Some("0")) => Ok(true),
        (None, None) => Ok(false),
        other => Err(format!("{name} has {other:?}").into()),
    }
}

fn assert_ignored(expected: &[(&str, bool)]) -> Outcome {
    for (name, is) in expected {
        assert_eq!(is_ignored(name)?, *is, "{name}: {:?}", udevdb::of_block(name)?);
    }
    Ok(())
}

pub(super) fn udisks_is_kept_off_configured_disks_and_off_no_others(lab: &mut Lab) -> Outcome {
    let _rule = Rule::install()?;
    daemon::write_config(&format!(
        "{}[mounts.whole]\ndisks = [\"WHOLE\"]\n[mounts.second]\ndisks = [{{ id = \"SECOND\", partition = 2 }}]\n\
         [guests.guest1]\ndisks = [\"usb-QEMU_QEMU_HARDDISK_GUEST-0:0\"]\nusb = [{{ id = \"46f4:0001\", serial = \"BYUSB\" }}]\n",
        head()
    ))?;
    let parts = [Recipe::plain(Filesystem::Ext4), Recipe::plain(Filesystem::Vfat)];
    let table = lab.partitioned_disk(&parts)?;
    let plain = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    for (backing, serial, expected) in [
        (&table, "WHOLE", [true, true, true]),
        (&table, "GUEST", [true, true, true]),
        (&table, "BYUSB", [true, true, true]),
        (&table, "SECOND", [false, false, true]),
        (&table, "STRANGER", [false, false, false]),
    ] {
        let disk = lab.plug(backing, serial)?;
        let name = &disk.name;
        let names = [name.clone(), format!("{name}1"), format!("{name}2")];
        let expected: Vec<_> = names.iter().map(String::as_str).zip(expected).collect();
        assert_ignored(&expected).map_err(|error| format!("{serial}: {error}"))?;
        lab.pull(&disk)?;
    }

    // A configuration that is not valid hides nothing and stops nothing; udev's entry follows it at the next event.
    let disk = lab.plug(&plain, "WHOLE")?;
    assert_ignored(&[(&disk.name, true)])?;
    daemon::write_config("mounts = ")?;
    Program::new("udevadm").args(["trigger", "--settle"]).arg(&disk.devnode).ok()?;
    assert_ignored(&[(&disk.name, false)])?;
    assert!(udevdb::of_block(&disk.name)?.contains_key("ID_FS_UUID"), "udev goes on with its rules");
    Ok(())
}

pub(super) fn udisks_is_kept_off_what_is_unlocked(lab: &mut Lab) -> Outcome {
    let _rule = Rule::install()?;
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    daemon::write_config(&config("DISK", &key_line()?))?;
    let disk = lab.plug(&backing, "DISK")?;
    lab.start(&config("DISK", &key_line()?))?;
    assert_eq!(list("backup")?, ["hello"]);
    udevdb::settle()?;
    let mapping = fs::canonicalize("/dev/mapper/mydisks-backup")?;
    let mapping = mapping.file_name().and_then(|name| name.to_str()).ok_or("the mapping has no node")?;
    assert_ignored(&[(&disk.name, true), (mapping, true)])
}
