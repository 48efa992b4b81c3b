//! /proc/self/mountinfo and the device mapper as they are now: what is mounted, what is unlocked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// One line of mountinfo, as far as scenarios ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) device: String,
    pub(crate) point: PathBuf,
    pub(crate) options: String,
    pub(crate) filesystem: String,
    pub(crate) source: String,
}

/// All mounts, lowest first.
pub(crate) fn all() -> Outcome<Vec<Mount>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().filter_map(parse).collect())
}

/// What is mounted exactly there, uppermost last.
pub(crate) fn at(point: &Path) -> Outcome<Vec<Mount>> {
    Ok(all()?.into_iter().filter(|mount| mount.point == point).collect())
}

/// Names of the device mapper's mappings.
pub(crate) fn mappings() -> Vec<String> {
    block_devices("dm-", "dm/name")
}

/// Files behind loop devices.
pub(crate) fn loops() -> Vec<String> {
    block_devices("loop", "loop/backing_file")
}

/// Names of the disks on USB.
pub(crate) fn sticks() -> Vec<String> {
    block_devices("sd", "dev")
}

fn block_devices(prefix: &str, attribute: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .filter_map(|entry| fs::read_to_string(entry.path().join(attribute)).ok())
        .map(|text| text.trim_end().to_owned())
        .collect()
}

fn parse(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let before: Vec<&str> = before.split(' ').collect();
    let after: Vec<&str> = after.split(' ').collect();
    Some(Mount {
        device: (*before.get(2)?).to_owned(),
        point: unescape(before.get(4)?).into(),
        options: (*before.get(5)?).to_owned(),
        filesystem: (*after.first()?).to_owned(),
        source: unescape(after.get(1)?),
    })
}

fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
