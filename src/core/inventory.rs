//! The devices that are present, who has them, and which of them an access would use.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::event::SlotId;
use crate::config::Mount;
use crate::device::{Disk, DiskSeq, DiskSpec, Found, UsbDevice, printable};
use crate::disk::{DiskError, ErrorKind, Order, Source};

/// Everything that is plugged in, and which slot has which disk open.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Inventory {
    pub(super) disks: BTreeMap<DiskSeq, Disk>,
    pub(super) usb: BTreeMap<(u16, u16), UsbDevice>,
    pub(super) owners: HashMap<DiskSeq, Vec<(SlotId, Option<u32>)>>,
    /// Why no slot may have a disk: it is a guest's.
    pub(super) guests: HashMap<DiskSeq, String>,
    /// The files and devices that guests have open, with the guest.
    pub(super) sources: HashMap<PathBuf, String>,
    /// Counts changes of what is plugged in and of who has it.
    pub(super) revision: u64,
    /// What images held when they were last opened: the hint that udev gives for devices.
    pub(super) images: HashMap<PathBuf, String>,
}

/// What a slot has of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) disk: DiskSeq,
    /// Nothing else of it, so that other slots may have its other partitions.
    pub(super) partition: Option<u32>,
}

/// Which disk an access uses.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This one.
    Use { spec: usize, place: Option<Place>, order: Box<Order> },
    /// None, and why.
    Refused(DiskError),
}

