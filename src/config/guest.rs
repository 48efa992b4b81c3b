//! Reads `[guests.*]`.

use std::collections::HashMap;
use std::path::Path;

use toml::de::DeValue;

use super::exclusive::DiskClaim;
use super::findings::{Findings, Spot};
use super::node::{Named, Node, Table};
use super::source::quoted;
use super::{Guest, GuestDisk, UsbRule, disk, keys};
use crate::device::{PortPath, UsbId, UsbSerial};

/// Everything that guests claim.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) disks: Vec<DiskClaim>,
    pub(super) usb: Vec<(UsbRule, Spot)>,
}

/// Reads one `[guests.NAME]`, and what it claims; `None` if its name is not valid or it is no table.
pub(super) fn read(
    entry: &Named<'_>,
    mountpoint: &Path,
    claims: &mut Claims,
    findings: &mut Findings<'_>,
) -> Option<Guest> {
    let name = entry
        .name
        .parse()
        .map_err(|error| findings.add(&entry.key, format!("the name {} {error}", quoted(entry.name))))
        .ok();
    let table = entry.node.table(keys::GUEST, findings)?;
    let (usb_list, disk_list) = (table.get("usb"), table.get("disks"));
    if usb_list.is_none() && disk_list.is_none() {
        findings.add(&table.spot, "has neither `usb` nor `disks`");
    }
    let usb = usb_list.map(|list| usb(&list, claims, findings)).unwrap_or_default();
    let disks = disk_list.map(|list| disks(&list, mountpoint, claims, findings)).unwrap_or_default();
    Some(Guest { name: name?, usb, disks })
}

fn usb(list: &Node<'_>, claims: &mut Claims, findings: &mut Findings<'_>) -> Vec<UsbRule> {
    let mut rules = Vec::new();
    for node in list.list(findings).unwrap_or_default() {
        if let Some((rule, spot)) = usb_rule(&node, findings) {
            rules.push(rule.clone());
            claims.usb.push((rule, spot));
        }
    }
    rules
}

/// A device and the place of what names it.
fn usb_rule(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<(UsbRule, Spot)> {
    match node.value() {
        DeValue::String(_) => {
            let id = node.parsed(findings)?;
            Some((UsbRule::Id { id, serial: None }, node.spot.clone()))
        }
        DeValue::Table(_) => {
            let table = node.table(keys::USB, findings)?;
            usb_table(&table, findings)
        }
        _ => {
            node.wrong_type("a string (vendor:product) or a table", None, findings);
            None
        }
    }
}

fn usb_table(table: &Table<'_>, findings: &mut Findings<'_>) -> Option<(UsbRule, Spot)> {
    match (table.get("id"), table.get("serial"), table.get("port")) {
        (Some(id), serial, None) => {
            let vendor_product = id.parsed::<UsbId>(findings);
            let serial = serial.map(|serial| serial.parsed::<UsbSerial>(findings));
            let serial = match serial {
                Some(serial) => Some(serial?),
                None => None,
            };
            Some((UsbRule::Id { id: vendor_product?, serial }, id.spot))
        }
        (None, None, Some(port)) => Some((UsbRule::Port(port.parsed::<PortPath>(findings)?), port.spot)),
        (_, _, Some(port)) => {
            findings
                .add(&port.spot, "cannot stand beside `id` or `serial`: a port takes whatever is plugged in");
            None
        }
        (None, Some(serial), None) => {
            findings.add(&serial.spot, "needs an `id` beside it, like \"0403:6001\"");
            None
        }
        (None, None, None) => {
            findings.add(&table.spot, "names no device; give it an `id` or a `port`");
            None
        }
    }
}

fn disks(
    list: &Node<'_>,
    mountpoint: &Path,
    claims: &mut Claims,
    findings: &mut Findings<'_>,
) -> Vec<GuestDisk> {
    let mut disks = Vec::new();
    let mut targets: HashMap<String, Spot> = HashMap::new();
    for node in list.list(findings).unwrap_or_default() {
        let Some(read) = disk::read(&node, keys::GUEST_DISK, mountpoint, findings) else { continue };
        let key = |name| read.table.as_ref().and_then(|table| table.get(name));
        let target = key("target").and_then(|node| target(&node, &mut targets, findings));
        let read_only = key("readonly").and_then(|node| node.boolean(findings)).unwrap_or(false);
        if let Some(image) = key("image") {
            let message = "is no device: a guest gets what is plugged in; give it the file in its own definition (`virsh edit`)";
            findings.add(&image.spot, message);
        }
        disks.push(GuestDisk { disk: read.claim.spec.clone(), target, read_only });
        claims.disks.push(read.claim);
    }
    disks
}

/// A target on a bus that QEMU can hot-plug, and that no earlier disk of the guest has.
fn target(node: &Node<'_>, taken: &mut HashMap<String, Spot>, findings: &mut Findings<'_>) -> Option<String> {
    let text = node.string(findings)?;
    let lettered = |prefix: &str| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| (1..=2).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase()))
    };
    if !lettered("vd") && !lettered("sd") {
        let message = match () {
            () if lettered("hd") => {
                "is on an IDE bus, which takes no disk while the guest runs; use `vd*` or `sd*`"
            }
            () if lettered("xvd") => "is on a Xen bus, which QEMU does not have; use `vd*` or `sd*`",
            () => "must be `vd` (virtio) or `sd` (SCSI) and one or two letters, like `vdb`",
        };
        let meant =
            text.strip_prefix("/dev/").filter(|name| name.starts_with("vd") || name.starts_with("sd"));
        findings.suggest(&node.spot, format!("{} {message}", quoted(text)), meant);
        return None;
    }
    if let Some(first) = taken.get(text) {
        findings.collide(
            &node.spot,
            format!("{} is the target of another disk", quoted(text)),
            first,
            "first here",
        );
        return None;
    }
    taken.insert(text.to_owned(), node.spot.clone());
    Some(text.to_owned())
}
