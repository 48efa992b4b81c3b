//! Asks the kernel what is plugged in at this moment, for whoever is about to use a device that udev has told of.

use std::path::Path;

use super::UsbId;

/// Vendor and product of the USB device that has this number on this bus; `None` if there is none.
pub fn usb_id_at(bus: u16, address: u16) -> Option<UsbId> {
    usb_id_below(Path::new("/sys/bus/usb/devices"), bus, address)
}

fn usb_id_below(devices: &Path, bus: u16, address: u16) -> Option<UsbId> {
    std::fs::read_dir(devices).ok()?.flatten().find_map(|entry| {
        let read = |name| std::fs::read_to_string(entry.path().join(name)).ok();
        // Decimal and hexadecimal (`busnum_show`, `devnum_show`, `usb_descriptor_attr_le16` in drivers/usb/core/sysfs.c).
        let number = |name| read(name)?.trim().parse::<u16>().ok();
        let id = |name| u16::from_str_radix(read(name)?.trim(), 16).ok();
        // Interfaces are listed too, and have no numbers.
        if number("busnum") != Some(bus) || number("devnum") != Some(address) {
            return None;
        }
        Some(UsbId { vendor: id("idVendor")?, product: id("idProduct")? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_numbers_and_read_as_the_kernel_writes_it() {
        let devices = tempfile::tempdir().unwrap();
        for (name, files) in [
            ("usb1", [("busnum", "1"), ("devnum", "1"), ("idVendor", "1d6b"), ("idProduct", "0002")]),
            ("1-4.2", [("busnum", "1"), ("devnum", "12"), ("idVendor", "051d"), ("idProduct", "00ff")]),
            ("2-1", [("busnum", "2"), ("devnum", "12"), ("idVendor", "bad!"), ("idProduct", "")]),
            ("1-4.2:1.0", [("bInterfaceNumber", "00"), ("", ""), ("", ""), ("", "")]),
        ] {
            let device = devices.path().join(name);
            std::fs::create_dir(&device).unwrap();
            for (file, content) in files.into_iter().filter(|(file, _)| !file.is_empty()) {
                std::fs::write(device.join(file), format!("{content}\n")).unwrap();
            }
        }
        let at = |bus, address| usb_id_below(devices.path(), bus, address);
        assert_eq!(at(1, 12), Some(UsbId { vendor: 0x51d, product: 0xff }));
        assert_eq!((at(2, 12), at(1, 13)), (None, None));
        assert_eq!(usb_id_below(Path::new("/no/such/place"), 1, 1), None);
    }
}
