//! What an earlier run left, when it was killed: its dead root, the disks that are still mounted on the names under
//! it, and mappings. The mounts go on, under the new root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::jobs;
use crate::control;
use crate::core::{Detached, Event, LockResult, MountId, SlotId};
use crate::disk::leftovers::{self, Mapping};
use crate::disk::mountinfo::{self, MountEntry};
use crate::disk::unmount;
use crate::disk::{self, DamageWatch, DiskError, ErrorKind, Opened};
use crate::fuse::{FUSE_TYPE, Names};

/// Everything that was found.
pub(super) struct Left {
    roots: Vec<MountEntry>,
    mounts: Vec<LeftMount>,
    mappings: Vec<Mapping>,
    /// Another root is mounted and its daemon lives: mappings may be its own.
    has_neighbour: bool,
}

/// A disk that is still mounted on a name of the dead root.
struct LeftMount {
    /// A second mount of it, detached: the first goes with the dead root.
    clone: OwnedFd,
    name: PathBuf,
    entry: MountEntry,
    opened: Opened,
}

/// Looks, and changes nothing.
pub(super) fn collect(mountpoint: &Path) -> io::Result<Left> {
    let all = mountinfo::read()?.into_iter().filter(|entry| entry.kind == FUSE_TYPE);
    let (roots, others): (Vec<_>, Vec<_>) = all.partition(|entry| entry.mount_point == mountpoint);
    let mut mounts = Vec::new();
    if !roots.is_empty() {
        for entry in leftovers::mounts(mountpoint)? {
            mounts.extend(left_mount(entry)?);
        }
    }
    let has_neighbour = others.iter().any(|root| control::is_served(device(root)));
    Ok(Left { roots, mounts, mappings: leftovers::mappings()?, has_neighbour })
}

fn left_mount(entry: MountEntry) -> io::Result<Option<LeftMount>> {
    let (Some(opened), Some(name)) = (leftovers::opened(&entry), entry.mount_point.file_name()) else {
        return Ok(None);
    };
    // Cloned, not moved: under systemd all mounts are shared, and what is below a shared mount cannot be moved
    // (fs/namespace.c, do_move_mount).
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let clone = open_tree(CWD, &entry.mount_point, flags)?;
    Ok(Some(LeftMount { clone, name: PathBuf::from(name), entry, opened }))
}

impl Left {
    /// A root is mounted there and its daemon lives.
    pub(super) fn is_served(&self) -> bool {
        self.roots.iter().any(|root| control::is_served(device(root)))
    }

    /// Takes the dead root away; whoever has files open under it keeps them.
    pub(super) fn take_away_roots(&self) {
        for root in self.roots.iter().rev() {
            match unmount::unmount(&root.mount_point, root.id, true) {
                unmount::Unmount::Unmounted => control::forget(device(root)),
                other => tracing::warn!("the dead root at {} stays: {other:?}", root.mount_point.display()),
            }
        }
    }

    /// Attaches the disks to the names of the new root, and tells the core of them and of mappings without a mount.
    pub(super) fn attach(self, names: &Names, mountpoint: &Path, damage: Option<&DamageWatch>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut used: Vec<String> = Vec::new();
        for left in self.mounts {
            used.extend(left.opened.mapping.clone());
            match left.attach(names, mountpoint, damage) {
                Ok(event) => events.push(event),
                Err(error) => tracing::warn!("{}", error.message),
            }
        }
        for mapping in self.mappings.into_iter().filter(|mapping| !used.contains(&mapping.name)) {
            match slot_of(&mapping, names) {
                // In use: the neighbour's, though a name of ours is the same.
                Some(_) if self.has_neighbour && mapping.open_count > 0 => {}
                Some(slot) => {
                    events.push(Event::Left { slot, is_mounted: false, detached: only_open(&mapping) })
                }
                // Perhaps the neighbour is about to mount it.
                None if self.has_neighbour => {}
                None => lock_orphan(&mapping),
            }
        }
        events
    }
}

fn device(root: &MountEntry) -> (u32, u32) {
    (rustix::fs::major(root.devnum), rustix::fs::minor(root.devnum))
}

impl LeftMount {
    fn attach(
        self,
        names: &Names,
        mountpoint: &Path,
        damage: Option<&DamageWatch>,
    ) -> Result<Event, DiskError> {
        let failed = |why: String| {
            let message = format!(
                "{}, mounted by an earlier run, is not taken over: {why}",
                self.entry.mount_point.display()
            );
            DiskError::new(ErrorKind::Other, message)
        };
        let slot =
            names.slot(self.name.as_os_str()).ok_or_else(|| failed("no such mount in the config".into()))?;
        let path = mountpoint.join(&self.name);
        let attach = || -> io::Result<MountId> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(CWD, &path, flags, Mode::empty())?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(self.clone.as_fd(), "", directory.as_fd(), "", flags)?;
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
            Ok(statx(self.clone.as_fd(), "", flags, StatxFlags::MNT_ID)?.stx_mnt_id)
        };
        let mount = attach().map_err(|error| failed(error.to_string()))?;
        if let Some(damage) = damage {
            damage.add(self.clone.as_fd());
        }
        let detached = Detached {
            mount,
            read_only: self.entry.is_read_only(),
            errors: disk::damage(self.entry.devnum).count,
            filesystem: self.entry.kind,
            notes: Vec::new(),
            opened: self.opened,
        };
        Ok(Event::Left { slot, is_mounted: true, detached })
    }
}

/// The name that a mapping was opened for (`mydisks-NAME`, `mydisks-NAME:2`).
fn slot_of(mapping: &Mapping, names: &Names) -> Option<SlotId> {
    names.slot(mapping.name.strip_prefix("mydisks-")?.split(':').next()?.as_ref())
}

/// A mapping that nothing is mounted from.
fn only_open(mapping: &Mapping) -> Detached {
    let opened = Opened { mapping: Some(mapping.name.clone()), devnum: mapping.devnum, ..Opened::default() };
    Detached { mount: 0, opened, filesystem: String::new(), read_only: false, errors: 0, notes: Vec::new() }
}

/// A mapping of a name that is no longer configured: no slot would lock it.
fn lock_orphan(mapping: &Mapping) {
    let (opened, name) = (only_open(mapping).opened, mapping.name.clone());
    let lock = move || match jobs::lock(&opened, true) {
        LockResult::Held(why) | LockResult::Failed(why) => {
            tracing::warn!("{name}, left open by an earlier run, could not be locked: {why}");
        }
        _ => tracing::info!("{name}, left open by an earlier run, is locked"),
    };
    if let Err(error) = std::thread::Builder::new().name("orphan".into()).spawn(lock) {
        tracing::warn!("{}, left open by an earlier run, stays open: no thread: {error}", mapping.name);
    }
}
