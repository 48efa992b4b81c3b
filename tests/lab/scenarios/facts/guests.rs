//! What libvirt and QEMU do with devices that are attached to a guest that runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::disks::{Filesystem, Recipe};
use crate::gadget::{Claims, Gadget};
use crate::hypervisor::{self, Kind, LONG, live, try_virsh, virsh, wait_until_live};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

const ALIAS: &str = "ua-lab-1";

/// A detach that returned with success may not have happened: only the event or the live XML is proof.
pub(crate) fn success_of_a_detach_is_no_proof(lab: &mut Lab) -> Outcome {
    hypervisor::boot("silent", Kind::Silent)?;
    let disk = lab.disk(&Recipe::empty())?;
    let disk = lab.plug(&disk, "FALSE")?;
    let attached = hypervisor::attach("silent", &disk_xml(&disk.devnode, "vdb", "virtio"))?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    let detached = try_virsh(["detach-disk", "silent", "vdb", "--live"])?;
    assert_eq!(detached.code, Some(0), "{detached:?}");
    assert!(live("silent")?.contains(ALIAS), "it has gone without the guest's help");
    Ok(())
}

/// By its alias a device is asked for at once, and gone when the guest has granted it. A guest that is still in its
/// firmware loses the request.
pub(crate) fn detach_by_alias_is_granted_by_a_guest_that_listens(lab: &mut Lab) -> Outcome {
    hypervisor::boot("grants", Kind::Grants)?;
    let disk = lab.disk(&Recipe::empty())?;
    let disk = lab.plug(&disk, "ALIAS")?;
    let attached = hypervisor::attach("grants", &disk_xml(&disk.devnode, "vdb", "virtio"))?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    wait::until_true("the guest to release the disk", LONG, || {
        let _ = try_virsh(["detach-device-alias", "grants", ALIAS, "--live"]);
        wait::until_true("", Duration::from_secs(2), || live("grants").is_ok_and(|xml| !xml.contains(ALIAS)))
            .is_ok()
    })
}

/// So a device is attached by its place on the bus.
pub(crate) fn twins_are_refused_by_vendor_and_product(_: &mut Lab) -> Outcome {
    hypervisor::boot("silent", Kind::Silent)?;
    let _twins = [line("twin0", 0, "ONE")?, line("twin1", 1, "TWO")?];
    let by_id = "<hostdev mode='subsystem' type='usb' managed='yes'>\
        <source><vendor id='0x1209'/><product id='0x0001'/></source></hostdev>";
    let refused = hypervisor::attach("silent", by_id)?;
    assert!(refused.code != Some(0) && refused.stderr.contains("Multiple USB devices"), "{refused:?}");
    let (bus, address) = place("TWO")?;
    let attached = hypervisor::attach("silent", &usb_xml(bus, address))?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    Ok(())
}

/// So success is no proof, and the live XML is.
pub(crate) fn policy_attaches_what_is_not_there_and_says_so(_: &mut Lab) -> Outcome {
    hypervisor::boot("silent", Kind::Silent)?;
    for policy in ["optional", "requisite"] {
        let absent = format!(
            "<hostdev mode='subsystem' type='usb' managed='yes'><source startupPolicy='{policy}'>\
             <address bus='1' device='120'/></source><alias name='{ALIAS}'/></hostdev>"
        );
        let attached = hypervisor::attach("silent", &absent)?;
        assert_eq!(attached.code, Some(0), "{attached:?}");
        assert!(live("silent")?.contains("missing='yes'"), "{policy}: {}", live("silent")?);
        try_virsh(["detach-device-alias", "silent", ALIAS, "--live"])?;
        wait_until_live("silent", ALIAS, false)?;
    }
    Ok(())
}

