//! `metrics`, in the Prometheus text exposition format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::json::{guest_device_state, guest_state};
use super::mount_state;
use crate::core::{GuestDeviceState, GuestState, GuestStatus, MountState, Snapshot};

const STATES: [MountState; 5] =
    [MountState::Absent, MountState::Ready, MountState::Unlocking, MountState::Mounted, MountState::Failed];

const GUEST_STATES: [GuestState; 3] = [GuestState::Running, GuestState::Off, GuestState::Unreachable];

const GUEST_DEVICE_STATES: [GuestDeviceState; 6] = [
    GuestDeviceState::Absent,
    GuestDeviceState::Attaching,
    GuestDeviceState::Attached,
    GuestDeviceState::Detaching,
    GuestDeviceState::Waiting,
    GuestDeviceState::Failed,
];

/// All metrics. Of each mount one state is 1, the others are 0.
pub fn metrics(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    head(&mut text, "mydisks_mount_state", "gauge", "Whether the mount is in this state.");
    for mount in &snapshot.mounts {
        for state in STATES {
            let (name, word, is) = (label(&mount.name), mount_state(state), u8::from(mount.state == state));
            line(&mut text, format_args!("mydisks_mount_state{{mount=\"{name}\",state=\"{word}\"}} {is}"));
        }
    }
    guests(&mut text, &snapshot.guests);
    head(&mut text, "mydisks_triggers_total", "counter", "Accesses that found nothing mounted.");
    line(&mut text, format_args!("mydisks_triggers_total {}", snapshot.triggers));
    head(&mut text, "mydisks_devices", "gauge", "Devices that are plugged in.");
    for kind in ["disk", "usb"] {
        let count = snapshot.devices.iter().filter(|device| device.kind == kind).count();
        line(&mut text, format_args!("mydisks_devices{{kind=\"{kind}\"}} {count}"));
    }
    text
}

fn guests(text: &mut String, guests: &[GuestStatus]) {
    head(text, "mydisks_guest_state", "gauge", "Whether the guest is in this state.");
    for guest in guests {
        for state in GUEST_STATES {
            let (name, word, is) = (label(&guest.name), guest_state(state), u8::from(guest.state == state));
            line(text, format_args!("mydisks_guest_state{{guest=\"{name}\",state=\"{word}\"}} {is}"));
        }
    }
    let help = "How many devices of this entry of the guest are in this state.";
    head(text, "mydisks_guest_device_state", "gauge", help);
    for guest in guests {
        // Several devices may go by one id: twins, and what is behind one port.
        let mut entries: BTreeMap<(&str, &str), Vec<GuestDeviceState>> = BTreeMap::new();
        for device in &guest.devices {
            entries.entry((device.kind, &device.id)).or_default().push(device.state);
        }
        for ((kind, id), states) in entries {
            let labels = format!("guest=\"{}\",kind=\"{kind}\",id=\"{}\"", label(&guest.name), label(id));
            for state in GUEST_DEVICE_STATES {
                let count = states.iter().filter(|own| **own == state).count();
                let word = guest_device_state(state);
                line(text, format_args!("mydisks_guest_device_state{{{labels},state=\"{word}\"}} {count}"));
            }
        }
    }
}

fn head(text: &mut String, metric: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {metric} {help}\n# TYPE {metric} {kind}"));
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{what}");
}

fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
