//! The two parts of a LUKS version 2 header copy (LUKS2 On-Disk Format Specification 1.1.1): the binary head and the
//! JSON metadata, and what of them decides whether the disk is encrypted and whether the key matters. Knows nothing of
//! where the bytes come from.
//!
//! Read more strictly than json-c, cryptsetup's parser, does: what this one accepts, that one understands in the same
//! way. Names that occur twice and `\u` escapes (json-c ends a name at `\u0000`) are damage.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::cipher::{SHORTEST_KEY, authenticates, encrypts, hashes};
use super::{Contents, Fault, SIZES, number, text};

/// Length of the binary head, in bytes; the JSON follows.
pub(super) const HEAD: usize = 4096;

/// `LUKS2_OBJECTS_MAX` and `LUKS2_MAX_KEYSLOTS_SIZE` in cryptsetup's lib/luks2/luks2.h.
const MOST_OBJECTS: usize = 32;
const LARGEST_KEYSLOTS: u64 = 128 << 20;
/// A key of 128 bytes in 4000 stripes takes half of it.
const LARGEST_AREA: u64 = 1 << 20;
/// 4 GiB, the most that cryptsetup writes (lib/crypto_backend/pbkdf_check.c), in KiB.
const MOST_MEMORY: u64 = 4 << 20;

/// The size of the copy (head and JSON) that lies at `offset` and has this head.
pub(super) fn size(head: &[u8], offset: u64) -> Result<u64, Fault> {
    let (version, size) = (number(head, 6..8), number(head, 8..16));
    let is_in_place = number(head, 256..264) == offset && (offset == 0 || offset == size);
    if version == 2 && SIZES.contains(&size) && is_in_place {
        Ok(size)
    } else {
        Err(Fault::damaged(format!("has a broken copy at byte {offset}")))
    }
}

/// Checks a whole copy, head and JSON. The checksum is not looked at: a copy that cryptsetup would pass over on account
/// of it does no harm if it passes here.
pub(super) fn check(copy: &[u8]) -> Result<Contents, Fault> {
    let metadata = metadata(copy.get(HEAD..).unwrap_or_default())?;
    let uuid = text(copy, 168..208);
    if let Some(name) = metadata.config.requirements.mandatory.first() {
        return Err(Fault::forged(format!("requires {name:?}, as if it were being re-encrypted")));
    }
    for token in metadata.tokens.0.values() {
        if token.kind == "luks2-keyring" {
            let what = "has a luks2-keyring token, which would be tried before the key file (`cryptsetup token remove` takes it away)";
            return Err(Fault::forged(what.to_owned()));
        }
    }
    let keys_start = 2 * copy.len() as u64;
    let keys_size = decimal(&metadata.config.keyslots_size)?;
    if keys_size > LARGEST_KEYSLOTS {
        return Err(Fault::damaged(format!("has {keys_size} bytes for its key slots")));
    }
    let keys_end = keys_start + keys_size;
    segment(&metadata, keys_end)?;
    let mut areas = Vec::new();
    for (name, keyslot) in &metadata.keyslots.0 {
        let (offset, size) = keyslot.check(name)?;
        if offset < keys_start || size > LARGEST_AREA || offset.saturating_add(size) > keys_end {
            return Err(Fault::damaged(format!("has its key slot {name} in an impossible place")));
        }
        areas.push(offset..offset + size);
    }
    Ok(Contents { uuid, areas, length: keys_end })
}