/// So a USB device is attached with the policy `requisite`: a guest that was saved with it, and could not be started any
/// more, would need a person.
pub(crate) fn saved_guest_is_restored_without_its_usb_device_by_policy_only(_: &mut Lab) -> Outcome {
    hypervisor::boot("silent", Kind::Silent)?;
    for (policy, is_restored) in [("", false), (" startupPolicy='requisite'", true)] {
        let gadget = line("saved", 0, "SAVED")?;
        let (bus, address) = place("SAVED")?;
        let xml = usb_xml(bus, address).replace("<source>", &format!("<source{policy}>"));
        let attached = hypervisor::attach("silent", &xml)?;
        assert_eq!(attached.code, Some(0), "{attached:?}");
        virsh(["managedsave", "silent"])?;
        drop(gadget);
        wait::until_true("the device to be gone", PATIENCE, || place_now("SAVED").is_none())?;
        let restored = try_virsh(["start", "silent"])?;
        assert_eq!(restored.code == Some(0), is_restored, "{policy}: {restored:?}");
        if !is_restored {
            assert!(restored.stderr.contains("Did not find USB device"), "{restored:?}");
            virsh(["managedsave-remove", "silent"])?;
            virsh(["start", "silent"])?;
        }
    }
    assert!(live("silent")?.contains("missing='yes'"), "{}", live("silent")?);
    try_virsh(["detach-device-alias", "silent", ALIAS, "--live"])?;
    wait_until_live("silent", ALIAS, false)
}

/// For disks there is no such policy: this is said in the manual page.
pub(crate) fn saved_guest_is_not_restored_without_its_disk(lab: &mut Lab) -> Outcome {
    hypervisor::boot("silent", Kind::Silent)?;
    let backing = lab.disk(&Recipe::empty())?;
    let disk = lab.plug(&backing, "SAVED")?;
    let attached = hypervisor::attach("silent", &disk_xml(&disk.devnode, "sdb", "usb"))?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    virsh(["managedsave", "silent"])?;
    lab.pull(&disk)?;
    let refused = try_virsh(["start", "silent"])?;
    assert!(refused.code != Some(0) && refused.stderr.contains("Cannot access storage file"), "{refused:?}");
    let again = lab.plug(&backing, "SAVED")?;
    assert_eq!(again.devnode, disk.devnode, "the kernel gives it the same name");
    virsh(["start", "silent"]).map(drop)
}

/// So what is pulled is detached by us.
pub(crate) fn pulled_usb_device_stays_in_the_live_xml(_: &mut Lab) -> Outcome {
    hypervisor::boot("silent", Kind::Silent)?;
    let gadget = line("pulled", 0, "PULLED")?;
    let (bus, address) = place("PULLED")?;
    let attached = hypervisor::attach("silent", &usb_xml(bus, address))?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    drop(gadget);
    wait::until_true("the device to be gone", PATIENCE, || place_now("PULLED").is_none())?;
    wait::stays_true("it stays in the live XML", Duration::from_secs(2), || {
        live("silent").is_ok_and(|xml| xml.contains(ALIAS))
    })?;
    try_virsh(["detach-device-alias", "silent", ALIAS, "--live"])?;
    wait_until_live("silent", ALIAS, false)
}

/// So exclusivity is ours to enforce.
pub(crate) fn one_disk_goes_to_two_guests_and_the_host_unhindered(lab: &mut Lab) -> Outcome {
    let disk = lab.disk(&Recipe::plain(Filesystem::Ext4))?;
    let disk = lab.plug(&disk, "SHARED")?;
    for guest in ["first", "second"] {
        hypervisor::boot(guest, Kind::Silent)?;
        let attached = hypervisor::attach(guest, &disk_xml(&disk.devnode, "vdb", "virtio"))?;
        assert_eq!(attached.code, Some(0), "{attached:?}");
    }
    let place = Path::new("/mnt/lab-shared");
    fs::create_dir_all(place)?;
    Program::new("mount").arg(&disk.devnode).arg(place).ok()?;
    assert_eq!(mounts::at(place)?.len(), 1);
    Program::new("umount").arg(place).ok().map(drop)
}

