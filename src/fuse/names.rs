//! The inodes of the FUSE root. The number of a name never changes while the file system lives: a revalidation
//! that finds another one makes the kernel detach what is mounted there (fuse_dentry_revalidate).

use std::ffi::OsStr;

use crate::core::SlotId;

/// The directory of the status files.
pub(super) const STATUS_DIRECTORY: &str = ".status";

const ROOT: u64 = 1;
const STATUS: u64 = 2;
const FIRST_FILE: u64 = 3;
const FIRST_NAME: u64 = 16;

/// What an inode number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// The root directory.
    Root,
    /// `.status`
    StatusDirectory,
    /// A file in it.
    Status(StatusFile),
    /// A name directory.
    Name(SlotId),
}

/// The files in `.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusFile {
    /// A table for people.
    Summary,
    /// Everything, for programs.
    Json,
    /// Prometheus text.
    Metrics,
    /// The last events, newest last.
    Events,
}

impl StatusFile {
    /// All of them, in the order of their inode numbers.
    pub const ALL: [Self; 4] = [Self::Summary, Self::Json, Self::Metrics, Self::Events];

    /// Its name in `.status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Json => "status.json",
            Self::Metrics => "metrics",
            Self::Events => "events",
        }
    }
}

impl Node {
    /// Its inode number.
    pub fn number(self) -> u64 {
        match self {
            Self::Root => ROOT,
            Self::StatusDirectory => STATUS,
            Self::Status(file) => FIRST_FILE + file as u64,
            Self::Name(slot) => FIRST_NAME + slot.0 as u64,
        }
    }

    /// A regular file; the others are directories.
    pub fn is_file(self) -> bool {
        matches!(self, Self::Status(_))
    }
}

/// The names of the root directory.
#[derive(Debug)]
pub struct Names {
    names: Vec<Box<str>>,
    /// Places in `names`, in the order of the names.
    sorted: Vec<u32>,
}

impl Names {
    /// Slot numbers are places in `names`, of which none is there twice.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<Box<str>> = names.into_iter().map(String::into_boxed_str).collect();
        // A configuration is far too short for more names than that.
        let mut sorted: Vec<u32> = (0..u32::try_from(names.len()).unwrap_or(u32::MAX)).collect();
        sorted.sort_unstable_by_key(|&place| &names[place as usize]);
        Self { names, sorted }
    }

    /// How many name directories there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// No name is configured.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a slot.
    pub fn name(&self, slot: SlotId) -> Option<&str> {
        self.names.get(slot.0).map(AsRef::as_ref)
    }

    /// The slot of a name.
    pub fn slot(&self, name: &OsStr) -> Option<SlotId> {
        let name = name.to_str()?;
        let found = self.sorted.binary_search_by(|&place| (*self.names[place as usize]).cmp(name)).ok()?;
        Some(SlotId(self.sorted[found] as usize))
    }

    /// What an inode number stands for.
    pub fn node(&self, number: u64) -> Option<Node> {
        match number {
            ROOT => Some(Node::Root),
            STATUS => Some(Node::StatusDirectory),
            FIRST_FILE..FIRST_NAME => {
                let place = usize::try_from(number - FIRST_FILE).ok()?;
                StatusFile::ALL.get(place).copied().map(Node::Status)
            }
            _ => {
                let place = usize::try_from(number.checked_sub(FIRST_NAME)?).ok()?;
                (place < self.names.len()).then_some(Node::Name(SlotId(place)))
            }
        }
    }

    /// The child of a directory.
    pub fn child(&self, parent: Node, name: &OsStr) -> Option<Node> {
        match parent {
            Node::Root if name == STATUS_DIRECTORY => Some(Node::StatusDirectory),
            Node::Root => self.slot(name).map(Node::Name),
            Node::StatusDirectory => {
                StatusFile::ALL.into_iter().find(|file| name == file.name()).map(Node::Status)
            }
            Node::Status(_) | Node::Name(_) => None,
        }
    }

    /// Entry number `place` of a directory, with its name.
    pub fn entry(&self, directory: Node, place: usize) -> Option<(Node, &str)> {
        if let Some(&dots) = [".", ".."].get(place) {
            return Some((if place == 0 { directory } else { Node::Root }, dots));
        }
        match directory {
            Node::Root if place == 2 => Some((Node::StatusDirectory, STATUS_DIRECTORY)),
            Node::Root => {
                let slot = SlotId(place - 3);
                Some((Node::Name(slot), self.name(slot)?))
            }
            Node::StatusDirectory => {
                StatusFile::ALL.get(place - 2).map(|&file| (Node::Status(file), file.name()))
            }
            Node::Status(_) | Node::Name(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_by_its_name_and_by_its_number() {
        let names = Names::new(["media".into(), "backup".into()]);
        for directory in [Node::Root, Node::StatusDirectory] {
            let entries: Vec<_> = (2..).map_while(|place| names.entry(directory, place)).collect();
            assert_eq!(entries.len(), if directory == Node::Root { 3 } else { 4 });
            for (node, name) in entries {
                assert_eq!(names.child(directory, OsStr::new(name)), Some(node));
                assert_eq!(names.node(node.number()), Some(node));
            }
        }
        assert_eq!(names.child(Node::Root, OsStr::new("absent")), None);
        assert_eq!(names.node(0), None);
        assert_eq!(names.node(18), None);
    }
}
