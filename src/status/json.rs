//! `status.json`, and the words that it shares with the table.

use serde::Serialize;

use super::{mount_state, rfc3339};
use crate::core::{DeviceStatus, GuestDeviceState, GuestState, GuestStatus, MountStatus, Snapshot};

/// The version of the form: raised when something is taken away or changes its meaning.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    mounts: Vec<Mount<'a>>,
    guests: Vec<Guest<'a>>,
    devices: Vec<Device<'a>>,
}

#[derive(Serialize)]
struct Mount<'a> {
    name: &'a str,
    state: &'static str,
    device: Option<&'a str>,
    id: Option<&'a str>,
    encrypted: Option<bool>,
    filesystem: Option<&'a str>,
    read_only: Option<bool>,
    waiting: &'a [String],
    since: Option<String>,
    error: Option<&'a str>,
    leaving: bool,
}

#[derive(Serialize)]
struct Guest<'a> {
    name: &'a str,
    state: &'static str,
    error: Option<&'a str>,
    devices: Vec<GuestDevice<'a>>,
}

#[derive(Serialize)]
struct GuestDevice<'a> {
    id: &'a str,
    kind: &'static str,
    state: &'static str,
    device: Option<&'a str>,
    target: Option<&'a str>,
    alias: Option<&'a str>,
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Device<'a> {
    kind: &'static str,
    device: &'a str,
    name: Option<&'a str>,
    size: Option<u64>,
    ids: &'a [String],
}

/// `status.json`: one document, a newline at its end.
pub fn json(snapshot: &Snapshot) -> String {
    let unclaimed = |device: &&DeviceStatus| device.owners.is_empty();
    let document = Document {
        version: VERSION,
        mounts: snapshot.mounts.iter().map(mount).collect(),
        guests: snapshot.guests.iter().map(guest).collect(),
        devices: snapshot.devices.iter().filter(unclaimed).map(device).collect(),
    };
    // Strings and numbers only: there is nothing in it that serde_json refuses.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn mount(mount: &MountStatus) -> Mount<'_> {
    Mount {
        name: &mount.name,
        state: mount_state(mount.state),
        device: mount.device.as_deref(),
        id: mount.id.as_deref(),
        encrypted: mount.encrypted,
        filesystem: mount.filesystem.as_deref(),
        read_only: mount.read_only,
        waiting: &mount.waiting,
        since: mount.since.map(rfc3339),
        error: mount.error.as_deref(),
        leaving: mount.leaving,
    }
}

fn guest(guest: &GuestStatus) -> Guest<'_> {
    let devices = guest.devices.iter().map(|device| GuestDevice {
        id: &device.id,
        kind: device.kind,
        state: guest_device_state(device.state),
        device: device.device.as_deref(),
        target: device.target.as_deref(),
        alias: device.alias.as_deref(),
        error: device.error.as_deref(),
    });
    let (name, state, error) = (&guest.name, guest_state(guest.state), guest.error.as_deref());
    Guest { name, state, error, devices: devices.collect() }
}

fn device(device: &DeviceStatus) -> Device<'_> {
    Device {
        kind: device.kind,
        device: &device.device,
        name: device.name.as_deref(),
        size: device.size,
        ids: &device.ids,
    }
}

pub(super) fn guest_state(state: GuestState) -> &'static str {
    match state {
        GuestState::Running => "running",
        GuestState::Off => "off",
        GuestState::Unreachable => "unreachable",
    }
}

pub(super) fn guest_device_state(state: GuestDeviceState) -> &'static str {
    match state {
        GuestDeviceState::Absent => "absent",
        GuestDeviceState::Attaching => "attaching",
        GuestDeviceState::Attached => "attached",
        GuestDeviceState::Detaching => "detaching",
        GuestDeviceState::Waiting => "waiting",
        GuestDeviceState::Failed => "failed",
    }
}
