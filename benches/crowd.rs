//! Fifty USB devices that come at once, as when a cabinet of hubs is turned on: until the last of them is in the live XML
//! of a guest, this daemon beside a udev rule that runs a script with virsh, in turns, in the machine of the lab.
//!
//! They sit on controllers of their own, which get their driver when the clock is to start: the kernel finds the
//! devices of several controllers at the same time, and those of one controller one after another.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::additions::Additions;
use crate::daemon::Daemon;
use crate::figures::{Samples, goal, line, milliseconds};
use crate::hypervisor::{self, Kind, live, try_virsh, virsh};
use crate::old_way::{self, OldWay};
use crate::program::Program;
use crate::uevents::{Teller, Uevents};
use crate::{Outcome, wait};

const DEVICES: usize = 50;
const CONTROLLERS: usize = 4;
const GUESTS: [&str; CONTROLLERS] = ["crowd0", "crowd1", "crowd2", "crowd3"];
/// A smart card reader of QEMU's, which no driver of the kernel takes.
const VENDOR: &str = "08e6";
const PRODUCT: &str = "4433";
/// After so long without another device no more are expected.
const QUIET: Duration = Duration::from_secs(25);
const DRIVER: &str = "/sys/bus/pci/drivers/xhci_hcd";

/// The words by which QEMU has them.
pub(crate) fn devices() -> String {
    let controller = |number| format!(" -device qemu-xhci,id=crowd{number},p2=15,p3=1");
    let device = |number: usize| {
        let controller = number % CONTROLLERS;
        format!(" -device usb-ccid,bus=crowd{controller}.0,serial=S{number}")
    };
    (0..CONTROLLERS).map(controller).chain((0..DEVICES).map(device)).collect()
}

pub(crate) fn run() -> Outcome {
    let controllers = controllers()?;
    pull(&controllers)?;
    hypervisor::start()?;
    for (guests, what, rounds) in [(1, "one guest", 3), (CONTROLLERS, "four guests", 1)] {
        println!(
            "{DEVICES} USB devices at once for {what}, from the first event until the last is in the live XML"
        );
        compare(&controllers, guests, rounds)?;
    }
    hypervisor::clear()
}

fn compare(controllers: &BTreeSet<String>, guests: usize, rounds: usize) -> Outcome {
    let (mut ours, mut old) = (Side::default(), Side::default());
    for round in 0..rounds {
        for is_old in [round % 2 == 1, round % 2 == 0] {
            let side = if is_old { &mut old } else { &mut ours };
            let crowd = measure(controllers, guests, is_old)?;
            let what = if is_old { "virsh" } else { "mydisks" };
            let [told, first, half, last] =
                [crowd.told, crowd.first, crowd.half, crowd.last].map(milliseconds);
            println!(
                "  round {round}, {what}: told {told}, first {first}, 25th {half}, last {last} ms, {} there",
                crowd.there
            );
            side.add(crowd);
        }
    }
    ours.show("mydisks");
    old.show("udev rule, script, virsh");
    let factor = old.last.median().as_secs_f64() / ours.last.median().as_secs_f64();
    goal("no worse than the old way", format_args!("{factor:.1} x as fast"), factor >= 1.0);
    goal("all get there", format_args!("at least {} of {DEVICES}", ours.least), ours.least == DEVICES);
    Ok(())
}

/// What came of one round.
struct Crowd {
    first: Duration,
    half: Duration,
    last: Duration,
    /// From the first event until the kernel had told of them all.
    told: Duration,
    there: usize,
}

#[derive(Default)]
struct Side {
    first: Samples,
    half: Samples,
    last: Samples,
    told: Samples,
    least: usize,
}

impl Side {
    fn add(&mut self, crowd: Crowd) {
        let is_first = self.last.median().is_zero();
        self.least = if is_first { crowd.there } else { self.least.min(crowd.there) };
        self.first.add(crowd.first);
        self.half.add(crowd.half);
        self.last.add(crowd.last);
        self.told.add(crowd.told);
    }

    fn show(&self, what: &str) {
        line(&format!("{what}: the first"), &self.first);
        line(&format!("{what}: the 25th"), &self.half);
        line(&format!("{what}: the last"), &self.last);
        line(&format!("{what}: the kernel has told of all"), &self.told);
        line(&format!("{what}: in the live XML in the end, at least"), self.least);
    }
}

fn measure(controllers: &BTreeSet<String>, guests: usize, is_old: bool) -> Outcome<Crowd> {
    GUESTS[..guests].iter().try_for_each(|guest| boot(guest))?;
    let uevents = Uevents::listen()?;
    let additions = Additions::listen()?;
    let (mut daemon, mut old_way) = (None, None);
    if is_old {
        let device = old_way::Device::Usb { vendor: VENDOR, product: PRODUCT };
        // The number of the serial, modulo the number of guests.
        let guest = format!("crowd$(( ${{ID_SERIAL_SHORT#S}} % {guests} ))");
        old_way = Some(OldWay::install(&device, &guest)?);
    } else {
        daemon = Some(Daemon::start_logging(&config(guests))?);
    }
    let crowd = plug(controllers, guests, &uevents, &additions);
    if let (Err(_), Some(daemon)) = (&crowd, &daemon) {
        println!("{}", daemon.log());
    }
    drop((daemon, old_way));
    GUESTS[..guests].iter().for_each(|guest| drop(try_virsh(["destroy", guest])));
    GUESTS[..guests].iter().for_each(|guest| drop(try_virsh(["undefine", guest])));
    pull(controllers)?;
    crowd
}

