//! How errors read: the whole text that a person gets.

use super::*;

#[track_caller]
fn assert_told(text: &str, told: &str) {
    assert_eq!(problems(text).to_string(), told.trim_start_matches('\n'));
}

#[test]
fn a_misspelt_key_is_answered_with_the_right_one() {
    assert_told(
        r#"[mounts.backup]
disks = ["A"]
idel-timeout = "5m"
"#,
        r#"
mydisks.toml:3:1: mounts.backup.idel-timeout: is not a known key; did you mean `idle-timeout`?
  |
3 | idel-timeout = "5m"
  | ^^^^^^^^^^^^

1 error in mydisks.toml"#,
    );
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_lines() {
    assert_told(
        r#"mountpont = "/x"

[guests.g]
usb = ["51d:2"]

[mounts.b]
disks = []
"#,
        r#"
mydisks.toml:1:1: mountpont: is not a known key; did you mean `mountpoint`?
  |
1 | mountpont = "/x"
  | ^^^^^^^^^

mydisks.toml:4:8: guests.g.usb[0]: `51d:2` is not vendor:product in hexadecimal, like 051d:0002
  |
4 | usb = ["51d:2"]
  |        ^^^^^^^

mydisks.toml:7:9: mounts.b.disks: must not be an empty list
  |
7 | disks = []
  |         ^^

3 errors in mydisks.toml"#,
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
    assert_told(
        r#"[defaults]
idle-timeout = "1m"
mountpoint = "/x"
"#,
        r#"
mydisks.toml:3:1: defaults.mountpoint: does not belong here; it must stand at the top of the file, before the first [table]
  |
3 | mountpoint = "/x"
  | ^^^^^^^^^^

1 error in mydisks.toml"#,
    );
}

#[test]
fn a_duration_needs_quotes_and_a_unit() {
    assert_told(
        r#"[defaults]
idle-timeout = 300
access-timeout = "5 min"
"#,
        r#"
mydisks.toml:2:16: defaults.idle-timeout: must be a string with a number and its unit, not an integer; did you mean `"300s"`?
  |
2 | idle-timeout = 300
  |                ^^^

mydisks.toml:3:18: defaults.access-timeout: `5 min` must be a duration like `90s`, `5m` or `1h30m`; did you mean `5m`?
  |
3 | access-timeout = "5 min"
  |                  ^^^^^^^

2 errors in mydisks.toml"#,
    );
}

#[test]
fn one_disk_in_two_places_is_shown_in_both() {
    assert_told(
        r#"[mounts.backup]
disks = ["B", "A"]

[guests.g]
disks = [{ id = "usb-A-0:0", target = "vdb" }]
"#,
        r#"
mydisks.toml:5:17: guests.g.disks[0].id: `usb-A-0:0` is claimed by mounts.backup.disks[1] on line 2 already; a device has one place; tell two such disks apart by `uuid`, `partuuid` or `luks-uuid`
  |
2 | disks = ["B", "A"]
  |               --- first here
5 | disks = [{ id = "usb-A-0:0", target = "vdb" }]
  |                 ^^^^^^^^^^^

1 error in mydisks.toml"#,
    );
}

#[test]
fn one_usb_device_for_two_guests_is_shown_in_both() {
    assert_told(
        r#"[guests.g]
usb = ["051d:0002"]
[guests.h]
usb = ["051d:0002"]
"#,
        r#"
mydisks.toml:4:8: guests.h.usb[0]: `051d:0002` is claimed by guests.g.usb[0] on line 2 already; a device has one place; tell two such devices apart by `serial` or `port`
  |
2 | usb = ["051d:0002"]
  |        ----------- first here
4 | usb = ["051d:0002"]
  |        ^^^^^^^^^^^

1 error in mydisks.toml"#,
    );
}

#[test]
fn a_table_defined_twice_is_shown_in_both_places() {
    assert_told(
        r#"[mounts.backup]
disks = ["A"]
[mounts.backup]
key-file = "/k"
"#,
        "
mydisks.toml:3:9: mounts.backup: is defined twice; keep one
  |
1 | [mounts.backup]
  | --------------- first here
3 | [mounts.backup]
  |         ^^^^^^

1 error in mydisks.toml",
    );
}

#[test]
fn a_key_defined_twice_is_shown_in_both_places() {
    assert_told(
        r#"[guests.g]
usb = [{ id = "0403:6001", id = "0403:6002" }]
"#,
        r#"
mydisks.toml:2:28: guests.g.usb[0].id: is defined twice; keep one
  |
2 | usb = [{ id = "0403:6001", id = "0403:6002" }]
  |          -- first here
2 | usb = [{ id = "0403:6001", id = "0403:6002" }]
  |                            ^^

1 error in mydisks.toml"#,
    );
}

#[test]
fn a_mount_option_is_marked_within_its_list() {
    assert_told(
        r#"[mounts.b]
disks = ["A"]
options = "acl,loop,noatime"
"#,
        r#"
mydisks.toml:3:16: mounts.b.options: option `loop` is not used here; name the file with `image`
  |
3 | options = "acl,loop,noatime"
  |                ^^^^

1 error in mydisks.toml"#,
    );
}

#[test]
fn a_string_without_quotes_is_no_toml() {
    assert_told(
        "mountpoint = /mnt/disks
[defaults]
idle-timeout = 5m
",
        r#"
mydisks.toml:1:14: a string must be in quotes; did you mean `"/mnt/disks"`?
  |
1 | mountpoint = /mnt/disks
  |              ^^^^^^^^^^

mydisks.toml:3:16: a string must be in quotes; did you mean `"5m"`?
  |
3 | idle-timeout = 5m
  |                ^^

2 errors in mydisks.toml"#,
    );
}

#[test]
fn a_file_system_by_another_name_is_answered_with_its_own() {
    assert_told(
        r#"[mounts.b]
disks = ["A"]
filesystem = "fat32"
"#,
        r#"
mydisks.toml:3:14: mounts.b.filesystem: `fat32` is not a file system that mydisks mounts: ext2, ext3, ext4, xfs, btrfs, vfat, exfat or ntfs3; did you mean `vfat`?
  |
3 | filesystem = "fat32"
  |              ^^^^^^^

1 error in mydisks.toml"#,
    );
}

#[test]
fn a_path_is_absolute_and_plain() {
    assert_told(
        r#"mountpoint = "/mnt//disks/"
[mounts.b]
disks = [{ image = "b.img" }]
key-file = "keys/b"
"#,
        r#"
mydisks.toml:1:14: mountpoint: `/mnt//disks/` must have no `.`, `..`, `//` or final `/`; did you mean `/mnt/disks`?
  |
1 | mountpoint = "/mnt//disks/"
  |              ^^^^^^^^^^^^^^

mydisks.toml:3:20: mounts.b.disks[0].image: `b.img` must be an absolute path, beginning with `/`
  |
3 | disks = [{ image = "b.img" }]
  |                    ^^^^^^^

mydisks.toml:4:12: mounts.b.key-file: `keys/b` must be an absolute path, beginning with `/`
  |
4 | key-file = "keys/b"
  |            ^^^^^^^^

3 errors in mydisks.toml"#,
    );
}

#[test]
fn a_disk_by_path_is_answered_with_its_id() {
    assert_told(
        r#"[mounts.b]
disks = ["/dev/disk/by-id/usb-Foo_1-0:0", "/dev/sdb"]
"#,
        r#"
mydisks.toml:2:10: mounts.b.disks[0]: must be the disk's name in /dev/disk/by-id without the directory, not a path; did you mean `usb-Foo_1-0:0`?
  |
2 | disks = ["/dev/disk/by-id/usb-Foo_1-0:0", "/dev/sdb"]
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

mydisks.toml:2:43: mounts.b.disks[1]: must be the disk's name in /dev/disk/by-id without the directory, not a path
  |
2 | disks = ["/dev/disk/by-id/usb-Foo_1-0:0", "/dev/sdb"]
  |                                           ^^^^^^^^^^

2 errors in mydisks.toml"#,
    );
}

#[test]
fn control_characters_are_shown_as_escapes() {
    assert_told(
        r#"[mounts.b]
disks = ["\u001b[31m\u202e"]
"\u0007" = 1
"#,
        r#"
mydisks.toml:2:10: mounts.b.disks[0]: `\u{1b}[31m\u{202e}` must not contain '\u{1b}'
  |
2 | disks = ["\u001b[31m\u202e"]
  |          ^^^^^^^^^^^^^^^^^^

mydisks.toml:3:1: mounts.b."\u{7}": is not a known key
  |
3 | "\u0007" = 1
  | ^^^^^^^^

2 errors in mydisks.toml"#,
    );
}

#[test]
fn a_target_is_a_hot_pluggable_one_and_taken_once() {
    assert_told(
        r#"[guests.g]
disks = [
  { id = "A", target = "vdb" },
  { id = "B", target = "hdb" },
  { id = "C", target = "vdb" },
]
"#,
        r#"
mydisks.toml:4:24: guests.g.disks[1].target: `hdb` is on an IDE bus, which takes no disk while the guest runs; use `vd*` or `sd*`
  |
4 |   { id = "B", target = "hdb" },
  |                        ^^^^^

mydisks.toml:5:24: guests.g.disks[2].target: `vdb` is the target of another disk
  |
3 |   { id = "A", target = "vdb" },
  |                        ----- first here
5 |   { id = "C", target = "vdb" },
  |                        ^^^^^

2 errors in mydisks.toml"#,
    );
}

/// Each text has one problem: its key, and words of its message.
#[test]
fn each_kind_of_error_names_the_key_and_the_fault() {
    const MOUNT: &str = "[mounts.a]\ndisks = [\"A\"]\n";
    for (text, key, words) in [
        // Types.
        ("mountpoint = 1", "mountpoint", "must be a string, not an integer"),
        ("mounts = []", "mounts", "must be a table, not a list"),
        ("[[guests]]", "guests", "must be a table, not a list"),
        ("defaults = true", "defaults", "must be a table, not a boolean"),
        ("mounts.a = 1.5", "mounts.a", "must be a table, not a float"),
        ("mounts.a.disks = \"A\"", "mounts.a.disks", "must be a list, not a string"),
        ("mounts.a.disks = [1]", "mounts.a.disks[0]", "must be a string (an id) or a table, not an integer"),
        ("mounts.a.disks = [[\"A\"]]", "mounts.a.disks[0]", "not a list"),
        ("guests.g.usb = [1979-05-27]", "guests.g.usb[0]", "not a date or time"),
        ("guests.g.disks = [{ id = 'A', readonly = 'true' }]", "guests.g.disks[0].readonly", "true or false"),
        (
            "mounts.a.disks = [{ id = 'A', partition = '1' }]",
            "mounts.a.disks[0].partition",
            "an integer, not",
        ),
        // Numbers.
        ("mounts.a.disks = [{ id = 'A', partition = 0 }]", "mounts.a.disks[0].partition", "from 1 to 255"),
        ("mounts.a.disks = [{ id = 'A', partition = 256 }]", "mounts.a.disks[0].partition", "from 1 to 255"),
        ("mounts.a.disks = [{ id = 'A', partition = -1 }]", "mounts.a.disks[0].partition", "from 1 to 255"),
        ("mounts.a.disks = [{ id = 'A', partition = 0x100000001 }]", "mounts.a.disks[0].partition", "from 1"),
        // What is missing, or empty.
        ("[mounts.a]", "mounts.a", "has no `disks`"),
        ("[guests.a]", "guests.a", "has neither `usb` nor `disks`"),
        ("mounts.a.disks = []", "mounts.a.disks", "empty"),
        ("guests.a.usb = []", "guests.a.usb", "empty"),
        ("guests.a = { usb = ['051d:0002'], disks = [] }", "guests.a.disks", "empty"),
        ("mounts.a.disks = [{}]", "mounts.a.disks[0]", "names no disk"),
        ("mounts.a.disks = [{ partition = 1 }]", "mounts.a.disks[0]", "names no disk"),
        ("guests.a.disks = [{ target = 'vdb' }]", "guests.a.disks[0]", "names no disk"),
        ("guests.a.usb = [{}]", "guests.a.usb[0]", "names no device"),
        ("guests.a.usb = [{ serial = 'x' }]", "guests.a.usb[0].serial", "needs an `id`"),
        ("mounts.a.disks = ['']", "mounts.a.disks[0]", "must not be empty"),
        // Keys that are not there.
        ("colour = 1", "colour", "is not a known key"),
        ("mounts.a = { disks = ['A'], usb = ['051d:0002'] }", "mounts.a.usb", "key of [guests.NAME]"),
        ("guests.a = { usb = ['051d:0002'], options = 'acl' }", "guests.a.options", "key of [defaults] and"),
        (
            "mounts.a.disks = [{ id = 'A', target = 'vdb' }]",
            "mounts.a.disks[0].target",
            "a disk of [guests.NAME]",
        ),
        (
            "guests.a.disks = [{ id = 'A', partition = 1 }]",
            "guests.a.disks[0].partition",
            "gets the whole disk",
        ),
        // Names and identities.
        ("mounts.'a/b'.disks = ['A']", "mounts.\"a/b\"", "must not contain '/'"),
        ("mounts.'.status'.disks = ['A']", "mounts.\".status\"", "must not begin with '.'"),
        ("mounts.''.disks = ['A']", "mounts.\"\"", "must not be empty"),
        ("guests.'-x'.usb = ['051d:0002']", "guests.-x", "must not begin with '-'"),
        ("mounts.a.disks = [{ uuid = 'x' }]", "mounts.a.disks[0].uuid", "must not contain 'x'"),
        ("mounts.a.disks = [{ wwn = '1' }]", "mounts.a.disks[0].wwn", "is not a world wide name like"),
        ("mounts.a.disks = [{ luks-uuid = '12' }]", "mounts.a.disks[0].luks-uuid", "is not a UUID like"),
        ("guests.a.usb = ['51d:2']", "guests.a.usb[0]", "is not vendor:product in hexadecimal"),
        ("guests.a.usb = [{ port = '1_4' }]", "guests.a.usb[0].port", "is not a USB port like"),
        ("guests.a.usb = [{ id = '051d:0002', serial = '' }]", "guests.a.usb[0].serial", "must not be empty"),
        (
            "guests.a.usb = [{ id = '051d:0002', port = '1-4' }]",
            "guests.a.usb[0].port",
            "cannot stand beside",
        ),
        (
            "mounts.a.disks = [{ image = '/a', id = 'A' }]",
            "mounts.a.disks[0].id",
            "cannot stand beside `image`",
        ),
        (
            "mounts.a.disks = [{ image = '/a', wwn = '0x1' }]",
            "mounts.a.disks[0].wwn",
            "cannot stand beside `image`",
        ),
        (
            "mounts.a.disks = [{ image = '/a', label = 'x' }]",
            "mounts.a.disks[0].label",
            "cannot stand beside",
        ),
        (
            "mounts.a.disks = [{ image = '/a', partuuid = '1' }]",
            "mounts.a.disks[0].partuuid",
            "cannot stand beside",
        ),
        ("mounts.a.disks = [{ image = '/dev/sdb' }]", "mounts.a.disks[0].image", "is a device"),
        (
            "mounts.a.disks = [{ image = '/mnt/mydisks/b' }]",
            "mounts.a.disks[0].image",
            "under the mount point",
        ),
        (
            "guests.a.disks = [{ image = '/a', target = 'vdb' }]",
            "guests.a.disks[0].image",
            "is no device: a guest gets what is plugged in; give it the file in its own definition",
        ),
        // Paths and the URI.
        ("mountpoint = '/'", "mountpoint", "must not be `/`"),
        ("mountpoint = 'mnt'", "mountpoint", "must be an absolute path"),
        ("mountpoint = '/mnt/../etc'", "mountpoint", "must have no `.`"),
        ("mountpoint = \"/mnt\\n\"", "mountpoint", "control characters"),
        ("mountpoint = ''", "mountpoint", "must not be empty"),
        ("on-exit = 'unmont'", "on-exit", "must be `unmount` or `keep`"),
        ("libvirt = ''", "libvirt", "must be a libvirt URI"),
        ("libvirt = 'system'", "libvirt", "must be a libvirt URI"),
        ("libvirt = 'qemu:///a b'", "libvirt", "must be a libvirt URI"),
        ("libvirt = 'qemu+ssh://root@far:22/system'", "libvirt", "names the host `far`"),
        ("libvirt = 'qemu+tcp://[fe80::1]/system'", "libvirt", "names the host"),
        // Durations.
        ("defaults.idle-timeout = '999ms'", "defaults.idle-timeout", "must be at least `1s`"),
        ("defaults.idle-timeout = '30d1ms'", "defaults.idle-timeout", "must be at most `30d`"),
        ("defaults.access-timeout = '0'", "defaults.access-timeout", "must be more than `0`"),
        ("defaults.access-timeout = '1h1s'", "defaults.access-timeout", "at most `1h`"),
        ("defaults.access-timeout = '5'", "defaults.access-timeout", "needs a unit"),
        ("defaults.access-timeout = ''", "defaults.access-timeout", "must be a duration like"),
        // Targets.
        ("guests.a.disks = [{ id = 'A', target = 'xvda' }]", "guests.a.disks[0].target", "is on a Xen bus"),
        (
            "guests.a.disks = [{ id = 'A', target = 'vdabc' }]",
            "guests.a.disks[0].target",
            "one or two letters",
        ),
        ("guests.a.disks = [{ id = 'A', target = 'vd1' }]", "guests.a.disks[0].target", "one or two letters"),
        ("guests.a.disks = [{ id = 'A', target = '' }]", "guests.a.disks[0].target", "one or two letters"),
    ] {
        let (at, message) = problem(text);
        assert_eq!(at, key, "{text}: {message}");
        assert!(message.contains(words), "{text}: {message}");
    }
    for (line, key, words) in [
        ("key-file = \"k\"", "mounts.a.key-file", "must be an absolute path"),
        ("filesystem = \"zfs\"", "mounts.a.filesystem", "is not a file system that mydisks mounts"),
        ("options = \"acl,,ro\"", "mounts.a.options", "is empty: there is a comma too many"),
        ("options = [\"acl\"]", "mounts.a.options", "must be a string, not a list"),
        ("idle-timeout = 0", "mounts.a.idle-timeout", "must be a string with a number and its unit"),
    ] {
        let (at, message) = problem(&format!("{MOUNT}{line}"));
        assert_eq!(at, key, "{line}: {message}");
        assert!(message.contains(words), "{line}: {message}");
    }
}

#[test]
fn limits_are_valid_themselves() {
    for text in [
        "defaults = { idle-timeout = '1s', access-timeout = '1ms' }",
        "defaults = { idle-timeout = '30d', access-timeout = '1h' }",
        "libvirt = 'qemu+tcp://localhost:16509/system'",
        "libvirt = 'qemu+unix:///system?socket=/run/x'",
        "libvirt = 'qemu+tcp://[::1]/system'",
        "mounts.a.disks = [{ id = 'A', partition = 255 }]",
        "mounts.a.disks = [{ image = '/a', uuid = '12', partition = 1 }]",
        "guests.a.disks = [{ id = 'A', target = 'sdzz' }, { id = 'B', target = 'vda' }]",
    ] {
        read(text);
    }
}
