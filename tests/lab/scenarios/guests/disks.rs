//! Disks of guests, on each bus; and one disk that several want.

use std::fs;
use std::path::Path;

use super::{
    config, enter, give_by_virsh, ours, plug_new, wait_for, wait_for_ours, wait_for_reason,
    wait_until_running,
};
use rustix::io::Errno;

use crate::Outcome;
use crate::disks::{Filesystem, Recipe};
use crate::hypervisor::{self, Kind, LONG, live, persistent};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait;

const ONE: &str = "[guests.guest1]\ndisks = [{ id = \"DISK\", target = \"vdb\" }]";

pub(in super::super) fn disks_go_to_virtio_scsi_and_usb(lab: &mut Lab) -> Outcome {
    hypervisor::boot("modern", Kind::Modern)?;
    hypervisor::boot("plain", Kind::Silent)?;
    for serial in ["VIRTIO", "SCSI", "USB"] {
        plug_new(lab, &Recipe::empty(), serial)?;
    }
    let before = persistent("modern")?;
    lab.start(&config(
        "[guests.modern]\ndisks = [{ id = \"VIRTIO\", target = \"vdb\" }, { id = \"SCSI\", target = \"sdb\" }]\n\
         [guests.plain]\ndisks = [{ id = \"USB\", target = \"sdb\", readonly = true }]",
    ))?;
    for (guest, serial, target) in [
        ("modern", "VIRTIO", "<target dev='vdb' bus='virtio'/>"),
        ("modern", "SCSI", "<target dev='sdb' bus='scsi'/>"),
        ("plain", "USB", "<target dev='sdb' bus='usb'/>"),
    ] {
        wait_for(guest, serial, "attached")?;
        let xml = live(guest)?;
        assert!(xml.contains(target) && xml.contains(&format!("<serial>{serial}</serial>")), "{xml}");
    }
    assert!(live("plain")?.contains("<readonly/>"));
    assert!(live("modern")?.contains("cache='none' io='native' discard='unmap'"), "{}", live("modern")?);
    assert_eq!(persistent("modern")?, before, "the persistent configuration is untouched");
    Ok(())
}

/// One port is left, and one target is taken by a disk that is not ours.
pub(in super::super) fn disk_without_a_free_port_or_target_waits_and_says_so(lab: &mut Lab) -> Outcome {
    hypervisor::boot("narrow", Kind::Narrow)?;
    let theirs = lab.image(&Recipe::empty())?;
    let xml = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
         <target dev='sdb' bus='usb'/></disk>",
        theirs.display()
    );
    let attached = hypervisor::attach("narrow", &xml)?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    let mut plugged = Vec::new();
    for serial in ["FIRST", "SECOND", "TAKEN"] {
        plugged.push(plug_new(lab, &Recipe::empty(), serial)?);
    }
    lab.start(&config(
        "[guests.narrow]\ndisks = [\"FIRST\", { id = \"SECOND\", target = \"vda\", readonly = true }, \
         { id = \"TAKEN\", target = \"sdb\" }]",
    ))?;
    // The target that is left out is not the one that another disk is to have.
    let first = wait_for("narrow", "FIRST", "attached")?;
    assert_eq!(first["target"], "vdb", "{first}");
    let no_port = wait_for_reason("narrow", "SECOND", "No more available PCI slots")?;
    assert_eq!(no_port["state"], "failed", "{no_port}");
    wait_for_reason("narrow", "TAKEN", "sdb of narrow is taken by another disk")?;
    assert_eq!(ours("narrow"), 1);
    hypervisor::virsh(["detach-disk", "narrow", "sdb", "--live"])?;
    wait_for("narrow", "TAKEN", "attached")?;
    // This guest releases nothing: the port is free when it is started again.
    lab.pull(&plugged[0])?;
    hypervisor::virsh(["destroy", "narrow"])?;
    hypervisor::virsh(["start", "narrow"])?;
    let second = wait_for("narrow", "SECOND", "attached")?;
    assert_eq!(second["target"], "vda", "{second}");
    let xml = live("narrow")?;
    assert!(xml.contains("<target dev='vda' bus='virtio'/>") && xml.contains("<readonly/>"), "{xml}");
    Ok(())
}

