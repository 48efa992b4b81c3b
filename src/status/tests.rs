use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::core::{DeviceStatus, GuestDeviceState, GuestDeviceStatus, GuestState, GuestStatus, MountStatus};

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

/// A guest that has a disk and waits for another, one that cannot be asked, and one without devices whose name and error
/// would break a carelessly written text.
fn guests() -> Snapshot {
    let device = |id: &str, state, error: Option<&str>| GuestDeviceStatus {
        id: id.into(),
        kind: "disk",
        state,
        device: Some("/dev/sdb".into()),
        target: (state == GuestDeviceState::Attached).then(|| "vdb".into()),
        alias: (state == GuestDeviceState::Attached).then(|| "ua-mydisks-7".into()),
        error: error.map(str::to_owned),
    };
    let guest = |name: &str, state, error: Option<&str>, devices| GuestStatus {
        name: name.into(),
        state,
        error: error.map(str::to_owned),
        devices,
    };
    let waiting = Some("guest1 has not released vdc for 12 s");
    let down = Some("libvirt cannot be reached: no socket");
    Snapshot {
        guests: vec![
            guest(
                "guest1",
                GuestState::Running,
                None,
                vec![
                    device("WDC_1", GuestDeviceState::Attached, None),
                    device("WDC_2", GuestDeviceState::Waiting, waiting),
                ],
            ),
            guest(
                "guest2",
                GuestState::Unreachable,
                down,
                vec![GuestDeviceStatus {
                    kind: "usb",
                    device: None,
                    ..device("051d:0002", GuestDeviceState::Waiting, down)
                }],
            ),
            guest(HOSTILE, GuestState::Off, Some(HOSTILE), Vec::new()),
        ],
        ..snapshot()
    }
}

const HOSTILE: &str = "<g>\"},{\\ ]]>'&";

#[test]
fn the_table_has_guests_with_their_devices_and_an_error_once() {
    let text = summary(&guests());
    let expected = "
GUEST           STATE        DEVICE     KIND  STATE     PLACE     TARGET
guest1          running      WDC_1      disk  attached  /dev/sdb  vdb
guest1          running      WDC_2      disk  waiting   /dev/sdb  -
  guest1 has not released vdc for 12 s
guest2          unreachable  051d:0002  usb   waiting   -         -
  libvirt cannot be reached: no socket
<g>\"},{\\ ]]>'&  off
  <g>\"},{\\ ]]>'&
";
    assert!(text.ends_with(expected), "{text}");
    assert!(!summary(&snapshot()).contains("GUEST"), "no head without guests");
}

#[test]
fn json_has_guests_and_their_devices_whatever_they_are_called() {
    let value: serde_json::Value = serde_json::from_str(&json(&guests())).unwrap();
    let first = &value["guests"][0];
    assert_eq!((&first["name"], &first["state"]), (&"guest1".into(), &"running".into()));
    assert_eq!(
        first["devices"][0],
        serde_json::json!({
            "id": "WDC_1", "kind": "disk", "state": "attached", "device": "/dev/sdb", "target": "vdb",
            "alias": "ua-mydisks-7", "error": null,
        })
    );
    assert_eq!(first["devices"][1]["error"], "guest1 has not released vdc for 12 s");
    assert_eq!(first["devices"][1]["alias"], serde_json::Value::Null);
    assert_eq!(value["guests"][1]["error"], "libvirt cannot be reached: no socket");
    let hostile = &value["guests"][2];
    assert_eq!((&hostile["name"], &hostile["error"]), (&HOSTILE.into(), &HOSTILE.into()));
    assert_eq!(hostile["devices"], serde_json::json!([]));
}

#[test]
fn every_state_of_a_guests_device_has_a_word_of_its_own() {
    use GuestDeviceState::{Absent, Attached, Attaching, Detaching, Failed, Waiting};
    let words = [Absent, Attaching, Attached, Detaching, Waiting, Failed].map(|state| {
        let mut snapshot = guests();
        snapshot.guests[0].devices[0].state = state;
        let value: serde_json::Value = serde_json::from_str(&json(&snapshot)).unwrap();
        let word = value["guests"][0]["devices"][0]["state"].as_str().unwrap().to_owned();
        assert!(summary(&snapshot).contains(&format!("WDC_1      disk  {word}")));
        let line = format!("id=\"WDC_1\",state=\"{word}\"}} 1\n");
        assert!(metrics(&snapshot).contains(&line), "{word}");
        word
    });
    assert_eq!(words, ["absent", "attaching", "attached", "detaching", "waiting", "failed"]);
}

#[test]
fn metrics_count_twins_together_and_escape_what_people_name() {
    let mut snapshot = guests();
    let twin = snapshot.guests[0].devices[0].clone();
    snapshot.guests[0].devices.push(twin);
    let text = metrics(&snapshot);
    let line = "mydisks_guest_device_state{guest=\"guest1\",kind=\"disk\",id=\"WDC_1\",state=";
    assert!(text.contains(&format!("{line}\"attached\"}} 2\n")), "{text}");
    assert!(text.contains(&format!("{line}\"waiting\"}} 0\n")), "{text}");
    assert!(text.contains("mydisks_guest_state{guest=\"guest2\",state=\"unreachable\"} 1\n"), "{text}");
    let escaped = r#"mydisks_guest_state{guest="<g>\"},{\\ ]]>'&",state="off"} 1"#;
    assert!(text.lines().any(|found| found == escaped), "{text}");
    // A line is a name, labels in balanced quotes, a number: no text of ours can end one early.
    let samples = text.lines().filter(|line| line.starts_with("mydisks_guest"));
    assert!(samples.clone().all(|line| line.ends_with(" 0") || line.ends_with(" 1") || line.ends_with(" 2")));
    let series: std::collections::BTreeSet<_> =
        samples.clone().filter_map(|line| line.rsplit_once(' ')).collect();
    assert_eq!(series.len(), samples.count(), "no series twice");
}
