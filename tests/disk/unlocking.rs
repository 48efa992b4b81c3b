//! What `cryptsetup` gets, and what comes of whatever it does: a script stands in for it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mydisks::disk::{Cancel, Cryptsetup, DiskError, ErrorKind, Order, prepare_with};

use crate::disk_fixture::{Image, run, wait_for};
use crate::{fails, leaves_nothing};

#[test]
fn what_is_cancelled_or_late_before_it_begins_does_nothing() {
    let image = Image::of("ext4");
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    let cryptsetup = Cryptsetup::default();
    assert_eq!(prepare_with(&cryptsetup, &image.order(), &cancel).unwrap_err().kind, ErrorKind::TimedOut);
    let late = Order { deadline: Instant::now(), ..image.order() };
    assert_eq!(fails(&image, &late).kind, ErrorKind::TimedOut);
}

#[test]
fn cryptsetup_gets_the_checked_key_on_stdin_and_nothing_from_a_shell() {
    let image = Image::with_luks_header();
    let log = image.directory.path().join("log");
    let script = format!("{{ printf '%s\\n' \"$@\"; cat; }} > {}; exit 2", log.display());
    let error = unlock_with(&image, &script, b"top\nsecret\n");
    assert_eq!(error.kind, ErrorKind::KeyRejected);
    let log = std::fs::read_to_string(log).unwrap();
    let (arguments, key) = log.split_at(log.find("top").unwrap());
    assert_eq!(key, "top\nsecret\n");
    let arguments: Vec<_> = arguments.lines().collect();
    assert_eq!(arguments[0], "open");
    assert!(arguments.windows(2).any(|pair| pair == ["--key-file", "-"]));
    assert!(arguments[arguments.len() - 2].starts_with("/dev/loop"));
    assert!(arguments[arguments.len() - 1].starts_with("mydisks-test-"));
}

#[test]
fn cryptsetup_gets_the_header_that_was_checked_and_none_that_was_refused() {
    let image = Image::with_luks_header();
    let copy = image.directory.path().join("copy");
    let script = format!(
        "while [ $# -gt 0 ]; do if [ \"$1\" = --header ]; then cp \"$2\" {}; fi; shift; done; exit 2",
        copy.display()
    );
    assert_eq!(unlock_with(&image, &script, b"key").kind, ErrorKind::KeyRejected);
    let (given, disk) = (std::fs::read(&copy).unwrap(), std::fs::read(&image.path).unwrap());
    assert_eq!(given[..592], disk[..592]);
    std::fs::remove_file(&copy).unwrap();

    image.write(8, b"cipher_null");
    let error = unlock_with(&image, &script, b"key");
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("cipher_null") && error.message.contains("tampered"), "{error}");
    assert!(!copy.exists(), "cryptsetup was started");
}

#[test]
fn however_cryptsetup_fails_it_is_said_and_nothing_is_left() {
    let image = Image::with_luks_header();
    for (script, kind, word) in [
        (
            "echo No key available with this passphrase. >&2; exit 2",
            ErrorKind::KeyRejected,
            "No key available",
        ),
        ("echo Device /dev/x is not a valid LUKS device. >&2; exit 1", ErrorKind::Damaged, "not a valid"),
        ("exit 3", ErrorKind::Exhausted, "memory"),
        ("exit 5", ErrorKind::Busy, "in use"),
        ("printf '\\033[31m\\377\\0garbage\\n\\n' >&2; exit 99", ErrorKind::Other, "garbage"),
        ("kill -SEGV $$", ErrorKind::Other, "signal 11"),
        // It lies: there is no mapping.
        ("exit 0", ErrorKind::Other, "is not there"),
    ] {
        let error = unlock_with(&image, script, b"key");
        assert_eq!(error.kind, kind, "{script}: {error}");
        assert!(error.message.contains(word), "{script}: {error}");
        assert!(!error.message.contains(char::is_control), "{error:?}");
    }
    let order = Order { key_file: Some(image.key(b"key")), ..image.order() };
    let nowhere = Cryptsetup::in_directories(vec![image.directory.path().join("nowhere")]);
    let error = prepare_with(&nowhere, &order, &Cancel::new().unwrap()).unwrap_err();
    assert!(error.message.contains("not installed"), "{error}");
}

