//! One device from the kernel's event to the live XML of a running guest: this daemon beside a udev rule that runs a script
//! with virsh, in turns, in the machine of the lab. Only for a round of its own is each of the two awake.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::additions::Additions;
use crate::daemon::Daemon;
use crate::figures::{Samples, goal, line};
use crate::gadget::{Claims, Gadget};
use crate::hypervisor::{self, Kind, LONG, live, try_virsh, virsh, wait_until_live};
use crate::old_way::{self, OldWay};
use crate::place::{Place, wait_until};
use crate::program::Program;
use crate::uevents::{Teller, Uevents};
use crate::{Outcome, image, wait};

const ROUNDS: usize = 15;
/// Rounds that are not counted: connections are made, files are read for the first time.
const WARM_UP: usize = 2;
/// The old way takes at least this times as long.
const BY_OLD_WAY: f64 = 5.0;
const GUEST: &str = "bench";
const XML: &str = "/dev/shm/lab-guests/hostdev.xml";
/// Longer than everything that a pull leaves to be done.
const SETTLE: Duration = Duration::from_millis(300);

/// What is plugged in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Usb,
    Disk,
}

/// Who is to attach it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Daemon,
    Old,
    /// Nobody, until udev has done all: then a virsh that has long been connected. What libvirt and QEMU take by
    /// themselves.
    Alone,
}

pub(crate) fn run() -> Outcome {
    let place = Place::new()?;
    let disk = place.path().join("disk.image");
    image::make(&disk)?;
    // Grants what is asked of it, so that a virtio disk can be taken away again.
    hypervisor::boot(GUEST, Kind::Grants)?;
    for (case, what) in [(Case::Usb, "a USB device"), (Case::Disk, "a disk, as vdb")] {
        println!("{what}, from the kernel's event to the guest's live XML");
        Bench::new(case, &disk)?.compare()?;
    }
    hypervisor::clear()
}

struct Bench<'a> {
    case: Case,
    disk: &'a Path,
    daemon: Daemon,
    uevents: Uevents,
    additions: Additions,
    _old_way: OldWay,
    /// A virsh that reads commands.
    shell: Child,
    parts: Parts,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Where the daemon's time goes.
#[derive(Default)]
struct Parts {
    /// From the kernel's event until udev tells of it.
    udev: Samples,
    /// From there until the device is in the live XML, which it may be before.
    after_udev: Samples,
    /// The same of the old way, from the start of its script, which is when udev has come to an end with its rules.
    after_script: Samples,
    /// From the kernel's event until the daemon has decided.
    decided: Samples,
    /// From there until the device is in the live XML.
    attached: Samples,
    /// From there until the daemon knows.
    known: Samples,
}

impl<'a> Bench<'a> {
    fn new(case: Case, disk: &'a Path) -> Outcome<Self> {
        let (config, old) = match case {
            Case::Usb => ("usb = [\"1209:0001\"]", old_way::Device::Usb { vendor: "1209", product: "0002" }),
            Case::Disk => (
                "disks = [{ id = \"BENCHNEW\", target = \"vdb\" }]",
                old_way::Device::Disk { serial: "BENCHOLD", target: "vdb" },
            ),
        };
        Ok(Self {
            case,
            disk,
            daemon: Daemon::start_logging(&format!("[guests.{GUEST}]\n{config}\n"))?,
            uevents: Uevents::listen()?,
            additions: Additions::listen()?,
            _old_way: OldWay::install(&old, GUEST)?,
            shell: Program::new("virsh")
                .args(["-q", "-c", "qemu:///system"])
                .command()?
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()?,
            parts: Parts::default(),
        })
    }

    fn compare(mut self) -> Outcome {
        let (mut ours, mut old, mut alone) = (Samples::default(), Samples::default(), Samples::default());
        for round in 0..WARM_UP + ROUNDS {
            let mut ways = [(Way::Daemon, &mut ours), (Way::Old, &mut old), (Way::Alone, &mut alone)];
            // None is always the one that comes after the same other.
            if round % 2 == 1 {
                ways.reverse();
            }
            for (way, samples) in ways {
                if way == Way::Alone && round % 3 > 0 {
                    continue;
                }
                let took = self.round(way, round >= WARM_UP)?;
                if round >= WARM_UP {
                    samples.add(took);
                }
            }
        }
        let parts = &self.parts;
        line("mydisks", &ours);
        line("udev rule, script, virsh", &old);
        line("libvirt alone: a connected virsh, udev at rest", &alone);
        line("mydisks: the kernel's event until udev's", &parts.udev);
        line("mydisks: the kernel's event until the decision", &parts.decided);
        line("mydisks: the decision until the live XML", &parts.attached);
        line("mydisks: the live XML until it is known", &parts.known);
        line("mydisks: udev's event until the live XML", &parts.after_udev);
        line("virsh: the script's start until the live XML", &parts.after_script);
        for (from, ours, old) in
            [("the kernel's event", &ours, &old), ("udev's event", &parts.after_udev, &parts.after_script)]
        {
            let factor = old.median().as_secs_f64() / ours.median().as_secs_f64();
            goal(
                &format!("from {from}, the old way takes at least {BY_OLD_WAY} x as long"),
                format_args!("{factor:.1} x"),
                factor >= BY_OLD_WAY,
            );
        }
        Ok(())
    }