pub(in super::super) fn pulled_disk_is_released_and_comes_back(lab: &mut Lab) -> Outcome {
    hypervisor::boot("guest1", Kind::Grants)?;
    let backing = lab.disk(&Recipe::empty())?;
    lab.start(&config(ONE))?;
    for _ in 0..2 {
        let disk = lab.plug(&backing, "DISK")?;
        wait_for("guest1", "DISK", "attached")?;
        assert!(live("guest1")?.contains(&format!("dev='{}'", disk.devnode.display())));
        lab.pull(&disk)?;
        wait_for_ours("guest1", 0)?;
        wait_for("guest1", "DISK", "absent")?;
    }
    Ok(())
}

pub(in super::super) fn guest_that_never_releases_a_disk_is_told_of_and_the_replugged_one_waits(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let backing = lab.disk(&Recipe::empty())?;
    let disk = lab.plug(&backing, "DISK")?;
    lab.start(&config(ONE))?;
    wait_for("guest1", "DISK", "attached")?;
    lab.pull(&disk)?;
    wait_for_reason("guest1", "DISK", "has not released")?;
    lab.plug(&backing, "DISK")?;
    wait_for("guest1", "DISK", "waiting")?;
    assert_eq!(ours("guest1"), 1, "one target, one disk");
    hypervisor::virsh(["destroy", "guest1"])?;
    hypervisor::virsh(["start", "guest1"])?;
    wait_for("guest1", "DISK", "attached").map(drop)
}

pub(in super::super) fn disk_that_is_mounted_on_the_host_is_refused_until_it_is_unmounted(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let disk = plug_new(lab, &Recipe::plain(Filesystem::Ext4), "DISK")?;
    let place = Path::new("/mnt/lab-held");
    fs::create_dir_all(place)?;
    Program::new("mount").arg(&disk.devnode).arg(place).ok()?;
    lab.start(&config(ONE))?;
    let refused = wait_for_reason("guest1", "DISK", "is mounted at /mnt/lab-held")?;
    assert_ne!(refused["state"], "attached");
    assert_eq!(ours("guest1"), 0);
    Program::new("umount").arg(place).ok()?;
    wait_for("guest1", "DISK", "attached").map(drop)
}

pub(in super::super) fn disk_that_another_guest_has_is_refused(lab: &mut Lab) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    hypervisor::boot("other", Kind::Silent)?;
    let disk = plug_new(lab, &Recipe::plain(Filesystem::Ext4), "DISK")?;
    give_by_virsh("other", &disk, "sdc")?;
    lab.start(&config(ONE))?;
    let refused = wait_for_reason("guest1", "DISK", "other")?;
    assert_ne!(refused["state"], "attached");
    assert_eq!(ours("guest1"), 0);
    hypervisor::virsh(["detach-disk", "other", "sdc", "--live"])?;
    wait_for("guest1", "DISK", "attached").map(drop)
}

pub(in super::super) fn disk_that_a_guest_has_is_not_mounted_until_it_is_given_back(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("other", Kind::Silent)?;
    let disk = plug_new(lab, &Recipe::plain(Filesystem::Ext4), "DISK")?;
    give_by_virsh("other", &disk, "sdc")?;
    lab.start(&config("[mounts.backup]\ndisks = [\"DISK\"]\n[guests.other]\nusb = [\"1209:0001\"]"))?;
    wait_until_running("other")?;
    assert_eq!(enter("backup"), Err(Errno::BUSY));
    hypervisor::virsh(["detach-disk", "other", "sdc", "--live"])?;
    wait::until_true("the disk to be mounted", LONG, || enter("backup").is_ok())
}