#[test]
fn a_cryptsetup_that_hangs_is_killed_at_the_deadline_and_when_cancelled() {
    let image = Image::with_luks_header();
    let started = image.directory.path().join("started");
    let cryptsetup =
        fake_cryptsetup(&image, &format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", started.display()));
    let is_running = || {
        let pid = std::fs::read_to_string(&started).unwrap();
        Path::new("/proc").join(pid.trim()).exists()
    };
    let key_file = Some(image.key(b"key"));

    let deadline = Instant::now() + Duration::from_secs(2);
    let order = Order { key_file: key_file.clone(), deadline, ..image.order() };
    let error = prepare_with(&cryptsetup, &order, &Cancel::new().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut);
    assert!(!is_running(), "still running after the deadline");
    std::fs::remove_file(&started).unwrap();

    let order = Order { key_file, ..image.order() };
    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| prepare_with(&cryptsetup, &order, &cancel));
        wait_for("the program to start", || started.exists());
        cancel.cancel();
        assert_eq!(work.join().unwrap().unwrap_err().kind, ErrorKind::TimedOut);
    });
    assert!(!is_running(), "still running after the cancellation");
    leaves_nothing(&image);
}

#[test]
fn a_cryptsetup_that_hangs_in_the_kernel_is_left_behind() {
    let image = Image::with_luks_header();
    // Whoever writes to a frozen file system waits beyond SIGKILL.
    let frozen = Frozen::new();
    let started = image.directory.path().join("started");
    let file = frozen.place.join("file");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; : > {1}", started.display(), file.display());
    let cryptsetup = fake_cryptsetup(&image, &script);
    let deadline = Instant::now() + Duration::from_secs(2);
    let order = Order { key_file: Some(image.key(b"key")), deadline, ..image.order() };
    let error = prepare_with(&cryptsetup, &order, &Cancel::new().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut);
    assert!(error.message.contains("was killed, but hangs in the kernel"), "{error}");
    let pid = std::fs::read_to_string(&started).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    leaves_nothing(&image);
    drop(frozen);
    wait_for("the process to be gone", || !process.exists());
}

fn unlock_with(image: &Image, script: &str, key: &[u8]) -> DiskError {
    let order = Order { key_file: Some(image.key(key)), ..image.order() };
    let cryptsetup = fake_cryptsetup(image, script);
    let error = prepare_with(&cryptsetup, &order, &Cancel::new().unwrap()).map(|_| ()).unwrap_err();
    leaves_nothing(image);
    error
}

/// A directory with a `cryptsetup` that is this script.
fn fake_cryptsetup(image: &Image, script: &str) -> Cryptsetup {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let directory = image.directory.path().join(format!("bin{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&directory).unwrap();
    let program = directory.join("cryptsetup");
    // Written by another process: a descriptor for writing that a fork of a parallel test inherits for a moment would
    // make the execution fail with ETXTBSY.
    let written = Command::new("/bin/sh")
        .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\""])
        .arg(&program)
        .arg(script)
        .status();
    assert!(written.unwrap().success());
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    Cryptsetup::in_directories(vec![directory])
}

/// A file system that takes no write until it is dropped.
struct Frozen {
    place: PathBuf,
    _image: Image,
}

impl Frozen {
    fn new() -> Self {
        let image = Image::of("ext4");
        let place = image.directory.path().join("frozen");
        std::fs::create_dir(&place).unwrap();
        run("mount", &["-o", "loop", image.path.to_str().unwrap(), place.to_str().unwrap()]);
        run("fsfreeze", &["--freeze", place.to_str().unwrap()]);
        Self { place, _image: image }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let place = self.place.to_str().unwrap();
        run("fsfreeze", &["--unfreeze", place]);
        // Whoever hung is in it for a moment still.
        run("umount", &["--lazy", place]);
    }
}
