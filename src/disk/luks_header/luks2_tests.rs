use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The metadata of a disk with one key, as `cryptsetup luksFormat` writes them.
pub(in super::super) fn metadata_of_a_disk() -> Value {
    json!({
        "keyslots": { "0": {
            "type": "luks2",
            "key_size": 64,
            "af": { "type": "luks1", "stripes": 4000, "hash": "sha256" },
            "area": {
                "type": "raw", "offset": "32768", "size": "258048",
                "encryption": "aes-xts-plain64", "key_size": 64
            },
            "kdf": { "type": "argon2id", "time": 4, "memory": 1_048_576, "cpus": 4, "salt": "AAAA" }
        } },
        "tokens": {},
        "segments": { "0": {
            "type": "crypt", "offset": "16777216", "size": "dynamic",
            "iv_tweak": "0", "encryption": "aes-xts-plain64", "sector_size": 4096
        } },
        "digests": { "0": {
            "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"],
            "hash": "sha256", "iterations": 1000, "salt": "AAAA", "digest": "AAAA"
        } },
        "config": { "json_size": "12288", "keyslots_size": "16744448" }
    })
}

/// A copy of 16 KiB for the place `offset`, with these metadata.
pub(in super::super) fn copy(offset: u64, json: &[u8]) -> Vec<u8> {
    let mut copy = vec![0; 16 << 10];
    copy[..6].copy_from_slice(if offset == 0 { b"LUKS\xba\xbe" } else { b"SKUL\xba\xbe" });
    copy[6..8].copy_from_slice(&2_u16.to_be_bytes());
    copy[8..16].copy_from_slice(&(16_u64 << 10).to_be_bytes());
    copy[168..204].copy_from_slice(b"2cc17d65-7f29-410b-ba62-d26b11321b55");
    copy[256..264].copy_from_slice(&offset.to_be_bytes());
    copy[HEAD..HEAD + json.len()].copy_from_slice(json);
    copy
}

fn checked(metadata: &Value) -> Result<Contents, Fault> {
    check(&copy(0, metadata.to_string().as_bytes()))
}

/// What becomes of the header if the value at `pointer` is another one; `Null` takes it away.
fn changed(pointer: &str, value: Value) -> Result<Contents, Fault> {
    let mut metadata = metadata_of_a_disk();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = metadata.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.remove(name);
    if !value.is_null() {
        parent.insert(name.to_owned(), value);
    }
    checked(&metadata)
}

#[test]
fn a_common_header_is_accepted_with_the_place_of_its_key() {
    let contents = checked(&metadata_of_a_disk()).unwrap();
    assert_eq!(contents.uuid, "2cc17d65-7f29-410b-ba62-d26b11321b55");
    assert_eq!((contents.areas.len(), &contents.areas[0]), (1, &(32768..290_816)));
    assert_eq!(contents.length, 16 << 20);
    let pbkdf2 = json!({ "type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": "" });
    assert!(changed("/keyslots/0/kdf", pbkdf2).is_ok());
    let integrity =
        json!({ "type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none" });
    assert!(changed("/segments/0/integrity", integrity).is_ok());
    assert!(changed("/tokens/0", json!({ "type": "systemd-tpm2", "keyslots": ["0"] })).is_ok());
    assert!(changed("/config/requirements", json!({ "mandatory": [] })).is_ok());
}

#[test]
fn what_makes_the_key_or_the_encryption_void_is_forged() {
    let linear = json!({ "type": "linear", "offset": "16777216", "size": "dynamic" });
    let second =
        json!({ "type": "crypt", "offset": "16777216", "size": "512", "encryption": "aes-xts-plain64" });
    for (pointer, value) in [
        ("/keyslots/0/area/encryption", json!("cipher_null-ecb")),
        ("/keyslots/0/area/encryption", json!("null")),
        ("/keyslots/0/area/encryption", json!("capi:ecb(cipher_null)")),
        ("/keyslots/0/area/encryption", Value::Null),
        ("/keyslots/0/area/key_size", json!(0)),
        ("/keyslots/0/area/key_size", json!(1)),
        ("/keyslots/0/kdf/type", json!("none")),
        ("/keyslots/0/kdf/time", json!(0)),
        ("/keyslots/0/kdf/memory", json!(1_u64 << 40)),
        ("/keyslots/0/kdf", json!({ "type": "pbkdf2", "hash": "crc32", "iterations": 1000 })),
        ("/keyslots/0/kdf", json!({ "type": "pbkdf2", "hash": "sha256", "iterations": 0 })),
        ("/keyslots/0/type", json!("reencrypt")),
        ("/segments/0/encryption", json!("cipher_null-ecb")),
        ("/segments/0/encryption", json!("aes-cbc-null")),
        ("/segments/0/encryption", Value::Null),
        ("/segments/0", linear),
        ("/segments/0", Value::Null),
        ("/segments/1", second),
        ("/segments/0/type", json!("hw-opal")),
        (
            "/segments/0/integrity",
            json!({ "type": "none", "journal_encryption": "none", "journal_integrity": "none" }),
        ),
        ("/tokens/0", json!({ "type": "luks2-keyring", "keyslots": ["0"], "key_description": "x" })),
        ("/config/requirements", json!({ "mandatory": ["online-reencrypt-v2"] })),
    ] {
        let result = changed(pointer, value.clone());
        assert!(matches!(result, Err(Fault::Forged(_))), "{pointer} {value}: {result:?}");
    }
}

