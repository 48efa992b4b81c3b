//! Whether a configured [`DiskSpec`] names a present [`Disk`], and which of its nodes; pure.

use super::{BlockNode, Disk, DiskSpec, Partition};

/// What udev calls a LUKS header, of either version.
const LUKS: &str = "crypto_LUKS";

/// The node of a disk that a spec names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Found {
    /// The whole disk.
    Whole,
    /// The partition of this number, which is present.
    Partition(u32),
    /// The disk, but not yet which node of it: the probe decides when it is opened (the whole disk if there is a
    /// LUKS header or file system on it, else its only partition that has one). It must verify `uuid`,
    /// `luks_uuid` and `label` of the spec on the node that it takes.
    Undecided,
}

impl Disk {
    /// The node found; `None` for [`Found::Undecided`].
    pub fn node(&self, found: Found) -> Option<&BlockNode> {
        match found {
            Found::Whole => Some(&self.node),
            Found::Partition(number) => self
                .partitions
                .iter()
                .find(|partition| partition.number == number)
                .map(|partition| &partition.node),
            Found::Undecided => None,
        }
    }
}

impl DiskSpec {
    /// The node of this disk that the spec names, if it names one.
    ///
    /// `id` and `wwn` are the disk's. `uuid`, `luks_uuid`, `label`, `partuuid` and `partition` must all hold of one
    /// node; if they do of several partitions, the answer is undecided, never a guess.
    ///
    /// udev's probe may be late, switched off or without a conclusion ([`BlockNode::probed`]), and then says
    /// nothing against a node. A disk that `id` or `wwn` names is found all the same, so that a `luks-uuid` beside
    /// them does not hide it for ever: whoever opens the node verifies what it holds. Without `id` and `wwn` only
    /// what was seen on a node counts. A spec of an image, or without any identity, names no disk.
    pub fn find(&self, disk: &Disk) -> Option<Found> {
        if self.image.is_some() || !self.has_identity() || !self.names_disk(disk) {
            return None;
        }
        if !self.has_node_criterion() {
            return Some(Found::Undecided);
        }
        let verdicts: Vec<(Found, Verdict)> =
            nodes(disk).map(|node| (node.found(), self.verdict(node))).collect();
        let with = |verdict| verdicts.iter().filter(move |found| found.1 == verdict).map(|found| found.0);
        let by_disk = self.id.is_some() || self.wwn.is_some();
        // The whole disk goes before its partitions: a hybrid image is seen on both.
        with(Verdict::Holds)
            .find(|&found| found == Found::Whole)
            .or_else(|| the_only(with(Verdict::Holds)))
            .or_else(|| the_only(with(Verdict::Unknown)).filter(|_| by_disk))
    }

    fn has_identity(&self) -> bool {
        let Self { id, uuid, partuuid, label, wwn, luks_uuid, image: _, partition: _ } = self;
        id.is_some()
            || uuid.is_some()
            || partuuid.is_some()
            || label.is_some()
            || wwn.is_some()
            || luks_uuid.is_some()
    }

    fn has_node_criterion(&self) -> bool {
        let Self { id: _, uuid, partuuid, label, wwn: _, luks_uuid, image: _, partition } = self;
        uuid.is_some() || partuuid.is_some() || label.is_some() || luks_uuid.is_some() || partition.is_some()
    }

    fn names_disk(&self, disk: &Disk) -> bool {
        self.id.as_ref().is_none_or(|id| disk.ids.contains(id.as_str()))
            && self
                .wwn
                .as_ref()
                .is_none_or(|wwn| disk.wwns.iter().any(|own| own.eq_ignore_ascii_case(wwn.as_str())))
    }

