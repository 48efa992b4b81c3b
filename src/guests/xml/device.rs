//! Writes the XML of a device that is attached. What is written reads back as it was given, or is refused: no text
//! becomes markup.

use std::io;
use std::path::Path;

use quick_xml::events::BytesText;
use quick_xml::{ElementWriter, Writer};
use thiserror::Error;

use super::super::{Bus, NewDevice};

/// A device that cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} cannot be written in XML")]
pub(in crate::guests) struct WriteError(String);

/// QEMU cuts virtio-blk's serial there (`VIRTIO_BLK_ID_BYTES` in linux/virtio_blk.h).
const SERIAL_BYTES: usize = 20;

/// The device as `virDomainAttachDeviceFlags` takes it (libvirt's formatdomain).
pub(in crate::guests) fn device(device: &NewDevice) -> Result<String, WriteError> {
    match device {
        NewDevice::Disk { node, target, bus, serial, read_only, alias, .. } => {
            let node = text_of(node)?;
            let disk = Disk { node: &node, target, bus: *bus, serial: serial.as_deref(), alias };
            disk.check()?;
            Ok(written(|writer| disk.write(writer, *read_only)))
        }
        NewDevice::Usb { bus, address, alias, .. } => {
            check(alias)?;
            Ok(written(|writer| usb(writer, *bus, *address, alias)))
        }
    }
}

/// A serial that every bus takes: libvirt refuses other characters than `[A-Za-z0-9_.-]` and QEMU cuts after 20. The end
/// is kept: that is where the serials of one model differ.
fn sane_serial(serial: &str) -> Option<String> {
    let is_fine = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    let sane: String =
        serial.chars().map(|character| if is_fine(character) { character } else { '_' }).collect();
    // All ASCII by now.
    let kept = sane.get(sane.len().saturating_sub(SERIAL_BYTES)..).unwrap_or_default();
    (!kept.is_empty()).then(|| kept.to_owned())
}

struct Disk<'a> {
    node: &'a str,
    target: &'a str,
    bus: Bus,
    serial: Option<&'a str>,
    alias: &'a str,
}

impl Disk<'_> {
    fn check(&self) -> Result<(), WriteError> {
        [self.node, self.target, self.alias].into_iter().try_for_each(check)
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>, read_only: bool) -> io::Result<()> {
        let bus = match self.bus {
            Bus::Virtio => "virtio",
            Bus::Scsi => "scsi",
            Bus::Usb => "usb",
        };
        let driver =
            [("name", "qemu"), ("type", "raw"), ("cache", "none"), ("io", "native"), ("discard", "unmap")];
        let disk = writer.create_element("disk").with_attributes([("type", "block"), ("device", "disk")]);
        disk.write_inner_content(|writer| {
            writer.create_element("driver").with_attributes(driver).write_empty()?;
            writer.create_element("source").with_attribute(("dev", self.node)).write_empty()?;
            let target = [("dev", self.target), ("bus", bus)];
            writer.create_element("target").with_attributes(target).write_empty()?;
            if let Some(serial) = self.serial.and_then(sane_serial) {
                writer.create_element("serial").write_text_content(BytesText::new(&serial))?;
            }
            if read_only {
                writer.create_element("readonly").write_empty()?;
            }
            alias(writer, self.alias)
        })
        .map(drop)
    }
}

/// By its place on the bus: libvirt refuses vendor and product when there are twins. With the policy that lets a guest that
/// was saved be restored although the device has been pulled, or plugged in again, meanwhile; it also makes
/// the attach of an absent device succeed, which the live XML then tells (`missing`).
fn usb(writer: &mut Writer<Vec<u8>>, bus: u16, address: u16, name: &str) -> io::Result<()> {
    let (bus, address) = (bus.to_string(), address.to_string());
    let attributes = [("mode", "subsystem"), ("type", "usb"), ("managed", "yes")];
    let hostdev: ElementWriter<'_, _> = writer.create_element("hostdev").with_attributes(attributes);
    hostdev
        .write_inner_content(|writer| {
            let policy = ("startupPolicy", "requisite");
            writer.create_element("source").with_attribute(policy).write_inner_content(|writer| {
                let place = [("bus", bus.as_str()), ("device", address.as_str())];
                writer.create_element("address").with_attributes(place).write_empty().map(drop)
            })?;
            alias(writer, name)
        })
        .map(drop)
}

fn alias(writer: &mut Writer<Vec<u8>>, name: &str) -> io::Result<()> {
    writer.create_element("alias").with_attribute(("name", name)).write_empty().map(drop)
}

/// Writing into memory fails only without memory.
fn written(what: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) -> String {
    let mut writer = Writer::new(Vec::new());
    let _ = what(&mut writer);
    String::from_utf8(writer.into_inner()).unwrap_or_default()
}

/// Line breaks and tabs in attributes would come back as spaces, and other control characters are not in XML 1.0.
fn check(text: &str) -> Result<(), WriteError> {
    let is_plain = |character: char| !character.is_control() && !matches!(character, '\u{fffe}' | '\u{ffff}');
    if text.chars().all(is_plain) { Ok(()) } else { Err(WriteError(text.to_owned())) }
}

