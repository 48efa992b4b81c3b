//! Taking mounts away: after disuse, by order, and lazily. Every call first makes sure that the mount on top is the one
//! that is meant. Knows nothing of what is mounted.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mountinfo::{self, MountEntry};

/// What an attempt to expire a mount led to.
#[derive(Debug)]
pub enum Expire {
    /// Marked; if nobody touches it until the next attempt, that one unmounts it.
    Marked,
    /// It was marked, nobody had touched it, it is gone.
    Unmounted,
    /// Files are open or directories in use, in this or another mount namespace.
    Busy,
    /// That mount is not there: it is gone or was moved.
    NotMounted,
    /// It is there, and something is mounted over it: `tmpfs (none)`.
    Covered(String),
    /// The kernel refused otherwise.
    Error(io::Error),
}

/// What an attempt to unmount led to.
#[derive(Debug)]
pub enum Unmount {
    /// It is gone from there. A lazy one lives on, unseen, for those who use it.
    Unmounted,
    /// In use; only without `lazy`.
    Busy,
    /// That mount is not there.
    NotMounted,
    /// It is there, and something is mounted over it.
    Covered(String),
    /// The kernel refused otherwise.
    Error(io::Error),
}

/// Unmounts what nobody has touched since the call before (umount2(2), `MNT_EXPIRE`). `mount_id` is that of
/// [`Prepared`](super::Prepared) or [`MountEntry`]. The mount's own file system is asked nothing; the walk along `path`
/// may ask those that it passes. Reads the mount table, so it costs in proportion to the number of mounts.
pub fn expire(path: &Path, mount_id: u64) -> Expire {
    match take(path, mount_id, UnmountFlags::EXPIRE) {
        Taken::Gone => Expire::Unmounted,
        Taken::NotMounted => Expire::NotMounted,
        Taken::Covered(by) => Expire::Covered(by),
        Taken::Refused(Errno::AGAIN) => Expire::Marked,
        Taken::Refused(Errno::BUSY) => Expire::Busy,
        Taken::Refused(errno) => Expire::Error(errno.into()),
    }
}

/// Unmounts; `lazy` takes it out of sight at once and lets those who use it go on (`MNT_DETACH`).
pub fn unmount(path: &Path, mount_id: u64, lazy: bool) -> Unmount {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match take(path, mount_id, flags) {
        Taken::Gone => Unmount::Unmounted,
        Taken::NotMounted => Unmount::NotMounted,
        Taken::Covered(by) => Unmount::Covered(by),
        Taken::Refused(Errno::BUSY) => Unmount::Busy,
        Taken::Refused(errno) => Unmount::Error(errno.into()),
    }
}

enum Taken {
    Gone,
    NotMounted,
    Covered(String),
    Refused(Errno),
}

fn take(path: &Path, expected: u64, flags: UnmountFlags) -> Taken {
    match mountinfo::read() {
        Ok(table) => match place(&table, path, expected) {
            Place::Top => {}
            Place::Elsewhere => return Taken::NotMounted,
            Place::CoveredBy(over) => return Taken::Covered(over.what()),
        },
        Err(error) => return Taken::refused(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
    match rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Taken::Gone,
        Err(errno) => Taken::refused(errno),
    }
}

/// Where a mount is that is expected at some path.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Top,
    CoveredBy(&'a MountEntry),
    /// Or gone.
    Elsewhere,
}

/// Whether that mount is at `path` and nothing is mounted over it. Found in the mount table, not by statx(2): every walk
/// into a mount takes its expiry mark away (`mntput` in fs/namespace.c), so that it would never expire.
fn place<'a>(table: &'a [MountEntry], path: &Path, id: u64) -> Place<'a> {
    if !table.iter().any(|mount| mount.id == id && mount.mount_point == path) {
        return Place::Elsewhere;
    }
    let over = table.iter().find(|mount| mount.parent == id && mount.mount_point == path);
    over.map_or(Place::Top, Place::CoveredBy)
}

impl Taken {
    /// EINVAL: not a mount point (any more); ENOENT: no such path.
    fn refused(errno: Errno) -> Self {
        match errno {
            Errno::INVAL | Errno::NOENT | Errno::NOTDIR => Self::NotMounted,
            errno => Self::Refused(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_on_top_unless_it_is_elsewhere_or_covered() {
        let table = mountinfo::parse(
            b"5 1 0:5 / /a rw - ext4 s rw\n6 1 0:6 / /b rw - ext4 s rw\n7 6 0:7 / /b rw - ext4 s rw\n8 5 0:8 / /a/c rw - ext4 s rw\n",
        );
        let place = |path: &str, id| place(&table, Path::new(path), id);
        assert_eq!(place("/a", 5), Place::Top, "a mount below does not cover it");
        assert_eq!(place("/b", 6), Place::CoveredBy(&table[2]));
        assert_eq!(place("/b", 7), Place::Top);
        assert_eq!(place("/b", 5), Place::Elsewhere);
        assert_eq!(place("/a", 9), Place::Elsewhere, "gone");
    }
}
