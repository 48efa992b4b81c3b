//! What is on a disk and whether it is what the order wants: chooses the node (whole disk or partition) and compares it
//! with what is configured. Knows nothing of unlocking and mounting.

use super::blkid::{self, Found, ProbeError};
use super::error::one_line;
use super::node::{Disk, Node};
use super::{DiskError, ErrorKind, Opened, Order};

/// libblkid's name of a LUKS header, version 1 or 2.
const LUKS: &str = "crypto_LUKS";

/// libblkid's names of file systems, and the kernel drivers that mount them.
const DRIVERS: [(&str, &str); 8] = [
    ("ext4", "ext4"),
    ("ext3", "ext3"),
    ("ext2", "ext2"),
    ("xfs", "xfs"),
    ("btrfs", "btrfs"),
    ("vfat", "vfat"),
    ("exfat", "exfat"),
    ("ntfs", "ntfs3"),
];

/// libblkid's name of what a disk holds that was opened like this and has this file system: [`Order::hint`] for the
/// next time.
pub fn hint<'a>(opened: &Opened, filesystem: &'a str) -> &'a str {
    match (&opened.mapping, DRIVERS.iter().find(|(_, driver)| *driver == filesystem)) {
        (Some(_), _) => LUKS,
        (None, Some((kind, _))) => kind,
        (None, None) => filesystem,
    }
}

/// What is to be done with what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A LUKS header: unlock it, then look at what is inside.
    Luks,
    /// A file system, by the name of the kernel's driver.
    Filesystem(&'static str),
}

/// What udev believes to be there, if a file system's driver can be the judge of that: nothing but the file system is to
/// be checked, and only one node comes into question. Saves reading the disk twice.
pub(super) fn hinted(disk: &Disk, order: &Order) -> Result<Option<(Node, &'static str)>, DiskError> {
    let hint = order.hint.as_deref();
    let driver = DRIVERS.iter().find(|(kind, _)| Some(*kind) == hint).map(|(_, driver)| *driver);
    let Some(driver) = driver else { return Ok(None) };
    let is_checked = order.key_file.is_some() || order.luks_uuid.is_some() || order.uuid.is_some();
    let is_wanted = order.filesystem.as_deref().is_none_or(|wanted| wanted == driver);
    if is_checked || !is_wanted {
        return Ok(None);
    }
    match order.partition {
        Some(number) => Ok(Some((disk.partition(number)?, driver))),
        None if disk.partitions.is_empty() => Ok(Some((disk.node.clone(), driver))),
        None => Ok(None),
    }
}

/// The node to use and what is on it, which is what the order says as far as it can be seen from outside.
pub(super) fn choose(disk: &Disk, order: &Order) -> Result<(Node, Content), DiskError> {
    let (node, found) = match order.partition {
        Some(number) => {
            let node = disk.partition(number)?;
            let found = look(&node, order.hint.as_deref())?;
            (node, found)
        }
        None => search(disk, order)?,
    };
    let found = found.ok_or_else(|| nothing(&node))?;
    let content = check_outside(&node, &found, order)?;
    Ok((node, content))
}

/// What is inside an opened LUKS mapping: the file system's driver, if it is what the order says.
pub(super) fn inside(mapping: &Node, header: &Node, order: &Order) -> Result<&'static str, DiskError> {
    let expected = order.filesystem.as_deref();
    let hint = DRIVERS.iter().find(|(_, driver)| Some(*driver) == expected).map(|(kind, _)| *kind);
    let found = look(mapping, hint)?.ok_or_else(|| nothing(mapping))?;
    // The UUID in the order may be the header's or the file system's.
    let of_header = || look(header, Some(LUKS)).ok().flatten();
    if !has_uuid(&found, order.uuid.as_deref())
        && !of_header().is_some_and(|header| has_uuid(&header, order.uuid.as_deref()))
    {
        return Err(wrong_uuid(mapping, &found, order.uuid.as_deref()));
    }
    driver(mapping, &found, order)
}

/// The whole disk if it holds something usable, else its only partition that does. A disk where both do is not guessed
/// at: one of them is stale.
fn search(disk: &Disk, order: &Order) -> Result<(Node, Option<Found>), DiskError> {
    let whole = look(&disk.node, order.hint.as_deref())?;
    let mut candidates = Vec::new();
    if let Some(found) = whole.iter().find(|found| is_usable(found)) {
        candidates.push((disk.node.clone(), found.clone()));
    }
    for &(number, _) in &disk.partitions {
        let node = disk.partition(number)?;
        if let Some(found) = look(&node, order.hint.as_deref())?.filter(is_usable) {
            candidates.push((node, found));
        }
    }
    if candidates.len() > 1 {
        narrow(&mut candidates, order);
    }
    match candidates.pop() {
        Some((node, found)) if candidates.is_empty() => Ok((node, Some(found))),
        Some(last) => {
            candidates.push(last);
            Err(several(disk, &candidates))
        }
        None => Ok((disk.node.clone(), whole)),
    }
}