#[test]
fn what_cannot_be_understood_is_damaged() {
    for (pointer, value) in [
        ("/keyslots/0/kdf", Value::Null),
        ("/keyslots/0/area", Value::Null),
        ("/keyslots/0/area/offset", json!("0")),
        ("/keyslots/0/area/offset", json!("-1")),
        ("/keyslots/0/area/offset", json!("18446744073709551615")),
        ("/keyslots/0/area/offset", json!(32768)),
        ("/keyslots/0/area/size", json!("2097152")),
        ("/keyslots/0/area/encryption", json!(["aes-xts-plain64"])),
        ("/segments/0/offset", json!("0")),
        ("/config/keyslots_size", json!("1073741824")),
        ("/config/keyslots_size", json!("0x10")),
        ("/config", Value::Null),
    ] {
        let result = changed(pointer, value.clone());
        assert!(matches!(result, Err(Fault::Damaged(_))), "{pointer} {value}: {result:?}");
    }
}

#[test]
fn no_other_parser_could_read_the_text_differently() {
    let good = metadata_of_a_disk().to_string();
    let encryption = r#""encryption":"aes-xts-plain64","#;
    assert!(good.contains(encryption));
    for text in [
        good.replace(encryption, &format!("{encryption}{}", encryption.replace("aes-xts-plain64", "null"))),
        good.replace(encryption, &format!(r#"{encryption}"encryption\u0000":"cipher_null-ecb","#)),
        good.replace(r#""keyslots":{"0":"#, r#""keyslots":{"0":{},"0":"#),
        format!(" {good}"),
        format!("{good} {good}"),
        format!("{good}/* */"),
        good.replace('"', "'"),
        good.replace(r#""tokens""#, r#""segments":{},"tokens""#),
    ] {
        assert!(text != good);
        assert!(matches!(check(&copy(0, text.as_bytes())), Err(Fault::Damaged(_))), "{text}");
    }
    let mut followed = copy(0, good.as_bytes());
    *followed.last_mut().unwrap() = b'{';
    assert!(matches!(check(&followed), Err(Fault::Damaged(_))));
}

#[test]
fn a_copy_is_where_it_says_and_of_a_size_that_exists() {
    for (offset, place, value) in [
        (0, 8, 20_480_u64),
        (0, 8, 0),
        (0, 8, u64::MAX),
        (0, 256, 16384),
        (16384, 256, 0),
        (32768, 256, 32768),
    ] {
        let mut head = copy(offset, b"{}");
        head[place..place + 8].copy_from_slice(&value.to_be_bytes());
        assert!(size(&head, offset).is_err(), "{offset} {place} {value}");
    }
    assert_eq!(size(&copy(0, b"{}"), 0).unwrap(), 16384);
    assert_eq!(size(&copy(16384, b"{}"), 16384).unwrap(), 16384);
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        let _ = check(&bytes);
        let _ = size(&bytes, 0);
    }

    #[test]
    fn metadata_with_changed_bytes_never_reach_beyond_the_bounds(
        changes in prop::collection::vec((0_usize..1200, any::<u8>()), 1..4)
    ) {
        let mut json = metadata_of_a_disk().to_string().into_bytes();
        for (place, byte) in changes {
            let place = place % json.len();
            json[place] = byte;
        }
        if let Ok(contents) = check(&copy(0, &json)) {
            prop_assert!(contents.length <= (8 << 20) + LARGEST_KEYSLOTS);
            prop_assert!(contents.areas.len() <= MOST_OBJECTS);
            prop_assert!(contents.areas.iter().all(|area| area.end - area.start <= LARGEST_AREA));
        }
    }
}
