//! `metrics`, in the Prometheus text exposition format, version 0.0.4.

use std::fmt::Write;

use super::mount_state;
use crate::core::{MountState, Snapshot};

const STATES: [MountState; 5] =
    [MountState::Absent, MountState::Ready, MountState::Unlocking, MountState::Mounted, MountState::Failed];

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
    head(&mut text, "mydisks_triggers_total", "counter", "Accesses that found nothing mounted.");
    line(&mut text, format_args!("mydisks_triggers_total {}", snapshot.triggers));
    head(&mut text, "mydisks_devices", "gauge", "Devices that are plugged in.");
    for kind in ["disk", "usb"] {
        let count = snapshot.devices.iter().filter(|device| device.kind == kind).count();
        line(&mut text, format_args!("mydisks_devices{{kind=\"{kind}\"}} {count}"));
    }
    text
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
