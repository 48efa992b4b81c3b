//! Reads a domain's XML, as far as it matters here. What is not understood is left out, device by device: what other
//! programs gave to a guest must not keep ours from working.

use std::path::{Component, PathBuf};

use roxmltree::{Document, Node};
use thiserror::Error;

use super::super::{Domain, Live, LiveDevice, LiveKind};
use crate::device::UsbId;

/// Text that is no domain's XML.
#[derive(Debug, Error)]
pub(in crate::guests) enum ReadError {
    /// Not XML at all.
    #[error("libvirt's description of a guest is no XML: {0}")]
    Xml(#[from] roxmltree::Error),
    /// Not of a domain, or without its name.
    #[error("libvirt's description of a guest lacks its <{0}>")]
    Lacks(&'static str),
}

/// Reads what virDomainGetXMLDesc(3) gave without flags: the live XML of a domain that runs, and then only with an
/// `id` (`virDomainDefFormatInternalSetRootName` in libvirt's domain_conf.c).
pub(in crate::guests) fn domain(text: &str) -> Result<Domain, ReadError> {
    let document = Document::parse(text)?;
    let root = document.root_element();
    if !root.has_tag_name("domain") {
        return Err(ReadError::Lacks("domain"));
    }
    let name = child(root, "name").and_then(|name| name.text()).ok_or(ReadError::Lacks("name"))?;
    let live = root.attribute("id").and_then(|id| id.parse().ok()).map(|run| live(root, run));
    Ok(Domain { name: name.to_owned(), live })
}

fn live(root: Node<'_, '_>, run: u32) -> Live {
    let mut live = Live { run, ..Live::default() };
    let devices = child(root, "devices").into_iter().flat_map(|devices| devices.children());
    for device in devices {
        match device.tag_name().name() {
            "disk" => disk(device, &mut live.devices),
            "hostdev" => live.devices.extend(usb(device)),
            "controller" => live.has_scsi |= takes_scsi_disks(device),
            _ => {}
        }
    }
    live
}

/// A disk, and each further file or device that it lies on (backing chain, mirror): the guest has them all open.
fn disk(disk: Node<'_, '_>, found: &mut Vec<LiveDevice>) {
    let target = attribute(disk, "target", "dev").unwrap_or_default();
    let own = child(disk, "source");
    let kind = |source| LiveKind::Disk { target: target.to_owned(), source };
    found.push(LiveDevice { alias: alias(disk), kind: kind(own.and_then(path)) });
    let deeper = disk.descendants().filter(|node| node.has_tag_name("source") && Some(*node) != own);
    found.extend(deeper.filter_map(path).map(|path| LiveDevice { alias: None, kind: kind(Some(path)) }));
}

/// Links are resolved below /dev only: elsewhere a path may lead into a file system that does not answer, or into ours.
fn path(source: Node<'_, '_>) -> Option<PathBuf> {
    let path = PathBuf::from(source.attribute("dev").or_else(|| source.attribute("file"))?);
    let is_plain = path.components().all(|part| part != Component::ParentDir);
    let resolved = (is_plain && path.starts_with("/dev")).then(|| path.canonicalize().ok()).flatten();
    Some(resolved.unwrap_or(path))
}

fn usb(hostdev: Node<'_, '_>) -> Option<LiveDevice> {
    if hostdev.attribute("mode") != Some("subsystem") || hostdev.attribute("type") != Some("usb") {
        return None;
    }
    let source = child(hostdev, "source")?;
    let hexadecimal = |element| {
        let digits = attribute(source, element, "id")?.trim_start_matches("0x");
        u16::from_str_radix(digits, 16).ok()
    };
    let number = |key| attribute(source, "address", key)?.parse().ok();
    let id =
        hexadecimal("vendor").zip(hexadecimal("product")).map(|(vendor, product)| UsbId { vendor, product });
    // With a startupPolicy, a guest "has" devices that were not there when it started.
    let is_missing = source.attribute("missing") == Some("yes");
    let at = number("bus").zip(number("device")).filter(|_| !is_missing);
    Some(LiveDevice { alias: alias(hostdev), kind: LiveKind::Usb { at, id } })
}

/// `virtio-scsi` and its two variants for transitional devices (formatdomain, "Controllers").
fn takes_scsi_disks(controller: Node<'_, '_>) -> bool {
    controller.attribute("type") == Some("scsi")
        && matches!(
            controller.attribute("model"),
            Some("virtio-scsi" | "virtio-transitional" | "virtio-non-transitional")
        )
}

fn alias(device: Node<'_, '_>) -> Option<String> {
    attribute(device, "alias", "name").map(str::to_owned)
}

fn attribute<'a>(node: Node<'a, '_>, element: &str, name: &str) -> Option<&'a str> {
    child(node, element)?.attribute(name)
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use proptest::prelude::*;

    const RUNNING: &str = r#"<domain type='qemu' id='7'>
      <name>guest &amp; co</name>
      <devices>
        <emulator>/usr/bin/qemu-system-x86_64</emulator>
        <disk type='file' device='disk'>
          <source file='/var/lib/a&lt;b.img' index='1'/>
          <backingStore type='block' index='2'><format type='raw'/><source dev='/dev/sdq'/><backingStore/></backingStore>
          <target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>
        </disk>
        <disk type='block' device='disk'>
          <source dev='/dev/sdb'/><target dev='vdb' bus='virtio'/><alias name='ua-mydisks-1'/>
        </disk>
        <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
        <disk type='network' device='disk'><source protocol='rbd' name='x'/><target dev='vdz' bus='virtio'/></disk>
        <hostdev mode='subsystem' type='usb' managed='yes'>
          <source><vendor id='0x051d'/><product id='0x0002'/><address bus='1' device='12'/></source>
          <alias name='hostdev0'/>
        </hostdev>
        <hostdev mode='subsystem' type='usb' managed='no'>
          <source startupPolicy='optional' missing='yes'>
            <vendor id='0x1'/><product id='0x2'/><address bus='1' device='9'/></source>
        </hostdev>
        <hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='2'/></source></hostdev>
        <controller type='scsi' index='0' model='virtio-scsi'/>
      </devices>
    </domain>"#;

    #[test]
    fn everything_that_a_running_guest_has_is_read() {
        let domain = domain(RUNNING).unwrap();
        assert_eq!(domain.name, "guest & co");
        let live = domain.live.unwrap();
        assert_eq!((live.run, live.has_scsi), (7, true));
        let disks: Vec<_> = live
            .devices
            .iter()
            .filter_map(|device| match &device.kind {
                LiveKind::Disk { target, source } => {
                    Some((target.as_str(), source.as_deref(), device.alias.as_deref()))
                }
                LiveKind::Usb { .. } => None,
            })
            .collect();
        let at = |path| Some(Path::new(path));
        assert_eq!(
            disks,
            [
                ("vda", at("/var/lib/a<b.img"), Some("virtio-disk0")),
                ("vda", at("/dev/sdq"), None),
                ("vdb", at("/dev/sdb"), Some("ua-mydisks-1")),
                ("sda", None, None),
                ("vdz", None, None),
            ]
        );
        let usb: Vec<_> = live
            .devices
            .iter()
            .filter_map(|device| match device.kind {
                LiveKind::Usb { at, id } => Some((at, id.map(|id| id.to_string()))),
                LiveKind::Disk { .. } => None,
            })
            .collect();
        assert_eq!(usb, [(Some((1, 12)), Some("051d:0002".into())), (None, Some("0001:0002".into()))]);
    }

    #[test]
    fn a_link_to_a_device_is_followed_and_no_other_path_is() {
        for (written, expected) in [
            ("/dev/stdin/../null", "/dev/stdin/../null"),
            ("/proc/self", "/proc/self"),
            ("/dev/gone", "/dev/gone"),
        ] {
            let xml = RUNNING.replace("/dev/sdb", written);
            assert!(format!("{:?}", domain(&xml).unwrap()).contains(&format!("{expected:?}")), "{written}");
        }
        let link = std::fs::read_link("/dev/fd").unwrap();
        assert!(link.starts_with("/proc"));
        let xml = RUNNING.replace("/dev/sdb", "/dev/fd");
        assert!(!format!("{:?}", domain(&xml).unwrap()).contains("\"/dev/fd\""));
    }

    #[test]
    fn a_guest_that_is_off_has_no_live_devices() {
        let off = RUNNING.replace(" id='7'", "");
        assert_eq!(domain(&off).unwrap(), Domain { name: "guest & co".into(), live: None });
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in ["", "<domain>", "<network/>", "<domain id='1'/>", "<domain><name/></domain>"] {
            assert!(domain(text).is_err(), "{text:?}");
        }
        let bomb = "<!DOCTYPE d [<!ENTITY a 'x'><!ENTITY b '&a;&a;'>]><domain><name>&b;</name></domain>";
        assert!(domain(bomb).is_err(), "entities of its own");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = domain(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn no_damage_to_a_real_description_makes_the_reader_panic(
            cut in 0..RUNNING.len(), length in 0..80_usize, with in "[<>&'\"a-z=/ ]{0,6}"
        ) {
            let end = (cut + length).min(RUNNING.len());
            if let (Some(before), Some(after)) = (RUNNING.get(..cut), RUNNING.get(end..)) {
                let _ = domain(&format!("{before}{with}{after}"));
            }
        }
    }
}
