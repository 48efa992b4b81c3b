//! What is on a disk is looked at, compared with what was asked for, and never guessed.

use mydisks::disk::{ErrorKind, Order};

use crate::disk_fixture::{Image, MIB, prepare_now, put_away, run, words};
use crate::fails;

#[test]
fn a_damaged_file_system_is_damaged_in_the_kernels_words() {
    let checksum = Image::of("ext4");
    // In the superblock's reserved part, which only its checksum covers.
    checksum.write(1024 + 0x3F0, b"damage");
    let descriptors = Image::of("ext4");
    // The block after the superblock's: 1 KiB blocks at this size.
    descriptors.write(2048, &[0xA5; 512]);
    for image in [checksum, descriptors] {
        let error = fails(&image, &image.order());
        assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
        assert!(error.message.contains("EXT4-fs (loop"), "{error}");
    }
    let xfs = Image::of("xfs");
    xfs.write(200, b"damage");
    let error = fails(&xfs, &xfs.order());
    assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
}

#[test]
fn what_is_nothing_unknown_or_ambiguous_is_not_guessed() {
    let nothing = Image::empty(MIB);
    let error = fails(&nothing, &nothing.order());
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("Nothing known"), "{error}");

    let swap = Image::empty(MIB);
    run("mkswap", &[swap.path.to_str().unwrap()]);
    let error = fails(&swap, &swap.order());
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("swap, which is not supported"), "{error}");

    let two = Image::empty(4 * MIB);
    two.write(0, b"-rom1fs-");
    two.write(1024, b"\xf5\xfc\x01\xa5");
    let error = fails(&two, &two.order());
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("wipefs"), "{error}");
}

#[test]
fn a_uuid_or_file_system_other_than_configured_is_refused() {
    let image = Image::of("ext4");
    let uuid = run("blkid", &["-p", "-o", "value", "-s", "UUID", image.path.to_str().unwrap()]);
    put_away(prepare_now(&Order { uuid: Some(uuid.to_uppercase()), ..image.order() }).unwrap());
    let other = Some("123e4567-e89b-12d3-a456-426614174000".to_owned());
    let error = fails(&image, &Order { uuid: other.clone(), ..image.order() });
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains(&uuid), "{error}");
    let error = fails(&image, &Order { luks_uuid: other, ..image.order() });
    assert_eq!(error.kind, ErrorKind::WrongContent);
    let error = fails(&image, &Order { filesystem: Some("xfs".to_owned()), ..image.order() });
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("holds ext4"), "{error}");
    put_away(prepare_now(&Order { filesystem: Some("ext4".to_owned()), ..image.order() }).unwrap());
}

#[test]
fn a_hint_is_never_trusted() {
    let image = Image::of("ext4");
    for hint in ["xfs", "ext2", "vfat", "crypto_LUKS", "no-such-type", ""] {
        // An option that only the right driver knows.
        let options = words(&["data=ordered"]);
        let order = Order { hint: Some(hint.to_owned()), options, ..image.order() };
        let prepared = prepare_now(&order).unwrap_or_else(|error| panic!("{hint}: {error}"));
        assert_eq!(prepared.filesystem, "ext4", "{hint}");
        put_away(prepared);
    }
    let hint = Some("ext4".to_owned());
    let order = Order { hint: hint.clone(), options: words(&["nonsense"]), ..image.order() };
    assert_eq!(fails(&image, &order).kind, ErrorKind::BadOption);
    let nothing = Image::empty(MIB);
    let order = Order { hint: hint.clone(), ..nothing.order() };
    assert_eq!(fails(&nothing, &order).kind, ErrorKind::WrongContent);
    let luks = Image::with_luks_header();
    assert_eq!(fails(&luks, &Order { hint: hint.clone(), ..luks.order() }).kind, ErrorKind::NoKey);
    let key_file = Some(luks.key(b"key"));
    let order = Order { hint: hint.clone(), key_file, ..image.order() };
    assert_eq!(fails(&image, &order).kind, ErrorKind::WrongContent);
    let damaged = Image::of("ext4");
    damaged.write(2048, &[0xA5; 512]);
    assert_eq!(fails(&damaged, &Order { hint, ..damaged.order() }).kind, ErrorKind::Damaged);
}

#[test]
fn nobody_can_swap_in_a_plain_disk_for_an_encrypted_one() {
    let image = Image::of("ext4");
    let error = fails(&image, &Order { key_file: Some(image.key(b"key")), ..image.order() });
    assert_eq!(error.kind, ErrorKind::WrongContent);
    assert!(error.message.contains("not encrypted"), "{error}");
    let luks = Image::with_luks_header();
    assert_eq!(fails(&luks, &luks.order()).kind, ErrorKind::NoKey);
    let missing = Some(luks.directory.path().join("missing"));
    assert_eq!(fails(&luks, &Order { key_file: missing, ..luks.order() }).kind, ErrorKind::NoKey);
    let other = Some("00000000-e89b-12d3-a456-426614174000".to_owned());
    let order = Order { key_file: Some(luks.key(b"key")), luks_uuid: other, ..luks.order() };
    assert_eq!(fails(&luks, &order).kind, ErrorKind::WrongContent);
}
