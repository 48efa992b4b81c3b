//! Taking a disk out of the system so that it can be unplugged: flushed, stopped, detached, and its USB port switched off
//! where the kernel can. Refused while anybody uses anything of it. Knows nothing of mounts and mappings of ours: they
//! are gone by then.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use thiserror::Error;

use super::holders::{self, Subject};
use super::node::{self, Disk, Node};
use super::{DiskError, ErrorKind};

/// udev opens a disk for a moment after somebody has closed it; so long a program that has it open is waited for.
const MOMENT: Duration = Duration::from_secs(3);

/// So long the kernel may take to forget a disk that it was told to detach.
const DETACHING: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(100);

/// What became of a disk that was ejected: it can be unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejected {
    /// Detached, and the USB device that it was in too: its port is off.
    PoweredOff,
    /// Detached; another disk is in the same USB device, which therefore stays on.
    DetachedBesideOthers,
    /// Detached; it is on no USB port.
    Detached,
    /// Flushed; there is no way to detach this kind of disk.
    Flushed,
    /// It is not there any more.
    Unplugged,
}

/// Why a disk was not ejected.
#[derive(Debug, Error)]
pub enum EjectError {
    /// Somebody uses something of it, and nothing was changed. Who, as the end of a sentence.
    #[error("it is in use: {0}")]
    Busy(String),
    /// It cannot be looked at.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A step failed.
    #[error("cannot {what} {disk}: {error}")]
    Step {
        /// Which.
        what: &'static str,
        /// The disk's node.
        disk: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel was told to detach it, and has it still.
    #[error("{0} was told to go and is still there after {seconds} s: do not unplug it yet", seconds = DETACHING.as_secs())]
    Stays(PathBuf),
}

/// Ejects the disk that has this node and DISKSEQ.
///
/// # Errors
/// See [`EjectError`].
pub fn eject(path: &Path, sequence: u64) -> Result<Ejected, EjectError> {
    let disk = match Disk::open(path, sequence, &[]) {
        Err(error) if error.kind == ErrorKind::Absent => return Ok(Ejected::Unplugged),
        disk => disk?,
    };
    let nodes = disk.node.with_partitions()?;
    // Held to the end: nobody can mount it meanwhile, and the kernel's names are not used again.
    let _claim = claim(&disk, &nodes)?;
    for node in &nodes {
        node.flush().map_err(|error| step("flush", path, error))?;
    }
    let place = Place::of(&disk.node).map_err(|error| step("find in sysfs", path, error))?;
    let how = place.detach().map_err(|error| step("detach", path, error))?;
    if how != Ejected::Flushed {
        wait_until_gone(&disk)?;
    }
    Ok(how)
}

impl Ejected {
    /// What a person is told.
    pub fn sentence(self, disk: &Path) -> String {
        let disk = disk.display();
        match self {
            Self::PoweredOff => format!("{disk} is detached and its USB port switched off: safe to unplug"),
            Self::DetachedBesideOthers => format!(
                "{disk} is detached: safe to unplug, as far as the other disks of the same USB device allow, which stays on"
            ),
            Self::Detached => format!("{disk} is detached: safe to unplug"),
            Self::Flushed => {
                format!("{disk} is flushed: safe to unplug (the kernel cannot detach this kind of disk)")
            }
            Self::Unplugged => format!("{disk} is unplugged already"),
        }
    }
}

fn step(what: &'static str, disk: &Path, error: io::Error) -> EjectError {
    EjectError::Step { what, disk: disk.to_owned(), error }
}

/// Takes the whole disk for us alone (O_EXCL), and makes sure that nobody has it or a partition open otherwise.
fn claim(disk: &Disk, nodes: &[Node]) -> Result<fs::File, EjectError> {
    let devices: Vec<u64> = nodes.iter().map(|node| node.devnum).collect();
    let deadline = Instant::now() + MOMENT;
    loop {
        let claim = disk.node.claim()?;
        let found = holders::holders(Subject::devices(devices.clone()));
        match claim {
            Some(claim) if found.named.is_empty() => return Ok(claim),
            _ if Instant::now() >= deadline => return Err(EjectError::Busy(found.sentence())),
            _ => thread::sleep(PAUSE),
        }
    }
}

/// Where the kernel's tree of devices has a disk.
struct Place {
    /// `…/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sda`
    block: PathBuf,
    /// `…/usb2/2-1`, if it is in a USB device.
    usb: Option<PathBuf>,
    /// Other disks in that.
    has_neighbours: bool,
}

impl Place {
    fn of(node: &Node) -> io::Result<Self> {
        let block = fs::canonicalize(node.sysfs())?;
        let usb = block.ancestors().find(|path| is_usb_device(path)).map(Path::to_owned);
        let has_neighbours = usb.as_deref().is_some_and(|usb| {
            let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
            disks
                .filter_map(|disk| fs::canonicalize(disk.path()).ok())
                .any(|other| other != block && other.starts_with(usb))
        });
        Ok(Self { block, usb, has_neighbours })
    }

