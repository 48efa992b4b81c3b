//! Commands as people type them, without hardware and without a daemon: what they print, and how they end.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_mydisks");

/// As the lists were: edited on several systems, by hand.
const OLD_LIST: &str = "\u{feff}# what goes where\r\n\r\nusb-051D:0002\tguest1\r\n  usb-1-4.2   guest1 # by port\r\n\
    WDC_75S\tguest2\tvdb\r\nWDC_77S backup\nWDC_78S-part2 backup\n#WDC_79S gone\nWDC_77S backup\nWDC_77S other\n";

struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn mydisks(words: &[&str]) -> Finished {
    with_input(words, b"")
}

fn with_input(words: &[&str], input: &[u8]) -> Finished {
    let mut command = Command::new(BINARY);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that needs no input closes it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A file that the program trusts when it runs as root.
fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn with_file(name: &str, text: &str, then: impl FnOnce(&str)) {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), name, text);
    then(path.to_str().unwrap());
}

#[test]
fn what_import_prints_is_accepted_by_check_and_what_it_leaves_out_is_noted() {
    with_file("devices", OLD_LIST, |list| {
        let imported = mydisks(&["import", list]);
        assert_eq!(imported.code, Some(0), "{}", imported.stderr);
        let notes: Vec<&str> = imported.stderr.lines().collect();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with(list) && notes[0].contains("line 9"), "{notes:?}");
        assert!(notes[1].contains("line 10"), "{notes:?}");
        for expected in
            ["\"051d:0002\"", "port = \"1-4.2\"", "target = \"vdb\"", "{ id = \"WDC_78S\", partition = 2 }"]
        {
            assert!(imported.stdout.contains(expected), "{expected}: {}", imported.stdout);
        }
        assert!(
            !imported.stdout.contains('\r') && !imported.stdout.contains("WDC_79S"),
            "{}",
            imported.stdout
        );
        with_file("mydisks.toml", &imported.stdout, |config| {
            let checked = mydisks(&["check", config]);
            assert_eq!(checked.stdout, format!("{config}: 1 mount, 2 guests, no errors\n"));
            assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
        });
        let from_input = with_input(&["import", "-"], OLD_LIST.as_bytes());
        assert_eq!((from_input.code, from_input.stdout), (Some(0), imported.stdout));
    });
}

#[test]
fn import_prints_nothing_of_a_list_with_lines_that_it_cannot_understand() {
    with_file("devices", "WDC_1 backup\nWDC_2\nusb-051d:0002 guest\na b c d\n", |list| {
        let imported = mydisks(&["import", list]);
        assert_eq!((imported.code, imported.stdout.as_str()), (Some(1), ""));
        assert!(
            imported.stderr.contains("line 2") && imported.stderr.contains("line 4"),
            "{}",
            imported.stderr
        );
        assert!(
            !imported.stderr.contains("line 1:") && !imported.stderr.contains("line 3:"),
            "{}",
            imported.stderr
        );
    });
    let missing = mydisks(&["import", "/no/such/list"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(1), ""));
    assert!(missing.stderr.starts_with("mydisks: cannot read /no/such/list: "), "{}", missing.stderr);
}

#[test]
fn check_tells_every_error_and_fails() {
    with_file(
        "mydisks.toml",
        "[guests.g]\ndisks = [{ image = '/a' }]\n[mounts.m]\ndisk = ['A']\n",
        |config| {
            let checked = mydisks(&["check", config]);
            assert_eq!((checked.code, checked.stdout.as_str()), (Some(1), ""));
            for expected in [
                "guests.g.disks[0].image: is no device",
                "did you mean `disks`?",
                &format!("errors in {config}"),
            ] {
                assert!(checked.stderr.contains(expected), "{expected}: {}", checked.stderr);
            }
        },
    );
    let missing = mydisks(&["check", "/no/such/config"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("/no/such/config"), "{}", missing.stderr);
}

#[test]
fn attach_and_detach_without_a_daemon_say_where_none_is() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().to_str().unwrap();
    for words in [
        &["attach", "051d:0002", "guest1", "--mountpoint", nowhere][..],
        &["attach", "WDC_1", "--mountpoint", nowhere],
        &["detach", "/dev/sdb", "--mountpoint", nowhere],
    ] {
        let refused = mydisks(words);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{words:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
        assert!(
            refused.stderr.starts_with("mydisks: ") && refused.stderr.contains(nowhere),
            "{}",
            refused.stderr
        );
    }
    for words in [&["attach"][..], &["detach"], &["detach", "a", "b"], &["import"]] {
        let misused = mydisks(words);
        assert_eq!((misused.code, misused.stdout.as_str()), (Some(2), ""), "{words:?}");
        assert!(misused.stderr.contains("Usage: mydisks"), "{}", misused.stderr);
    }
}

#[test]
fn help_goes_to_standard_output_and_is_no_failure() {
    for command in
        ["mount", "status", "devices", "check", "umount", "eject", "import", "attach", "detach", "reload"]
    {
        let help = mydisks(&[command, "--help"]);
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command}");
        assert!(help.stdout.contains(&format!("Usage: mydisks {command}")), "{}", help.stdout);
    }
    let all = mydisks(&["--help"]).stdout;
    assert!(all.contains("attach") && !all.contains("for-udev"), "what udev runs is not for people: {all}");
}

#[test]
fn devices_fails_with_the_errors_of_a_config_that_is_not_valid() {
    with_file("mydisks.toml", "mounts = 1\n", |config| {
        let devices = mydisks(&["devices", "--config", config]);
        assert_eq!((devices.code, devices.stdout.as_str()), (Some(1), ""));
        assert!(devices.stderr.contains("mounts: must be a table"), "{}", devices.stderr);
    });
    let missing = mydisks(&["devices", "-c", "/no/such/config"]);
    assert_eq!(missing.code, Some(1), "{}", missing.stdout);
}

#[test]
fn what_udev_runs_is_silent_and_succeeds_whatever_is_wrong() {
    with_file("mydisks.toml", "[mounts.a]\ndisks = ['A']\n", |config| {
        with_file("broken.toml", "mounts = ", |broken| {
            let whole = |path: &str| vec![("DEVPATH", path.to_owned()), ("DEVTYPE", "disk".to_owned())];
            for (file, environment) in [
                ("/no/such/config", whole("/devices/none")),
                (broken, whole("/devices/none")),
                (config, Vec::new()),
                (config, whole("/devices/none")),
                (config, whole("/../etc")),
            ] {
                let mut command = Command::new(BINARY);
                command.args(["properties-for-udev", "-c", file]).env_clear().envs(environment);
                let output = command.output().unwrap();
                assert_eq!(output.status.code(), Some(0), "{file}");
                assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
            }
        });
    });
}
