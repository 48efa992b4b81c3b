use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::core::{DeviceStatus, MountStatus};

fn snapshot() -> Snapshot {
    let mount = |name: &str, state, error: Option<&str>| MountStatus {
        name: name.into(),
        state,
        leaving: name == "backup",
        device: Some("/dev/sdb".into()),
        id: Some("WDC_1".into()),
        encrypted: Some(true),
        filesystem: None,
        read_only: None,
        waiting: Vec::new(),
        since: (state == MountState::Mounted).then_some(UNIX_EPOCH),
        error: error.map(str::to_owned),
    };
    let device = |owners: Vec<String>| DeviceStatus {
        kind: "disk",
        device: "/dev/sdc".into(),
        name: Some("Elements".into()),
        size: Some(2_000_398_934_016),
        owners,
        ids: vec!["\"WDC_2\"".into()],
    };
    Snapshot {
        at: UNIX_EPOCH,
        mounts: vec![
            mount("backup", MountState::Mounted, None),
            mount("media", MountState::Failed, Some("the key of \"media\" does not open it")),
        ],
        guests: Vec::new(),
        devices: vec![device(Vec::new()), device(vec!["mount backup".into()])],
        events: vec![Line { at: UNIX_EPOCH, level: Level::Warning, text: "two\nlines".into() }],
        triggers: 3,
    }
}

#[test]
fn moments_are_rfc_3339() {
    let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(at(0), "1970-01-01T00:00:00Z");
    assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
    assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
}

#[test]
fn the_table_has_aligned_columns_and_its_errors_below() {
    let expected = "\
MOUNT   STATE             DEVICE           ID     FILESYSTEM  SINCE
backup  mounted, leaving  /dev/sdb (LUKS)  WDC_1  -           1970-01-01T00:00:00Z
media   failed            /dev/sdb (LUKS)  WDC_1  -           -
  the key of \"media\" does not open it
";
    assert_eq!(summary(&snapshot()), expected);
}

#[test]
fn json_has_the_fields_that_programs_rely_on_and_only_unclaimed_devices() {
    let value: serde_json::Value = serde_json::from_str(&json(&snapshot())).unwrap();
    assert_eq!(value["version"], 1);
    assert_eq!(value["mounts"][0]["state"], "mounted");
    assert_eq!(value["mounts"][0]["filesystem"], serde_json::Value::Null);
    assert_eq!(
        (&value["mounts"][0]["leaving"], &value["mounts"][1]["leaving"]),
        (&true.into(), &false.into())
    );
    assert_eq!(value["mounts"][1]["error"], "the key of \"media\" does not open it");
    assert_eq!(value["devices"].as_array().unwrap().len(), 1);
    assert_eq!(value["devices"][0]["ids"][0], "\"WDC_2\"");
}

#[test]
fn metrics_give_each_mount_exactly_one_state() {
    let text = metrics(&snapshot());
    let ones = |name: &str| {
        let begins = format!("mydisks_mount_state{{mount=\"{name}\"");
        text.lines().filter(|line| line.starts_with(&begins) && line.ends_with(" 1")).count()
    };
    assert_eq!((ones("backup"), ones("media")), (1, 1));
    assert!(text.contains("mydisks_triggers_total 3\n"));
}

#[test]
fn an_event_is_one_line() {
    assert_eq!(events(&snapshot()), "1970-01-01T00:00:00Z warning two lines\n");
}

#[test]
fn devices_show_the_config_line_that_names_them() {
    let text = devices(&snapshot().devices);
    assert!(text.contains("/dev/sdc  disk  2000 GB  Elements  mount backup\n  \"WDC_2\"\n"), "{text}");
}
