//! What does not answer delays nothing but itself.

use rustix::process::{Signal, kill_process};

use super::{config, enter, guest_of, line, ours, plug_new, wait_for, wait_for_ours};
use crate::Outcome;
use crate::daemon::{self, Daemon};
use crate::disks::{Filesystem, Recipe};
use crate::hypervisor::{self, Kind, LONG};
use crate::lab::Lab;
use crate::wait;

const MOUNT: &str = "[mounts.backup]\ndisks = [\"HOST\"]\n";

pub(in super::super) fn stopped_libvirtd_delays_no_mount_and_no_status(lab: &mut Lab) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    plug_new(lab, &Recipe::plain(Filesystem::Ext4), "HOST")?;
    let libvirtd = hypervisor::libvirtd()?;
    kill_process(libvirtd, Signal::STOP)?;
    // It is met as it is at the daemon's start: virConnectOpen does not return.
    lab.start(&config(&format!("{MOUNT}[guests.guest1]\nusb = [\"1209:0001\"]")))?;
    let _gadget = line(0, 1, "HANGS")?;
    enter("backup")?;
    wait::until_true("the guest to be told unreachable", LONG, || {
        guest_of("guest1").is_ok_and(|guest| {
            guest["state"] == "unreachable"
                && guest["error"].as_str().is_some_and(|error| error.contains("does not answer"))
        })
    })?;
    kill_process(libvirtd, Signal::CONT)?;
    wait_for("guest1", "1209:0001", "attached")?;
    // And again with a connection that stands, to the daemon's end.
    kill_process(libvirtd, Signal::STOP)?;
    enter("backup")?;
    let ended = lab.daemon.as_mut().ok_or("no daemon")?.terminate()?;
    kill_process(libvirtd, Signal::CONT)?;
    assert_eq!(ended, Some(0), "it ends while libvirtd stands still");
    Ok(())
}

pub(in super::super) fn frozen_guest_delays_no_mount_and_no_other_guest(lab: &mut Lab) -> Outcome {
    hypervisor::boot("frozen", Kind::Silent)?;
    hypervisor::boot("guest1", Kind::Silent)?;
    plug_new(lab, &Recipe::plain(Filesystem::Ext4), "HOST")?;
    lab.start(&config(&format!(
        "{MOUNT}[guests.frozen]\nusb = [\"1209:0001\"]\n[guests.guest1]\nusb = [\"1209:0002\"]"
    )))?;
    let qemu = hypervisor::qemu("frozen")?;
    kill_process(qemu, Signal::STOP)?;
    let _first = line(0, 1, "FROZEN")?;
    wait_for("frozen", "1209:0001", "attaching")?;
    let _second = line(1, 2, "LIVES")?;
    wait_for("guest1", "1209:0002", "attached")?;
    enter("backup")?;
    assert_eq!(ours("frozen"), 0, "it is frozen still");
    assert_eq!(guest_of("guest1")?["state"], "running");
    // The end waits for nobody either, and says for whom not.
    let ended = lab.daemon.as_mut().ok_or("no daemon")?.terminate()?;
    assert_eq!(ended, Some(0));
    let said = "frozen has not answered for";
    assert!(daemon::log_text().contains(said), "{}", daemon::log_text());
    // What was asked for comes all the same, and the next run knows it as its own.
    lab.daemon = Some(Daemon::start_again()?);
    kill_process(qemu, Signal::CONT)?;
    wait_for("frozen", "1209:0001", "attached")?;
    wait_for_ours("frozen", 1)
}
