//! What is shipped and documented is valid.

use std::sync::Arc;

use super::*;

/// The example of the design, word for word.
const DESIGN: &str = r#"mountpoint = "/mnt/mydisks"          # default
libvirt = "qemu:///system"           # default

[defaults]                           # of every [mounts.*]
idle-timeout = "5m"                  # "0" = never; unmounted between one and two of it after the last use
options = "nosuid,nodev"             # default; added to, a word like "suid" takes its opposite away

[mounts.backup]
disks = ["WDC_WD20NMVW-11AV3S3_WD-WX91A848D77S", { id = "WDC_WD20NMVW-11AV3S3_WD-WX91A848D78S", partition = 1 }]
key-file = "/etc/mydisks/backup.key" # present = must be encrypted: a plain disk is refused
filesystem = "ext4"                  # default: probed
options = "acl"

[guests.guest1]
usb = ["051d:0002"]                  # or { id = "0403:6001", serial = "FTDI1" }, { port = "1-4.2" }

[guests.guest2]
usb = ["045f:0008"]
disks = [{ id = "WDC_WD20NMVW-11AV3S3_WD-WX91A848D75S", target = "vdb" }]
"#;

fn disk(id: &str) -> DiskSpec {
    DiskSpec { id: Some(id.parse().unwrap()), ..DiskSpec::default() }
}

#[test]
fn the_designs_example_means_what_it_says() {
    let usb = |id: &str| UsbRule::Id { id: id.parse().unwrap(), serial: None };
    let expected = Config {
        mountpoint: "/mnt/mydisks".into(),
        libvirt: "qemu:///system".into(),
        on_exit: OnExit::Unmount,
        mounts: vec![Arc::new(Mount {
            name: "backup".parse().unwrap(),
            disks: vec![
                disk("WDC_WD20NMVW-11AV3S3_WD-WX91A848D77S"),
                DiskSpec { partition: Some(1), ..disk("WDC_WD20NMVW-11AV3S3_WD-WX91A848D78S") },
            ],
            key_file: Some("/etc/mydisks/backup.key".into()),
            filesystem: Some(Filesystem::Ext4),
            options: "nosuid,nodev,acl".parse().unwrap(),
            idle_timeout: Some(Duration::from_secs(300)),
            access_timeout: Duration::from_secs(120),
        })],
        guests: vec![
            Guest { name: "guest1".parse().unwrap(), usb: vec![usb("051d:0002")], disks: vec![] },
            Guest {
                name: "guest2".parse().unwrap(),
                usb: vec![usb("045f:0008")],
                disks: vec![GuestDisk {
                    disk: disk("WDC_WD20NMVW-11AV3S3_WD-WX91A848D75S"),
                    target: Some("vdb".into()),
                    read_only: false,
                }],
            },
        ],
    };
    assert_eq!(read(DESIGN), expected);
}

#[test]
fn the_sample_is_valid_as_it_is_and_with_every_comment_taken_off() {
    const SAMPLE: &str = include_str!("../../../config/mydisks.toml");
    assert_eq!(read(SAMPLE), read(""));
    let setting = |line: &&str| !line.starts_with("# ");
    let all = SAMPLE
        .lines()
        .filter(setting)
        .map(|line| line.trim_start_matches('#'))
        .collect::<Vec<_>>()
        .join("\n");
    let config = read(&all);
    assert_eq!((config.mounts.len(), config.guests.len()), (1, 1));
    assert_eq!((config.guests[0].usb.len(), config.guests[0].disks.len()), (3, 1));
}

#[test]
fn every_example_of_the_manual_is_valid_and_every_key_is_in_it() {
    const MANUAL: &str = include_str!("../../../man/mydisks.toml.5.md");
    let examples: Vec<&str> =
        MANUAL.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        read(example);
    }
    for key in [keys::ROOT, keys::DEFAULTS, keys::MOUNT, keys::DISK, keys::GUEST, keys::GUEST_DISK, keys::USB]
        .concat()
    {
        let named = MANUAL.contains(&format!("**{key}**")) || MANUAL.contains(&format!("# [{key}"));
        assert!(named, "{key}");
    }
    let error = MANUAL.split("```\n").nth(1).unwrap();
    let file = Path::new("/etc/mydisks/mydisks.toml");
    let told = parse("[mounts.backup]\ndisks = [\"A\"]\nidel-timeout = \"5m\"\n", file).unwrap_err();
    assert_eq!(error.trim_end(), told.to_string());
}