    fn round(&mut self, way: Way, counts: bool) -> Outcome<Duration> {
        if way != Way::Daemon {
            kill_process(self.daemon.pid, Signal::STOP)?;
        }
        let took = self.plug_and_pull(way, counts);
        kill_process(self.daemon.pid, Signal::CONT)?;
        Program::new("udevadm").arg("settle").ok()?;
        thread::sleep(SETTLE);
        took
    }

    fn plug_and_pull(&mut self, way: Way, counts: bool) -> Outcome<Duration> {
        self.uevents.forget();
        self.additions.forget();
        let (action, kind) = match self.case {
            Case::Usb => ("bind", "usb_device"),
            Case::Disk => ("add", "disk"),
        };
        let gadget = self.plug(way)?;
        let event = self.uevents.wait_for(Teller::Kernel, action, kind)?;
        let start = if way == Way::Alone { self.attach(&event.path)? } else { event.at };
        let end = self.additions.next(LONG).ok_or_else(|| {
            let log = fs::read_to_string(old_way::LOG).unwrap_or_default();
            format!("the device did not come to the guest\n{log}{}", self.daemon.log())
        })?;
        if !live(GUEST)?.contains(self.mark()) {
            return Err("it was told of, but is not in the live XML".into());
        }
        if way == Way::Daemon {
            self.note_parts(start, end, counts)?;
        } else if way == Way::Old && counts {
            self.parts.after_script.add(end.saturating_duration_since(old_way::begun()?));
        }
        self.detach(way)?;
        drop(gadget);
        Ok(end.saturating_duration_since(start))
    }

    /// By the connected virsh; when it was told to.
    fn attach(&mut self, device: &Path) -> Outcome<Instant> {
        Program::new("udevadm").arg("settle").ok()?;
        let command = match self.case {
            Case::Usb => {
                let number = |name: &str| fs::read_to_string(device.join(name));
                let address =
                    format!("bus='{}' device='{}'", number("busnum")?.trim(), number("devnum")?.trim());
                fs::write(
                    XML,
                    format!(
                        "<hostdev mode='subsystem' type='usb'><source><address {address}/></source></hostdev>"
                    ),
                )?;
                format!("attach-device {GUEST} {XML} --live\n")
            }
            Case::Disk => {
                let name =
                    device.file_name().and_then(|name| name.to_str()).ok_or("a disk without a name")?;
                format!("attach-disk {GUEST} /dev/{name} vdb --live\n")
            }
        };
        let start = Instant::now();
        self.shell.stdin.as_mut().ok_or("virsh takes no commands")?.write_all(command.as_bytes())?;
        Ok(start)
    }

    fn plug(&self, way: Way) -> Outcome<Gadget> {
        let (product, serial) = match way {
            Way::Daemon => (1, "BENCHNEW"),
            Way::Old => (2, "BENCHOLD"),
            Way::Alone => (3, "BENCHALONE"),
        };
        let claims = Claims {
            vendor: 0x1209,
            product,
            manufacturer: "lab".into(),
            model: "bench".into(),
            serial: serial.into(),
        };
        match self.case {
            Case::Usb => Gadget::serial_line("bench", 0, &claims),
            Case::Disk => Gadget::disk("bench", 0, &claims, self.disk),
        }
    }

    /// What its live XML has, and has not without the device.
    fn mark(&self) -> &'static str {
        match self.case {
            Case::Usb => "<hostdev ",
            Case::Disk => "<target dev='vdb'",
        }
    }

    fn note_parts(&mut self, start: Instant, end: Instant, counts: bool) -> Outcome {
        let logged = |what: &str| -> Outcome<Instant> {
            let mut at = None;
            wait_until("the daemon to tell", || {
                at = self.daemon.logged_after(start, what)?;
                Ok(at.is_some())
            })?;
            Ok(at.ok_or("the log was not read")?)
        };
        let decided = logged("giving ")?;
        let known = logged(&format!("{GUEST} has "))?;
        Program::new("udevadm").arg("settle").ok()?;
        let told = match self.case {
            Case::Usb => self.uevents.find(Teller::Udev, "bind", "usb_device"),
            Case::Disk => self.uevents.find(Teller::Udev, "add", "disk"),
        };
        if counts {
            let parts = &mut self.parts;
            parts.decided.add(decided.saturating_duration_since(start));
            parts.attached.add(end.saturating_duration_since(decided));
            parts.known.add(known.saturating_duration_since(end));
            if let Some(told) = told {
                parts.udev.add(told.at.saturating_duration_since(start));
                parts.after_udev.add(end.saturating_duration_since(told.at));
            }
        }
        Ok(())
    }

    fn detach(&self, way: Way) -> Outcome {
        match (way, self.case) {
            (Way::Daemon, case) => {
                let device = if case == Case::Usb { "1209:0001" } else { "BENCHNEW" };
                self.daemon.command(&["detach", device])?;
            }
            (_, Case::Usb) => {
                let xml = live(GUEST)?;
                let device = xml.split("<hostdev ").nth(1).and_then(|rest| rest.split("</hostdev>").next());
                let device = device.ok_or("no hostdev in the live XML")?;
                fs::write(XML, format!("<hostdev {device}</hostdev>"))?;
                virsh(["detach-device", GUEST, XML, "--live"])?;
                wait_until_live(GUEST, self.mark(), false)?;
            }
            (_, Case::Disk) => {
                wait::until_true("the guest to release the disk", LONG, || {
                    let _ = try_virsh(["detach-disk", GUEST, "vdb", "--live"]);
                    live(GUEST).is_ok_and(|xml| !xml.contains(self.mark()))
                })?;
            }
        }
        Ok(())
    }
}
