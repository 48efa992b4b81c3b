//! The configured specs by what they compare, so that a disk is asked about by hash and not against each of ten
//! thousand; pure.

use std::collections::{BTreeSet, HashMap};

use super::{BlockNode, Disk, DiskSpec, Found};

/// Specs with the keys (mount, guest, …) of whom they belong to. A key may come with several specs.
#[derive(Clone, Debug)]
pub struct DiskIndex<K> {
    specs: Vec<(K, DiskSpec)>,
    /// Each spec is in one map under one word: that of a criterion that must hold for it to match. Positions in
    /// `specs`.
    by_word: HashMap<Word, Vec<usize>>,
}

/// A criterion and its value, in lower case where case does not count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Word {
    Id(String),
    Wwn(String),
    PartUuid(String),
    /// `uuid` and `luks-uuid` are both compared with the content's UUID.
    Uuid(String),
    Label(String),
}

impl<K> DiskIndex<K> {
    /// Takes in the specs; those that can match no disk (images) are kept but never found.
    pub fn new(specs: impl IntoIterator<Item = (K, DiskSpec)>) -> Self {
        let specs: Vec<(K, DiskSpec)> = specs.into_iter().collect();
        let mut by_word: HashMap<Word, Vec<usize>> = HashMap::new();
        for (position, (_, spec)) in specs.iter().enumerate() {
            if let Some(word) = required(spec) {
                by_word.entry(word).or_default().push(position);
            }
        }
        Self { specs, by_word }
    }

    /// Every spec that names this disk, with the node, in the order in which the specs were given.
    pub fn find(&self, disk: &Disk) -> Vec<(&K, &DiskSpec, Found)> {
        let positions: BTreeSet<usize> =
            words(disk).filter_map(|word| self.by_word.get(&word)).flatten().copied().collect();
        positions
            .into_iter()
            .map(|position| &self.specs[position])
            .filter_map(|(key, spec)| Some((key, spec, spec.find(disk)?)))
            .collect()
    }
}

/// The word without which the spec does not match. The disk's own criteria come first: beside them the others
/// may still be unknown.
fn required(spec: &DiskSpec) -> Option<Word> {
    let text = |text: &str| text.to_ascii_lowercase();
    None.or_else(|| spec.id.as_ref().map(|id| Word::Id(id.to_string())))
        .or_else(|| spec.wwn.as_ref().map(|wwn| Word::Wwn(text(wwn.as_str()))))
        .or_else(|| spec.partuuid.as_ref().map(|uuid| Word::PartUuid(text(uuid.as_str()))))
        .or_else(|| spec.luks_uuid.as_ref().map(|uuid| Word::Uuid(text(uuid.as_str()))))
        .or_else(|| spec.uuid.as_ref().map(|uuid| Word::Uuid(text(uuid.as_str()))))
        .or_else(|| spec.label.as_ref().map(|label| Word::Label(label.to_string())))
}

/// Every word of a disk under which a spec that names it may be.
fn words(disk: &Disk) -> impl Iterator<Item = Word> {
    let ids = disk.ids.iter().cloned().map(Word::Id);
    let wwns = disk.wwns.iter().map(|wwn| Word::Wwn(wwn.to_ascii_lowercase()));
    let entries = disk.partitions.iter().filter_map(|partition| partition.partuuid.as_deref());
    let partuuids = entries.map(|uuid| Word::PartUuid(uuid.to_ascii_lowercase()));
    let nodes = std::iter::once(&disk.node).chain(disk.partitions.iter().map(|partition| &partition.node));
    ids.chain(wwns).chain(partuuids).chain(nodes.flat_map(content_words))
}

fn content_words(node: &BlockNode) -> impl Iterator<Item = Word> {
    let uuid = node.content.uuid.as_deref().map(|uuid| Word::Uuid(uuid.to_ascii_lowercase()));
    uuid.into_iter().chain(node.content.label.clone().map(Word::Label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::arbitrary::{any_disk, any_spec, disk, node};
    use proptest::prelude::*;

    #[test]
    fn one_spec_is_found_once_though_two_nodes_have_its_uuid() {
        let uuid = "1234-abcd";
        let index = DiskIndex::new([("a", DiskSpec { uuid: uuid.parse().ok(), ..DiskSpec::default() })]);
        let mut disk = disk(&[], node("vfat", "1234-ABCD"), vec![]);
        disk.partitions.push(crate::device::arbitrary::partition(1, "p", node("vfat", uuid)));
        let found: Vec<_> = index.find(&disk).into_iter().map(|(key, _, found)| (*key, found)).collect();
        assert_eq!(found, [("a", Found::Whole)]);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_asking_every_spec_finds(
            specs in proptest::collection::vec(any_spec(), 0..40), disk in any_disk(),
        ) {
            let one_by_one: Vec<_> =
                specs.iter().enumerate().filter_map(|(key, spec)| Some((key, spec.find(&disk)?))).collect();
            let index = DiskIndex::new(specs.iter().cloned().enumerate());
            let by_index: Vec<_> = index.find(&disk).into_iter().map(|(key, _, found)| (*key, found)).collect();
            prop_assert_eq!(by_index, one_by_one);
        }
    }
}
