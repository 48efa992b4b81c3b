//! Disks and specs for tests, from alphabets so small that they meet.

use proptest::collection::{btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::{BlockNode, Content, Disk, DiskSeq, DiskSpec, Partition};

const UUIDS: [&str; 2] = ["AAAAAAAA-bbbb-cccc-dddd-eeeeeeeeeeee", "1234-ABCD"];
const LUKS_UUID: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
const WWNS: [&str; 2] = ["0x5000C500A1B2C3D4", "eui.00"];

/// A probed node; an empty string is nothing.
pub(super) fn node(fs_type: &str, uuid: &str) -> BlockNode {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    BlockNode {
        devnode: "/dev/sdx".into(),
        devnum: 0,
        size: 512,
        probed: true,
        content: Content { fs_type: some(fs_type), uuid: some(uuid), label: None },
    }
}

pub(super) fn partition(number: u32, partuuid: &str, node: BlockNode) -> Partition {
    Partition { number, partuuid: Some(partuuid.to_owned()), node }
}

pub(super) fn disk(ids: &[&str], node: BlockNode, partitions: Vec<Partition>) -> Disk {
    Disk {
        seq: DiskSeq(1),
        node,
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        preferred_id: ids.first().map(|&id| id.to_owned()),
        wwns: [].into(),
        model: None,
        port: None,
        partitions,
        read_only: false,
    }
}

prop_compose! {
    fn any_node()(
        fs_type in of(prop::sample::select(vec!["ext4", "crypto_LUKS"])),
        uuid in of(prop::sample::select(UUIDS.to_vec())),
        label in of("[ab]"),
        probed in prop::bool::weighted(0.7),
    ) -> BlockNode {
        let node = node(fs_type.unwrap_or_default(), uuid.unwrap_or_default());
        if !probed {
            return BlockNode { content: Content::default(), probed, ..node };
        }
        BlockNode { content: Content { label, ..node.content }, ..node }
    }
}

prop_compose! {
    pub(super) fn any_disk()(
        ids in btree_set("[ab]", 0..3),
        wwns in btree_set(prop::sample::select(WWNS.to_vec()), 0..2),
        whole in any_node(),
        partitions in vec((of("[aA]-0[12]"), any_node()), 0..3),
    ) -> Disk {
        let partition = |(at, (partuuid, node))| Partition { number: at, partuuid, node };
        let partitions = (1..).zip(partitions).map(partition).collect();
        let wwns = wwns.into_iter().map(str::to_owned).collect();
        Disk { preferred_id: ids.first().cloned(), ids, wwns, ..disk(&[], whole, partitions) }
    }
}

prop_compose! {
    pub(super) fn any_spec()(
        id in of("[ab]"),
        uuid in of(prop::sample::select(UUIDS.to_vec())),
        partuuid in of("[aA]-0[12]"),
        label in of("[ab]"),
        wwn in prop::option::weighted(0.3, prop::sample::select(WWNS.to_vec())),
        luks in prop::bool::weighted(0.2),
        image in prop::bool::weighted(0.05),
        partition in prop::option::weighted(0.3, 1..3_u32),
    ) -> DiskSpec {
        DiskSpec {
            id: id.and_then(|id| id.parse().ok()),
            uuid: uuid.and_then(|uuid| uuid.parse().ok()),
            partuuid: partuuid.and_then(|partuuid| partuuid.parse().ok()),
            label: label.and_then(|label| label.parse().ok()),
            wwn: wwn.and_then(|wwn| wwn.parse().ok()),
            luks_uuid: LUKS_UUID.parse().ok().filter(|_| luks),
            image: image.then(|| "/x.img".into()),
            partition,
        }
    }
}
