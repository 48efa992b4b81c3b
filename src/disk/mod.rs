//! Work on one disk: open it and check that it is the one meant, probe, unlock, make a detached mount, lock.
//! Every function here may block for long and is called on a thread of its own. Knows nothing of config and core.

mod blkid;
mod busy;
mod cancel;
mod claim;
mod content;
mod cryptsetup;
mod damage;
mod device_mapper;
mod eject;
mod error;
mod fscontext;
pub mod holders;
mod image;
mod ioctl;
mod kernel_log;
mod key;
pub mod leftovers;
mod lock;
mod luks_header;
mod mapping;
pub mod mountinfo;
mod node;
mod options;
mod prepare;
mod program;
mod saved;
mod unlock;
pub mod unmount;
mod virtual_machines;
mod xfs;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

pub use cancel::Cancel;
pub use claim::{Claim, claim};
pub use content::hint;
pub use cryptsetup::Cryptsetup;
pub use damage::{Damage, DamageWatch, damage};
pub use eject::{EjectError, Ejected, eject};
pub use error::{DiskError, ErrorKind};
pub use lock::{Closing, Locked, lock, lock_with};
pub use prepare::{prepare, prepare_with};
pub use saved::{Saved, saved, saved_by_others};

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A device that is present.
    Device {
        /// The whole disk's node, `/dev/sdb`.
        disk: PathBuf,
        /// `DISKSEQ` that it must still have.
        diskseq: u64,
        /// The partition nodes that udev has shown, by number: `(1, "/dev/sdb1")`.
        partitions: Vec<(u32, PathBuf)>,
    },
    /// A file that gets a loop device while it is in use.
    Image(PathBuf),
}

/// Everything that [`prepare`] must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where the bytes are.
    pub source: Source,
    /// The partition to use; `None`: the whole disk if it holds a LUKS header or file system, else its only
    /// partition that does.
    pub partition: Option<u32>,
    /// Must be the UUID of the file system or LUKS header.
    pub uuid: Option<String>,
    /// Must be the UUID of the LUKS header.
    pub luks_uuid: Option<String>,
    /// What udev believes to be there, or what was there the last time (`ext4`, `crypto_LUKS`, …): looked for first,
    /// never trusted.
    pub hint: Option<String>,
    /// The key; present = a plain disk is refused.
    pub key_file: Option<PathBuf>,
    /// The kernel's name of the file system that must be on it (`ext4`, `ntfs3`).
    pub filesystem: Option<String>,
    /// Mount options, one word each.
    pub options: Vec<String>,
    /// Name of the mapping, `mydisks-NAME`.
    pub mapping: String,
    /// Give up then.
    pub deadline: Instant,
}

/// A file system that is mounted, but nowhere to be seen yet. Dropping it unmounts, but does not lock: call [`lock`].
#[derive(Debug)]
pub struct Prepared {
    /// The detached mount (fsmount(2)).
    pub mount: OwnedFd,
    /// `O_PATH` on its root; like `mount`, it makes the mount busy for as long as it is open.
    pub root: OwnedFd,
    /// Identity of the mount, as in [`mountinfo`]; attaching it does not change it.
    pub mount_id: u64,
    /// What must be undone when the mount is gone.
    pub opened: Opened,
    /// The kernel's name of the file system.
    pub filesystem: String,
    /// Mounted read-only, by option or because the disk is write-protected.
    pub read_only: bool,
    /// So many errors the file system had found in itself before.
    pub errors: u64,
    /// What a person should know although it worked: the kernel's warnings, "write-protected, mounted read-only".
    pub notes: Vec<String>,
}

/// What an open disk holds beside its mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Name of the LUKS mapping: the order's, or a stand-in (`mydisks-NAME:2`) while a pulled disk still held that.
    pub mapping: Option<String>,
    /// `/dev/loopN`, if it frees itself.
    pub loop_device: Option<PathBuf>,
    /// Device number of the block device that carries the file system (a partition, a mapping, a loop device).
    pub devnum: u64,
    /// The node of the disk or partition that was used: below the mapping if there is one.
    pub device: PathBuf,
    /// `DISKSEQ` of that disk.
    pub disk_sequence: u64,
}
