//! One line of the old list.

use super::super::source::quoted;
use super::Note;
use crate::device::{DiskId, GuestName, MountName, PortPath, UsbId};

/// What a line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Device {
    Usb(UsbId),
    Port(PortPath),
    Disk { id: DiskId, partition: Option<u32> },
}

/// What it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Mount(MountName),
    Guest(GuestName),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) device: Device,
    pub(super) owner: Owner,
    pub(super) target: Option<String>,
}

impl Device {
    /// The word that stands for it in a message.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Usb(id) => id.to_string(),
            Self::Port(port) => port.to_string(),
            Self::Disk { id, .. } => id.to_string(),
        }
    }

    /// The TOML value, without a target.
    pub(super) fn value(&self) -> String {
        match self {
            Self::Usb(id) => string(&id.to_string()),
            Self::Port(port) => format!("{{ port = {} }}", string(port.as_str())),
            Self::Disk { id, partition: None } => string(id.as_str()),
            Self::Disk { id, partition: Some(number) } => {
                format!("{{ id = {}, partition = {number} }}", string(id.as_str()))
            }
        }
    }
}

/// A TOML string.
pub(super) fn string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// `None`: blank, or only a comment.
pub(super) fn read(line: usize, text: &str, notes: &mut Vec<Note>) -> Result<Option<Entry>, String> {
    let words: Vec<&str> = text.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
    let (device, owner, target) = match *words.as_slice() {
        [] => return Ok(None),
        [_] => return Err("names a device and not what it is for".to_owned()),
        [device, owner] => (device, owner, None),
        [device, owner, target] => (device, owner, Some(target)),
        _ => {
            return Err(format!(
                "has {} words; a device, what it is for, and a target are three",
                words.len()
            ));
        }
    };
    let mut note = |text: String| notes.push(Note { line, text });
    let usb = device
        .strip_prefix("usb-")
        .and_then(|rest| rest.parse().map(Device::Usb).or_else(|_| rest.parse().map(Device::Port)).ok());
    if let Some(device) = usb {
        if let Some(target) = target {
            note(format!("left out the target {}: a USB device has none", quoted(target)));
        }
        return Ok(Some(Entry { line, device, owner: Owner::Guest(guest(owner)?), target: None }));
    }
    let (id, partition) = with_partition(device);
    let id: DiskId = id.parse().map_err(|error| format!("{} {error}", quoted(id)))?;
    let Some(target) = target else {
        let name = owner.parse().map_err(|error| format!("the name {} {error}", quoted(owner)))?;
        return Ok(Some(Entry {
            line,
            device: Device::Disk { id, partition },
            owner: Owner::Mount(name),
            target: None,
        }));
    };
    let owner = Owner::Guest(guest(owner)?);
    if !target.bytes().all(|byte| byte.is_ascii_lowercase()) || target.len() > 5 {
        return Err(format!("{} is no target like vdb", quoted(target)));
    }
    if partition.is_some() {
        note(format!("left out {}: a guest gets whole disks, not partitions", quoted(device)));
        return Ok(None);
    }
    let hot = ["vd", "sd"]
        .iter()
        .any(|bus| target.strip_prefix(bus).is_some_and(|letters| (1..=2).contains(&letters.len())));
    if !hot {
        note(format!(
            "left out the target {}: no disk can be plugged in there while a guest runs; it gets the next free one",
            quoted(target)
        ));
    }
    let target = hot.then(|| target.to_owned());
    Ok(Some(Entry { line, device: Device::Disk { id, partition: None }, owner, target }))
}

fn guest(name: &str) -> Result<GuestName, String> {
    name.parse().map_err(|error| format!("the guest's name {} {error}", quoted(name)))
}

/// `WDC_1-part2` is the second partition of `WDC_1`.
fn with_partition(device: &str) -> (&str, Option<u32>) {
    let parts = device.rsplit_once("-part").filter(|(id, _)| !id.is_empty());
    let number = parts.and_then(|(id, number)| {
        let number: u32 = number.parse().ok().filter(|_| !number.starts_with(['0', '+']))?;
        (1..=255).contains(&number).then_some((id, Some(number)))
    });
    number.unwrap_or((device, None))
}
