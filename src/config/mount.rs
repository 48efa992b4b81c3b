//! Reads `[defaults]` and `[mounts.*]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::duration;
use super::exclusive::DiskClaim;
use super::findings::Findings;
use super::node::{Named, Node, Table};
use super::source::quoted;
use super::suggest::nearest;
use super::{DiskSpec, Filesystem, Mount, MountOptions, disk, keys};

/// A caller gets one retry from the kernel; so nothing may be unmounted within a second of an access.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);
const LONGEST_IDLE: Duration = Duration::from_secs(30 * 86_400);
const LONGEST_ACCESS: Duration = Duration::from_secs(3600);

/// What a mount has that does not say otherwise.
pub(super) struct Defaults {
    options: MountOptions,
    idle_timeout: Option<Duration>,
    access_timeout: Duration,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            options: MountOptions::base(),
            idle_timeout: Some(Duration::from_secs(300)),
            access_timeout: Duration::from_secs(120),
        }
    }
}

/// Reads `[defaults]`.
pub(super) fn read_defaults(node: &Node<'_>, findings: &mut Findings<'_>) -> Defaults {
    let fallback = Defaults::default();
    match node.table(keys::DEFAULTS, findings) {
        Some(table) => common(&table, &fallback, findings),
        None => fallback,
    }
}

/// Reads one `[mounts.NAME]`, and what it claims; `None` if its name or its disks are not valid.
pub(super) fn read(
    entry: &Named<'_>,
    defaults: &Defaults,
    mountpoint: &Path,
    claims: &mut Vec<DiskClaim>,
    findings: &mut Findings<'_>,
) -> Option<Mount> {
    let name = entry
        .name
        .parse()
        .map_err(|error| findings.add(&entry.key, format!("the name {} {error}", quoted(entry.name))))
        .ok();
    let table = entry.node.table(keys::MOUNT, findings)?;
    let disks = disks(&table, mountpoint, claims, findings);
    let common = common(&table, defaults, findings);
    let key_file = table.get("key-file").and_then(|node| key_file(&node, mountpoint, findings));
    let filesystem = table.get("filesystem").and_then(|node| filesystem(&node, findings));
    Some(Mount {
        name: name?,
        disks: disks?,
        key_file,
        filesystem,
        options: common.options,
        idle_timeout: common.idle_timeout,
        access_timeout: common.access_timeout,
    })
}

fn disks(
    table: &Table<'_>,
    mountpoint: &Path,
    claims: &mut Vec<DiskClaim>,
    findings: &mut Findings<'_>,
) -> Option<Vec<DiskSpec>> {
    let Some(node) = table.get("disks") else {
        findings.add(&table.spot, "has no `disks`");
        return None;
    };
    let mut disks = Vec::new();
    for node in node.list(findings)? {
        if let Some(read) = disk::read(&node, keys::DISK, mountpoint, findings) {
            disks.push(read.claim.spec.clone());
            claims.push(read.claim);
        }
    }
    Some(disks)
}

/// The keys that `[defaults]` and `[mounts.NAME]` share.
fn common(table: &Table<'_>, defaults: &Defaults, findings: &mut Findings<'_>) -> Defaults {
    let options = table.get("options").and_then(|node| options(&node, findings)).unwrap_or_default();
    let idle = table.get("idle-timeout").and_then(|node| idle_timeout(&node, findings));
    let access = table.get("access-timeout").and_then(|node| access_timeout(&node, findings));
    Defaults {
        options: defaults.options.merged(&options),
        idle_timeout: idle.unwrap_or(defaults.idle_timeout),
        access_timeout: access.unwrap_or(defaults.access_timeout),
    }
}

fn options(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<MountOptions> {
    let list = node.string(findings)?;
    match MountOptions::parse(list) {
        Ok(options) => Some(options),
        Err(faults) => {
            let spots: Vec<_> = node.parts(faults.iter().map(|fault| fault.span.clone()), findings).collect();
            for (fault, spot) in faults.iter().zip(&spots) {
                findings.add(spot, fault.to_string());
            }
            None
        }
    }
}

/// `Some(None)` is never.
fn idle_timeout(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<Option<Duration>> {
    let idle = read_duration(node, findings)?;
    if idle.is_zero() {
        return Some(None);
    }
    if idle < SHORTEST_IDLE {
        let message = "must be at least `1s`, as the kernel may repeat an access that late (`0` means never)";
        findings.add(&node.spot, message);
        return None;
    }
    if idle > LONGEST_IDLE {
        findings.add(&node.spot, "must be at most `30d` (`0` means never)");
        return None;
    }
    Some(Some(idle))
}

fn access_timeout(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<Duration> {
    let access = read_duration(node, findings)?;
    if access.is_zero() || access > LONGEST_ACCESS {
        findings.add(&node.spot, "must be more than `0` and at most `1h`");
        return None;
    }
    Some(access)
}

fn read_duration(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<Duration> {
    if let DeValue::Integer(number) = node.value() {
        let seconds: Option<u64> = number.as_str().parse().ok().filter(|_| number.radix() == 10);
        let meant =
            seconds.map(|number| if number == 0 { "\"0\"".to_owned() } else { format!("\"{number}s\"") });
        node.wrong_type("a string with a number and its unit", meant, findings);
        return None;
    }
    let text = node.string(findings)?;
    duration::parse(text)
        .map_err(|error| {
            findings.suggest(&node.spot, format!("{} {error}", quoted(text)), duration::meant(text));
        })
        .ok()
}

fn key_file(node: &Node<'_>, mountpoint: &Path, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let path = node.path(findings)?;
    disk::outside(&path, node, mountpoint, findings).then_some(path)
}

fn filesystem(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<Filesystem> {
    let text = node.string(findings)?;
    text.parse()
        .map_err(|error| {
            let known = || nearest(text, Filesystem::ALL.map(Filesystem::as_str));
            let meant = match text {
                "fat" | "fat12" | "fat16" | "fat32" | "msdos" | "dos" => Some("vfat"),
                "ntfs-3g" | "ntfs3g" => Some("ntfs3"),
                _ => known(),
            };
            findings.suggest(&node.spot, format!("{} {error}", quoted(text)), meant);
        })
        .ok()
}