    fn verdict(&self, Node { node, partition }: Node<'_>) -> Verdict {
        let content = &node.content;
        let uuid = content.uuid.as_deref();
        let luks_uuid = uuid.filter(|_| content.fs_type.as_deref() == Some(LUKS));
        let number = partition.map(|partition| partition.number);
        let partuuid = partition.and_then(|partition| partition.partuuid.as_deref());
        // A whole disk is no entry of a table, and a partition of another number stays one.
        let place = [
            self.partition.map(|wanted| Verdict::of(number == Some(wanted))),
            self.partuuid.as_ref().map(|wanted| match partition {
                Some(_) => Verdict::seen(node, same(partuuid, wanted.as_str())),
                None => Verdict::Fails,
            }),
        ];
        let content = [
            self.uuid.as_ref().map(|wanted| same(uuid, wanted.as_str())),
            self.luks_uuid.as_ref().map(|wanted| same(luks_uuid, wanted.as_str())),
            self.label.as_ref().map(|wanted| content.label.as_deref() == Some(wanted.as_str())),
        ];
        let content = content.map(|holds| holds.map(|holds| Verdict::seen(node, holds)));
        place.into_iter().chain(content).flatten().max().unwrap_or(Verdict::Holds)
    }
}

/// Of criteria together, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Holds,
    Unknown,
    Fails,
}

impl Verdict {
    fn of(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }

    /// What does not hold of a node that nobody looked at is unknown.
    fn seen(node: &BlockNode, holds: bool) -> Self {
        if holds || node.probed { Self::of(holds) } else { Self::Unknown }
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    node: &'a BlockNode,
    partition: Option<&'a Partition>,
}

impl Node<'_> {
    fn found(self) -> Found {
        self.partition.map_or(Found::Whole, |partition| Found::Partition(partition.number))
    }
}

/// The whole disk, then its partitions.
fn nodes(disk: &Disk) -> impl Iterator<Item = Node<'_>> {
    let partitions =
        disk.partitions.iter().map(|partition| Node { node: &partition.node, partition: Some(partition) });
    std::iter::once(Node { node: &disk.node, partition: None }).chain(partitions)
}

/// `None` of none, undecided of several.
fn the_only(mut found: impl Iterator<Item = Found>) -> Option<Found> {
    let first = found.next()?;
    Some(if found.next().is_none() { first } else { Found::Undecided })
}

