//! From udev's record of a usb_device to a [`UsbDevice`]; pure.

use super::record::{Record, unescape};
use super::{UsbDevice, UsbId};

/// bDeviceClass of hubs (USB 2.0, 11.23.1).
const CLASS_HUB: u16 = 9;

/// The device that this record tells of; `None` for root hubs (`usb1`: they sit on no port), interfaces, what
/// the kernel has not finished reading, and, while udev runs, what udev has not handled yet. `known` is what was
/// last reported of that place.
pub(crate) fn usb_device(record: &Record, known: Option<&UsbDevice>, udev_runs: bool) -> Option<UsbDevice> {
    if record.property("DEVTYPE") != Some("usb_device") || (udev_runs && !record.initialized) {
        return None;
    }
    let id = UsbId { vendor: record.hexadecimal("idVendor")?, product: record.hexadecimal("idProduct")? };
    let (bus, address) = (record.number("busnum")?, record.number("devnum")?);
    let was_bound = known.is_some_and(|known| known.bound && (known.bus, known.address) == (bus, address));
    Some(UsbDevice {
        port: record.sysname().parse().ok()?,
        id,
        serial: record.property("ID_SERIAL_SHORT").map(str::to_owned),
        bus,
        address,
        name: name(record),
        is_hub: record.hexadecimal("bDeviceClass") == Some(CLASS_HUB),
        bound: has_driver(record) && (was_bound || is_configured(record)),
    })
}

/// The kernel's generic driver sits on the device: the state that udev's `bind` event announces.
fn has_driver(record: &Record) -> bool {
    record.attribute("driver").is_some()
}

/// The kernel has chosen a configuration: there are interfaces for a guest to claim. It does not for a device
/// that is not authorized (usbguard); when that changes, the new interfaces' events tell.
fn is_configured(record: &Record) -> bool {
    record.number::<u8>("bConfigurationValue").is_some_and(|value| value > 0)
}

/// What the device says of itself, else what udev's hardware database says of its ids.
fn name(record: &Record) -> Option<String> {
    let own = |name: &str, id: &str| {
        // usb_id puts the number there when the device has no string.
        let told = record.property(name).filter(|told| record.property(id) != Some(told));
        told.map(|told| unescape(told).trim().to_owned())
    };
    let vendor = own("ID_VENDOR_ENC", "ID_VENDOR_ID")
        .or_else(|| record.property("ID_VENDOR_FROM_DATABASE").map(str::to_owned));
    let model = own("ID_MODEL_ENC", "ID_MODEL_ID")
        .or_else(|| record.property("ID_MODEL_FROM_DATABASE").map(str::to_owned));
    let words: Vec<String> = [vendor, model].into_iter().flatten().filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::record::recorded::{self, DISKS, USB};

    fn on_port(port: &str) -> Record {
        recorded::read(USB).into_iter().find(|record| record.sysname() == port).expect(port)
    }

    #[test]
    fn a_serial_adapter_is_told_in_full() {
        let expected = UsbDevice {
            port: "3-1".parse().unwrap(),
            id: UsbId { vendor: 0x0403, product: 0x6001 },
            serial: Some("FTDI1".into()),
            bus: 3,
            address: 2,
            name: Some("FTDI FT232R USB UART".into()),
            is_hub: false,
            bound: true,
        };
        assert_eq!(usb_device(&on_port("3-1"), None, true), Some(expected));
    }

    #[test]
    fn hubs_are_marked_and_root_hubs_left_out() {
        assert!(usb_device(&on_port("1-7"), None, true).unwrap().is_hub);
        assert_eq!(usb_device(&on_port("usb1"), None, true), None);
        assert!(!usb_device(&on_port("1-7.2"), None, true).unwrap().is_hub, "a mouse behind it");
    }

    #[test]
    fn a_disk_is_a_usb_device_too() {
        let disk = usb_device(&recorded::named(DISKS, "/dev/bus/usb/002/002"), None, true).unwrap();
        assert_eq!(disk.id.to_string(), "46f4:0001");
        assert_eq!(disk.serial.as_deref(), Some("WX91A848D77S"));
    }

    #[test]
    fn a_serial_that_udev_finds_unusable_is_none_and_odd_strings_are_only_shown() {
        let odd = usb_device(&on_port("4-1"), None, true).unwrap();
        assert_eq!(odd.serial, None);
        assert_eq!(odd.name.as_deref(), Some("Linux Foundation Ups ../../x"));
    }

    #[test]
    fn usable_only_with_driver_and_configuration() {
        for missing in ["driver", "bConfigurationValue"] {
            let mut record = on_port("3-1");
            record.set_attribute(missing, "");
            assert!(!usb_device(&record, None, true).unwrap().bound, "{missing}");
        }
    }

    #[test]
    fn a_guest_that_changes_the_configuration_does_not_make_its_device_unusable() {
        let mut record = on_port("3-1");
        let known = usb_device(&record, None, true);
        record.set_attribute("bConfigurationValue", "");
        assert!(usb_device(&record, known.as_ref(), true).unwrap().bound);
        record.set_attribute("devnum", "9");
        assert!(!usb_device(&record, known.as_ref(), true).unwrap().bound, "another plug");
        record.set_attribute("devnum", "2");
        record.set_attribute("driver", "");
        assert!(!usb_device(&record, known.as_ref(), true).unwrap().bound, "its driver is gone");
    }

    #[test]
    fn a_device_that_udev_or_the_kernel_has_not_finished_is_not_there_yet() {
        let mut record = on_port("3-1");
        record.initialized = false;
        assert_eq!(usb_device(&record, None, true), None);
        assert!(usb_device(&record, None, false).is_some());
        record.set_attribute("devnum", "");
        assert_eq!(usb_device(&record, None, false), None);
    }
}
