//! Names and identities as types that only parsing can make, so that an unchecked string from a cable, a
//! config file or a command line cannot reach a place where it hurts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a string is not the identity it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// More bytes than the longest allowed.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// A character that is not on the list.
    #[error("must not contain {0:?}")]
    Character(char),
    /// A first character that is not on the list.
    #[error("must not begin with {0:?}")]
    First(char),
    /// Not of the form that this identity has.
    #[error("is not {0}")]
    Form(&'static str),
}

/// Declares a newtype over a string with its check, `FromStr`, `Display` and `as_str`.
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The checked string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                let check: fn(&str) -> Result<String, IdentityError> = $check;
                check(text).map(|text| Self(text.into_boxed_str()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

identity! {
    /// A directory under the FUSE root, and the tail of a mapping's name: letters, digits, `_ . + -`, not
    /// beginning with `.` or `-`, at most 100 bytes.
    MountName, |text| name(text, 100, "_.+-")
}
identity! {
    /// A libvirt domain's name: as [`MountName`], and inner spaces, `:`, `@`, `,`, `(`, `)`.
    GuestName, |text| {
        if text.ends_with(' ') {
            return Err(IdentityError::Form("a name without a space at its end"));
        }
        name(text, 255, "_.+-:@,() ")
    }
}
identity! {
    /// A disk's by-id stem, `ID_SERIAL` or `ID_SERIAL_SHORT`. Compared, never made part of a path.
    DiskId, |text| printable(text, 512)
}
identity! {
    /// A USB device's `ID_SERIAL_SHORT`. Compared only.
    UsbSerial, |text| printable(text, 256)
}
identity! {
    /// A file system's or LUKS header's label. Compared only.
    FsLabel, |text| printable(text, 512)
}
identity! {
    /// UUID of a file system or LUKS header as libblkid prints it (`1234-ABCD` for FAT), in lower case.
    FsUuid, |text| hex_and_dashes(text)
}
identity! {
    /// UUID of a partition table's entry (`6e2d0b9d-01` in an MBR), in lower case.
    PartUuid, |text| hex_and_dashes(text)
}
identity! {
    /// UUID of a LUKS header, in lower case.
    LuksUuid, |text| {
        let uuid = hex_and_dashes(text)?;
        let dashes = [8, 13, 18, 23].iter().all(|&at| uuid.as_bytes().get(at) == Some(&b'-'));
        if uuid.len() == 36 && dashes && uuid.matches('-').count() == 4 {
            Ok(uuid)
        } else {
            Err(IdentityError::Form("a UUID like 123e4567-e89b-12d3-a456-426614174000"))
        }
    }
}
identity! {
    /// World wide name as udev's `ID_WWN` has it, in lower case: `0x5000c500a1b2c3d4`, and for NVMe (`wwid_show` in
    /// drivers/nvme/host/sysfs.c) `eui.…`, `uuid.…` or `nvme.VENDOR-SERIAL-MODEL-NAMESPACE` in hexadecimal.
    Wwn, |text| {
        let text = text.to_ascii_lowercase();
        let digits = |rest: &str, marks: &str| {
            rest.len() <= 160
                && rest.bytes().any(|b| b.is_ascii_hexdigit())
                && rest.chars().all(|c| c.is_ascii_hexdigit() || marks.contains(c))
        };
        let known = ["0x", "eui.", "naa."].iter().any(|p| text.strip_prefix(p).is_some_and(|rest| digits(rest, "")))
            || ["nvme.", "uuid."].iter().any(|p| text.strip_prefix(p).is_some_and(|rest| digits(rest, "-")));
        if known { Ok(text) } else { Err(IdentityError::Form("a world wide name like 0x5000c500a1b2c3d4")) }
    }
}
identity! {
    /// A USB port as in /sys/bus/usb/devices: bus, `-`, port numbers with `.` between (`1-4.2`).
    PortPath, |text| {
        let form = IdentityError::Form("a USB port like 1-4.2");
        let (bus, ports) = text.split_once('-').ok_or(form.clone())?;
        // Seven tiers with the root hub (USB 2.0, 4.1.1; MAX_TOPO_LEVEL in drivers/usb/core/hub.c), so at most six
        // numbers of ports.
        let number = |s: &str| !s.starts_with('0') && s.bytes().all(|b| b.is_ascii_digit()) && s.parse::<u8>().is_ok();
        let is_port = number(bus) && ports.split('.').all(number) && ports.split('.').count() <= 6;
        if is_port { Ok(text.to_owned()) } else { Err(form) }
    }
}

impl PortPath {
    /// Whether it is that port, or one of a hub that is plugged in there.
    pub fn is_at_or_behind(&self, port: &PortPath) -> bool {
        self.as_str().strip_prefix(port.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Vendor and product of a USB device, `051d:0002`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsbId {
    /// idVendor
    pub vendor: u16,
    /// idProduct
    pub product: u16,
}

impl FromStr for UsbId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let number = |s: &str| {
            (s.len() == 4 && s.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| u16::from_str_radix(s, 16).ok())
                .flatten()
        };
        text.split_once(':')
            .and_then(|(vendor, product)| Some(Self { vendor: number(vendor)?, product: number(product)? }))
            .ok_or(IdentityError::Form("vendor:product in hexadecimal, like 051d:0002"))
    }
}

impl fmt::Display for UsbId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:04x}:{:04x}", self.vendor, self.product)
    }
}