fn same(own: Option<&str>, wanted: &str) -> bool {
    own.is_some_and(|own| own.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::arbitrary::{any_disk, any_spec, disk, node, partition};
    use proptest::prelude::*;

    const A: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
    const B: &str = "bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee";

    fn by_id(id: &str) -> DiskSpec {
        DiskSpec { id: id.parse().ok(), ..DiskSpec::default() }
    }

    fn by_uuid(uuid: &str) -> DiskSpec {
        DiskSpec { uuid: uuid.parse().ok(), ..DiskSpec::default() }
    }

    #[test]
    fn an_id_names_the_disk_and_leaves_the_node_to_the_probe() {
        let disk = disk(&["X"], node("ext4", A), vec![partition(1, "p1", node("", ""))]);
        assert_eq!(by_id("X").find(&disk), Some(Found::Undecided));
        assert_eq!(by_id("x").find(&disk), None, "ids differ in case");
        assert_eq!(DiskSpec { partition: Some(1), ..by_id("X") }.find(&disk), Some(Found::Partition(1)));
        assert_eq!(DiskSpec { partition: Some(2), ..by_id("X") }.find(&disk), None);
    }

    #[test]
    fn a_uuid_names_the_node_that_has_it_in_either_case() {
        let disk = disk(
            &[],
            node("", ""),
            vec![partition(1, "p1", node("vfat", "12AB-34CD")), partition(2, "p2", node("ext4", A))],
        );
        assert_eq!(by_uuid("12ab-34cd").find(&disk), Some(Found::Partition(1)));
        assert_eq!(by_uuid(&A.to_uppercase()).find(&disk), Some(Found::Partition(2)));
        assert_eq!(by_uuid(B).find(&disk), None);
    }

    #[test]
    fn a_luks_uuid_is_that_of_a_luks_header_only() {
        let spec = DiskSpec { luks_uuid: A.parse().ok(), ..DiskSpec::default() };
        assert_eq!(spec.find(&disk(&[], node("crypto_LUKS", A), vec![])), Some(Found::Whole));
        assert_eq!(spec.find(&disk(&[], node("ext4", A), vec![])), None);
    }

    #[test]
    fn criteria_hold_of_one_node_together() {
        let disk = disk(
            &["X"],
            node("", ""),
            vec![partition(1, "aa-01", node("ext4", A)), partition(2, "aa-02", node("ext4", B))],
        );
        let both = |uuid: &str, partuuid: &str| {
            DiskSpec { partuuid: partuuid.parse().ok(), ..by_uuid(uuid) }.find(&disk)
        };
        assert_eq!(both(A, "aa-01"), Some(Found::Partition(1)));
        assert_eq!(both(A, "aa-02"), None);
        assert_eq!(both(A, "AA-01"), Some(Found::Partition(1)));
    }

    #[test]
    fn two_partitions_with_one_label_are_not_guessed_between() {
        let disk = disk(
            &[],
            node("", ""),
            vec![partition(1, "p1", node("ext4", A)), partition(2, "p2", node("ext4", A))],
        );
        assert_eq!(by_uuid(A).find(&disk), Some(Found::Undecided));
        assert_eq!(DiskSpec { partition: Some(2), ..by_uuid(A) }.find(&disk), Some(Found::Partition(2)));
    }

    #[test]
    fn a_hybrid_image_is_its_whole_disk() {
        let disk = disk(&[], node("iso9660", A), vec![partition(1, "p1", node("iso9660", A))]);
        assert_eq!(by_uuid(A).find(&disk), Some(Found::Whole));
    }

    #[test]
    fn an_unprobed_disk_is_found_by_id_though_its_header_is_not_known_yet() {
        let unprobed = BlockNode { probed: false, ..node("", "") };
        let pinned = DiskSpec { luks_uuid: A.parse().ok(), ..by_id("X") };
        assert_eq!(pinned.find(&disk(&["X"], unprobed.clone(), vec![])), Some(Found::Whole));
        let partitioned = disk(&["X"], unprobed.clone(), vec![partition(1, "p", unprobed.clone())]);
        assert_eq!(pinned.find(&partitioned), Some(Found::Undecided));
        assert_eq!(
            DiskSpec { partition: Some(1), ..pinned.clone() }.find(&partitioned),
            Some(Found::Partition(1))
        );
        assert_eq!(by_uuid(A).find(&partitioned), None, "nothing was seen that names it");
        assert_eq!(pinned.find(&disk(&["X"], node("", ""), vec![])), None, "udev looked: no header");
        assert_eq!(
            pinned.find(&disk(&["X"], node("crypto_LUKS", B), vec![])),
            None,
            "udev looked: another header"
        );
    }

    #[test]
    fn a_twin_is_told_apart_by_the_uuid_beside_the_id() {
        let pinned = DiskSpec { uuid: A.parse().ok(), ..by_id("X") };
        assert_eq!(pinned.find(&disk(&["X"], node("ext4", A), vec![])), Some(Found::Whole));
        assert_eq!(pinned.find(&disk(&["X"], node("ext4", B), vec![])), None);
    }

    #[test]
    fn a_world_wide_name_matches_in_either_case() {
        let mut disk = disk(&[], node("ext4", A), vec![]);
        disk.wwns.insert("0x5000C500A1B2C3D4".into());
        let spec = DiskSpec { wwn: "0x5000c500a1b2c3d4".parse().ok(), ..DiskSpec::default() };
        assert_eq!(spec.find(&disk), Some(Found::Undecided));
    }

    #[test]
    fn an_image_and_an_empty_spec_name_no_disk() {
        let disk = disk(&["X"], node("ext4", A), vec![partition(1, "p1", node("ext4", A))]);
        assert_eq!(DiskSpec { image: Some("/x.img".into()), ..by_uuid(A) }.find(&disk), None);
        assert_eq!(DiskSpec { partition: Some(1), ..DiskSpec::default() }.find(&disk), None);
        assert_eq!(DiskSpec::default().find(&disk), None);
    }

    proptest! {
        #[test]
        fn a_node_that_is_found_exists_and_each_further_criterion_only_narrows(
            disk in any_disk(), spec in any_spec(), more in any_spec(),
        ) {
            let found = spec.find(&disk);
            if let Some(found) = found {
                prop_assert_eq!(disk.node(found).is_none(), found == Found::Undecided);
            }
            let narrower = DiskSpec {
                uuid: spec.uuid.clone().or(more.uuid),
                label: spec.label.clone().or(more.label),
                partuuid: spec.partuuid.clone().or(more.partuuid),
                ..spec
            };
            let by_disk = narrower.id.is_some() || narrower.wwn.is_some();
            if by_disk && found.is_none() {
                prop_assert_eq!(narrower.find(&disk), None);
            }
        }
    }
}
