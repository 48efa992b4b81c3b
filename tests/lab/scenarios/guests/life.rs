//! Guests and libvirtd that come and go.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{config, guest_of, line, ours, plug_new, wait_for, wait_for_ours, wait_for_reason};
use crate::daemon::BINARY;
use crate::disks::Recipe;
use crate::hypervisor::{self, Kind, LONG, virsh};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait;
use crate::{Outcome, daemon};

const CONFIG: &str = "[guests.guest1]\nusb = [\"1209:0001\", \"1209:0002\"]";

pub(in super::super) fn guest_that_starts_after_the_plug_gets_its_devices(lab: &mut Lab) -> Outcome {
    let _gadget = line(0, 1, "EARLY")?;
    lab.start(&config(CONFIG))?;
    hypervisor::define("guest1", Kind::Silent)?;
    // Until libvirt has been reached, that is what it waits for.
    wait_for_reason("guest1", "1209:0001", "guest1 is off")?;
    virsh(["start", "guest1"])?;
    wait_for("guest1", "1209:0001", "attached")?;
    assert_eq!(ours("guest1"), 1);
    Ok(())
}

pub(in super::super) fn guest_that_is_rebooted_destroyed_or_saved_ends_with_its_devices(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let _gadget = line(0, 1, "LIFE")?;
    lab.start(&config(CONFIG))?;
    wait_for_ours("guest1", 1)?;
    virsh(["reset", "guest1"])?;
    wait_for_ours("guest1", 1)?;
    virsh(["destroy", "guest1"])?;
    wait_for("guest1", "1209:0001", "waiting")?;
    virsh(["start", "guest1"])?;
    wait_for("guest1", "1209:0001", "attached")?;
    virsh(["managedsave", "guest1"])?;
    wait_for("guest1", "1209:0001", "waiting")?;
    virsh(["start", "guest1"])?;
    wait_for("guest1", "1209:0001", "attached")?;
    assert_eq!(ours("guest1"), 1);
    Ok(())
}

pub(in super::super) fn guest_that_is_defined_late_undefined_renamed_or_killed_ends_with_its_devices(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::start()?;
    let _gadget = line(0, 1, "LIFE")?;
    lab.start(&config(CONFIG))?;
    let attached = || wait_for("guest1", "1209:0001", "attached").and_then(|_| wait_for_ours("guest1", 1));
    let waits = |why| wait_for_reason("guest1", "1209:0001", why).map(drop);
    waits("knows no guest called guest1")?;
    hypervisor::define("guest1", Kind::Silent)?;
    waits("guest1 is off")?;
    virsh(["start", "guest1"])?;
    attached()?;
    // It runs on without a definition, and is gone when it ends.
    virsh(["undefine", "guest1"])?;
    wait::stays_true("it keeps the device", Duration::from_secs(1), || ours("guest1") == 1)?;
    kill_process(hypervisor::qemu("guest1")?, Signal::KILL)?;
    waits("knows no guest called guest1")?;
    hypervisor::define("before", Kind::Silent)?;
    virsh(["domrename", "before", "guest1"])?;
    waits("guest1 is off")?;
    virsh(["start", "guest1"])?;
    attached()?;
    kill_process(hypervisor::qemu("guest1")?, Signal::KILL)?;
    waits("guest1 is off")?;
    virsh(["start", "guest1"])?;
    attached()?;
    let file = "/dev/shm/lab-guests/saved";
    virsh(["save", "guest1", file])?;
    waits("guest1 is off")?;
    virsh(["restore", file])?;
    attached()?;
    virsh(["destroy", "guest1"])?;
    virsh(["domrename", "guest1", "after"])?;
    waits("knows no guest called guest1")?;
    Ok(())
}

pub(in super::super) fn killed_libvirtd_is_found_again_and_what_was_plugged_meanwhile_is_attached(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let _first = line(0, 1, "BEFORE")?;
    lab.start(&config(CONFIG))?;
    wait_for("guest1", "1209:0001", "attached")?;
    give_new(lab, "FIRST")?;
    hypervisor::kill_libvirtd()?;
    wait::until_true("the guest to be told unreachable", LONG, || {
        guest_of("guest1").is_ok_and(|guest| guest["state"] == "unreachable")
    })?;
    let _second = line(1, 2, "MEANWHILE")?;
    hypervisor::start_libvirtd()?;
    wait_for("guest1", "1209:0002", "attached")?;
    wait_for("guest1", "1209:0001", "attached")?;
    assert_eq!(ours("guest1"), 3);
    // What attaches disks had a connection to the libvirtd that was killed, too.
    give_new(lab, "SECOND")
}

pub(in super::super) fn process_that_attaches_disks_is_replaced_when_it_is_killed(lab: &mut Lab) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    lab.start(&config(CONFIG))?;
    let is_it = |process: &i32| {
        let command = fs::read_to_string(format!("/proc/{process}/cmdline"));
        command.is_ok_and(|command| command.contains("attach-for-daemon"))
    };
    give_new(lab, "FIRST")?;
    let found: Vec<i32> = daemon::processes().into_iter().filter(is_it).collect();
    let &[process] = &found[..] else { return Err(format!("not one process: {found:?}").into()) };
    let pid = Pid::from_raw(process).ok_or("no process")?;
    kill_process(pid, Signal::KILL)?;
    give_new(lab, "SECOND")?;
    lab.daemon.as_mut().ok_or("no daemon")?.terminate()?;
    wait::until_true("its successor to end with the daemon", LONG, || daemon::processes().is_empty())
}

/// Plugs in a disk and has it attached to guest1.
fn give_new(lab: &mut Lab, serial: &str) -> Outcome {
    plug_new(lab, &Recipe::empty(), serial)?;
    Program::new(BINARY).args(["attach", serial, "guest1"]).ok().map(drop)
}

pub(in super::super) fn without_guests_libvirt_is_not_loaded(lab: &mut Lab) -> Outcome {
    let has_libvirt = || -> Outcome<bool> {
        let process = daemon::processes().first().copied().ok_or("no daemon")?;
        Ok(fs::read_to_string(format!("/proc/{process}/maps"))?.contains("libvirt"))
    };
    lab.start(&config("[mounts.backup]\ndisks = [\"HOST\"]"))?;
    assert!(!has_libvirt()?);
    lab.daemon.as_mut().ok_or("no daemon")?.terminate()?;
    lab.start(&config(CONFIG))?;
    wait::until_true("libvirt to be loaded for a guest", LONG, || has_libvirt().unwrap_or(false))
}