fn config(guests: usize) -> String {
    let entry = |number: usize| format!("{{ id = \"{VENDOR}:{PRODUCT}\", serial = \"S{number}\" }}");
    let table = |guest: usize| {
        let entries: Vec<String> =
            (0..DEVICES).filter(|number| number % guests == guest).map(entry).collect();
        format!("[guests.{}]\nusb = [{}]\n", GUESTS[guest], entries.join(", "))
    };
    (0..guests).map(table).collect()
}

fn plug(
    controllers: &BTreeSet<String>,
    guests: usize,
    uevents: &Uevents,
    additions: &Additions,
) -> Outcome<Crowd> {
    uevents.forget();
    additions.forget();
    thread::scope(|scope| {
        let bind = |controller| move || fs::write(Path::new(DRIVER).join("bind"), controller);
        let threads: Vec<_> = controllers.iter().map(|controller| scope.spawn(bind(controller))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread has panicked")?.map_err(Box::from))
            as Outcome
    })?;
    // A root hub is a USB device as well; of the devices each is bound once.
    let is_device = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains('-'));
    let mut bound = Vec::new();
    while bound.len() < DEVICES {
        let uevent = uevents.wait_for(Teller::Kernel, "bind", "usb_device")?;
        if is_device(&uevent.path) {
            bound.push(uevent.at);
        }
    }
    let start = bound[0];
    let mut ends: Vec<Instant> = Vec::new();
    while ends.len() < DEVICES {
        match additions.next(QUIET) {
            Some(end) => ends.push(end),
            None => break,
        }
    }
    let mut there = 0;
    for guest in &GUESTS[..guests] {
        there += live(guest)?.matches("<hostdev ").count();
    }
    let at = |place: usize| ends.get(place).or(ends.last()).map(|end| end.saturating_duration_since(start));
    let at = |place| at(place).ok_or("none came to the guest");
    let told = bound[DEVICES - 1].saturating_duration_since(start);
    Ok(Crowd { first: at(0)?, half: at(DEVICES / 2 - 1)?, last: at(DEVICES - 1)?, told, there })
}

/// A guest with room for all of them.
fn boot(name: &str) -> Outcome {
    hypervisor::define(name, Kind::Silent)?;
    let xml = hypervisor::persistent(name)?;
    // What libvirt has added to the one controller (its place on PCI) is left to libvirt again.
    let start = xml.find("<controller type='usb'").ok_or("a guest without USB")?;
    let length = xml[start..].find("</controller>").ok_or("a guest without USB")? + "</controller>".len();
    let controller = |index| format!("<controller type='usb' index='{index}' model='qemu-xhci' ports='15'/>");
    let controllers: String = (0..CONTROLLERS).map(controller).collect();
    let xml = format!("{}{controllers}{}", &xml[..start], &xml[start + length..]);
    let file = format!("/dev/shm/lab-guests/{name}.xml");
    fs::write(&file, xml)?;
    virsh(["define", &file])?;
    virsh(["start", name]).map(drop)
}

/// The PCI addresses of their controllers.
fn controllers() -> Outcome<BTreeSet<String>> {
    wait::until_true("the devices to be there", wait::PATIENCE, || present().len() == DEVICES)?;
    let controller = |path: &str| {
        // /sys/devices/pci0000:00/0000:00:07.0/usb5/5-1
        path.split('/').find(|part| part.matches(':').count() == 2).map(str::to_owned)
    };
    let found: BTreeSet<String> = present().iter().filter_map(|path| controller(path)).collect();
    if found.len() != CONTROLLERS {
        return Err(format!("they are on {found:?}").into());
    }
    Ok(found)
}

/// Where they are in /sys.
fn present() -> Vec<String> {
    let entries = fs::read_dir("/sys/bus/usb/devices").into_iter().flatten().flatten();
    let is_one = |path: &Path| {
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        read("idVendor").trim() == VENDOR && read("idProduct").trim() == PRODUCT
    };
    let paths =
        entries.filter(|entry| is_one(&entry.path())).filter_map(|entry| entry.path().canonicalize().ok());
    paths.map(|path| path.to_string_lossy().into_owned()).collect()
}

fn pull(controllers: &BTreeSet<String>) -> Outcome {
    for controller in controllers {
        fs::write(Path::new(DRIVER).join("unbind"), controller)?;
    }
    wait::until_true("the devices to be gone", wait::PATIENCE, || present().is_empty())?;
    Program::new("udevadm").arg("settle").ok().map(drop)
}
