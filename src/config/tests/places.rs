//! One device in two places is a config error, and what is not one device is none.

use super::*;

const LUKS: &str = "123e4567-e89b-12d3-a456-426614174000";

/// Two disk entries in two mounts, two guests, or one list.
fn collide(first: &str, second: &str) -> [bool; 3] {
    let collides = |text: String| match parse(&text, Path::new("f")) {
        Ok(_) => false,
        Err(ConfigError::Invalid(problems)) => {
            assert!(problems.list.iter().all(|problem| problem.earlier.is_some()), "{problems}");
            assert_eq!(problems.list.len(), 1, "{problems}");
            true
        }
        Err(error) => panic!("{error}"),
    };
    [
        collides(format!("[mounts.a]\ndisks = [{first}]\n[mounts.b]\ndisks = [{second}]")),
        collides(format!("[mounts.b]\ndisks = [{first}]\n[mounts.a]\ndisks = [{second}]")),
        collides(format!("[mounts.a]\ndisks = [{first}, {second}]")),
    ]
}

#[test]
fn disks_that_share_an_identity_collide_unless_something_tells_them_apart() {
    let luks = format!("{{ luks-uuid = \"{LUKS}\" }}");
    let uuid_of_luks = format!("{{ uuid = \"{}\" }}", LUKS.to_uppercase());
    for (first, second, expected) in [
        // Each identity alone.
        ("'A'", "'A'", true),
        ("'A'", "'B'", false),
        ("{ id = 'A' }", "'A'", true),
        ("{ uuid = '12-AB' }", "{ uuid = '12-ab' }", true),
        ("{ partuuid = '12-01' }", "{ partuuid = '12-01' }", true),
        ("{ partuuid = '12-01' }", "{ partuuid = '12-02' }", false),
        ("{ label = 'x' }", "{ label = 'x' }", true),
        ("{ label = 'x' }", "{ label = 'X' }", false),
        ("{ wwn = '0xAB' }", "{ wwn = '0xab' }", true),
        (&luks, &luks, true),
        (&luks, &uuid_of_luks, true),
        ("{ image = '/a' }", "{ image = '/a' }", true),
        ("{ image = '/a' }", "{ image = '/b' }", false),
        // Different identities cannot be compared.
        ("{ uuid = '12' }", "{ partuuid = '12' }", false),
        ("'A'", "{ label = 'A' }", false),
        // The names of one disk.
        ("'A'", "'usb-A-0:0'", true),
        ("'ata-A'", "'A'", true),
        ("'A-0:1'", "'A-0:0'", false),
        // Told apart.
        ("{ id = 'A', partition = 1 }", "{ id = 'A', partition = 2 }", false),
        ("{ id = 'A', partition = 1 }", "{ id = 'A', partition = 1 }", true),
        ("{ id = 'A', partition = 1 }", "'A'", true),
        ("{ wwn = '0x1', partition = 1 }", "{ wwn = '0x1', partition = 2 }", false),
        ("{ id = 'A', uuid = '12' }", "{ id = 'A', uuid = '34' }", false),
        ("{ id = 'A', uuid = '12' }", "'A'", true),
        ("{ id = 'A', partuuid = '12' }", "{ id = 'A', partuuid = '34' }", false),
        ("{ id = 'A', label = 'x' }", "{ id = 'A', label = 'y' }", true),
        ("{ label = 'x', uuid = '12' }", "{ label = 'x', uuid = '34' }", false),
        ("{ id = 'A', uuid = '12' }", "{ id = 'B', uuid = '12' }", false),
        ("{ id = 'X_A', uuid = '12' }", "{ id = 'A', uuid = '12' }", true),
        ("{ wwn = '0x1', label = 'x' }", "{ wwn = '0x2', label = 'x' }", false),
        ("{ uuid = '12', partition = 1 }", "{ uuid = '12', partition = 2 }", true),
        ("{ image = '/a', partition = 1 }", "{ image = '/a', partition = 2 }", true),
    ] {
        assert_eq!(collide(first, second), [expected; 3], "{first} and {second}");
        assert_eq!(collide(second, first), [expected; 3], "{second} and {first}");
    }
}

#[test]
fn luks_headers_tell_twins_apart() {
    let other = LUKS.replace("123e", "456e");
    let spec = |luks: &str| format!("{{ id = 'A', luks-uuid = '{luks}' }}");
    assert_eq!(collide(&spec(LUKS), &spec(&other)), [false; 3]);
    assert_eq!(collide(&spec(LUKS), &spec(LUKS)), [true; 3]);
}

#[test]
fn a_guest_shares_no_disk_with_a_mount_or_a_guest() {
    for (place, disk) in [
        ("[mounts.a]\ndisks = ['A']", "'A'"),
        ("[mounts.a]\ndisks = [{ id = 'A', partition = 2 }]", "{ id = 'A', target = 'vdb' }"),
        ("[guests.a]\ndisks = ['A']", "{ id = 'A', readonly = true }"),
        ("[guests.a]\ndisks = [{ uuid = '12' }]", "{ uuid = '12' }"),
    ] {
        let (key, message) = problem(&format!("{place}\n[guests.b]\ndisks = [{disk}]"));
        assert!(
            key.starts_with("guests.b.disks[0]") && message.contains(" on line 2 already"),
            "{key}: {message}"
        );
        problem(&format!("[guests.b]\ndisks = [{disk}]\n{place}"));
    }
    read("[guests.a]\ndisks = [{ id = 'A', uuid = '12' }]\n[mounts.a]\ndisks = [{ id = 'A', uuid = '34' }]");
}

#[test]
fn usb_devices_collide_when_equal() {
    for (first, second, expected) in [
        ("'051d:0002'", "'051D:0002'", true),
        ("'051d:0002'", "'051d:0003'", false),
        ("'051d:0002'", "{ id = '051d:0002' }", true),
        ("'051d:0002'", "{ id = '051d:0002', serial = 'x' }", false),
        ("{ id = '051d:0002', serial = 'x' }", "{ id = '051d:0002', serial = 'x' }", true),
        ("{ id = '051d:0002', serial = 'x' }", "{ id = '051d:0002', serial = 'y' }", false),
        ("{ id = '051d:0003', serial = 'x' }", "{ id = '051d:0002', serial = 'x' }", false),
        ("{ port = '1-4' }", "{ port = '1-4' }", true),
        ("{ port = '1-4' }", "{ port = '1-4.1' }", false),
        ("{ port = '1-4' }", "'051d:0002'", false),
    ] {
        for text in [
            format!("[guests.a]\nusb = [{first}]\n[guests.b]\nusb = [{second}]"),
            format!("[guests.b]\nusb = [{first}]\n[guests.a]\nusb = [{second}]"),
            format!("[guests.a]\nusb = [{first}, {second}]"),
        ] {
            if expected {
                assert!(problem(&text).1.contains("is claimed by guests."), "{text}");
            } else {
                read(&text);
            }
        }
    }
}

#[test]
fn thousands_that_share_a_name_are_refused_instead_of_compared() {
    let list = |count: usize| {
        (0..count).map(|at| format!("{{ id = 'A', uuid = '{at:x}' }}")).collect::<Vec<_>>().join(",\n")
    };
    read(&format!("[mounts.a]\ndisks = [{}]", list(1000)));
    let (_, message) = problem(&format!("[mounts.a]\ndisks = [{}]", list(1001)));
    assert_eq!(message, "more than 1000 disks share `A`");
}
