//! "One device in two places is a config error": finds two entries that one device would match.
//!
//! The rule. Entries are compared two by two, whichever mounts, guests or lists they are in.
//!
//! Two *disk* entries collide if they share an identity and nothing tells them apart.
//!
//! - Shared: an equal `id`, `uuid`, `partuuid`, `label`, `wwn`, `luks-uuid` or `image`; also a `uuid` equal to a
//!   `luks-uuid`, since `uuid` may be that of a LUKS header. An `id` counts without the prefix `ata-`, `usb-`,
//!   `nvme-` or `scsi-` and without the suffix `-0:0`, as one disk has all these names.
//! - Told apart, by something that both give and that differs: `uuid`, `partuuid`, `luks-uuid`; `wwn`; `id`,
//!   unless one is the end of the other after a `_` (`ID_SERIAL` ends in `ID_SERIAL_SHORT`); and `partition`, if what
//!   is shared is an `id` or a `wwn`. An entry that lacks the key is not told apart by it: `{ id = "X" }` and
//!   `{ id = "X", partition = 1 }` collide. Since a guest's disk has no partition, a guest and a mount never share one.
//! - One `image` is one entry, whatever else is given.
//!
//! Two *USB* entries collide if they are equal: the same `port`, or the same vendor and product with the same
//! serial or both without. An entry with a serial and one without do not collide: the one with is the more
//! specific and gets its device.
//!
//! What the text cannot tell (an `id` and a `uuid` of one disk) is decided when the device is there.

use std::collections::HashMap;
use std::path::PathBuf;

use super::findings::{Findings, Spot};
use super::source::quoted;
use super::{DiskSpec, UsbRule};
use crate::device::{DiskId, FsLabel, FsUuid, LuksUuid, PartUuid, Wwn};

/// So many entries may share one identity and be told apart by others. Each is compared with each; no machine
/// has that many twins.
const MOST_SHARING: usize = 1000;

/// What an entry names a disk by.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    Id(DiskId),
    Uuid(FsUuid),
    PartUuid(PartUuid),
    Label(FsLabel),
    Wwn(Wwn),
    LuksUuid(LuksUuid),
    Image(PathBuf),
}

/// A disk entry with the place of each of its identities.
#[derive(Debug)]
pub(super) struct DiskClaim {
    pub(super) spec: DiskSpec,
    pub(super) identities: Vec<(Identity, Spot)>,
}

/// Notes each disk entry that collides with an earlier one.
pub(super) fn check_disks(claims: &[DiskClaim], findings: &mut Findings<'_>) {
    let mut claims: Vec<&DiskClaim> = claims.iter().collect();
    claims.sort_by_key(|claim| claim.identities.first().map(|(_, spot)| spot.span.start));
    let mut holders: HashMap<(u8, &str), Vec<(&DiskClaim, &Spot)>> = HashMap::new();
    for claim in claims {
        let mut told = false;
        for (identity, spot) in &claim.identities {
            let sharing = holders.entry(identity.comparable()).or_default();
            let earlier = sharing.iter().find(|(holder, _)| !told_apart(identity, &holder.spec, &claim.spec));
            if let (false, Some((_, first))) = (told, earlier) {
                findings.collide(spot, identity.collision(first, findings), first, "first here");
                told = true;
            }
            if sharing.len() < MOST_SHARING {
                sharing.push((claim, spot));
            } else if !told {
                findings
                    .add(spot, format!("more than {MOST_SHARING} disks share {}", quoted(identity.text())));
                told = true;
            }
        }
    }
}

/// Notes each USB entry that is equal to an earlier one.
pub(super) fn check_usb(mut claims: Vec<(UsbRule, Spot)>, findings: &mut Findings<'_>) {
    claims.sort_by_key(|(_, spot)| spot.span.start);
    let mut holders: HashMap<&UsbRule, &Spot> = HashMap::new();
    for (rule, spot) in &claims {
        let Some(first) = holders.get(rule) else {
            holders.insert(rule, spot);
            continue;
        };
        let (what, remedy) = match rule {
            UsbRule::Port(port) => (quoted(port.as_str()), ""),
            UsbRule::Id { id, serial: None } => {
                (quoted(&id.to_string()), "; tell two such devices apart by `serial` or `port`")
            }
            UsbRule::Id { id, serial: Some(serial) } => {
                (format!("{} with serial {}", quoted(&id.to_string()), quoted(serial.as_str())), "")
            }
        };
        findings.collide(spot, claimed(&what, first, findings, remedy), first, "first here");
    }
}

fn claimed(what: &str, first: &Spot, findings: &Findings<'_>, remedy: &str) -> String {
    let line = findings.line(first);
    format!("{what} is claimed by {} on line {line} already; a device has one place{remedy}", first.path)
}

impl Identity {
    /// Equal for identities that one device has at the same time.
    fn comparable(&self) -> (u8, &str) {
        match self {
            Self::Id(id) => (0, stem(id.as_str())),
            Self::Uuid(uuid) => (1, uuid.as_str()),
            Self::LuksUuid(uuid) => (1, uuid.as_str()),
            Self::PartUuid(uuid) => (2, uuid.as_str()),
            Self::Label(label) => (3, label.as_str()),
            Self::Wwn(wwn) => (4, wwn.as_str()),
            Self::Image(_) => (5, self.text()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Uuid(uuid) => uuid.as_str(),
            Self::LuksUuid(uuid) => uuid.as_str(),
            Self::PartUuid(uuid) => uuid.as_str(),
            Self::Label(label) => label.as_str(),
            Self::Wwn(wwn) => wwn.as_str(),
            // It was a string in the file.
            Self::Image(path) => path.to_str().unwrap_or_default(),
        }
    }

    fn collision(&self, first: &Spot, findings: &Findings<'_>) -> String {
        let remedy = match self {
            Self::Id(_) | Self::Wwn(_) | Self::Label(_) => {
                "; tell two such disks apart by `uuid`, `partuuid` or `luks-uuid`"
            }
            _ => "",
        };
        claimed(&quoted(self.text()), first, findings, remedy)
    }
}

/// Whether no device matches both entries, although they share an identity.
fn told_apart(shared: &Identity, a: &DiskSpec, b: &DiskSpec) -> bool {
    fn differ<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
        matches!((a, b), (Some(a), Some(b)) if a != b)
    }
    if matches!(shared, Identity::Image(_)) {
        return false;
    }
    let of_the_disk = matches!(shared, Identity::Id(_) | Identity::Wwn(_));
    let ids_differ = match (&a.id, &b.id) {
        (Some(a), Some(b)) => names_differ(stem(a.as_str()), stem(b.as_str())),
        _ => false,
    };
    ids_differ
        || differ(&a.wwn, &b.wwn)
        || differ(&a.uuid, &b.uuid)
        || differ(&a.partuuid, &b.partuuid)
        || differ(&a.luks_uuid, &b.luks_uuid)
        || (of_the_disk && differ(&a.partition, &b.partition))
}

/// Whether two ids cannot be the `ID_SERIAL` and `ID_SERIAL_SHORT` of one disk.
fn names_differ(a: &str, b: &str) -> bool {
    let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('_'));
    a != b && !ends(a, b) && !ends(b, a)
}

/// The part of an id that all names of one disk have in common.
fn stem(id: &str) -> &str {
    let id =
        ["ata-", "usb-", "nvme-", "scsi-"].iter().find_map(|prefix| id.strip_prefix(prefix)).unwrap_or(id);
    id.strip_suffix("-0:0").unwrap_or(id)
}
