//! One plug of one device, and the alias that it goes by in a guest: all that a restarted daemon has to recognise its
//! own work by.

use std::fmt;

use crate::device::{DiskSeq, UsbId};
use crate::guests::ALIAS_PREFIX;

/// A device from when it is plugged in until it is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::core) enum Plug {
    Disk(DiskSeq),
    /// The address is new at each plug, and used again only after a hundred others.
    Usb {
        bus: u16,
        address: u16,
    },
}

/// `ua-mydisks-disk-12`, `ua-mydisks-usb-1-7-051d-0002`, and with `hand-` before the kind for what a person gave to a
/// guest that the configuration does not: a restarted daemon then knows that it is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::core) struct Alias {
    pub(in crate::core) plug: Plug,
    /// Of a USB device, as its address alone may be another one's by now.
    pub(in crate::core) id: Option<UsbId>,
    pub(in crate::core) by_hand: bool,
}

impl Alias {
    /// `None`: not one of ours.
    pub(in crate::core) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(ALIAS_PREFIX)?;
        let (by_hand, rest) = match rest.strip_prefix("hand-") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let alias = if let Some(seq) = rest.strip_prefix("disk-") {
            Self { plug: Plug::Disk(DiskSeq(seq.parse().ok()?)), id: None, by_hand }
        } else {
            let mut parts = rest.strip_prefix("usb-")?.splitn(3, '-');
            let (bus, address) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let id = parts.next()?.replacen('-', ":", 1).parse().ok()?;
            Self { plug: Plug::Usb { bus, address }, id: Some(id), by_hand }
        };
        // There is one way to write it.
        (alias.to_string() == text).then_some(alias)
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{ALIAS_PREFIX}{}", if self.by_hand { "hand-" } else { "" })?;
        match self.plug {
            Plug::Disk(seq) => write!(out, "disk-{}", seq.0),
            Plug::Usb { bus, address } => {
                let UsbId { vendor, product } = self.id.unwrap_or(UsbId { vendor: 0, product: 0 });
                write!(out, "usb-{bus}-{address}-{vendor:04x}-{product:04x}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_others_call_their_devices_is_not_ours() {
        for other in [
            "ua-mydisks-",
            "ua-mydisks-disk-",
            "ua-mydisks-disk-012",
            "ua-mydisks-disk-+1",
            "ua-mydisks-disk-1-2",
            "ua-mydisks-usb-1-7",
            "ua-mydisks-usb-1-7-051D-0002",
            "ua-mydisks-hand-hand-disk-1",
            "ua-mydisksdisk-1",
            "virtio-disk0",
            "",
        ] {
            assert_eq!(Alias::parse(other), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn an_alias_is_read_back_and_has_only_characters_that_libvirt_takes(
            disk in any::<bool>(), number in any::<u64>(), bus: u16, address: u16, vendor: u16, product: u16, by_hand: bool,
        ) {
            let alias = if disk {
                Alias { plug: Plug::Disk(DiskSeq(number)), id: None, by_hand }
            } else {
                Alias { plug: Plug::Usb { bus, address }, id: Some(UsbId { vendor, product }), by_hand }
            };
            let text = alias.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(Alias::parse(&text), Some(alias));
        }

        #[test]
        fn any_text_is_no_alias_or_exactly_one(text in "ua-mydisks-[a-z0-9-]{0,30}") {
            if let Some(alias) = Alias::parse(&text) {
                prop_assert_eq!(alias.to_string(), text);
            }
        }
    }
}
