//! The devices that are present now, as udev tells them; plain data.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{PortPath, UsbId};

/// The kernel's sequence number of one plug of one disk (`DISKSEQ`, block/genhd.c): never reused until reboot,
/// the same for a disk and its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskSeq(pub u64);

/// What udev's probe (libblkid) found on a block device; `None` and empty where it found nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// `ID_FS_TYPE`: `ext4`, `crypto_LUKS`, …
    pub fs_type: Option<String>,
    /// `ID_FS_UUID`: of the file system or the LUKS header.
    pub uuid: Option<String>,
    /// `ID_FS_LABEL`, decoded from `ID_FS_LABEL_ENC` where there is one.
    pub label: Option<String>,
}

/// A device node that can be opened: a whole disk or a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockNode {
    /// `/dev/sdb`, `/dev/sdb1`, …: the kernel's own name, never a by-id link (twins share those).
    pub devnode: PathBuf,
    /// Device number, as in `st_rdev`.
    pub devnum: u64,
    /// Size in bytes.
    pub size: u64,
    /// udev has looked at its content and came to a conclusion; otherwise an empty `content` says nothing.
    pub probed: bool,
    /// What is on it.
    pub content: Content,
}

/// A partition of a [`Disk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// `PARTN`, from 1.
    pub number: u32,
    /// `ID_PART_ENTRY_UUID`.
    pub partuuid: Option<String>,
    /// Its device node.
    pub node: BlockNode,
}

/// A whole disk that is present, with its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// This plug of it.
    pub seq: DiskSeq,
    /// The whole disk's node.
    pub node: BlockNode,
    /// Every string that a config's `id` may be equal to: the names of its `/dev/disk/by-id` links (with and without
    /// their bus: `ata-`, `usb-`, `nvme-`, `scsi-`, …), `ID_SERIAL`, each with and without `-0:0`, `ID_SERIAL_SHORT`.
    /// Raw bytes as udev has them, lossily decoded; never used to build a path.
    pub ids: BTreeSet<String>,
    /// The one of `ids` that a person would copy into the config.
    pub preferred_id: Option<String>,
    /// `ID_WWN` / `ID_WWN_WITH_EXTENSION`.
    pub wwns: BTreeSet<String>,
    /// `ID_MODEL`, for people.
    pub model: Option<String>,
    /// The USB port it hangs on, if it does.
    pub port: Option<PortPath>,
    /// In order of number.
    pub partitions: Vec<Partition>,
    /// The kernel says that it is write-protected (`/sys/block/X/ro`).
    pub read_only: bool,
}

/// A USB device that is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbDevice {
    /// `1-4.2` as in /sys/bus/usb/devices.
    pub port: PortPath,
    /// Vendor and product.
    pub id: UsbId,
    /// `ID_SERIAL_SHORT`, lossily decoded.
    pub serial: Option<String>,
    /// Bus number.
    pub bus: u16,
    /// Device number on the bus; new at each plug.
    pub address: u16,
    /// Vendor and model, for people.
    pub name: Option<String>,
    /// `bDeviceClass` is 9: a hub, never forwarded.
    pub is_hub: bool,
    /// A guest can use it: the kernel's generic USB driver is bound to it (udev's `bind` event) and has chosen a
    /// configuration, which it does not for a device that is not authorized. Once true it stays so until the
    /// driver leaves: a guest that owns the device may change its configuration.
    pub bound: bool,
}
