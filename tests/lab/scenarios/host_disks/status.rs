//! Looking is not entering, and what the status files say.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{KEY, config, errno, head, is_mounted, key_line, list, name, status_of};
use crate::daemon::{self, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait;
use crate::{Outcome, mounts};

pub(super) fn stat_and_ls_of_the_root_do_not_trigger(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "DISK")?;
    lab.start(&config("DISK", &key_line()?))?;
    let long = Program::new("ls").arg("-la").arg(MOUNTPOINT).ok()?;
    assert!(long.lines().any(|line| line.starts_with('d') && line.ends_with(" backup")), "{long}");
    Program::new("stat").arg(name("backup")).ok()?;
    Program::new("ls").arg("-ld").arg(name("backup")).ok()?;
    assert!(fs::symlink_metadata(name("backup"))?.is_dir());
    wait::stays_true("nothing is unlocked", Duration::from_secs(2), || {
        mounts::mappings().is_empty() && !is_mounted("backup")
    })?;
    assert_eq!(status_of("backup")?["state"], "ready");
    Ok(())
}

pub(super) fn status_json_tells_the_state_of_each_name(lab: &mut Lab) -> Outcome {
    let secret = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let swapped = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    let stranger = lab.disk(&Recipe::empty())?;
    let secret = lab.plug(&secret, "SECRET")?;
    lab.plug(&swapped, "SWAPPED")?;
    lab.plug(&stranger, "STRANGER")?;
    let key = key_line()?;
    let table = |name: &str, id: &str| format!("[mounts.{name}]\ndisks = [\"{id}\"]\n{key}\n");
    let tables = [("open", "SECRET"), ("refused", "SWAPPED"), ("nowhere", "NOWHERE")];
    lab.start(&(head() + &tables.map(|(name, id)| table(name, id)).concat()))?;
    assert_eq!(list("open")?, ["hello"]);
    assert!(errno("refused").is_some());

    let open = status_of("open")?;
    assert_eq!(open["state"], "mounted");
    assert_eq!(open["encrypted"], true);
    assert_eq!(open["filesystem"], "ext4");
    assert_eq!(open["error"], Value::Null);
    assert_eq!(open["device"].as_str().map(Path::new), Some(secret.devnode.as_path()));
    assert!(open["id"].as_str().is_some_and(|id| id.contains("SECRET")), "{open}");
    assert!(!open["since"].is_null(), "{open}");
    assert_eq!(status_of("nowhere")?["state"], "absent");
    let refused = status_of("refused")?;
    assert_eq!(refused["state"], "failed");
    assert!(refused["error"].is_string(), "{refused}");

    let text = fs::read_to_string(name(".status/status.json"))?;
    let status: Value = serde_json::from_str(&text)?;
    assert!(!status["version"].is_null(), "{status}");
    assert!(status["guests"].is_array());
    assert!(status["devices"].to_string().contains("STRANGER"), "{status}");
    let printed = Program::new(daemon::BINARY).args(["status", "--json"]).ok()?;
    let printed: Value = serde_json::from_str(&printed)?;
    assert_eq!(printed["mounts"], status["mounts"]);
    let table = Program::new(daemon::BINARY).arg("status").ok()?;
    assert!(["open", "refused", "nowhere"].iter().all(|name| table.contains(name)), "{table}");
    let devices = Program::new(daemon::BINARY).arg("devices").ok()?;
    assert!(devices.contains("STRANGER"), "{devices}");
    Ok(())
}
