//! What a config line says of one disk or USB device. How disks are matched is in `matching`.

use std::fmt;
use std::path::PathBuf;

use super::{
    DiskId, FsLabel, FsUuid, LuksUuid, PartUuid, PortPath, UsbDevice, UsbId, UsbSerial, Wwn, printable,
};

/// What names one disk. All that is given must match; at least one of the identities is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskSpec {
    /// Any by-id stem, `ID_SERIAL` or `ID_SERIAL_SHORT`.
    pub id: Option<DiskId>,
    /// UUID of the file system or LUKS header.
    pub uuid: Option<FsUuid>,
    /// UUID of the partition table's entry.
    pub partuuid: Option<PartUuid>,
    /// Label of the file system or LUKS header.
    pub label: Option<FsLabel>,
    /// World wide name.
    pub wwn: Option<Wwn>,
    /// UUID that the LUKS header must have.
    pub luks_uuid: Option<LuksUuid>,
    /// A file, attached to a loop device while in use; absolute. Excludes the identities above but `luks_uuid`
    /// and `uuid`.
    pub image: Option<PathBuf>,
    /// Partition number, from 1.
    pub partition: Option<u32>,
}

impl fmt::Display for DiskSpec {
    /// For people: an id alone as it is, everything else as `key=value`, in the order of the fields.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, uuid, partuuid, label, wwn, luks_uuid, image, partition } = self;
        let text = |key: &str, value: Option<&str>| value.map(|value| format!("{key}={}", printable(value)));
        let parts = [
            id.as_ref().map(|id| printable(id.as_str())),
            text("uuid", uuid.as_ref().map(FsUuid::as_str)),
            text("partuuid", partuuid.as_ref().map(PartUuid::as_str)),
            text("label", label.as_ref().map(FsLabel::as_str)),
            text("wwn", wwn.as_ref().map(Wwn::as_str)),
            text("luks-uuid", luks_uuid.as_ref().map(LuksUuid::as_str)),
            image.as_ref().map(|image| printable(&image.to_string_lossy())),
            partition.map(|number| format!("partition={number}")),
        ];
        out.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

/// Which USB device a config line means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UsbRule {
    /// Vendor and product, and the serial where twins must be told apart.
    Id {
        /// Vendor and product.
        id: UsbId,
        /// The device's serial.
        serial: Option<UsbSerial>,
    },
    /// Whatever is plugged in there, on a hub there too.
    Port(PortPath),
}

impl UsbRule {
    /// Whether it means this device. A hub is never meant.
    pub fn matches(&self, device: &UsbDevice) -> bool {
        let named = match self {
            Self::Id { id, serial } => {
                *id == device.id
                    && serial.as_ref().is_none_or(|serial| device.serial.as_deref() == Some(serial.as_str()))
            }
            Self::Port(port) => device.port.is_at_or_behind(port),
        };
        named && !device.is_hub
    }

    /// Of several rules that mean a device, the one with the greatest counts: that with a serial, then the port
    /// that is the nearest to it, then vendor and product.
    pub fn precedence(&self) -> (u8, usize) {
        match self {
            Self::Id { serial: Some(_), .. } => (2, 0),
            Self::Port(port) => (1, port.as_str().len()),
            Self::Id { serial: None, .. } => (0, 0),
        }
    }
}

impl fmt::Display for UsbRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id { id, serial: None } => id.fmt(out),
            Self::Id { id, serial: Some(serial) } => {
                write!(out, "{id} serial={}", printable(serial.as_str()))
            }
            Self::Port(port) => write!(out, "port={port}"),
        }
    }
}
