//! The binary header of LUKS version 1 (LUKS On-Disk Format Specification 1.2.3): what of it decides whether the disk
//! is encrypted and whether the key matters. Knows nothing of where the bytes come from.

use super::cipher::{SHORTEST_KEY, encrypts, hashes};
use super::{Contents, Fault, number, text};

/// Length of the header, in bytes; the key material follows.
pub(super) const LENGTH: usize = 592;

const SECTOR: u64 = 512;
const STRIPES: u64 = 4000;
const LONGEST_KEY: u64 = 128;
const KEYSLOTS: usize = 8;
const ENABLED: u64 = 0x00AC_71F3;

/// Checks a header that begins with the magic and version 1.
pub(super) fn check(header: &[u8]) -> Result<Contents, Fault> {
    let [cipher, mode, hash] = [8, 40, 72].map(|start| text(header, start..start + 32));
    let encryption = format!("{cipher}-{mode}");
    if !encrypts(&encryption) {
        return Err(Fault::forged(format!("names the cipher {encryption:?}, which is not known to encrypt")));
    }
    if !hashes(&hash) {
        return Err(Fault::damaged(format!("names the hash {hash:?}, which is not known")));
    }
    let [payload, key_size] = [104, 108].map(|start| number(header, start..start + 4));
    if !(SHORTEST_KEY..=LONGEST_KEY).contains(&key_size) {
        return Err(Fault::forged(format!("has keys of {key_size} bytes")));
    }
    let material = (key_size * STRIPES).next_multiple_of(SECTOR);
    let payload = payload * SECTOR;
    let mut areas = Vec::new();
    for slot in 0..KEYSLOTS {
        let start = 208 + slot * 48;
        if number(header, start..start + 4) != ENABLED {
            continue;
        }
        let iterations = number(header, start + 4..start + 8);
        let offset = number(header, start + 40..start + 44) * SECTOR;
        let stripes = number(header, start + 44..start + 48);
        if iterations == 0 {
            return Err(Fault::forged(format!("derives the key of slot {slot} in no step at all")));
        }
        if stripes != STRIPES || offset < LENGTH as u64 || offset + material > payload {
            return Err(Fault::damaged(format!("has its key slot {slot} in an impossible place")));
        }
        areas.push(offset..offset + material);
    }
    Ok(Contents { uuid: text(header, 168..208), areas, length: payload })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header with one slot, as `cryptsetup luksFormat --type luks1` lays it out.
    pub(in super::super) fn header(cipher: &str, mode: &str) -> Vec<u8> {
        let mut header = vec![0; LENGTH];
        let mut put = |start: usize, bytes: &[u8]| header[start..start + bytes.len()].copy_from_slice(bytes);
        put(0, b"LUKS\xba\xbe\0\x01");
        put(8, cipher.as_bytes());
        put(40, mode.as_bytes());
        put(72, b"sha256");
        put(104, &4096_u32.to_be_bytes());
        put(108, &64_u32.to_be_bytes());
        put(168, b"b688265f-0980-4e58-9596-3c4083520219");
        put(208, &0x00AC_71F3_u32.to_be_bytes());
        put(212, &1000_u32.to_be_bytes());
        put(248, &8_u32.to_be_bytes());
        put(252, &4000_u32.to_be_bytes());
        header
    }

    #[test]
    fn a_common_header_is_accepted_with_the_places_of_its_keys() {
        let contents = check(&header("aes", "xts-plain64")).unwrap();
        assert_eq!(contents.uuid, "b688265f-0980-4e58-9596-3c4083520219");
        assert_eq!((contents.areas.len(), &contents.areas[0]), (1, &(4096..4096 + 256_000)));
        assert_eq!(contents.length, 2 << 20);
    }

    #[test]
    fn what_makes_the_key_or_the_encryption_void_is_forged() {
        let forged = |header: &[u8]| matches!(check(header), Err(Fault::Forged(_)));
        assert!(forged(&header("cipher_null", "ecb")));
        assert!(forged(&header("cipher_null", "xts-plain64")));
        assert!(forged(&header("", "")));
        let mut without_iterations = header("aes", "xts-plain64");
        without_iterations[212..216].fill(0);
        assert!(forged(&without_iterations));
        let mut short = header("serpent", "cbc-plain");
        short[108..112].fill(0);
        assert!(forged(&short));
    }

    #[test]
    fn keys_outside_of_the_header_are_damage() {
        let good = header("aes", "xts-plain64");
        for (place, value) in [(248, 0_u32), (248, u32::MAX), (252, 1), (104, 0), (104, 9)] {
            let mut header = good.clone();
            header[place..place + 4].copy_from_slice(&value.to_be_bytes());
            assert!(matches!(check(&header), Err(Fault::Damaged(_))), "{place} {value}");
        }
    }
}