/// The disks that match one line of the config.
pub(super) enum Matches<'a> {
    None,
    One(&'a Disk, Found),
    Several(Vec<&'a Disk>),
}

impl Inventory {
    /// Whether it is new or differs from what was known.
    pub(super) fn disk_present(&mut self, disk: Disk) -> bool {
        let known = self.disks.get(&disk.seq) == Some(&disk);
        self.disks.insert(disk.seq, disk);
        self.revision += u64::from(!known);
        !known
    }

    /// The slots that had something of it.
    pub(super) fn disk_gone(&mut self, seq: DiskSeq) -> (Option<Disk>, Vec<SlotId>) {
        self.revision += 1;
        let owners = self.owners.get(&seq).into_iter().flatten().map(|&(slot, _)| slot).collect();
        (self.disks.remove(&seq), owners)
    }

    pub(super) fn usb_present(&mut self, device: UsbDevice) {
        let place = (device.bus, device.address);
        self.revision += u64::from(self.usb.get(&place) != Some(&device));
        self.usb.insert(place, device);
    }

    pub(super) fn usb_gone(&mut self, bus: u16, address: u16) {
        self.revision += u64::from(self.usb.remove(&(bus, address)).is_some());
    }

    /// Another one whenever something has changed that a guest may be concerned with.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn usb_at(&self, bus: u16, address: u16) -> Option<&UsbDevice> {
        self.usb.get(&(bus, address))
    }

    /// Which disks no slot may have, and why; and who of the guests has which files and devices open.
    pub(super) fn belong_to_guests(
        &mut self,
        disks: HashMap<DiskSeq, String>,
        sources: HashMap<PathBuf, String>,
    ) {
        self.guests = disks;
        self.sources = sources;
    }

    pub(super) fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.disks.values()
    }

    pub(super) fn usb(&self) -> impl Iterator<Item = &UsbDevice> {
        self.usb.values()
    }

    pub(super) fn disk(&self, seq: DiskSeq) -> Option<&Disk> {
        self.disks.get(&seq)
    }

    /// An image (`None`) is always there: its job finds out.
    pub(super) fn is_present(&self, place: Option<Place>) -> bool {
        place.is_none_or(|place| self.disks.contains_key(&place.disk))
    }

    /// For a log line.
    pub(super) fn describe(&self, place: Place) -> String {
        self.describe_disk(place.disk)
    }

    /// The place of a node, `/dev/sdb1`, of a disk that is present or has been pulled.
    pub(super) fn place(&self, disk: DiskSeq, node: &std::path::Path) -> Place {
        let partitions = self.disks.get(&disk).into_iter().flat_map(|disk| &disk.partitions);
        let partition = partitions.filter(|part| part.node.devnode == node).map(|part| part.number).next();
        Place { disk, partition }
    }

    /// For a log line.
    pub(super) fn describe_disk(&self, disk: DiskSeq) -> String {
        match self.disks.get(&disk) {
            None => "a disk that has been pulled".to_owned(),
            Some(disk) => match &disk.preferred_id {
                Some(id) => format!("{} on {}", printable(id), disk.node.devnode.display()),
                None => disk.node.devnode.display().to_string(),
            },
        }
    }

    pub(super) fn claim(&mut self, place: Option<Place>, slot: SlotId) {
        let Some(Place { disk, partition }) = place else { return };
        let owners = self.owners.entry(disk).or_default();
        if !owners.contains(&(slot, partition)) {
            owners.push((slot, partition));
            self.revision += 1;
        }
    }

    pub(super) fn release(&mut self, place: Option<Place>, slot: SlotId) {
        let Some(Place { disk, partition }) = place else { return };
        if let Some(owners) = self.owners.get_mut(&disk) {
            let before = owners.len();
            owners.retain(|&owner| owner != (slot, partition));
            self.revision += u64::from(owners.len() != before);
            if owners.is_empty() {
                self.owners.remove(&disk);
            }
        }
    }

    /// The slots that have something of a disk.
    pub(super) fn owners(&self, disk: DiskSeq) -> impl Iterator<Item = SlotId> {
        self.owners.get(&disk).into_iter().flatten().map(|&(slot, _)| slot)
    }

    /// Another slot has it, or something that overlaps it.
    pub(super) fn is_taken(&self, place: Place, slot: SlotId) -> bool {
        let overlaps =
            |other: Option<u32>| other.is_none() || place.partition.is_none() || other == place.partition;
        self.owners
            .get(&place.disk)
            .into_iter()
            .flatten()
            .any(|&(owner, part)| owner != slot && overlaps(part))
    }

    pub(super) fn matches(&self, spec: &DiskSpec) -> Matches<'_> {
        let mut found: Vec<_> =
            self.disks.values().filter_map(|disk| Some((disk, spec.find(disk)?))).collect();
        match found.pop() {
            None => Matches::None,
            Some((disk, place)) if found.is_empty() => Matches::One(disk, place),
            Some((last, _)) => {
                Matches::Several(found.into_iter().map(|(disk, _)| disk).chain([last]).collect())
            }
        }
    }

    /// The disk that an access would take, images left out.
    pub(super) fn attached(&self, mount: &Mount) -> Result<&Disk, DiskError> {
        for spec in mount.disks.iter().filter(|spec| spec.image.is_none()) {
            match self.matches(spec) {
                Matches::None => {}
                Matches::One(disk, _) => return self.not_for_a_guest(disk),
                Matches::Several(disks) => return Err(ambiguous(spec, &disks)),
            }
        }
        Err(absent(mount))
    }

    fn not_for_a_guest<'a>(&self, disk: &'a Disk) -> Result<&'a Disk, DiskError> {
        let Some(why) = self.guests.get(&disk.seq) else { return Ok(disk) };
        let message = format!("{} {why}", disk.node.devnode.display());
        Err(DiskError::new(ErrorKind::Busy, message))
    }

    /// An image was found to hold `content`, by libblkid's name.
    pub(super) fn image_holds(&mut self, image: &Path, content: &str) {
        if self.images.get(image).is_none_or(|known| known != content) {
            self.images.insert(image.to_owned(), content.to_owned());
        }
    }

    /// The first configured disk from number `from` on that is there.
    pub(super) fn choose(&self, slot: SlotId, mount: &Mount, from: usize, deadline: Instant) -> Choice {
        for (number, spec) in mount.disks.iter().enumerate().skip(from) {
            if let Some(image) = &spec.image {
                if let Some(guest) = self.sources.get(image) {
                    let message =
                        format!("{} is in use by the guest {guest}", printable(&image.to_string_lossy()));
                    return Choice::Refused(DiskError::new(ErrorKind::Busy, message));
                }
                let mut order = order(mount, spec, None, deadline);
                order.hint = self.images.get(image).cloned();
                return Choice::Use { spec: number, place: None, order };
            }
            match self.matches(spec) {
                Matches::None => {}
                Matches::Several(disks) => return Choice::Refused(ambiguous(spec, &disks)),
                Matches::One(disk, found) => {
                    let partition = if let Found::Partition(number) = found { Some(number) } else { None };
                    let place = Place { disk: disk.seq, partition };
                    if let Err(error) = self.not_for_a_guest(disk) {
                        return Choice::Refused(error);
                    }
                    if self.is_taken(place, slot) {
                        return Choice::Refused(taken(disk));
                    }
                    let order = order(mount, spec, Some((disk, found)), deadline);
                    return Choice::Use { spec: number, place: Some(place), order };
                }
            }
        }
        Choice::Refused(absent(mount))
    }
}

