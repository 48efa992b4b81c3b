//! USB devices, by model, serial and port.

use std::fs;
use std::path::Path;

use super::{config, enter, line, ours, plug_new, port_of, wait_for, wait_for_ours, wait_for_reason};
use crate::Outcome;
use crate::daemon::BINARY;
use crate::disks::{Filesystem, Recipe};
use crate::hypervisor::{self, Kind, live, persistent};
use crate::lab::Lab;
use crate::program::Program;
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

pub(in super::super) fn behind_a_hub_each_device_goes_by_its_most_specific_entry_and_the_hub_stays(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    hypervisor::boot("guest2", Kind::Silent)?;
    lab.plug_hub()?;
    // All of one model: what they are for is told by the serial and the port alone.
    let near = lab.plug_pointer(Some(1), "NEAR")?;
    lab.plug_pointer(Some(2), "PORT")?;
    lab.plug_pointer(Some(3), "SERIAL")?;
    let behind = |serial: &str| wait::until("a device behind the hub", PATIENCE, || port_of(serial));
    let (first, second) = (behind("NEAR")?, behind("PORT")?);
    let (port, _) = first.rsplit_once('.').ok_or_else(|| format!("{first} is behind no hub"))?;
    lab.start(&config(&format!(
        "[guests.guest1]\nusb = [{{ port = {port:?} }}, {{ id = \"0627:0001\", serial = \"SERIAL\" }}]\n\
         [guests.guest2]\nusb = [{{ port = {second:?} }}, \"0627:0001\"]"
    )))?;
    // In that order: the serial is first, so that port and model could have it as well.
    has("guest1", "SERIAL")?;
    has("guest1", "NEAR")?;
    has("guest2", "PORT")?;
    lab.plug_pointer(Some(4), "LATER")?;
    has("guest1", "LATER")?;
    // On the machine's own port there is the model only.
    lab.plug_pointer(None, "MODEL")?;
    has("guest2", "MODEL")?;
    lab.pull_usb(&near)?;
    wait_for_ours("guest1", 2)?;
    wait_for_ours("guest2", 2)?;
    let hub = port_address(port)?;
    for guest in ["guest1", "guest2"] {
        assert!(!live(guest)?.contains(&hub), "{guest} has the hub: {}", live(guest)?);
    }
    Ok(())
}

/// A device with a disk is one device: it stays where one of its disks is in use.
pub(in super::super) fn device_with_a_disk_that_the_host_uses_stays_there(lab: &mut Lab) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let place = Path::new("/mnt/lab-held");
    fs::create_dir_all(place)?;
    for serial in ["CONFIGURED", "BYHAND"] {
        let disk = plug_new(lab, &Recipe::plain(Filesystem::Ext4), serial)?;
        if serial == "BYHAND" {
            Program::new("mount").arg(&disk.devnode).arg(place).ok()?;
        }
    }
    lab.start(&config("[mounts.backup]\ndisks = [\"CONFIGURED\"]\n[guests.guest1]\nusb = [\"46f4:0001\"]"))?;
    enter("backup")?;
    wait_for_reason("guest1", "46f4:0001", "is mounted at /mnt/lab-held")?;
    wait_for_reason("guest1", "46f4:0001", "the mount backup has")?;
    assert_eq!(ours("guest1"), 0);
    // What is configured for a mount is so while it is not mounted, too.
    Program::new(BINARY).args(["umount", "backup"]).ok()?;
    wait_for_reason("guest1", "46f4:0001", "is for the mount backup")?;
    Program::new("umount").arg(place).ok()?;
    has("guest1", "BYHAND")?;
    enter("backup")?;
    assert_eq!(ours("guest1"), 1);
    Ok(())
}

/// Waits until a guest has the device with this serial, by its place on the bus.
pub(super) fn has(guest: &str, serial: &str) -> Outcome {
    let (bus, address) = wait::until("the device", PATIENCE, || place(serial).ok())?;
    hypervisor::wait_until_live(guest, &format!("<address bus='{bus}' device='{address}'/>"), true)
}

fn place(serial: &str) -> Outcome<(u16, u16)> {
    let port = port_of(serial).ok_or("the device is not there")?;
    place_of(&port)
}

fn place_of(port: &str) -> Outcome<(u16, u16)> {
    let number = |name: &str| -> Outcome<u16> {
        Ok(fs::read_to_string(format!("/sys/bus/usb/devices/{port}/{name}"))?.trim().parse()?)
    };
    Ok((number("busnum")?, number("devnum")?))
}

fn port_address(port: &str) -> Outcome<String> {
    let (bus, address) = place_of(port)?;
    Ok(format!("<address bus='{bus}' device='{address}'/>"))
}
