//! What people attach and detach with commands.

use super::{config, line, ours, plug_new, port_of, wait_for, wait_for_ours};
use crate::Outcome;
use crate::daemon::BINARY;
use crate::disks::Recipe;
use crate::hypervisor::{self, Kind, live, virsh};
use crate::lab::Lab;
use crate::program::{Finished, Program};
use crate::wait::{self, PATIENCE};

/// No guest is configured, so that the daemon has nothing to do with libvirt until it is asked to.
pub(in super::super) fn unlisted_device_is_attached_to_a_named_guest_by_each_of_its_names(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Grants)?;
    let disk = plug_new(lab, &Recipe::empty(), "UNLISTED")?;
    let _gadget = line(0, 1, "HAND")?;
    let port = wait::until("the port of the device", PATIENCE, || port_of("HAND"))?;
    lab.start(&config("[mounts.backup]\ndisks = [\"ANOTHER\"]"))?;
    let refused = run(&["attach", "1209:0001"])?;
    assert!(refused.code != Some(0) && refused.stderr.contains("for no guest: name one"), "{refused:?}");
    let refused = run(&["attach", "1209:0001", "nobody"])?;
    assert!(refused.code != Some(0) && refused.stderr.contains("no guest called nobody"), "{refused:?}");
    for name in ["1209:0001", port.as_str(), "HAND"] {
        let said = done(&["attach", name, "guest1"])?;
        assert!(said.contains("is attached to guest1"), "{said}");
        assert_eq!(ours("guest1"), 1, "{}", live("guest1")?);
        wait_for("guest1", "1209:0001", "attached")?;
        let said = done(&["detach", name])?;
        assert!(said.contains("is with no guest"), "{said}");
        assert_eq!(ours("guest1"), 0, "{}", live("guest1")?);
    }
    let node = disk.devnode.to_string_lossy().into_owned();
    for name in ["UNLISTED", node.as_str()] {
        let said = done(&["attach", name, "guest1"])?;
        assert!(said.contains("is attached to guest1 as vda"), "{said}");
        assert!(live("guest1")?.contains(&format!("<source dev='{node}'")), "{}", live("guest1")?);
        done(&["detach", name])?;
        assert_eq!(ours("guest1"), 0, "{}", live("guest1")?);
    }
    Ok(())
}

pub(in super::super) fn what_is_detached_by_hand_stays_away_until_it_is_plugged_in_again(
    lab: &mut Lab,
) -> Outcome {
    hypervisor::boot("guest1", Kind::Silent)?;
    let backing = lab.disk(&Recipe::empty())?;
    let disk = lab.plug(&backing, "DISK")?;
    let gadget = line(0, 1, "HELD")?;
    lab.start(&config(
        "[guests.guest1]\nusb = [\"1209:0001\", \"1209:0002\"]\ndisks = [{ id = \"DISK\", target = \"sdb\" }]",
    ))?;
    wait_for_ours("guest1", 2)?;
    done(&["detach", "1209:0001"])?;
    done(&["detach", "DISK"])?;
    for id in ["1209:0001", "DISK"] {
        let device = wait_for("guest1", id, "waiting")?;
        let why = device["error"].as_str().unwrap_or_default();
        assert!(why.contains("detached by hand, until it is plugged in again"), "{device}");
    }
    // Another device shows that each of them made the daemon look at everything again.
    done(&["reload"])?;
    virsh(["suspend", "guest1"])?;
    virsh(["resume", "guest1"])?;
    let event = line(1, 2, "EVENT")?;
    wait_for_ours("guest1", 1)?;
    hypervisor::kill_libvirtd()?;
    drop(event);
    hypervisor::start_libvirtd()?;
    wait_for_ours("guest1", 0)?;
    for id in ["1209:0001", "DISK"] {
        wait_for("guest1", id, "waiting")?;
    }
    // It ends with the wish for it.
    done(&["attach", "1209:0001"])?;
    assert_eq!(ours("guest1"), 1);
    done(&["detach", "1209:0001"])?;
    assert_eq!(ours("guest1"), 0);
    drop(gadget);
    lab.pull(&disk)?;
    wait_for("guest1", "1209:0001", "absent")?;
    wait_for("guest1", "DISK", "absent")?;
    let _again = line(0, 1, "HELD")?;
    lab.plug(&backing, "DISK")?;
    wait_for("guest1", "1209:0001", "attached")?;
    wait_for("guest1", "DISK", "attached")?;
    assert_eq!(ours("guest1"), 2);
    Ok(())
}

fn run(arguments: &[&str]) -> Outcome<Finished> {
    Program::new(BINARY).args(arguments).finish()
}

fn done(arguments: &[&str]) -> Outcome<String> {
    Program::new(BINARY).args(arguments).ok()
}
