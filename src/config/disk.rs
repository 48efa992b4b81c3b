//! Reads what names one disk, of a mount or of a guest.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::de::DeValue;

use super::DiskSpec;
use super::exclusive::{DiskClaim, Identity};
use super::findings::{Findings, Spot};
use super::node::{Node, Table};
use super::source::quoted;
use crate::device::{DiskId, IdentityError};

/// The kernel gives a disk at most 256 minors, one of them for the whole (`DISK_MAX_PARTS`, linux/blkdev.h).
const LAST_PARTITION: u32 = 255;

/// A disk with its claims to identities, and the table it was written as, for the keys beyond identity.
pub(super) struct ReadDisk<'t> {
    pub(super) claim: DiskClaim,
    pub(super) table: Option<Table<'t>>,
}

/// Reads a string, which is an `id`, or a table with no other keys than `known`.
pub(super) fn read<'t>(
    node: &Node<'t>,
    known: &[&'static str],
    mountpoint: &Path,
    findings: &mut Findings<'_>,
) -> Option<ReadDisk<'t>> {
    match node.value() {
        DeValue::String(_) => {
            let id: DiskId = disk_id(node, findings)?;
            let identities = vec![(Identity::Id(id.clone()), node.spot.clone())];
            let spec = DiskSpec { id: Some(id), ..DiskSpec::default() };
            Some(ReadDisk { claim: DiskClaim { spec, identities }, table: None })
        }
        DeValue::Table(_) => {
            let table = node.table(known, findings)?;
            let claim = from_table(&table, mountpoint, findings)?;
            Some(ReadDisk { claim, table: Some(table) })
        }
        _ => {
            node.wrong_type("a string (an id) or a table", None, findings);
            None
        }
    }
}

fn from_table(table: &Table<'_>, mountpoint: &Path, findings: &mut Findings<'_>) -> Option<DiskClaim> {
    let mut reading = Reading { table, findings, identities: Vec::new(), broken: false };
    let spec = DiskSpec {
        id: reading.identity("id", disk_id, Identity::Id),
        uuid: reading.identity("uuid", parsed, Identity::Uuid),
        partuuid: reading.identity("partuuid", parsed, Identity::PartUuid),
        label: reading.identity("label", parsed, Identity::Label),
        wwn: reading.identity("wwn", parsed, Identity::Wwn),
        luks_uuid: reading.identity("luks-uuid", parsed, Identity::LuksUuid),
        image: reading.identity("image", |node, findings| image(node, mountpoint, findings), Identity::Image),
        partition: reading.value("partition", |node, findings| node.integer(1..=LAST_PARTITION, findings)),
    };
    let Reading { identities, broken, .. } = reading;
    if identities.is_empty() && !broken {
        let message =
            "names no disk; give it an `id`, `uuid`, `partuuid`, `label`, `wwn`, `luks-uuid` or `image`";
        findings.add(&table.spot, message);
        return None;
    }
    (alone(&spec, &identities, findings) && !broken).then_some(DiskClaim { spec, identities })
}

/// An image is found by its path: only what is *in* it can be asked for besides.
fn alone(spec: &DiskSpec, identities: &[(Identity, Spot)], findings: &mut Findings<'_>) -> bool {
    let mut alone = true;
    for (identity, spot) in identities.iter().filter(|_| spec.image.is_some()) {
        if matches!(identity, Identity::Id(_) | Identity::PartUuid(_) | Identity::Label(_) | Identity::Wwn(_))
        {
            findings.add(spot, "cannot stand beside `image`; only `uuid`, `luks-uuid` and `partition` can");
            alone = false;
        }
    }
    alone
}

/// The identities of one table, while they are read.
struct Reading<'r, 't, 'f> {
    table: &'r Table<'t>,
    findings: &'r mut Findings<'f>,
    identities: Vec<(Identity, Spot)>,
    broken: bool,
}

impl Reading<'_, '_, '_> {
    /// The value of a key; an invalid one makes the disk broken.
    fn value<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Node<'_>, &mut Findings<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = read(&self.table.get(key)?, self.findings);
        self.broken |= value.is_none();
        value
    }

    /// The value of a key that names the disk.
    fn identity<T: Clone>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Node<'_>, &mut Findings<'_>) -> Option<T>,
        make: fn(T) -> Identity,
    ) -> Option<T> {
        let value = self.value(key, read)?;
        let spot = self.table.get(key)?.spot;
        self.identities.push((make(value.clone()), spot));
        Some(value)
    }
}

fn parsed<T: FromStr<Err = IdentityError>>(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<T> {
    node.parsed(findings)
}

fn disk_id(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<DiskId> {
    let text = node.string(findings)?;
    if text.starts_with("/dev/") {
        let stem =
            text.strip_prefix("/dev/disk/by-id/").filter(|stem| !stem.is_empty() && !stem.contains('/'));
        let message = "must be the disk's name in /dev/disk/by-id without the directory, not a path";
        findings.suggest(&node.spot, message, stem);
        return None;
    }
    node.parsed(findings)
}

fn image(node: &Node<'_>, mountpoint: &Path, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let path = node.path(findings)?;
    if path.starts_with("/dev") {
        findings.add(&node.spot, format!("{} is a device; name it by `id`", quoted(&path.to_string_lossy())));
        return None;
    }
    outside(&path, node, mountpoint, findings).then_some(path)
}

/// Notes a file that lies under the mount point: to open it would mean to wait for ourselves.
pub(super) fn outside(path: &Path, node: &Node<'_>, mountpoint: &Path, findings: &mut Findings<'_>) -> bool {
    let inside = path.starts_with(mountpoint);
    if inside {
        findings.add(
            &node.spot,
            "must not lie under the mount point: to open it, the daemon would wait for itself",
        );
    }
    !inside
}
