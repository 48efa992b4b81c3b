//! What a valid configuration says. Everything here has been checked by the reader; nothing here reads.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::MountOptions;
use crate::device::{DiskSpec, GuestName, MountName, UsbRule};

/// A whole, valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the FUSE root is mounted; absolute, normalised, not `/`.
    pub mountpoint: PathBuf,
    /// The libvirt connection's URI.
    pub libvirt: String,
    /// What SIGTERM does with the disks that are mounted.
    pub on_exit: OnExit,
    /// `[mounts.*]` in the order of the names, with `[defaults]` worked in.
    pub mounts: Vec<Arc<Mount>>,
    /// `[guests.*]` in the order of the names.
    pub guests: Vec<Guest>,
}

/// What becomes of the mounted disks when the daemon is told by a signal to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExit {
    /// They are unmounted and locked; while one is busy the daemon does not end.
    #[default]
    Unmount,
    /// They stay, and the next run takes them over.
    Keep,
}

/// One directory under the FUSE root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory's name.
    pub name: MountName,
    /// The disks that may be behind it, in order of preference; never empty.
    pub disks: Vec<DiskSpec>,
    /// The key; present = the disk must be encrypted. Absolute.
    pub key_file: Option<PathBuf>,
    /// The file system that must be on it; probed if absent.
    pub filesystem: Option<Filesystem>,
    /// Mount options, defaults merged in and opposites cancelled.
    pub options: MountOptions,
    /// Unmounted between one and two of it after the last use; `None` = never. At least a second.
    pub idle_timeout: Option<Duration>,
    /// How long an access waits for the disk before it fails with ETIMEDOUT; more than zero.
    pub access_timeout: Duration,
}

/// The file systems that the daemon mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filesystem {
    /// ext2
    Ext2,
    /// ext3
    Ext3,
    /// ext4
    Ext4,
    /// XFS
    Xfs,
    /// Btrfs
    Btrfs,
    /// FAT12, FAT16, FAT32 with long names
    Vfat,
    /// exFAT
    Exfat,
    /// NTFS by the kernel's ntfs3 driver
    Ntfs3,
}

impl Filesystem {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Ext2, Self::Ext3, Self::Ext4, Self::Xfs, Self::Btrfs, Self::Vfat, Self::Exfat, Self::Ntfs3];

    /// The kernel's name of it, as in /proc/filesystems.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Ntfs3 => "ntfs3",
        }
    }
}

/// A word that names none of [`Filesystem::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is not a file system that mydisks mounts: ext2, ext3, ext4, xfs, btrfs, vfat, exfat or ntfs3")]
pub struct UnknownFilesystem;

impl FromStr for Filesystem {
    type Err = UnknownFilesystem;

    /// The kernel's name; `ntfs` means ntfs3.
    fn from_str(text: &str) -> Result<Self, UnknownFilesystem> {
        match text {
            "ntfs" => Ok(Self::Ntfs3),
            _ => Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or(UnknownFilesystem),
        }
    }
}

impl fmt::Display for Filesystem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One libvirt guest and what goes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The domain's name.
    pub name: GuestName,
    /// USB devices.
    pub usb: Vec<UsbRule>,
    /// Disks.
    pub disks: Vec<GuestDisk>,
}

/// A disk that goes to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestDisk {
    /// Which disk.
    pub disk: DiskSpec,
    /// `vdb`, `sdc`, …; `None` = the next free one.
    pub target: Option<String>,
    /// The guest may only read.
    pub read_only: bool,
}
