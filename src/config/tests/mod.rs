//! Whole configurations: what they mean, how each error reads, and what holds for any text.

mod any_text;
mod messages;
mod places;
mod shipped;

use std::path::Path;
use std::time::Duration;

use super::*;

fn read(text: &str) -> Config {
    parse(text, Path::new("mydisks.toml")).unwrap_or_else(|error| panic!("{error}"))
}

/// The problems of a text that has some.
fn problems(text: &str) -> Problems {
    match parse(text, Path::new("mydisks.toml")) {
        Err(ConfigError::Invalid(problems)) => problems,
        other => panic!("{other:?}\nof\n{text}"),
    }
}

/// Key and message of the only problem of a text.
#[track_caller]
fn problem(text: &str) -> (String, String) {
    let problems = problems(text);
    assert_eq!((problems.list.len(), problems.omitted), (1, 0), "{problems}");
    (problems.list[0].key.clone(), problems.list[0].message.clone())
}

#[test]
fn an_empty_file_has_the_defaults() {
    for text in ["", "# nothing\n", "[defaults]\n", "[mounts]\n[guests]\n", "\u{feff}"] {
        let config = read(text);
        assert_eq!(config.mountpoint, Path::new("/mnt/mydisks"));
        assert_eq!(config.libvirt, "qemu:///system");
        assert!(config.mounts.is_empty() && config.guests.is_empty());
    }
}

#[test]
fn a_mount_takes_from_the_defaults_what_it_does_not_say() {
    let mounts = |defaults: &str, mount: &str| {
        read(&format!("[defaults]\n{defaults}\n[mounts.a]\ndisks = [\"A\"]\n{mount}")).mounts.remove(0)
    };
    let plain = mounts("", "");
    assert_eq!(plain.idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(plain.access_timeout, Duration::from_secs(120));
    assert_eq!(plain.options.to_string(), "nosuid,nodev");
    assert_eq!((&plain.key_file, plain.filesystem), (&None, None));

    let defaulted = mounts("idle-timeout = \"0\"\naccess-timeout = \"1s\"\noptions = \"noatime,dev\"", "");
    assert_eq!(defaulted.idle_timeout, None);
    assert_eq!(defaulted.access_timeout, Duration::from_secs(1));
    assert_eq!(defaulted.options.to_string(), "nosuid,noatime,dev");

    let own = mounts(
        "idle-timeout = \"0\"\noptions = \"noatime\"",
        "idle-timeout = \"1s\"\noptions = \"suid,atime\"",
    );
    assert_eq!(own.idle_timeout, Some(Duration::from_secs(1)));
    assert_eq!(own.options.to_string(), "nodev,suid,atime");
    assert_eq!(mounts("", "filesystem = \"ntfs\"").filesystem, Some(Filesystem::Ntfs3));
}

#[test]
fn every_spelling_of_a_table_means_the_same() {
    let expected =
        read("[mounts.a]\ndisks = [{ id = \"A\", partition = 1 }]\n[guests.g]\nusb = [\"051d:0002\"]");
    for text in [
        "mounts.a.disks = [{ id = 'A', partition = 0x1 }]\nguests.g = { usb = [{ id = \"051D:0002\" }] }",
        "[[mounts.a.disks]]\nid = \"A\"\npartition = 1\n[guests]\ng.usb = [\"051d:0002\"]",
        "[guests.'g']\r\nusb = [\r\n \"051d:0002\", # the UPS\r\n]\r\n[mounts]\r\n\"a\" = { disks = [{ id = \"\\u0041\", partition = 1 }] }",
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn mounts_and_guests_come_in_the_order_of_their_names_and_disks_in_that_of_the_list() {
    let config = read(
        "[mounts.b]\ndisks = [\"Z\", \"Y\"]\n[mounts.a]\ndisks = [\"X\"]\n[guests.d]\nusb=[\"0000:0000\"]\n[guests.c]\ndisks = [\"W\"]",
    );
    let names: Vec<_> = config.mounts.iter().map(|mount| mount.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let disks: Vec<_> =
        config.mounts[1].disks.iter().map(|disk| disk.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(disks, ["Z", "Y"]);
    let names: Vec<_> = config.guests.iter().map(|guest| guest.name.as_str()).collect();
    assert_eq!(names, ["c", "d"]);
}

#[test]
fn ten_thousand_mounts_are_read() {
    use std::fmt::Write;
    let mut text = String::new();
    for at in 0..10_000 {
        let (id, key) = (format!("WDC_WD20NMVW-11AV3S3_WD-{at:08}"), "/etc/mydisks/key");
        writeln!(text, "[mounts.disk-{at}]\ndisks = [\"{id}\", {{ id = \"{id}-b\", partition = 1 }}]")
            .unwrap();
        writeln!(text, "key-file = \"{key}\"\nfilesystem = \"ext4\"\noptions = \"acl,noatime\"\n").unwrap();
    }
    assert_eq!(read(&text).mounts.len(), 10_000);
}

#[test]
fn load_reads_a_file_and_names_it_in_errors() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a\u{1b}b.toml");
    let write = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        load(&path)
    };
    assert_eq!(write(b"mountpoint = \"/disks\"").unwrap().mountpoint, Path::new("/disks"));
    let told = write(b"x = 1\ny = \"\xff\"").unwrap_err().to_string();
    let shown = path.to_string_lossy().replace('\u{1b}', "\\u{1b}");
    assert_eq!(
        told,
        format!(
            "{shown}:2:6: the byte 0xff is not UTF-8 text\n  |\n2 | y = \"\n  |      ^\n\n1 error in {shown}"
        )
    );
    let long = write(&vec![b' '; LONGEST + 1]).unwrap_err();
    assert_eq!(long.to_string(), format!("{shown}: is longer than 8 MiB; a configuration is not"));
    assert!(write(&vec![b' '; LONGEST]).is_ok());
    std::fs::remove_file(&path).unwrap();
    let gone = load(&path).unwrap_err().to_string();
    assert!(gone.starts_with(&format!("{shown}: cannot be read: No such file")), "{gone}");
}
