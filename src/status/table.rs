//! Tables for people.

use super::json::{guest_device_state, guest_state};
use super::{mount_state, rfc3339};
use crate::core::{DeviceStatus, GuestStatus, MountStatus, Snapshot};

/// `summary`: every mount and guest in one line, and its error below it.
pub fn summary(snapshot: &Snapshot) -> String {
    let mut text = Table::new(&["MOUNT", "STATE", "DEVICE", "ID", "FILESYSTEM", "SINCE"]);
    for mount in &snapshot.mounts {
        text.row(mount_row(mount));
        if !mount.waiting.is_empty() {
            text.note(Some(&format!("waiting: {}", mount.waiting.join(", "))));
        }
        text.note(mount.error.as_deref());
    }
    let mut text = text.to_string();
    if !snapshot.guests.is_empty() {
        text.push('\n');
        text.push_str(&guests(&snapshot.guests));
    }
    text
}

fn mount_row(mount: &MountStatus) -> Vec<String> {
    let locked = if mount.encrypted == Some(true) { " (LUKS)" } else { "" };
    let leaving = if mount.leaving { ", leaving" } else { "" };
    let read_only = if mount.read_only == Some(true) { ", read-only" } else { "" };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        mount.name.clone(),
        format!("{}{leaving}", mount_state(mount.state)),
        format!("{}{locked}", or_dash(&mount.device)),
        or_dash(&mount.id),
        format!("{}{read_only}", or_dash(&mount.filesystem)),
        mount.since.map_or_else(|| "-".to_owned(), rfc3339),
    ]
}

fn guests(guests: &[GuestStatus]) -> String {
    let mut table = Table::new(&["GUEST", "STATE", "DEVICE", "KIND", "STATE", "PLACE", "TARGET"]);
    for guest in guests {
        let head = || vec![guest.name.clone(), guest_state(guest.state).to_owned()];
        if guest.devices.is_empty() {
            table.row(head());
        }
        for device in &guest.devices {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let state = guest_device_state(device.state).to_owned();
            let (place, target) = (or_dash(&device.device), or_dash(&device.target));
            let own = [device.id.clone(), device.kind.to_owned(), state, place, target];
            table.row(head().into_iter().chain(own).collect());
            table.note(device.error.as_deref().filter(|error| guest.error.as_deref() != Some(error)));
        }
        table.note(guest.error.as_deref());
    }
    table.to_string()
}

/// What is plugged in, whose it is, and the config fragments that would name it.
pub fn devices(devices: &[DeviceStatus]) -> String {
    let mut table = Table::new(&["DEVICE", "KIND", "SIZE", "NAME", "FOR"]);
    for device in devices {
        let size = device.size.map_or_else(|| "-".to_owned(), size);
        let owners = if device.owners.is_empty() { "-".to_owned() } else { device.owners.join(", ") };
        let name = device.name.clone().unwrap_or_else(|| "-".to_owned());
        table.row(vec![device.device.clone(), device.kind.to_owned(), size, name, owners]);
        for id in &device.ids {
            table.note(Some(id));
        }
    }
    table.to_string()
}

/// Bytes in the unit that leaves three digits, as makers of disks count (powers of ten).
fn size(bytes: u64) -> String {
    let mut value = bytes;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 10_000 {
            return format!("{value} {unit}");
        }
        value /= 1000;
    }
    format!("{value} PB")
}

/// Columns as wide as their widest cell, two spaces between, and notes that are indented.
struct Table {
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<String>),
    Note(String),
}

impl Table {
    fn new(head: &[&str]) -> Self {
        Self { rows: vec![Row::Cells(head.iter().map(|&word| word.to_owned()).collect())] }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(Row::Cells(cells));
    }

    fn note(&mut self, note: Option<&str>) {
        self.rows.extend(note.map(|note| Row::Note(note.to_owned())));
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            match row {
                Row::Note(note) => writeln!(out, "  {note}")?,
                Row::Cells(cells) => {
                    let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
                    writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
                }
            }
        }
        Ok(())
    }
}