/// So the guest's copy of the node is taken away before another disk of that name comes. What that leans on: who holds
/// the lock of a pid file, and what libvirt mounts.
pub(crate) fn node_of_a_pulled_disk_refuses_the_next_one(lab: &mut Lab) -> Outcome {
    hypervisor::boot("silent", Kind::Silent)?;
    let backing = lab.disk(&Recipe::empty())?;
    let disk = lab.plug(&backing, "STALE")?;
    let xml = disk_xml(&disk.devnode, "sdb", "usb");
    let attached = hypervisor::attach("silent", &xml)?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    lab.pull(&disk)?;
    try_virsh(["detach-device-alias", "silent", ALIAS, "--live"])?;
    wait_until_live("silent", ALIAS, false)?;
    let again = lab.plug(&backing, "STALE")?;
    assert_eq!(again.devnode, disk.devnode, "the kernel gives it the same name");
    let refused = hypervisor::attach("silent", &xml)?;
    assert!(refused.code != Some(0) && refused.stderr.contains("already in use"), "{refused:?}");
    let qemu = hypervisor::qemu("silent")?.as_raw_nonzero();
    let mounts = fs::read_to_string(format!("/proc/{qemu}/mountinfo"))?;
    assert!(
        mounts.lines().any(|line| line.contains(" /dev ") && line.contains(" - tmpfs devfs ")),
        "{mounts}"
    );
    let locks = fs::read_to_string("/proc/locks")?;
    let file = fs::metadata("/run/libvirt/qemu/silent.pid")?.ino();
    let held = format!("WRITE {qemu} ");
    assert!(locks.lines().any(|line| line.contains(&held) && line.contains(&format!(":{file} "))), "{locks}");
    fs::remove_file(format!("/proc/{qemu}/root{}", again.devnode.display()))?;
    let attached = hypervisor::attach("silent", &xml)?;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    Ok(())
}

/// So looking at guests is never stuck behind an attach.
pub(crate) fn live_xml_of_a_frozen_guest_is_read_while_an_attach_hangs(lab: &mut Lab) -> Outcome {
    hypervisor::boot("frozen", Kind::Silent)?;
    let disk = lab.disk(&Recipe::empty())?;
    let disk = lab.plug(&disk, "FROZEN")?;
    let qemu = hypervisor::qemu("frozen")?;
    kill_process(qemu, Signal::STOP)?;
    let xml = disk_xml(&disk.devnode, "vdb", "virtio");
    let attach = thread::spawn(move || hypervisor::attach("frozen", &xml).map_err(|error| error.to_string()));
    wait::stays_true("the attach hangs, and the XML is read", Duration::from_secs(3), || {
        !attach.is_finished() && live("frozen").is_ok()
    })?;
    kill_process(qemu, Signal::CONT)?;
    let attached = attach.join().map_err(|_| "the attach has panicked")??;
    assert_eq!(attached.code, Some(0), "{attached:?}");
    Ok(())
}

fn disk_xml(node: &Path, target: &str, bus: &str) -> String {
    format!(
        "<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>\
         <source dev='{}'/><target dev='{target}' bus='{bus}'/><alias name='{ALIAS}'/></disk>",
        node.display()
    )
}

fn usb_xml(bus: u16, address: u16) -> String {
    format!(
        "<hostdev mode='subsystem' type='usb' managed='yes'><source><address bus='{bus}' device='{address}'/></source>\
         <alias name='{ALIAS}'/></hostdev>"
    )
}

/// A serial line that is plugged in and known.
fn line(name: &str, controller: u32, serial: &str) -> Outcome<Gadget> {
    let claims = Claims {
        vendor: 0x1209,
        product: 1,
        manufacturer: "lab".into(),
        model: "line".into(),
        serial: serial.into(),
    };
    let gadget = Gadget::serial_line(name, controller, &claims)?;
    place(serial)?;
    Ok(gadget)
}

/// Bus and device number of the device with this serial.
fn place(serial: &str) -> Outcome<(u16, u16)> {
    let found = wait::until(&format!("the USB device {serial}"), PATIENCE, || place_now(serial))?;
    crate::udevdb::settle()?;
    Ok(found)
}

fn place_now(serial: &str) -> Option<(u16, u16)> {
    fs::read_dir("/sys/bus/usb/devices").ok()?.flatten().find_map(|entry| {
        let read = |name| fs::read_to_string(entry.path().join(name)).ok();
        let number = |name| read(name)?.trim().parse().ok();
        (read("serial")?.trim() == serial).then_some((number("busnum")?, number("devnum")?))
    })
}