fn text_of(path: &Path) -> Result<String, WriteError> {
    path.to_str().map(str::to_owned).ok_or_else(|| WriteError(path.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::super::{LiveDevice, LiveKind};
    use super::*;
    use crate::device::UsbId;
    use proptest::prelude::*;

    fn disk(node: &str, target: &str, bus: Bus, serial: Option<&str>, alias: &str) -> NewDevice {
        NewDevice::Disk {
            node: node.into(),
            diskseq: 9,
            target: target.into(),
            bus,
            serial: serial.map(str::to_owned),
            read_only: false,
            alias: alias.into(),
        }
    }

    fn usb_device(bus: u16, address: u16, alias: &str) -> NewDevice {
        let id = UsbId { vendor: 0x51d, product: 2 };
        NewDevice::Usb { bus, address, id, disks: Vec::new(), alias: alias.to_owned() }
    }

    /// What a guest would have that got these devices.
    fn read_back(xml: &str) -> Vec<LiveDevice> {
        let domain = format!("<domain id='1'><name>x</name><devices>{xml}</devices></domain>");
        super::super::domain(&domain).unwrap().live.unwrap().devices
    }

    #[test]
    fn a_disk_is_written_as_libvirt_takes_it() {
        let mut device = disk("/dev/sdb", "vdb", Bus::Virtio, Some("WD-WX91A848D75S"), "ua-mydisks-1");
        let expected = "<disk type=\"block\" device=\"disk\">\
            <driver name=\"qemu\" type=\"raw\" cache=\"none\" io=\"native\" discard=\"unmap\"/>\
            <source dev=\"/dev/sdb\"/><target dev=\"vdb\" bus=\"virtio\"/>\
            <serial>WD-WX91A848D75S</serial>\
            <alias name=\"ua-mydisks-1\"/></disk>";
        assert_eq!(super::device(&device).unwrap(), expected);
        if let NewDevice::Disk { read_only, .. } = &mut device {
            *read_only = true;
        }
        assert!(super::device(&device).unwrap().contains("</serial><readonly/><alias"));
    }

    #[test]
    fn a_usb_device_is_written_by_its_place_and_need_not_be_there_when_its_guest_is_restored() {
        let usb = usb_device(1, 12, "ua-mydisks-u");
        let expected = "<hostdev mode=\"subsystem\" type=\"usb\" managed=\"yes\">\
            <source startupPolicy=\"requisite\"><address bus=\"1\" device=\"12\"/></source><alias name=\"ua-mydisks-u\"/></hostdev>";
        assert_eq!(super::device(&usb).unwrap(), expected);
    }

    #[test]
    fn serials_keep_their_end_and_lose_what_libvirt_refuses() {
        assert_eq!(sane_serial("WDC_WD20NMVW-11AV3S3_WD-WX91A848D77S").unwrap(), "V3S3_WD-WX91A848D77S");
        assert_eq!(sane_serial("a b]]>\n<&\"'ä").unwrap(), "a_b_________");
        assert_eq!(sane_serial(""), None);
    }

    #[test]
    fn what_xml_cannot_hold_is_refused() {
        for text in ["a\nb", "a\tb", "a\0b", "\u{1b}", "\u{fffe}"] {
            assert!(
                super::device(&disk(text, "vdb", Bus::Virtio, None, "ua-mydisks-1")).is_err(),
                "{text:?}"
            );
            assert!(super::device(&disk("/dev/sdb", "vdb", Bus::Virtio, None, text)).is_err(), "{text:?}");
        }
    }

    fn hostile() -> impl Strategy<Value = String> {
        let wild = prop::sample::select(vec![
            "<", ">", "&", "\"", "'", "\n", "]]>", "<!--", "&#0;", "</disk>", "ä", "x",
        ]);
        prop::collection::vec(wild, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            node in hostile(), target in hostile(), serial in hostile(), alias in hostile(), read_only: bool
        ) {
            let mut new = disk(&node, &target, Bus::Scsi, Some(&serial), &alias);
            if let NewDevice::Disk { read_only: wanted, .. } = &mut new {
                *wanted = read_only;
            }
            match super::device(&new) {
                Ok(xml) => prop_assert_eq!(read_back(&xml), [LiveDevice {
                    alias: Some(alias),
                    kind: LiveKind::Disk { target, source: Some(node.into()) },
                }]),
                Err(_) => prop_assert!([node, target, alias].concat().contains('\n')),
            }
        }

        #[test]
        fn every_usb_device_is_read_back(bus: u16, address: u16, alias in "[ -~]{0,30}") {
            let xml = super::device(&usb_device(bus, address, &alias)).unwrap();
            prop_assert_eq!(read_back(&xml), [LiveDevice {
                alias: Some(alias),
                kind: LiveKind::Usb { at: Some((bus, address)), id: None },
            }]);
        }

        #[test]
        fn every_serial_becomes_sane(serial: String) {
            let sane = sane_serial(&serial);
            prop_assert_eq!(sane.is_none(), serial.is_empty());
            let sane = sane.unwrap_or_default();
            prop_assert!(sane.len() <= SERIAL_BYTES);
            prop_assert!(sane.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)));
        }
    }
}