/// Keeps what has a UUID of the order, if anything has.
fn narrow(candidates: &mut Vec<(Node, Found)>, order: &Order) {
    let is_named = |found: &Found| {
        [&order.uuid, &order.luks_uuid].into_iter().flatten().any(|uuid| has_uuid(found, Some(uuid)))
    };
    if candidates.iter().any(|(_, found)| is_named(found)) {
        candidates.retain(|(_, found)| is_named(found));
    }
}

fn look(node: &Node, hint: Option<&str>) -> Result<Option<Found>, DiskError> {
    blkid::probe(node.content(), hint).map_err(|error| match error {
        ProbeError::Ambivalent => {
            let device = node.path.display();
            let message = format!(
                "{device} holds signatures of several kinds: wipe the stale one (`wipefs --no-act {device}` lists them)"
            );
            DiskError::new(ErrorKind::WrongContent, message)
        }
        ProbeError::Io(_) if node.is_gone() => {
            let message = format!("{} was unplugged while it was read", node.path.display());
            DiskError::new(ErrorKind::Absent, message)
        }
        ProbeError::Io(error) => {
            let what = format!("Cannot read {}", node.path.display());
            DiskError { kind: ErrorKind::Io, ..DiskError::system(what, &error) }
        }
    })
}

fn is_usable(found: &Found) -> bool {
    found.kind == LUKS || found.usage.as_deref() == Some("filesystem")
}

fn check_outside(node: &Node, found: &Found, order: &Order) -> Result<Content, DiskError> {
    let device = node.path.display();
    if found.kind == LUKS {
        if order.key_file.is_none() {
            let message = format!("{device} is encrypted (LUKS), but no key-file is configured for it");
            return Err(DiskError::new(ErrorKind::NoKey, message));
        }
        if !has_uuid(found, order.luks_uuid.as_deref()) {
            return Err(wrong_uuid(node, found, order.luks_uuid.as_deref()));
        }
        return Ok(Content::Luks);
    }
    let must_be_luks = if order.key_file.is_some() { Some("key-file") } else { None }
        .or(order.luks_uuid.is_some().then_some("luks-uuid"));
    if let Some(key) = must_be_luks {
        let message =
            format!("{device} is not encrypted (it holds {}) although {key} is configured", found.kind);
        return Err(DiskError::new(ErrorKind::WrongContent, message));
    }
    if !has_uuid(found, order.uuid.as_deref()) {
        return Err(wrong_uuid(node, found, order.uuid.as_deref()));
    }
    driver(node, found, order).map(Content::Filesystem)
}

fn driver(node: &Node, found: &Found, order: &Order) -> Result<&'static str, DiskError> {
    let device = node.path.display();
    let driver = DRIVERS.iter().find(|(kind, _)| *kind == found.kind).map(|(_, driver)| *driver);
    let wanted = order.filesystem.as_deref();
    let message = match driver {
        Some(driver) if wanted.is_none_or(|wanted| wanted == driver) => return Ok(driver),
        Some(driver) => format!(
            "{device} holds {driver}, but filesystem = \"{}\" is configured",
            one_line(wanted.unwrap_or_default())
        ),
        None => {
            let supported = DRIVERS.map(|(_, driver)| driver).join(", ");
            format!("{device} holds {}, which is not supported (only {supported} and LUKS are)", found.kind)
        }
    };
    Err(DiskError::new(ErrorKind::WrongContent, message))
}

fn has_uuid(found: &Found, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| found.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(wanted)))
}

fn wrong_uuid(node: &Node, found: &Found, wanted: Option<&str>) -> DiskError {
    let message = format!(
        "The {} on {} has UUID {}, not {} as configured",
        found.kind,
        node.path.display(),
        one_line(found.uuid.as_deref().unwrap_or("none")),
        one_line(wanted.unwrap_or("any"))
    );
    DiskError::new(ErrorKind::WrongContent, message)
}

fn nothing(node: &Node) -> DiskError {
    let message =
        format!("Nothing known is on {}: neither a file system nor a LUKS header", node.path.display());
    DiskError::new(ErrorKind::WrongContent, message)
}

fn several(disk: &Disk, candidates: &[(Node, Found)]) -> DiskError {
    let list = candidates.iter().map(|(node, found)| format!("{} ({})", node.path.display(), found.kind));
    let message = format!(
        "Which part of {} to use is not clear, say so with `partition`: {}",
        disk.node.path.display(),
        list.collect::<Vec<_>>().join(", ")
    );
    DiskError::new(ErrorKind::WrongContent, message)
}