fn segment(metadata: &Metadata, keys_end: u64) -> Result<(), Fault> {
    let mut segments = metadata.segments.0.values();
    let (Some(segment), None) = (segments.next(), segments.next()) else {
        let count = metadata.segments.0.len();
        return Err(Fault::forged(format!("divides the disk into {count} segments instead of one")));
    };
    if segment.kind != "crypt" {
        return Err(Fault::forged(format!("says that the data is {:?} instead of encrypted", segment.kind)));
    }
    let encryption = segment.encryption.as_deref().unwrap_or_default();
    if !encrypts(encryption) {
        let what = format!("encrypts the data with {encryption:?}, which is not known to encrypt");
        return Err(Fault::forged(what));
    }
    if let Some(integrity) = &segment.integrity {
        let has_plain_journal =
            integrity.journal_encryption == "none" && integrity.journal_integrity == "none";
        if !authenticates(&integrity.kind) || !has_plain_journal {
            let what = format!("asks for the integrity {:?}, which is not known", integrity.kind);
            return Err(Fault::forged(what));
        }
    }
    if decimal(&segment.offset)? < keys_end {
        return Err(Fault::damaged("lies where its data is said to be".to_owned()));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Metadata {
    keyslots: Objects<Keyslot>,
    #[serde(default)]
    tokens: Objects<Token>,
    segments: Objects<Segment>,
    config: Config,
}

#[derive(Deserialize)]
struct Keyslot {
    #[serde(rename = "type")]
    kind: String,
    area: Area,
    kdf: Option<Derivation>,
}

#[derive(Deserialize)]
struct Area {
    offset: String,
    size: String,
    encryption: Option<String>,
    key_size: Option<u64>,
}

#[derive(Deserialize)]
struct Derivation {
    #[serde(rename = "type")]
    kind: String,
    hash: Option<String>,
    iterations: Option<u64>,
    time: Option<u64>,
    memory: Option<u64>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    encryption: Option<String>,
    integrity: Option<Integrity>,
}

#[derive(Deserialize)]
struct Integrity {
    #[serde(rename = "type")]
    kind: String,
    journal_encryption: String,
    journal_integrity: String,
}

#[derive(Deserialize)]
struct Config {
    keyslots_size: String,
    #[serde(default)]
    requirements: Requirements,
}

#[derive(Default, Deserialize)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

impl Keyslot {
    /// Where its key material is: offset and size.
    fn check(&self, name: &str) -> Result<(u64, u64), Fault> {
        if self.kind != "luks2" {
            return Err(Fault::forged(format!("has a key slot {name} of the kind {:?}", self.kind)));
        }
        let encryption = self.area.encryption.as_deref().unwrap_or_default();
        if !encrypts(encryption) || self.area.key_size.unwrap_or(0) < SHORTEST_KEY {
            let what = format!("locks key slot {name} with {encryption:?}, so that any key may open it");
            return Err(Fault::forged(what));
        }
        match &self.kdf {
            Some(derivation) => derivation.check(name)?,
            None => return Err(Fault::damaged(format!("does not say how to open key slot {name}"))),
        }
        Ok((decimal(&self.area.offset)?, decimal(&self.area.size)?))
    }
}

impl Derivation {
    fn check(&self, name: &str) -> Result<(), Fault> {
        let is_one = |number: Option<u64>| number.is_some_and(|number| number > 0);
        let is_sound = match self.kind.as_str() {
            "pbkdf2" => self.hash.as_deref().is_some_and(hashes) && is_one(self.iterations),
            "argon2i" | "argon2id" => {
                is_one(self.time) && self.memory.is_some_and(|memory| memory <= MOST_MEMORY)
            }
            _ => false,
        };
        if is_sound {
            Ok(())
        } else {
            let what = format!(
                "derives the key of slot {name} in a way ({:?}) that is not known to be sound",
                self.kind
            );
            Err(Fault::forged(what))
        }
    }
}

/// Numbered objects, none of which occurs twice.
struct Objects<T>(BTreeMap<String, T>);

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Objects<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectsVisitor(PhantomData))
    }
}

struct ObjectsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectsVisitor<T> {
    type Value = Objects<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("numbered objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut objects = BTreeMap::new();
        while let Some((name, object)) = entries.next_entry::<String, T>()? {
            if objects.len() >= MOST_OBJECTS {
                return Err(de::Error::custom("too many objects"));
            }
            if objects.insert(name, object).is_some() {
                return Err(A::Error::custom("an object occurs twice"));
            }
        }
        Ok(Objects(objects))
    }
}

/// Parses the JSON area: one object, then NUL bytes to the end.
fn metadata(area: &[u8]) -> Result<Metadata, Fault> {
    let end = area.iter().position(|&byte| byte == 0).unwrap_or(area.len());
    let (json, rest) = area.split_at(end);
    let has_unicode_escape = json.windows(2).any(|pair| pair == b"\\u");
    if json.first() != Some(&b'{')
        || rest.is_empty()
        || rest.iter().any(|&byte| byte != 0)
        || has_unicode_escape
    {
        return Err(Fault::damaged("has metadata that is not LUKS2's".to_owned()));
    }
    serde_json::from_slice(json).map_err(|error| Fault::damaged(format!("has broken metadata ({error})")))
}

/// A number in the form of the format's 64-bit ones: a string of digits.
fn decimal(digits: &str) -> Result<u64, Fault> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_plain { digits.parse().ok() } else { None };
    number.ok_or_else(|| Fault::damaged(format!("has {digits:?} where a number should be")))
}

#[cfg(test)]
#[path = "luks2_tests.rs"]
pub(super) mod tests;
