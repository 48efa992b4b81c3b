//! What udev and sysfs tell of one device, copied out of libudev so that everything behind it is plain data
//! that a test can write down. Knows nothing of what the properties mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One device's properties and attributes at one moment. Values are lossily decoded: udev does not promise
/// UTF-8, and what a device says of itself may be any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its directory under /sys.
    pub(crate) syspath: PathBuf,
    /// udev has handled an event of it and keeps an entry in its database.
    pub(crate) initialized: bool,
    properties: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
}

impl Record {
    /// A record without properties and attributes.
    pub(crate) fn new(syspath: PathBuf, initialized: bool) -> Self {
        Self { syspath, initialized, ..Self::default() }
    }

    /// The same with these properties, of the event that udev is handling, in place of those of its database.
    pub(crate) fn handled_with(self, properties: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { initialized: true, properties: properties.into_iter().collect(), ..self }
    }

    /// Notes a property of udev's.
    pub(crate) fn set_property(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.properties.insert(name.into(), value.into());
    }

    /// Notes a file of the device's sysfs directory.
    pub(crate) fn set_attribute(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.attributes.insert(name.into(), value.into());
    }

    /// A property; `None` if absent or empty.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A sysfs attribute; `None` if absent or empty.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A sysfs attribute that is a decimal number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.attribute(name)?.trim().parse().ok()
    }

    /// A sysfs attribute that is a hexadecimal number without `0x`.
    pub(crate) fn hexadecimal(&self, name: &str) -> Option<u16> {
        u16::from_str_radix(self.attribute(name)?.trim(), 16).ok()
    }

    /// The kernel's name of it: `sdb`, `1-4.2`.
    pub(crate) fn sysname(&self) -> &str {
        self.syspath.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// `/dev/…`, from the kernel's own uevent file.
    pub(crate) fn devnode(&self) -> Option<&Path> {
        self.property("DEVNAME").map(Path::new)
    }

    /// Device number, as in `st_rdev`.
    pub(crate) fn devnum(&self) -> Option<u64> {
        let part = |name| self.property(name)?.parse::<u32>().ok();
        Some(rustix::fs::makedev(part("MAJOR")?, part("MINOR")?))
    }
}

/// Turns udev's `\xNN` (systemd's `encode_devnode_name`) back into bytes, lossily decoded. Any other backslash
/// stays what it is.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let byte = match behind {
            [b'x', high, low, ..] if first == b'\\' => hex_byte(*high, *low),
            _ => None,
        };
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &behind[3..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
pub(crate) mod recorded {
    //! Records written down in the lab (`testdata/README.md` tells how), read back.
    use super::Record;
    use std::path::Path;

    pub(crate) const DISKS: &str = include_str!("testdata/disks.txt");
    pub(crate) const TWINS: &str = include_str!("testdata/twins.txt");
    pub(crate) const ODD: &str = include_str!("testdata/odd.txt");
    pub(crate) const USB: &str = include_str!("testdata/usb.txt");

    /// Blocks of `P: devpath`, `E: PROPERTY=value`, `A: attribute=value`, apart by an empty line.
    pub(crate) fn read(text: &str) -> Vec<Record> {
        text.split("\n\n").filter(|block| block.contains("P: ")).map(read_one).collect()
    }

    fn read_one(block: &str) -> Record {
        let mut record = Record { initialized: true, ..Record::default() };
        for line in block.lines() {
            let (kind, rest) = line.split_at(3);
            match (kind, rest.split_once('=')) {
                ("P: ", _) => record.syspath = Path::new("/sys").join(&rest[1..]),
                ("E: ", Some((name, value))) => record.set_property(name, value),
                ("A: ", Some((name, value))) => record.set_attribute(name, value),
                _ => panic!("not a recorded line: {line:?}"),
            }
        }
        record
    }

    /// The record with that `DEVNAME`.
    pub(crate) fn named(text: &str, devname: &str) -> Record {
        read(text).into_iter().find(|record| record.property("DEVNAME") == Some(devname)).expect(devname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_become_bytes_and_nothing_else_changes() {
        assert_eq!(unescape(r#"my\x20\x22back\x20up\x22"#), "my \"back up\"");
        assert_eq!(unescape(r"\xc3\xa4"), "ä");
        assert_eq!(unescape(r"a\xff"), "a\u{fffd}");
        for plain in ["", "\\", "\\x", "\\x2", "\\xg0", "\\\\", "a\\n", "ä\\xä"] {
            assert_eq!(unescape(plain), plain);
        }
        assert_eq!(unescape(r"\\x20"), "\\ ");
    }

    proptest! {
        #[test]
        fn what_udev_escapes_comes_back(text in "\\PC{0,20}") {
            let escaped: String = text.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            prop_assert_eq!(unescape(&escaped), text);
        }

        #[test]
        fn no_text_breaks_it(text in any::<String>()) {
            let _ = unescape(&text);
        }
    }
}
