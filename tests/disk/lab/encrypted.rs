//! Headers and keys: what is opened with the whole key, and what is refused.

use std::path::Path;
use std::time::{Duration, Instant};

use mydisks::disk::unmount::{Unmount, unmount};
use mydisks::disk::{Cancel, Closing, ErrorKind, Locked, Order, leftovers, prepare};
use rustix::fs::{Mode, OFlags, openat};

use super::{FAST, KEY, encrypted, is_unlocking, leaves_nothing, luks2, mapping_exists, unique};
use crate::attach;
use crate::disk_fixture::{
    Image, LoopDisk, MIB, lock_now, make_filesystem, prepare_now, put_away, run, wait_for, words,
};

#[test]
#[ignore = "needs the lab VM"]
fn luks1_and_luks2_are_opened_with_the_whole_key_file_and_closed_again() {
    for kind in ["luks1", "luks2"] {
        let fast = if kind == "luks1" { &FAST[2..] } else { &FAST[..] };
        let (image, order) = encrypted(kind, fast, Some("ext4"), 64 * MIB);
        let prepared = prepare_now(&Order { hint: Some("crypto_LUKS".to_owned()), ..order.clone() }).unwrap();
        assert_eq!(prepared.opened.mapping.as_ref(), Some(&order.mapping), "{kind}");
        assert_eq!(prepared.filesystem, "ext4");
        let flags = OFlags::CREATE | OFlags::WRONLY;
        drop(openat(&prepared.root, "file", flags, Mode::RUSR).unwrap());

        attach(&prepared, image.directory.path());
        let mounts = leftovers::mounts(image.directory.path()).unwrap();
        assert_eq!(mounts[0].source.to_str().unwrap(), format!("/dev/mapper/{}", order.mapping));
        assert_eq!(leftovers::opened(&mounts[0]).as_ref(), Some(&prepared.opened));
        let left = leftovers::mappings().unwrap();
        let ours = left.iter().find(|mapping| mapping.name == order.mapping).unwrap();
        assert!(!ours.is_dead && ours.open_count > 0 && ours.devnum == prepared.opened.devnum);

        let opened = prepared.opened.clone();
        let place = image.directory.path().join("place");
        assert!(matches!(unmount(&place, prepared.mount_id, true), Unmount::Unmounted));
        drop(prepared);
        assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed), "{kind}");
        assert!(!mapping_exists(&order.mapping));
        assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed), "twice is fine");
        leaves_nothing(&image, &order);
    }
}

#[test]
#[ignore = "needs the lab VM"]
fn a_wrong_key_is_rejected() {
    let (image, order) = luks2("ext4");
    image.key(b"another key");
    let error = prepare_now(&order).unwrap_err();
    println!("{error}");
    assert_eq!(error.kind, ErrorKind::KeyRejected, "{error}");
    leaves_nothing(&image, &order);
}

#[test]
#[ignore = "needs the lab VM"]
fn a_damaged_header_is_damaged() {
    let (luks2, luks2_order) = luks2("ext4");
    // The JSON areas of both header copies.
    luks2.write(4096, &[0; 64]);
    luks2.write(16384 + 4096, &[0; 64]);
    let (luks1, luks1_order) = encrypted("luks1", &FAST[2..], Some("ext4"), 64 * MIB);
    // Offset of the payload, and the hash's name.
    luks1.write(72, &[0xFF; 40]);
    for (image, order) in [(luks2, luks2_order), (luks1, luks1_order)] {
        let error = prepare_now(&order).unwrap_err();
        println!("{error}");
        assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
        leaves_nothing(&image, &order);
    }
}

#[test]
#[ignore = "needs the lab VM"]
fn a_header_with_the_null_cipher_is_refused_however_it_was_opened() {
    for kind in ["luks1", "luks2"] {
        let fast = if kind == "luks1" { &FAST[2..] } else { &FAST[..] };
        let arguments: Vec<&str> = fast.iter().copied().chain(["--cipher", "cipher_null-ecb"]).collect();
        let image = Image::empty(64 * MIB);
        // cryptsetup takes nothing but the empty passphrase for such a header.
        let empty = image.directory.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        let (path, empty) = (image.path.to_str().unwrap(), empty.to_str().unwrap());
        let mut all = vec!["luksFormat", "--batch-mode", "--type", kind, "--key-file", empty];
        all.extend(&arguments);
        all.push(path);
        run("cryptsetup", &all);
        let order =
            Order { mapping: unique("mydisks-test"), key_file: Some(image.key(KEY)), ..image.order() };
        let error = prepare_now(&order).unwrap_err();
        println!("{kind}: {:?}: {error}", error.kind);
        assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
        assert!(error.message.contains("tampered"), "{error}");
        leaves_nothing(&image, &order);

        let disk = LoopDisk::new(&image.path, &[]);
        let node = disk.node.to_str().unwrap();
        run("cryptsetup", &["open", "--key-file", empty, node, &order.mapping]);
        make_filesystem("ext4", &Path::new("/dev/mapper").join(&order.mapping));
        let taken = Order { source: disk.order(&[]).source, ..order.clone() };
        let error = prepare_now(&taken).unwrap_err();
        assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
        assert!(error.message.contains("does not encrypt"), "{error}");
        run("cryptsetup", &["close", &order.mapping]);
    }
}

