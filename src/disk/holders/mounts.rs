//! The mount tables of all mount namespaces that have a process: which mounts are of the file system that is asked
//! after. The kernel's mount ids are those of the whole machine, so one set of them does for all namespaces.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::mountinfo::{self, MountEntry};
use super::{Subject, Use};

/// What the tables say.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Ids of all mounts of the file system.
    wanted: HashSet<u64>,
    /// Ids of all mounts that some table has.
    listed: HashSet<u64>,
    /// Mount points in all namespaces: of the file system (true), and of others that may not answer (false).
    places: HashMap<PathBuf, bool>,
    /// Mount points of our own namespace, the topmost last, and whether they are of the file system.
    own: Vec<(PathBuf, bool)>,
    /// What is mounted on directories of the file system, in whatever namespace.
    below: Vec<(PathBuf, String)>,
    /// The first process of each other namespace that has the file system, and where.
    namespaces: HashMap<u32, PathBuf>,
}

impl Mounts {
    /// Reads the tables of these processes, each only once. The subject learns the device numbers under which its
    /// devices are mounted.
    pub(super) fn read(subject: &mut Subject, processes: &[u32]) -> Self {
        let mut mounts = Self::default();
        let own = mountinfo::read().unwrap_or_default();
        mounts.add(&own, subject);
        let own = own.into_iter().map(|mount| (mount.mount_point, mounts.wanted.contains(&mount.id)));
        mounts.own = own.collect();

        let own = view(std::process::id());
        let mut namespaces = HashSet::from([own.0.clone()]);
        let mut views = HashSet::from([own]);
        for &pid in processes {
            let view = view(pid);
            if !views.insert(view.clone()) {
                continue;
            }
            let table = mountinfo::of_process(pid).unwrap_or_default();
            mounts.add(&table, subject);
            if let Some(mount) = table.into_iter().find(|mount| mounts.wanted.contains(&mount.id)) {
                if namespaces.insert(view.0) {
                    mounts.namespaces.insert(pid, mount.mount_point);
                }
            }
        }
        mounts.below.sort();
        mounts.below.dedup();
        mounts
    }

    fn add(&mut self, table: &[MountEntry], subject: &mut Subject) {
        subject.learn(table);
        self.listed.extend(table.iter().map(|mount| mount.id));
        for mount in table {
            let is_wanted = subject.filesystems.contains(&mount.devnum);
            if is_wanted {
                self.wanted.insert(mount.id);
            }
            if is_wanted || may_not_answer(&mount.kind) {
                *self.places.entry(mount.mount_point.clone()).or_default() |= is_wanted;
            }
        }
        let below =
            table.iter().filter(|mount| self.wanted.contains(&mount.parent) && mount.id != mount.parent);
        self.below.extend(below.map(|mount| (mount.mount_point.clone(), mount.kind.clone())));
    }

    /// Whether a mount is of the file system.
    pub(super) fn is_wanted(&self, mount_id: u64) -> bool {
        self.wanted.contains(&mount_id)
    }

    /// Whether any table has that mount. What was taken away lazily, or was never attached, is in none.
    pub(super) fn is_listed(&self, mount_id: u64) -> bool {
        self.listed.contains(&mount_id)
    }

    /// Whether a directory of that name may be walked to: false below a mount that may wait for a server or a daemon.
    pub(super) fn answers(&self, path: &Path) -> bool {
        path.ancestors().find_map(|place| self.places.get(place).copied()).unwrap_or(true)
    }

    /// Whether a path, as our own namespace has it, leads to the file system.
    pub(super) fn is_on(&self, path: &Path) -> bool {
        let over = self.own.iter().filter(|(place, _)| path.starts_with(place));
        // Of several on one directory the last is on top.
        over.max_by_key(|(place, _)| place.components().count()).is_some_and(|(_, is_wanted)| *is_wanted)
    }

    /// Where the file system is mounted in our own namespace.
    pub(super) fn own(&self) -> impl Iterator<Item = &Path> {
        self.own.iter().filter(|(_, is_wanted)| *is_wanted).map(|(place, _)| place.as_path())
    }

    /// What is mounted on directories of the file system: where, and its type.
    pub(super) fn below(&self) -> &[(PathBuf, String)] {
        &self.below
    }

