//! Guests that are saved with devices, and restored when these are no longer what they were.

use super::{config, line, usb, wait_for, wait_for_ours};
use crate::Outcome;
use crate::disks::Recipe;
use crate::hypervisor::{self, Kind, try_virsh, virsh, wait_until_live};
use crate::lab::Lab;

const USB: &str = "1209:0001";

/// Each is plugged in again meanwhile: the USB device has another address then, and the disk is another plug.
pub(in super::super) fn guest_that_was_saved_is_restored_with_the_devices_that_are_plugged_in_by_then(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let mut gadget = line(0, 1, "SAVED")?;
    let backing = lab.disk(&Recipe::empty())?;
    let mut disk = lab.plug(&backing, "DISK")?;
    lab.start(&config(&format!(
        "[guests.guest1]\nusb = [{USB:?}]\ndisks = [{{ id = \"DISK\", target = \"sdb\" }}]"
    )))?;
    wait_for_ours("guest1", 2)?;
    let file = "/dev/shm/lab-guests/saved";
    for (save, restore) in [
        (["managedsave", "guest1"].as_slice(), ["start", "guest1"].as_slice()),
        (&["save", "guest1", file], &["restore", file]),
    ] {
        virsh(save.iter().copied())?;
        drop(gadget);
        lab.pull(&disk)?;
        wait_for("guest1", USB, "absent")?;
        wait_for("guest1", "DISK", "absent")?;
        gadget = line(0, 1, "SAVED")?;
        let again = lab.plug(&backing, "DISK")?;
        assert_eq!(again.devnode, disk.devnode, "else libvirt refuses to restore it");
        disk = again;
        wait_for("guest1", USB, "waiting")?;
        wait_for("guest1", "DISK", "waiting")?;
        virsh(restore.iter().copied())?;
        usb::has("guest1", "SAVED")?;
        wait_until_live("guest1", &format!("'ua-mydisks-disk-{}'", disk.diskseq), true)?;
        wait_for("guest1", USB, "attached")?;
        wait_for("guest1", "DISK", "attached")?;
        wait_for_ours("guest1", 2)?;
    }
    Ok(())
}

pub(in super::super) fn guest_that_was_saved_is_restored_without_the_device_that_was_pulled(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let gadget = line(0, 1, "SAVED")?;
    lab.start(&config(&format!("[guests.guest1]\nusb = [{USB:?}]")))?;
    wait_for_ours("guest1", 1)?;
    virsh(["managedsave", "guest1"])?;
    drop(gadget);
    wait_for("guest1", USB, "absent")?;
    let started = try_virsh(["start", "guest1"])?;
    assert_eq!(started.code, Some(0), "{started:?}");
    wait_for_ours("guest1", 0)?;
    let _again = line(0, 1, "SAVED")?;
    usb::has("guest1", "SAVED")?;
    wait_for("guest1", USB, "attached").map(drop)
}