#[test]
#[ignore = "needs the lab VM"]
fn what_is_inside_is_looked_at_and_the_mapping_closed_if_it_is_wrong() {
    let (image, order) = encrypted("luks2", &FAST, None, 64 * MIB);
    let error = prepare_now(&order).unwrap_err();
    assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
    leaves_nothing(&image, &order);
    let (image, order) = luks2("ext4");
    let error = prepare_now(&Order { filesystem: Some("xfs".to_owned()), ..order.clone() }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
    leaves_nothing(&image, &order);
    let error = prepare_now(&Order { options: words(&["nonsense"]), ..order.clone() }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadOption, "{error}");
    leaves_nothing(&image, &order);
}

#[test]
#[ignore = "needs the lab VM"]
fn the_uuid_of_an_encrypted_disk_may_be_the_headers_or_the_file_systems() {
    let (image, order) = luks2("ext4");
    let header = run("cryptsetup", &["luksUUID", image.path.to_str().unwrap()]);
    let luks_uuid = Some(header.clone());
    let prepared = prepare_now(&Order { luks_uuid, uuid: Some(header), ..order.clone() }).unwrap();
    let mapping = format!("/dev/mapper/{}", order.mapping);
    let inside = run("blkid", &["-p", "-o", "value", "-s", "UUID", &mapping]);
    put_away(prepared);
    put_away(prepare_now(&Order { uuid: Some(inside), ..order.clone() }).unwrap());
    let other = Some("00000000-e89b-12d3-a456-426614174000".to_owned());
    let error = prepare_now(&Order { uuid: other, ..order.clone() }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::WrongContent, "{error}");
    leaves_nothing(&image, &order);
}

#[test]
#[ignore = "needs the lab VM"]
fn a_slow_key_ends_at_the_deadline_and_when_cancelled_and_leaves_nothing() {
    // Far more than this machine does in the time given.
    let slow = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "4000"];
    let (image, order) = encrypted("luks2", &slow, None, 64 * MIB);
    let key = image.key(KEY);
    let (key, path) = (key.to_str().unwrap(), image.path.to_str().unwrap());
    run(
        "cryptsetup",
        &["luksAddKey", "--batch-mode", "--key-file", key, "--key-slot", "1", "--pbkdf", "argon2id"]
            .into_iter()
            .chain([
                "--pbkdf-force-iterations",
                "4",
                "--pbkdf-memory",
                "400000",
                "--pbkdf-parallel",
                "1",
                path,
                key,
            ])
            .collect::<Vec<_>>(),
    );
    run("cryptsetup", &["luksKillSlot", "--batch-mode", path, "0"]);
    let late = Order { deadline: Instant::now() + Duration::from_secs(2), ..order.clone() };
    let error = prepare_now(&late).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
    assert!(error.message.contains("did not end in time and was killed"), "{error}");
    leaves_nothing(&image, &order);

    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| prepare(&order, &cancel));
        wait_for("cryptsetup to start", || is_unlocking(&order));
        cancel.cancel();
        let error = work.join().unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::TimedOut);
        assert!(error.message.contains("was cancelled and killed"), "{error}");
    });
    leaves_nothing(&image, &order);
}

#[test]
#[ignore = "needs the lab VM"]
fn a_write_protected_encrypted_disk_is_read_only() {
    let (image, order) = luks2("ext4");
    let disk = LoopDisk::new(&image.path, &["--read-only"]);
    let order = Order { source: disk.order(&[]).source, ..order };
    let prepared = prepare_now(&order).unwrap();
    assert!(prepared.read_only && prepared.notes.iter().any(|note| note.contains("write-protected")));
    put_away(prepared);
}

#[test]
#[ignore = "needs the lab VM"]
fn authenticated_encryption_has_a_device_between_and_is_understood() {
    let arguments: Vec<&str> =
        FAST.into_iter().chain(["--integrity", "hmac-sha256", "--integrity-no-wipe"]).collect();
    let (image, order) = encrypted("luks2", &arguments, None, 64 * MIB);
    // Unwiped sectors cannot be read: nothing is recognised, or reading fails. What matters is that the mapping is
    // proven to be over this disk, and closed.
    let error = prepare_now(&order).unwrap_err();
    println!("{error}");
    assert!(!error.message.contains("another device"), "{error}");
    leaves_nothing(&image, &order);
    assert!(!mapping_exists(&format!("{}_dif", order.mapping)));
}