fn name(text: &str, longest: usize, marks: &str) -> Result<String, IdentityError> {
    let first = text.chars().next().ok_or(IdentityError::Empty)?;
    if text.len() > longest {
        return Err(IdentityError::TooLong(longest));
    }
    if !first.is_ascii_alphanumeric() && first != '_' {
        return Err(IdentityError::First(first));
    }
    match text.chars().find(|&c| !c.is_ascii_alphanumeric() && !marks.contains(c)) {
        Some(wrong) => Err(IdentityError::Character(wrong)),
        None => Ok(text.to_owned()),
    }
}

fn printable(text: &str, longest: usize) -> Result<String, IdentityError> {
    if text.is_empty() {
        return Err(IdentityError::Empty);
    }
    if text.len() > longest {
        return Err(IdentityError::TooLong(longest));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(wrong) => Err(IdentityError::Character(wrong)),
        None => Ok(text.to_owned()),
    }
}

fn hex_and_dashes(text: &str) -> Result<String, IdentityError> {
    if text.is_empty() {
        return Err(IdentityError::Empty);
    }
    if text.len() > 64 {
        return Err(IdentityError::TooLong(64));
    }
    match text.chars().find(|&c| !c.is_ascii_hexdigit() && c != '-') {
        Some(wrong) => Err(IdentityError::Character(wrong)),
        None if !text.contains(|c: char| c.is_ascii_hexdigit()) => {
            Err(IdentityError::Form("a UUID in hexadecimal"))
        }
        None => Ok(text.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mount_names_from_the_allow_list_only() {
        for good in ["backup", "b", "_x", "Backup-2.old+1", &"n".repeat(100)] {
            assert!(good.parse::<MountName>().is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", ".status", "-x", "a/b", "a b", "a\n", "ä", "a\0", &"n".repeat(101)] {
            assert!(bad.parse::<MountName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn guest_names_may_have_inner_spaces() {
        assert!("Windows 11 (test)".parse::<GuestName>().is_ok());
        for bad in ["", " x", "x ", "-x", ".x", "a/b", "a<b", "a&b", "a\"b", "a\n"] {
            assert!(bad.parse::<GuestName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_port_behind_a_hub_is_told_from_one_whose_number_begins_alike() {
        let port = |text: &str| text.parse::<PortPath>().unwrap();
        for (inner, outer, is) in
            [("1-4", "1-4", true), ("1-4.2", "1-4", true), ("1-4.2.1", "1-4", true), ("1-42", "1-4", false)]
        {
            assert_eq!(port(inner).is_at_or_behind(&port(outer)), is, "{inner} {outer}");
        }
        assert!(!port("1-4").is_at_or_behind(&port("1-4.2")) && !port("2-4").is_at_or_behind(&port("1-4")));
    }

    #[test]
    fn usb_ids_ports_and_uuids_have_one_form() {
        assert_eq!("051D:0002".parse::<UsbId>().map(|id| id.to_string()), Ok("051d:0002".into()));
        for bad in ["51d:2", "051d0002", "051d:00022", "+51d:0002", ":", "051d:0002:1"] {
            assert!(bad.parse::<UsbId>().is_err(), "{bad:?}");
        }
        for good in ["1-4", "1-4.2", "12-1.1.1.1.1.1"] {
            assert!(good.parse::<PortPath>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "1",
            "1-",
            "-4",
            "1-4.",
            "1-4..2",
            "1-4/2",
            "1-0",
            "01-4",
            "1-999",
            "usb1",
            "1-1.1.1.1.1.1.1",
        ] {
            assert!(bad.parse::<PortPath>().is_err(), "{bad:?}");
        }
        assert!("123E4567-e89b-12d3-a456-426614174000".parse::<LuksUuid>().is_ok());
        assert!("123e4567e89b12d3a456426614174000".parse::<LuksUuid>().is_err());
        assert_eq!("1234-ABCD".parse::<FsUuid>().map(|u| u.to_string()), Ok("1234-abcd".into()));
        assert!("0x5000C500A1B2C3D4".parse::<Wwn>().is_ok());
        assert!("nvme.15b7-3232-5744-00000001".parse::<Wwn>().is_ok());
        for bad in ["5000c500a1b2c3d4", "0x", "0x5-0", "nvme.", "nvme.-", "eui.x"] {
            assert!(bad.parse::<Wwn>().is_err(), "{bad:?}");
        }
        for bad in ["", "-", "--", "12g4", "{1234}", &"a".repeat(65)] {
            assert!(bad.parse::<FsUuid>().is_err(), "{bad:?}");
            assert!(bad.parse::<PartUuid>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_string_makes_a_name_that_leaves_its_directory(text in "\\PC{0,12}|[./\\-a-c]{0,6}") {
            if let Ok(name) = text.parse::<MountName>() {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
                prop_assert!(!name.as_str().starts_with('-'));
            }
        }
    }
}
