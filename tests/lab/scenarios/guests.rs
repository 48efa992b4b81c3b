//! Devices of libvirt's guests, from the plug to the live XML and back: with libvirtd and QEMU.

mod by_hand;
mod disks;
mod hangs;
mod life;
mod restart;
mod saved;
mod usb;

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use serde_json::Value;

use super::facts::guests as fact;
use super::{Scenario, scenarios};
use crate::Outcome;
use crate::daemon::MOUNTPOINT;
use crate::disks::Recipe;
use crate::gadget::{Claims, Gadget};
use crate::hypervisor::{self, LONG, live};
use crate::lab::Lab;
use crate::qmp::Plugged;
use crate::wait;

/// What becomes of devices and guests.
pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    usb::device_goes_to_its_guest_when_it_is_plugged_in_and_leaves_when_it_is_pulled,
    usb::twins_go_each_to_the_guest_of_its_serial,
    usb::whatever_is_in_a_port_goes_to_its_guest,
    usb::device_that_is_replugged_ten_times_fast_ends_attached,
    usb::device_with_a_disk_that_the_host_uses_stays_there,
    by_hand::what_is_detached_by_hand_stays_away_until_it_is_plugged_in_again,
    disks::disks_go_to_virtio_scsi_and_usb,
    disks::pulled_disk_is_released_and_comes_back,
    disks::guest_that_never_releases_a_disk_is_told_of_and_the_replugged_one_waits,
    disks::disk_that_is_mounted_on_the_host_is_refused_until_it_is_unmounted,
    disks::disk_that_another_guest_has_is_refused,
    disks::disk_that_a_guest_has_is_not_mounted_until_it_is_given_back,
    life::without_guests_libvirt_is_not_loaded,
    life::guest_that_starts_after_the_plug_gets_its_devices,
    life::guest_that_is_rebooted_destroyed_or_saved_ends_with_its_devices,
    life::killed_libvirtd_is_found_again_and_what_was_plugged_meanwhile_is_attached,
    hangs::stopped_libvirtd_delays_no_mount_and_no_status,
    hangs::frozen_guest_delays_no_mount_and_no_other_guest,
    restart::disk_that_is_on_its_way_to_a_frozen_guest_when_the_daemon_is_killed_is_not_mounted,
];

/// The same, and not in the time of `make test`.
pub(crate) const SLOW: &[Scenario] = scenarios![
    usb::behind_a_hub_each_device_goes_by_its_most_specific_entry_and_the_hub_stays,
    by_hand::unlisted_device_is_attached_to_a_named_guest_by_each_of_its_names,
    life::guest_that_is_defined_late_undefined_renamed_or_killed_ends_with_its_devices,
    life::process_that_attaches_disks_is_replaced_when_it_is_killed,
    restart::disk_that_a_guest_has_is_not_mounted_while_libvirt_does_not_answer,
    disks::disk_without_a_free_port_or_target_waits_and_says_so,
    saved::guest_that_was_saved_is_restored_without_the_device_that_was_pulled,
    saved::guest_that_was_saved_is_restored_with_the_devices_that_are_plugged_in_by_then,
];

/// What libvirt and QEMU do: to be run with each new version of them.
pub(crate) const FACTS: &[Scenario] = scenarios![
    fact::success_of_a_detach_is_no_proof,
    fact::detach_by_alias_is_granted_by_a_guest_that_listens,
    fact::twins_are_refused_by_vendor_and_product,
    fact::policy_attaches_what_is_not_there_and_says_so,
    fact::saved_guest_is_restored_without_its_usb_device_by_policy_only,
    fact::saved_guest_is_not_restored_without_its_disk,
    fact::pulled_usb_device_stays_in_the_live_xml,
    fact::node_of_a_pulled_disk_refuses_the_next_one,
    fact::one_disk_goes_to_two_guests_and_the_host_unhindered,
    fact::live_xml_of_a_frozen_guest_is_read_while_an_attach_hangs,
];

fn config(tables: &str) -> String {
    format!("mountpoint = {MOUNTPOINT:?}\n{tables}\n")
}

