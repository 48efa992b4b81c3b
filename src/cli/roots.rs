//! The roots that are mounted, as the mount table shows them: nothing here walks into one, so nothing hangs when
//! its daemon does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::utab;
use crate::control;
use crate::disk::mountinfo::{self, MountEntry};
use crate::disk::unmount::{Unmount, unmount};
use crate::disk::{self, Cancel, Closing, Locked, Opened, Saved, holders, leftovers};
use crate::fuse::FUSE_TYPE;

/// Closing a mapping waits for the kernel and udev.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// A mounted root.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) mountpoint: PathBuf,
    /// Major and minor number of its file system.
    pub(super) device: (u32, u32),
    mount: u64,
}

/// The root that was named, or the only one.
///
/// # Errors
/// One sentence: there is none, or there are several.
pub(super) fn find(mountpoint: Option<&Path>) -> Result<Root, String> {
    if let Some(mountpoint) = mountpoint {
        return at(mountpoint);
    }
    let mut roots = all()?;
    match (roots.pop(), roots.pop()) {
        (Some(root), None) => Ok(root),
        (Some(_), Some(_)) => Err("several roots are mounted: name one".to_owned()),
        (None, _) => {
            Err("nothing is mounted: start it with `mount /mnt/mydisks` or `mydisks mount`".to_owned())
        }
    }
}

/// The root at this mount point; the topmost, should several be mounted there.
///
/// # Errors
/// One sentence: there is none.
pub(super) fn at(mountpoint: &Path) -> Result<Root, String> {
    let mountpoint = canonical(mountpoint)?;
    all()?
        .into_iter()
        .rfind(|root| root.mountpoint == mountpoint)
        .ok_or_else(|| format!("{} is not a mydisks root", mountpoint.display()))
}

fn all() -> Result<Vec<Root>, String> {
    let entries = mountinfo::read().map_err(|error| format!("cannot read the mount table: {error}"))?;
    let roots = entries.into_iter().filter(|entry| entry.kind == FUSE_TYPE && entry.root == Path::new("/"));
    let root = |entry: MountEntry| Root {
        mountpoint: entry.mount_point,
        device: (rustix::fs::major(entry.devnum), rustix::fs::minor(entry.devnum)),
        mount: entry.id,
    };
    Ok(roots.map(root).collect())
}

/// The path as the mount table shows it: absolute, without links and dots.
///
/// # Errors
/// One sentence: it is not there.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, String> {
    let explain = |error: io::Error| format!("{}: {error}", path.display());
    match fs::canonicalize(path) {
        // A root whose daemon has died: everything above it still answers.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(explain(error));
            };
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(fs::canonicalize(parent).map_err(explain)?.join(name))
        }
        result => result.map_err(explain),
    }
}

/// Unmounts a root whose daemon is gone, and locks what it left.
///
/// # Errors
/// One sentence: a disk is in use, or has not got everything.
pub(super) fn clear(root: &Root) -> Result<(), String> {
    let mut lost = Vec::new();
    let cleared = put_away(root, &mut lost);
    match (cleared, lost.join("; ")) {
        (cleared, lost) if lost.is_empty() => cleared,
        (Ok(()), lost) => {
            // umount(8) does it only for what is told to have succeeded.
            utab::unregister(&root.mountpoint);
            Err(format!("it is unmounted, but {lost}"))
        }
        (Err(why), lost) => Err(format!("{why}; {lost}")),
    }
}

/// `lost` gets a sentence for each disk of which something may be lost.
fn put_away(root: &Root, lost: &mut Vec<String>) -> Result<(), String> {
    let mounts = leftovers::mounts(&root.mountpoint)
        .map_err(|error| format!("cannot read the mount table: {error}"))?;
    for mount in mounts.iter().rev() {
        let opened = leftovers::opened(mount);
        gone(&mount.mount_point, mount.id)?;
        let Some(opened) = opened else { continue };
        // An image is no disk that is pulled.
        if !mount.is_read_only() && opened.loop_device.is_none() {
            lost.extend(loss(&opened));
        }
        let cancel = Cancel::new().map_err(|error| format!("out of file descriptors: {error}"))?;
        let locked = disk::lock(&opened, Closing::IfUnused, Instant::now() + LOCK_DEADLINE, &cancel);
        if locked.map_err(|error| error.message)? != Locked::Closed {
            return Err(format!(
                "{} is unmounted, but somebody still has it open: {}",
                mount.mount_point.display(),
                holders::of_disk(&opened)
            ));
        }
    }
    gone(&root.mountpoint, root.mount)?;
    control::forget(root.device);
    Ok(())
}

/// What may be lost of a disk that has just been unmounted.
fn loss(opened: &Opened) -> Option<String> {
    let why = match disk::saved(opened) {
        Saved::Yes => return None,
        Saved::Pulled => "was pulled while being unmounted".to_owned(),
        Saved::Failed(error) => format!("has failed while being unmounted ({})", error.message),
    };
    Some(format!("{} {why}: what was written last may be lost", opened.device.display()))
}

fn gone(path: &Path, mount: u64) -> Result<(), String> {
    match unmount(path, mount, false) {
        Unmount::Unmounted | Unmount::NotMounted => Ok(()),
        Unmount::Busy => Err(format!("{} is in use: {}", path.display(), holders::of_mount(mount))),
        Unmount::Covered(by) => Err(format!("{by} is mounted over {}: unmount that first", path.display())),
        Unmount::Error(error) => Err(format!("cannot unmount {}: {error}", path.display())),
    }
}