    /// Where the file system is mounted in this process's namespace, said of one process of each other namespace.
    pub(super) fn namespace_of(&self, pid: u32) -> Option<Use> {
        self.namespaces.get(&pid).cloned().map(Use::Namespace)
    }
}

impl Subject {
    /// btrfs makes up the number that mountinfo shows: there only the source tells.
    fn learn(&mut self, table: &[MountEntry]) {
        for mount in table {
            if !self.filesystems.contains(&mount.devnum) && self.is_device(Path::new(&mount.source)) {
                self.filesystems.push(mount.devnum);
            }
        }
    }
}

/// What tells mount tables apart: the namespace, and the root from which it is seen. A process in a changed root sees
/// only what is below that.
fn view(pid: u32) -> (OsString, OsString) {
    let link = |name| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default().into_os_string();
    (link("ns/mnt"), link("root"))
}

/// Whether a walk to a directory of that file system may wait for somebody else: those with `d_weak_revalidate` (NFS,
/// 9p), and others over a network or a daemon for good measure.
fn may_not_answer(kind: &str) -> bool {
    let kind = kind.split('.').next().unwrap_or_default();
    ["nfs", "nfs4", "9p", "cifs", "smb3", "ceph", "afs", "fuse", "fuseblk", "virtiofs", "autofs"]
        .contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::makedev;

    const TABLE: &[u8] = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 0:9 / /mnt rw - fuse.mydisks x rw\n\
        3 2 7:0 / /mnt/a rw - ext4 /dev/loop0 rw\n\
        4 3 0:8 / /mnt/a/b rw - tmpfs tmpfs rw\n\
        5 1 0:7 / /net rw - nfs4 server:/ rw\n";

    fn mounts(filesystem: u64) -> Mounts {
        let table = mountinfo::parse(TABLE);
        let mut mounts = Mounts::default();
        let mut subject = Subject { filesystems: vec![filesystem], devices: Vec::new(), is_unmounted: false };
        mounts.add(&table, &mut subject);
        let own = table.iter().map(|mount| (mount.mount_point.clone(), mounts.is_wanted(mount.id)));
        mounts.own = own.collect();
        mounts
    }

    #[test]
    fn mounts_are_told_by_device_and_what_lies_on_them_by_parent() {
        let mounts = mounts(makedev(7, 0));
        assert!(mounts.is_wanted(3) && !mounts.is_wanted(2) && !mounts.is_wanted(4));
        assert!(mounts.is_listed(5) && !mounts.is_listed(6));
        assert_eq!(mounts.below(), [(PathBuf::from("/mnt/a/b"), "tmpfs".to_owned())]);
    }

    #[test]
    fn a_path_is_on_the_mount_that_covers_it() {
        let mounts = mounts(makedev(7, 0));
        for (path, is_on) in [
            ("/mnt/a/disk.img", true),
            ("/mnt/a", true),
            ("/mnt/ab", false),
            ("/mnt/a/b/c", false),
            ("/", false),
        ] {
            assert_eq!(mounts.is_on(Path::new(path)), is_on, "{path}");
        }
    }

    #[test]
    fn nobody_walks_below_a_mount_that_may_not_answer_unless_it_is_the_one() {
        let disk = mounts(makedev(7, 0));
        for (path, answers) in [
            ("/", true),
            ("/home", true),
            ("/mnt", false),
            ("/mnt/c", false),
            ("/mnt/a/x", true),
            ("/net/x", false),
        ] {
            assert_eq!(disk.answers(Path::new(path)), answers, "{path}");
        }
        assert!(mounts(makedev(0, 9)).answers(Path::new("/mnt/c")), "the root itself is asked after");
    }

    #[test]
    fn a_made_up_device_number_is_learnt_from_the_source_only_if_that_is_the_device() {
        let mut subject = Subject { filesystems: vec![7], devices: vec![7], is_unmounted: true };
        subject.learn(&mountinfo::parse(
            b"1 0 0:39 / /x rw - btrfs /dev/null rw\n2 0 0:40 / /y rw - btrfs /tmp rw\n",
        ));
        assert_eq!(subject.filesystems, [7]);
    }
}