/// Makes a disk and plugs it in.
fn plug_new(lab: &mut Lab, recipe: &Recipe, serial: &str) -> Outcome<Plugged> {
    let backing = lab.disk(recipe)?;
    lab.plug(&backing, serial)
}

/// Gives a disk to a guest without the program under test.
fn give_by_virsh(guest: &str, disk: &Plugged, target: &str) -> Outcome {
    let xml = format!(
        "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{}'/>\
         <target dev='{target}' bus='usb'/></disk>",
        disk.devnode.display()
    );
    let attached = hypervisor::attach(guest, &xml)?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    Ok(())
}

/// Enters a mount.
fn enter(mount: &str) -> Result<(), Errno> {
    let entered = fs::read_dir(Path::new(MOUNTPOINT).join(mount));
    entered.map(drop).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The objects of a guest's devices in `status.json` whose id has this in it. What is pulled and not yet released has
/// one, beside that of the line of the config.
fn devices_of(guest: &str, id: &str) -> Outcome<Vec<Value>> {
    let guest = guest_of(guest)?;
    let mut devices = guest["devices"].as_array().ok_or("a guest has no devices")?.clone();
    devices.retain(|device| device["id"].as_str().is_some_and(|text| text.contains(id)));
    Ok(devices)
}

fn guest_of(name: &str) -> Outcome<Value> {
    status_of("guests", name)
}

fn status_of(list: &str, name: &str) -> Outcome<Value> {
    let status: Value =
        serde_json::from_slice(&fs::read(Path::new(MOUNTPOINT).join(".status/status.json"))?)?;
    let entries = status[list].as_array().ok_or_else(|| format!("status.json has no {list}"))?;
    let found = entries.iter().find(|entry| entry["name"] == name);
    Ok(found.ok_or_else(|| format!("{name} is not in status.json"))?.clone())
}

/// The reason that status gives for a mount.
fn status_error(mount: &str) -> Outcome<String> {
    Ok(status_of("mounts", mount)?["error"].as_str().unwrap_or_default().to_owned())
}

fn wait_until_running(guest: &str) -> Outcome {
    wait::until_true(&format!("{guest} to be known"), LONG, || {
        guest_of(guest).is_ok_and(|guest| guest["state"] == "running")
    })
}

/// Waits for what status says of a guest's device.
fn wait_for(guest: &str, id: &str, state: &str) -> Outcome<Value> {
    wait_until(guest, id, state, |device| device["state"] == state)
}

/// Waits for a reason that status gives for a guest's device.
fn wait_for_reason(guest: &str, id: &str, reason: &str) -> Outcome<Value> {
    wait_until(guest, id, reason, |device| {
        device["error"].as_str().is_some_and(|error| error.contains(reason))
    })
}

fn wait_until(guest: &str, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Outcome<Value> {
    let mut last = Vec::new();
    let found = wait::until(&format!("{id} of {guest}: {what}"), LONG, || {
        last = devices_of(guest, id).unwrap_or_default();
        last.iter().find(|device| holds(device)).cloned()
    });
    found.map_err(|error| format!("{error}; there are {last:?}").into())
}

/// How many devices of ours a guest has, by its live XML.
fn ours(guest: &str) -> usize {
    live(guest).map_or(0, |xml| xml.matches("alias name='ua-mydisks-").count())
}

fn wait_for_ours(guest: &str, count: usize) -> Outcome {
    wait::until_true(&format!("{guest} to have {count} devices of ours"), LONG, || ours(guest) == count)
}

/// A USB device that is no disk.
fn line(controller: u32, product: u16, serial: &str) -> Outcome<Gadget> {
    let claims = Claims {
        vendor: 0x1209,
        product,
        manufacturer: "lab".into(),
        model: "line".into(),
        serial: serial.into(),
    };
    Gadget::serial_line(&format!("line{controller}"), controller, &claims)
}

/// Where in /sys/bus/usb/devices the device with this serial is.
fn port_of(serial: &str) -> Option<String> {
    fs::read_dir("/sys/bus/usb/devices").ok()?.flatten().find_map(|entry| {
        let read = fs::read_to_string(entry.path().join("serial")).ok()?;
        (read.trim() == serial).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}
