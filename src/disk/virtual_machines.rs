//! Virtual machines that have a disk open. QEMU claims nothing, so the kernel would mount beside it without a word; and
//! libvirt, which knows, may not answer, or has not yet after a start. So QEMU's own descriptors are looked at. Knows
//! nothing of libvirt but where it keeps the numbers of its processes.

use std::path::Path;
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};

use super::busy::block_devnum;
use super::node::{Node, partitions_of};
use super::{DiskError, ErrorKind};
use crate::device::printable;

/// `NAME.pid` for each virtual machine that runs (`virPidFileBuildPath` in virpidfile.c).
const PROCESSES: &str = "/run/libvirt/qemu";

/// Refuses a whole disk that a virtual machine has open, or a partition of it; `but`: that one may.
///
/// To be called when the disk was seen unclaimed, or with a claim on it: what is attached for us is claimed until it is
/// open there, and so nothing that is being attached is missed.
///
/// # Errors
/// [`ErrorKind::Busy`], with the name of the virtual machine; or it cannot be found out.
pub(super) fn refuse_if_open(disk: &Node, but: Option<&str>) -> Result<(), DiskError> {
    let path = disk.path.display();
    let user = user(disk, Path::new(PROCESSES), but).map_err(|error| {
        let what = format!("Cannot find out whether a virtual machine has {path} open");
        DiskError::not_the_disks(what, &error)
    })?;
    match user {
        Some(name) => {
            let message = format!("{path} is in use by the virtual machine {}", printable(&name));
            Err(DiskError::new(ErrorKind::Busy, message))
        }
        None => Ok(()),
    }
}

fn user(disk: &Node, processes: &Path, but: Option<&str>) -> io::Result<Option<String>> {
    let mut machines = running(processes)?;
    machines.retain(|(name, _)| but != Some(name));
    if machines.is_empty() {
        return Ok(None);
    }
    let partitions = partitions_of(disk)?;
    let mut devices = vec![disk.devnum];
    devices.extend(partitions.iter().filter_map(|(_, path)| block_devnum(path)));
    for (name, pid) in machines {
        if has_open(pid, &devices)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// By name, with QEMU's process.
fn running(processes: &Path) -> io::Result<Vec<(String, u32)>> {
    let files = match fs::read_dir(processes) {
        Ok(files) => files,
        // There is no libvirt, or it has started nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut machines = Vec::new();
    for file in files {
        let path = file?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".pid")) else {
            continue;
        };
        // One that has ended meanwhile has nothing open.
        let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        machines.extend(pid.map(|pid| (name.to_owned(), pid)));
    }
    Ok(machines)
}

/// A process that has ended has nothing open. Of one that cannot be looked at nothing is known, which is an error.
fn has_open(pid: u32, devices: &[u64]) -> io::Result<bool> {
    let descriptors = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(descriptors) => descriptors,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(descriptors.flatten().any(|link| {
        let path = link.path();
        // Any other path may lead into a file system that does not answer.
        fs::read_link(&path).is_ok_and(|target| target.starts_with("/dev"))
            && block_device(&path).is_some_and(|devnum| devices.contains(&devnum))
    }))
}

fn block_device(link: &Path) -> Option<u64> {
    let found = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
    let is_block_device = FileType::from_raw_mode(found.stx_mode.into()) == FileType::BlockDevice;
    is_block_device.then(|| makedev(found.stx_rdev_major, found.stx_rdev_minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_taken_for_free() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(running(&file).is_err());
        // No process has a number beyond PID_MAX_LIMIT (proc(5)).
        assert!(!has_open(u32::MAX, &[1]).unwrap());
    }

    #[test]
    fn those_that_run_are_told_by_their_pid_files_and_none_is_needed() {
        let place = tempfile::tempdir().unwrap();
        assert!(running(&place.path().join("no libvirt")).unwrap().is_empty());
        for (file, text) in [("guest 1.pid", "12\n"), ("ended.pid", ""), ("guest1.xml", "7")] {
            fs::write(place.path().join(file), text).unwrap();
        }
        assert_eq!(running(place.path()).unwrap(), [("guest 1".to_owned(), 12)]);
    }
}
