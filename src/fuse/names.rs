//! The inodes of the FUSE root. The number of a name never changes while the file system lives: a revalidation
//! that finds another one makes the kernel detach what is mounted there (fuse_dentry_revalidate).

use std::ffi::OsStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

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

/// The names of the root directory. A name keeps its number for ever: one that is hidden and comes back has it again.
#[derive(Debug, Default)]
pub struct Names {
    /// Held to look something up, never across a call that can block.
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By number.
    names: Vec<Name>,
    /// Places in `names`, in the order of the names.
    sorted: Vec<u32>,
    shown: usize,
}

#[derive(Debug)]
struct Name {
    text: Arc<str>,
    is_shown: bool,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub node: Node,
    /// Its name.
    pub name: Arc<str>,
    /// The place that the entries after it begin at.
    pub next: usize,
}

impl Names {
    /// Slot numbers are places in `names`, of which none is there twice.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<_> =
            names.into_iter().enumerate().map(|(place, name)| (SlotId(place), name)).collect();
        let all = Self::default();
        all.show(names.iter().map(|(slot, name)| (*slot, name.as_str())));
        all
    }

    /// These are in the root from now on: new ones, with the numbers that follow, or ones that were hidden.
    pub fn show<'a>(&self, names: impl IntoIterator<Item = (SlotId, &'a str)>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for (slot, name) in names {
            match table.names.get_mut(slot.0) {
                Some(known) => {
                    let was_shown = std::mem::replace(&mut known.is_shown, true);
                    table.shown += usize::from(!was_shown);
                }
                None => {
                    // A configuration is far too short for more names than that.
                    let place = u32::try_from(table.names.len()).unwrap_or(u32::MAX);
                    table.names.push(Name { text: name.into(), is_shown: true });
                    table.sorted.push(place);
                    table.shown += 1;
                }
            }
        }
        let Table { names, sorted, .. } = &mut *table;
        sorted.sort_by(|&one, &other| names[one as usize].text.cmp(&names[other as usize].text));
    }

    /// These are not in the root any more.
    pub fn hide(&self, slots: &[SlotId]) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for slot in slots {
            if let Some(name) = table.names.get_mut(slot.0) {
                let was_shown = std::mem::replace(&mut name.is_shown, false);
                table.shown -= usize::from(was_shown);
            }
        }
    }

    /// How many name directories there are.
    pub fn len(&self) -> usize {
        self.table().shown
    }

    /// There is no name directory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of a slot, hidden or not.
    pub fn name(&self, slot: SlotId) -> Option<Arc<str>> {
        self.table().names.get(slot.0).map(|name| Arc::clone(&name.text))
    }

    /// The slot of a name that is in the root.
    pub fn slot(&self, name: &OsStr) -> Option<SlotId> {
        let (name, table) = (name.to_str()?, self.table());
        let order = |&place: &u32| (*table.names[place as usize].text).cmp(name);
        let place = table.sorted[table.sorted.binary_search_by(order).ok()?] as usize;
        table.names[place].is_shown.then_some(SlotId(place))
    }

    /// What an inode number stands for; the kernel may ask for a name that was hidden since.
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
                (place < self.table().names.len()).then_some(Node::Name(SlotId(place)))
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

    /// The first entry of a directory from this place on. A name's place is always the same, so that a listing that is
    /// under way while names come and go misses none of the others.
    pub fn entry(&self, directory: Node, place: usize) -> Option<Entry> {
        let entry = |node, name: &str| Some(Entry { node, name: name.into(), next: place + 1 });
        match (directory, place) {
            (_, 0) => entry(directory, "."),
            (_, 1) => entry(Node::Root, ".."),
            (Node::Root, 2) => entry(Node::StatusDirectory, STATUS_DIRECTORY),
            (Node::Root, _) => {
                let table = self.table();
                let (number, name) =
                    table.names.iter().enumerate().skip(place - 3).find(|(_, name)| name.is_shown)?;
                let (node, name) = (Node::Name(SlotId(number)), Arc::clone(&name.text));
                Some(Entry { node, name, next: number + 4 })
            }
            (Node::StatusDirectory, _) => {
                let file = *StatusFile::ALL.get(place - 2)?;
                entry(Node::Status(file), file.name())
            }
            (Node::Status(_) | Node::Name(_), _) => None,
        }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &Names, directory: Node) -> Vec<(Node, String)> {
        let mut place = 2;
        let next = || {
            let entry = names.entry(directory, place)?;
            place = entry.next;
            Some((entry.node, entry.name.to_string()))
        };
        std::iter::from_fn(next).collect()
    }

    fn names() -> Names {
        Names::new(["media".into(), "backup".into()])
    }

    #[test]
    fn every_entry_is_found_by_its_name_and_by_its_number() {
        let names = names();
        for directory in [Node::Root, Node::StatusDirectory] {
            let entries = entries(&names, directory);
            assert_eq!(entries.len(), if directory == Node::Root { 3 } else { 4 });
            for (node, name) in entries {
                assert_eq!(names.child(directory, OsStr::new(&name)), Some(node));
                assert_eq!(names.node(node.number()), Some(node));
            }
        }
        assert_eq!(names.child(Node::Root, OsStr::new("absent")), None);
        assert_eq!(names.node(0), None);
        assert_eq!(names.node(18), None);
    }

    #[test]
    fn a_hidden_name_is_found_by_its_number_only() {
        let names = names();
        names.hide(&[SlotId(0), SlotId(0)]);
        assert_eq!(names.len(), 1);
        assert_eq!(names.slot(OsStr::new("media")), None);
        assert!(entries(&names, Node::Root).iter().all(|(_, name)| name != "media"));
        assert_eq!(names.node(FIRST_NAME), Some(Node::Name(SlotId(0))));
        assert_eq!(names.name(SlotId(0)).as_deref(), Some("media"));
    }

    #[test]
    fn a_name_that_comes_back_has_its_number_again() {
        let names = names();
        names.hide(&[SlotId(0), SlotId(1)]);
        assert!(names.is_empty());
        names.show([(SlotId(2), "archive"), (SlotId(1), "backup"), (SlotId(0), "media")]);
        for (number, name) in ["media", "backup", "archive"].into_iter().enumerate() {
            assert_eq!(names.slot(OsStr::new(name)), Some(SlotId(number)));
        }
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn a_listing_that_is_under_way_misses_none_of_the_names_that_stay() {
        let names = Names::new(["a", "b", "c"].map(String::from));
        let first = names.entry(Node::Root, 3).unwrap();
        assert_eq!(&*first.name, "a");
        names.hide(&[SlotId(0), SlotId(1)]);
        names.show([(SlotId(3), "0")]);
        let second = names.entry(Node::Root, first.next).unwrap();
        assert_eq!(&*second.name, "c");
        assert_eq!(&*names.entry(Node::Root, second.next).unwrap().name, "0");
    }
}