    /// First the disk, which makes the kernel write out its cache and stop it, then the USB device that it is in.
    fn detach(&self) -> io::Result<Ejected> {
        let device = self.block.join("device");
        self.let_it_stop(&device);
        let detached = write_if_there(&device.join("delete"))?;
        match &self.usb {
            Some(usb) if !self.has_neighbours && write_if_there(&usb.join("remove"))? => {
                Ok(Ejected::PoweredOff)
            }
            Some(_) if detached && self.has_neighbours => Ok(Ejected::DetachedBesideOthers),
            _ if detached => Ok(Ejected::Detached),
            _ => Ok(Ejected::Flushed),
        }
    }

    /// Tells the driver to stop the disk's motor when it is detached (`sd_shutdown` in drivers/scsi/sd.c); it does so by
    /// itself for disks that are built in.
    fn let_it_stop(&self, device: &Path) {
        for disk in fs::read_dir(device.join("scsi_disk")).into_iter().flatten().flatten() {
            // The second since Linux 6.6, in place of the first. One that is not stopped is no less safe to unplug.
            for switch in ["manage_start_stop", "manage_runtime_start_stop"] {
                let _ = fs::write(disk.path().join(switch), "1");
            }
        }
    }
}

/// A USB device, hubs included, as opposed to one of its interfaces.
fn is_usb_device(path: &Path) -> bool {
    let subsystem = fs::read_link(path.join("subsystem"));
    subsystem.is_ok_and(|subsystem| subsystem.file_name().is_some_and(|name| name.as_bytes() == b"usb"))
        && path.join("devnum").exists()
}

/// Whether there is such a switch. What is gone meanwhile needs none any more.
fn write_if_there(switch: &Path) -> io::Result<bool> {
    // Not created: in sysfs nobody can, elsewhere nobody shall.
    let file = fs::OpenOptions::new().write(true).open(switch);
    match file.and_then(|mut file| io::Write::write_all(&mut file, b"1")) {
        Ok(()) => Ok(true),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => Ok(false),
            Some(Errno::NODEV) => Ok(true),
            _ => Err(error),
        },
    }
}

fn wait_until_gone(disk: &Disk) -> Result<(), EjectError> {
    let deadline = Instant::now() + DETACHING;
    while node::sysfs(disk.node.devnum).exists() {
        if Instant::now() >= deadline {
            return Err(EjectError::Stays(disk.node.path.clone()));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_not_there_is_unplugged_already() {
        assert_eq!(eject(Path::new("/dev/no-such-disk"), 1).unwrap(), Ejected::Unplugged);
    }

    #[test]
    fn a_switch_that_is_not_there_is_none() {
        assert!(!write_if_there(Path::new("/sys/block/no-such-disk/device/delete")).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let switch = directory.path().join("remove");
        assert!(!write_if_there(&switch).unwrap());
        fs::write(&switch, "").unwrap();
        assert!(write_if_there(&switch).unwrap());
        assert_eq!(fs::read(&switch).unwrap(), b"1");
    }
}