fn order(mount: &Mount, spec: &DiskSpec, disk: Option<(&Disk, Found)>, deadline: Instant) -> Box<Order> {
    let source = match (disk, &spec.image) {
        (Some((disk, _)), _) => Source::Device {
            disk: disk.node.devnode.clone(),
            diskseq: disk.seq.0,
            partitions: disk.partitions.iter().map(|part| (part.number, part.node.devnode.clone())).collect(),
        },
        (None, image) => Source::Image(image.clone().unwrap_or_default()),
    };
    let partition = match disk {
        Some((_, Found::Partition(number))) => Some(number),
        _ => spec.partition,
    };
    Box::new(Order {
        source,
        partition,
        uuid: spec.uuid.as_ref().map(|uuid| uuid.as_str().to_owned()),
        luks_uuid: spec.luks_uuid.as_ref().map(|uuid| uuid.as_str().to_owned()),
        hint: disk.and_then(|(disk, place)| hint(disk, place)),
        key_file: mount.key_file.clone(),
        filesystem: mount.filesystem.map(|filesystem| filesystem.as_str().to_owned()),
        options: mount.options.words().to_vec(),
        mapping: format!("mydisks-{}", mount.name),
        deadline,
    })
}

/// What udev believes to be on the place.
fn hint(disk: &Disk, place: Found) -> Option<String> {
    let of_partition =
        |number: u32| disk.partitions.iter().find(|part| part.number == number).map(|part| &part.node);
    match place {
        Found::Partition(number) => of_partition(number)?.content.fs_type.clone(),
        Found::Whole => disk.node.content.fs_type.clone(),
        Found::Undecided => disk.node.content.fs_type.clone().or_else(|| {
            let mut with = disk.partitions.iter().filter_map(|part| part.node.content.fs_type.as_ref());
            with.next().filter(|_| with.next().is_none()).cloned()
        }),
    }
}

fn ambiguous(spec: &DiskSpec, disks: &[&Disk]) -> DiskError {
    let nodes: Vec<_> = disks.iter().map(|disk| disk.node.devnode.display().to_string()).collect();
    let message = format!(
        "{} attached disks claim {spec} ({}): pull one, or tell them apart with uuid, partuuid or luks-uuid",
        disks.len(),
        nodes.join(", ")
    );
    DiskError::new(ErrorKind::Ambiguous, message)
}

pub(super) fn taken(disk: &Disk) -> DiskError {
    let message = format!("{} is in use by another mount", disk.node.devnode.display());
    DiskError::new(ErrorKind::Busy, message)
}

fn absent(mount: &Mount) -> DiskError {
    let names: Vec<_> = mount.disks.iter().map(ToString::to_string).collect();
    let message = match names.as_slice() {
        [one] => format!("{one} is not attached"),
        several => format!("none of its disks is attached: {}", several.join(", ")),
    };
    DiskError::new(ErrorKind::Absent, message)
}
