//! Inodes that stand for entries of a disk while a system call that cannot walk again looks at them from below the
//! mount: it must be told the truth of the disk (see `replies`). Each answer is a new inode, forgotten when the
//! kernel forgets it; nothing can be done with one but look further.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::fs::{FileType as StatType, Stat};

use super::filesystem::attributes_of;
use crate::core::SlotId;

/// Above the numbers of all other inodes.
const FIRST: u64 = 1 << 48;

/// An entry of the disk of a slot.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    pub(super) slot: SlotId,
    /// From the root of the disk.
    pub(super) path: PathBuf,
    pub(super) attributes: FileAttr,
}

/// Those that the kernel has not forgotten.
#[derive(Debug, Default)]
pub(super) struct Shadows {
    table: Mutex<(u64, HashMap<u64, Shadow>)>,
}

impl Shadows {
    /// A new inode for this entry.
    pub(super) fn cast(&self, slot: SlotId, path: &Path, stat: &Stat) -> FileAttr {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let number = FIRST + table.0;
        table.0 += 1;
        // Mode and owner are what the kernel's checks before LINK and RENAME look at (may_linkat, may_delete).
        let attributes = FileAttr {
            uid: stat.st_uid,
            gid: stat.st_gid,
            ..attributes_of(
                INodeNo(number),
                kind(stat.st_mode),
                (stat.st_mode & 0o7777) as u16,
                stat.st_nlink as u32,
            )
        };
        table.1.insert(number, Shadow { slot, path: path.to_owned(), attributes });
        attributes
    }

    pub(super) fn get(&self, number: INodeNo) -> Option<Shadow> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).1.get(&number.0).cloned()
    }

    pub(super) fn forget(&self, number: INodeNo) {
        if number.0 >= FIRST {
            self.table.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number.0);
        }
    }
}

fn kind(mode: u32) -> FileType {
    match StatType::from_raw_mode(mode) {
        StatType::Directory => FileType::Directory,
        StatType::Symlink => FileType::Symlink,
        StatType::Fifo => FileType::NamedPipe,
        StatType::Socket => FileType::Socket,
        StatType::CharacterDevice => FileType::CharDevice,
        StatType::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_lives_until_it_is_forgotten() {
        let shadows = Shadows::default();
        let stat = |path: &str| rustix::fs::stat(path).unwrap();
        let directory = shadows.cast(SlotId(1), Path::new("a/b"), &stat("/"));
        let other = shadows.cast(SlotId(1), Path::new("a/b"), &stat("/proc/self/stat"));
        assert_ne!(directory.ino, other.ino);
        assert_eq!((directory.kind, other.kind), (FileType::Directory, FileType::RegularFile));
        assert_eq!(shadows.get(directory.ino).unwrap().path, Path::new("a/b"));
        shadows.forget(directory.ino);
        assert!(shadows.get(directory.ino).is_none() && shadows.get(other.ino).is_some());
    }
}
