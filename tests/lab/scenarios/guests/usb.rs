//! USB devices that are no disks.

use std::fs;

use super::{config, line, ours, wait_for, wait_for_ours};
use crate::Outcome;
use crate::hypervisor::{self, Kind, live, persistent};
use crate::lab::Lab;
use crate::wait::{self, PATIENCE};

pub(in super::super) fn device_goes_to_its_guest_when_it_is_plugged_in_and_leaves_when_it_is_pulled(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let before = persistent("guest1")?;
    lab.start(&config("[guests.guest1]\nusb = [\"1209:0001\"]"))?;
    wait_for("guest1", "1209:0001", "absent")?;
    let gadget = line(0, 1, "A")?;
    wait_for("guest1", "1209:0001", "attached")?;
    assert_eq!(ours("guest1"), 1, "{}", live("guest1")?);
    drop(gadget);
    wait_for_ours("guest1", 0)?;
    wait_for("guest1", "1209:0001", "absent")?;
    let _again = line(0, 1, "A")?;
    wait_for("guest1", "1209:0001", "attached")?;
    assert_eq!(persistent("guest1")?, before, "the persistent configuration is untouched");
    Ok(())
}

pub(in super::super) fn twins_go_each_to_the_guest_of_its_serial(lab: &mut Lab) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    hypervisor::boot("guest2", Kind::Silent)?;
    let _twins = [line(0, 1, "ONE")?, line(1, 1, "TWO")?];
    lab.start(&config(
        "[guests.guest1]\nusb = [{ id = \"1209:0001\", serial = \"ONE\" }]\n\
         [guests.guest2]\nusb = [{ id = \"1209:0001\", serial = \"TWO\" }]",
    ))?;
    for (guest, serial) in [("guest1", "ONE"), ("guest2", "TWO")] {
        wait_for_ours(guest, 1)?;
        let (bus, address) = place(serial)?;
        assert!(
            live(guest)?.contains(&format!("<address bus='{bus}' device='{address}'/>")),
            "{}",
            live(guest)?
        );
    }
    Ok(())
}

pub(in super::super) fn whatever_is_in_a_port_goes_to_its_guest(lab: &mut Lab) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let first = line(0, 1, "PORT")?;
    let port = wait::until("the port of the device", PATIENCE, || port_of("PORT"))?;
    lab.start(&config(&format!("[guests.guest1]\nusb = [{{ port = {port:?} }}]")))?;
    wait_for_ours("guest1", 1)?;
    drop(first);
    wait_for_ours("guest1", 0)?;
    let _other = line(0, 7, "PORT")?;
    wait_for_ours("guest1", 1)
}

pub(in super::super) fn device_that_is_replugged_ten_times_fast_ends_attached(lab: &mut Lab) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    lab.start(&config("[guests.guest1]\nusb = [\"1209:0001\"]"))?;
    for _ in 0..10 {
        let gadget = line(0, 1, "FAST")?;
        wait::until_true("the device to appear", PATIENCE, || port_of("FAST").is_some())?;
        drop(gadget);
        wait::until_true("the device to be gone", PATIENCE, || port_of("FAST").is_none())?;
    }
    let _last = line(0, 1, "FAST")?;
    wait_for("guest1", "1209:0001", "attached")?;
    wait_for_ours("guest1", 1)?;
    let (bus, address) = place("FAST")?;
    assert!(
        live("guest1")?.contains(&format!("<address bus='{bus}' device='{address}'/>")),
        "{}",
        live("guest1")?
    );
    Ok(())
}

/// Where in /sys/bus/usb/devices the device with this serial is.
fn port_of(serial: &str) -> Option<String> {
    fs::read_dir("/sys/bus/usb/devices").ok()?.flatten().find_map(|entry| {
        let read = fs::read_to_string(entry.path().join("serial")).ok()?;
        (read.trim() == serial).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

fn place(serial: &str) -> Outcome<(u16, u16)> {
    let port = port_of(serial).ok_or("the device is not there")?;
    let number = |name: &str| -> Outcome<u16> {
        Ok(fs::read_to_string(format!("/sys/bus/usb/devices/{port}/{name}"))?.trim().parse()?)
    };
    Ok((number("busnum")?, number("devnum")?))
}
