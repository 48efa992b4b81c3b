//! Whole headers, as files.

use super::*;
use luks2::tests::{copy, metadata_of_a_disk};
use proptest::prelude::*;
use serde_json::json;

const SECOND: u64 = 16384;

fn disk(parts: &[(u64, &[u8])]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(20 << 20).unwrap();
    for (offset, bytes) in parts {
        file.write_all_at(bytes, *offset).unwrap();
    }
    file
}

fn good(offset: u64) -> Vec<u8> {
    copy(offset, metadata_of_a_disk().to_string().as_bytes())
}

fn forged(offset: u64) -> Vec<u8> {
    let mut metadata = metadata_of_a_disk();
    metadata["keyslots"]["0"]["area"]["encryption"] = json!("cipher_null-ecb");
    copy(offset, metadata.to_string().as_bytes())
}

fn bytes(header: &Header, offset: u64, length: usize) -> Vec<u8> {
    read_up_to(header.image.as_fd(), offset, length).unwrap()
}

#[test]
fn what_was_checked_is_what_cryptsetup_gets() {
    let key = [7; 1000];
    let disk = disk(&[(0, &good(0)), (SECOND, &good(SECOND)), (32768, &key), (16 << 20, &key)]);
    let header = read_from(disk.as_fd()).unwrap();
    assert_eq!((header.kind, header.is_partly_damaged), ("luks2", false));
    assert_eq!(header.uuid, "2cc17d65-7f29-410b-ba62-d26b11321b55");
    assert_eq!(header.image.metadata().unwrap().len(), 16 << 20);
    assert_eq!(bytes(&header, 0, 16384), good(0));
    assert_eq!(bytes(&header, SECOND, 16384), good(SECOND));
    assert_eq!(bytes(&header, 32768, 1000), key);
    assert_eq!(std::fs::read(header.path()).unwrap().len(), 16 << 20);
}

#[test]
fn one_bad_copy_is_enough_to_refuse() {
    for parts in [[(0, forged(0)), (SECOND, good(SECOND))], [(0, good(0)), (SECOND, forged(SECOND))]] {
        let disk = disk(&[(parts[0].0, &parts[0].1), (parts[1].0, &parts[1].1)]);
        assert!(matches!(read_from(disk.as_fd()), Err(Fault::Forged(_))));
    }
    let mut metadata = metadata_of_a_disk();
    metadata["keyslots"]["0"]["area"]["encryption"] = json!("cipher_null-ecb");
    metadata["config"]["keyslots_size"] = json!("4194304");
    // A forged one in each other place where cryptsetup would look if there were no first one.
    for size in &SIZES[1..] {
        let mut hidden = copy(*size, metadata.to_string().as_bytes());
        hidden[8..16].copy_from_slice(&size.to_be_bytes());
        hidden.resize(usize::try_from(*size).unwrap(), 0);
        let disk = disk(&[(0, &good(0)), (SECOND, &good(SECOND)), (*size, &hidden)]);
        assert!(matches!(read_from(disk.as_fd()), Err(Fault::Forged(_))), "{size}");
    }
}

#[test]
fn a_damaged_copy_is_left_out_and_the_other_one_used() {
    let zeros = [0; 64];
    for (damaged, other) in [(0, SECOND), (SECOND, 0)] {
        let disk = disk(&[(0, &good(0)), (SECOND, &good(SECOND)), (damaged + 4096, &zeros)]);
        let header = read_from(disk.as_fd()).unwrap();
        assert!(header.is_partly_damaged);
        assert_eq!(bytes(&header, damaged, 16384), vec![0; 16384]);
        assert_eq!(bytes(&header, other, 16384), good(other));
    }
    let disk = disk(&[(0, &good(0)), (SECOND, &good(SECOND)), (4096, &zeros), (SECOND + 4096, &zeros)]);
    assert!(matches!(read_from(disk.as_fd()), Err(Fault::Damaged(_))));
}

#[test]
fn key_material_that_looks_like_a_copy_loses_its_magic() {
    // Not understood here, but perhaps elsewhere.
    let lenient = copy(32768, b"{ 'keyslots': {} }");
    let disk = disk(&[(0, &good(0)), (SECOND, &good(SECOND)), (32768, &lenient)]);
    let header = read_from(disk.as_fd()).unwrap();
    assert_eq!(bytes(&header, 32768, 6), [0; 6]);
    assert_eq!(bytes(&header, 32774, 1000), lenient[6..1006]);
}

#[test]
fn copies_of_two_disks_are_no_header() {
    let mut other = good(SECOND);
    other[168] ^= 1;
    let disk = disk(&[(0, &good(0)), (SECOND, &other)]);
    assert!(matches!(read_from(disk.as_fd()), Err(Fault::Damaged(_))));
}

#[test]
fn a_luks1_header_is_kept_with_its_key() {
    let disk = disk(&[(0, &luks1::tests::header("aes", "xts-plain64")), (4096, &[7; 1000])]);
    let header = read_from(disk.as_fd()).unwrap();
    assert_eq!((header.kind, header.is_partly_damaged), ("luks1", false));
    assert_eq!(bytes(&header, 4096, 1000), [7; 1000]);
    let cut = tempfile::tempfile().unwrap();
    cut.write_all_at(&luks1::tests::header("aes", "xts-plain64")[..500], 0).unwrap();
    assert!(matches!(read_from(cut.as_fd()), Err(Fault::Damaged(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_on_a_disk_are_judged_without_a_panic(
        place in prop::sample::select(&[0, 4, 72, 104, 208, 256, 4096, 16384, 20480][..]),
        noise in prop::collection::vec(any::<u8>(), 1..64),
        is_first_version in any::<bool>(),
    ) {
        let first = if is_first_version { luks1::tests::header("aes", "xts-plain64") } else { good(0) };
        let disk = disk(&[(0, &first), (place, &noise)]);
        if let Ok(header) = read_from(disk.as_fd()) {
            prop_assert!(header.image.metadata().unwrap().len() <= 1 << 41);
        }
    }
}
