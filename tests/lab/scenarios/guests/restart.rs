//! A daemon that is killed while libvirt has not answered: what it had given, or had begun to give, stays away from the
//! host.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Signal, kill_process};

use super::{config, enter, plug_new, status_error, wait_for, wait_for_ours, wait_until_running};
use crate::Outcome;
use crate::daemon::{BINARY, Daemon};
use crate::disks::{Filesystem, Recipe};
use crate::hypervisor::{self, Kind, LONG, try_virsh, virsh};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait;

/// By hand: no configuration tells the next run.
pub(in super::super) fn disk_that_is_on_its_way_to_a_frozen_guest_when_the_daemon_is_killed_is_not_mounted(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("frozen", Kind::Silent)?;
    let disk = plug_new(lab, &Recipe::plain(Filesystem::Ext4), "HOST")?;
    lab.start(&config("[mounts.backup]\ndisks = [\"HOST\"]\n[guests.frozen]\nusb = [\"1209:0001\"]"))?;
    wait_until_running("frozen")?;
    let qemu = hypervisor::qemu("frozen")?;
    kill_process(qemu, Signal::STOP)?;
    let attach = thread::spawn(|| {
        let attach = Program::new(BINARY).args(["attach", "HOST", "frozen"]);
        attach.finish().map_err(|error| error.to_string())
    });
    wait::until_true("libvirt to have begun", LONG, || {
        try_virsh(["domcontrol", "frozen"]).is_ok_and(|said| said.stdout.contains("occupied"))
    })?;
    kill(lab)?;
    let told = attach.join().map_err(|_| "the command has panicked")??;
    assert_ne!(told.code, Some(0), "{told:?}");
    lab.daemon = Some(Daemon::start_again()?);
    let is_refused = || {
        let exclusive =
            File::options().read(true).custom_flags(OFlags::EXCL.bits() as i32).open(&disk.devnode);
        let exclusive = exclusive.err().and_then(|error| error.raw_os_error());
        enter("backup") == Err(Errno::BUSY) && exclusive == Some(Errno::BUSY.raw_os_error())
    };
    assert!(is_refused(), "before libvirt has been reached: {}", status_error("backup")?);
    wait_until_running("frozen")?;
    assert!(is_refused(), "and after: {}", status_error("backup")?);
    kill_process(qemu, Signal::CONT)?;
    wait_for("frozen", "HOST", "attached")?;
    assert_eq!(enter("backup"), Err(Errno::BUSY));
    assert!(status_error("backup")?.contains("the guest frozen"), "{}", status_error("backup")?);
    virsh(["destroy", "frozen"])?;
    Program::new(BINARY).args(["detach", "HOST"]).ok()?;
    wait::until_true("the disk to be mounted", LONG, || enter("backup").is_ok())
}

/// No guest is configured, so the next run would not even ask libvirt.
pub(in super::super) fn disk_that_a_guest_has_is_not_mounted_while_libvirt_does_not_answer(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    plug_new(lab, &Recipe::plain(Filesystem::Ext4), "HOST")?;
    lab.start(&config("[mounts.backup]\ndisks = [\"HOST\"]"))?;
    Program::new(BINARY).args(["attach", "HOST", "guest1"]).ok()?;
    wait_for_ours("guest1", 1)?;
    let libvirtd = hypervisor::libvirtd()?;
    kill_process(libvirtd, Signal::STOP)?;
    kill(lab)?;
    lab.daemon = Some(Daemon::start_again()?);
    assert_eq!(enter("backup"), Err(Errno::BUSY));
    let why = status_error("backup")?;
    assert!(why.contains("is in use by the virtual machine guest1"), "{why}");
    kill_process(libvirtd, Signal::CONT)?;
    virsh(["destroy", "guest1"])?;
    wait::until_true("the disk to be mounted", LONG, || enter("backup").is_ok())
}

fn kill(lab: &mut Lab) -> Outcome {
    let daemon = lab.daemon.as_mut().ok_or("no daemon")?;
    daemon.signal(Signal::KILL)?;
    daemon.ended().map(drop)
}
