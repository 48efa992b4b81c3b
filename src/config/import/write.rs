//! The entries of a list as a configuration.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Note;
use super::line::{Device, Entry, Owner, string};

const HEAD: &str = "\
# Made by `mydisks import` from an old list. What the list could not say: a mount of an encrypted disk
# needs its key-file = \"…\"; filesystem and options are probed and \"nosuid,nodev\" unless given.
";

/// The configuration, and for each of its lines that holds a device the line of the list that it is from.
pub(super) fn toml(entries: &[Entry], notes: &[Note]) -> (String, BTreeMap<usize, usize>) {
    let mut text = HEAD.to_owned();
    let mut notes: Vec<&Note> = notes.iter().collect();
    notes.sort_by_key(|note| note.line);
    for note in notes {
        // Writing to a String does not fail.
        let _ = writeln!(text, "# {note}");
    }
    let mut owners: Vec<&Owner> = Vec::new();
    for entry in entries {
        if !owners.contains(&&entry.owner) {
            owners.push(&entry.owner);
        }
    }
    // Tables of one kind stand together, in the order of the list.
    owners.sort_by_key(|owner| matches!(owner, Owner::Guest(_)));
    let mut lines = BTreeMap::new();
    for owner in owners {
        let own = || entries.iter().filter(|entry| entry.owner == *owner);
        let _ = match owner {
            Owner::Mount(name) => writeln!(text, "\n[mounts.{}]", key(name.as_str())),
            Owner::Guest(name) => writeln!(text, "\n[guests.{}]", key(name.as_str())),
        };
        list(&mut text, &mut lines, "usb", own().filter(|entry| !is_disk(entry)));
        list(&mut text, &mut lines, "disks", own().filter(|entry| is_disk(entry)));
    }
    (text, lines)
}

fn is_disk(entry: &Entry) -> bool {
    matches!(entry.device, Device::Disk { .. })
}

fn list<'a>(
    text: &mut String,
    lines: &mut BTreeMap<usize, usize>,
    name: &str,
    entries: impl Iterator<Item = &'a Entry>,
) {
    let entries: Vec<&Entry> = entries.collect();
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "{name} = [");
    for entry in entries {
        lines.insert(text.matches('\n').count() + 1, entry.line);
        let _ = writeln!(text, "    {},", value(entry));
    }
    text.push_str("]\n");
}

fn value(entry: &Entry) -> String {
    match (&entry.device, &entry.target) {
        (Device::Disk { id, .. }, Some(target)) => {
            format!("{{ id = {}, target = {} }}", string(id.as_str()), string(target))
        }
        (device, _) => device.value(),
    }
}

/// A key of a table, in quotes if it has to be.
fn key(name: &str) -> String {
    let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_bare { name.to_owned() } else { string(name) }
}
