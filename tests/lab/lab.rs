//! What a scenario works with: the disks it makes and plugs, the gadgets, the daemon; and the way back to a
//! machine without any of them, with a check that nothing was left behind.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::daemon::{self, Daemon};
use crate::disks::{self, Recipe};
use crate::gadget::Gadget;
use crate::originals::Originals;
use crate::program::Program;
use crate::qmp::{Plugged, Qmp, Shape};
use crate::wait;
use crate::{Outcome, hypervisor, mounts, udevdb};

/// The machine's port that a hub is plugged into; disks take the first that is free.
const HUB: &str = "8";

/// The machine a scenario runs in.
pub(crate) struct Lab {
    /// Files that QEMU outside finds at the same path.
    pub(crate) share: PathBuf,
    /// Files in memory.
    pub(crate) workshop: PathBuf,
    /// The daemon, if the scenario has one in the foreground.
    pub(crate) daemon: Option<Daemon>,
    /// Devices of the kernel's own making.
    pub(crate) gadgets: Vec<Gadget>,
    originals: Originals,
    qmp: Qmp,
    plugged: Vec<Plugged>,
    /// USB devices that are no disks, in the order of their plugs.
    plugged_usb: Vec<String>,
    counter: u32,
    mounts_at_start: Vec<mounts::Mount>,
}

impl Lab {
    pub(crate) fn open() -> Outcome<Lab> {
        let share = std::env::var_os("LAB_SHARE").ok_or("LAB_SHARE is not set: run this through the lab")?;
        let workshop = PathBuf::from("/dev/shm/lab");
        fs::create_dir_all(&workshop)?;
        Ok(Lab {
            share: share.into(),
            originals: Originals::new(workshop.clone()),
            workshop,
            daemon: None,
            gadgets: Vec::new(),
            qmp: Qmp::open()?,
            plugged: Vec::new(),
            plugged_usb: Vec::new(),
            counter: 0,
            mounts_at_start: mounts::all()?,
        })
    }

    /// Makes a disk and puts it where it can be plugged in.
    pub(crate) fn disk(&mut self, recipe: &Recipe) -> Outcome<PathBuf> {
        let image = self.image(recipe)?;
        self.publish(&image)
    }

    /// Makes a disk with a partition table.
    pub(crate) fn partitioned_disk(&mut self, contents: &[Recipe]) -> Outcome<PathBuf> {
        let contents = contents.iter().map(|recipe| self.image(recipe)).collect::<Outcome<Vec<PathBuf>>>()?;
        self.counter += 1;
        let image = self.workshop.join(format!("table{}.disk", self.counter));
        disks::partition(&image, &contents.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
        contents.iter().try_for_each(fs::remove_file)?;
        self.publish(&image)
    }

    /// Makes a disk in memory: for gadgets and loop devices.
    pub(crate) fn image(&mut self, recipe: &Recipe) -> Outcome<PathBuf> {
        self.counter += 1;
        let original = self.originals.take(recipe)?;
        disks::publish(original, &self.workshop, &format!("image{}.disk", self.counter))
    }

    /// Plugs in a USB stick with this serial.
    pub(crate) fn plug(&mut self, backing: &Path, serial: &str) -> Outcome<Plugged> {
        self.plug_as(backing, &Shape::Storage { serial: serial.to_owned() })
    }

    /// Plugs in a disk of any shape.
    pub(crate) fn plug_as(&mut self, backing: &Path, shape: &Shape) -> Outcome<Plugged> {
        self.counter += 1;
        let disk = self.qmp.plug(&format!("stick{}", self.counter), backing, shape)?;
        self.plugged.push(disk.clone());
        Ok(disk)
    }

    /// Pulls it out without a word to anybody.
    pub(crate) fn pull(&mut self, disk: &Plugged) -> Outcome {
        self.plugged.retain(|other| other.id != disk.id);
        self.qmp.pull(disk)
    }

    /// Plugs in a USB hub.
    pub(crate) fn plug_hub(&mut self) -> Outcome {
        self.plug_usb("usb-hub", &json!({ "port": HUB })).map(drop)
    }

    /// Plugs a pointing device, always 0627:0001, into a port of that hub, or of the machine; QEMU's name of it.
    pub(crate) fn plug_pointer(&mut self, port_of_hub: Option<u8>, serial: &str) -> Outcome<String> {
        let place = port_of_hub.map(|port| format!("{HUB}.{port}"));
        let mut properties = json!({ "serial": serial });
        if let Some(place) = place {
            properties["port"] = place.into();
        }
        self.plug_usb("usb-tablet", &properties)
    }

    fn plug_usb(&mut self, driver: &str, properties: &Value) -> Outcome<String> {
        self.counter += 1;
        let id = format!("usb{}", self.counter);
        self.qmp.plug_usb(driver, &id, properties)?;
        self.plugged_usb.push(id.clone());
        Ok(id)
    }

    /// Pulls out what is no disk.
    pub(crate) fn pull_usb(&mut self, id: &str) -> Outcome {
        self.plugged_usb.retain(|other| other != id);
        self.qmp.pull_usb(id)
    }

    /// From now on that disk, a USB stick, takes a second for each request.
    pub(crate) fn slow_down(&mut self, disk: &Plugged) -> Outcome {
        self.qmp.slow_down(disk)
    }

    /// Starts the daemon in the foreground.
    pub(crate) fn start(&mut self, config: &str) -> Outcome<&mut Daemon> {
        Ok(self.daemon.insert(Daemon::start(config)?))
    }

    /// Stops everything, pulls everything, and fails if anything is left after that.
    pub(crate) fn clear(&mut self) -> Outcome {
        let stopped = match self.daemon.take() {
            Some(mut daemon) => daemon.stop(),
            None => Ok(()),
        };
        let cleared = daemon::clear().and(hypervisor::clear());
        let left =
            wait::until_true("leftovers to go", wait::PATIENCE / 6, || self.leftovers(false).is_empty());
        let leak = if left.is_err() { self.leftovers(false) } else { Vec::new() };
        self.force();
        let mut pulled: Vec<Outcome> =
            std::mem::take(&mut self.plugged).iter().map(|disk| self.qmp.pull(disk)).collect();
        // What is behind a hub before the hub.
        let devices = std::mem::take(&mut self.plugged_usb);
        pulled.extend(devices.iter().rev().map(|id| self.qmp.pull_usb(id)));
        self.gadgets.clear();
        self.originals.give_back();
        for file in [&self.workshop, &self.share].iter().flat_map(fs::read_dir).flatten().flatten() {
            let ours = file.path().extension().is_some_and(|extension| extension == "disk");
            if ours {
                fs::remove_file(file.path())?;
            }
        }
        udevdb::settle()?;
        if !leak.is_empty() {
            return Err(format!("left behind: {}", leak.join(", ")).into());
        }
        pulled.into_iter().collect::<Outcome<Vec<()>>>()?;
        stopped.and(cleared)
    }

    /// What should not be there between two scenarios, and after [`Lab::clear`] not even by force.
    pub(crate) fn leftovers(&self, disks_too: bool) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        left.extend(self.extra_mounts().iter().map(|mount| format!("mount {}", mount.point.display())));
        left.extend(mounts::mappings().into_iter().map(|name| format!("mapping {name}")));
        left.extend(mounts::loops().into_iter().map(|file| format!("loop device of {file}")));
        left.extend(daemon::processes().into_iter().map(|pid| format!("process {pid}")));
        if disks_too {
            left.extend(mounts::sticks().into_iter().map(|number| format!("disk {number}")));
        }
        left
    }

    fn extra_mounts(&self) -> Vec<mounts::Mount> {
        let system = ["/sys/kernel/config", "/proc/sys/fs/binfmt_misc"];
        let mut now = mounts::all().unwrap_or_default();
        now.retain(|mount| {
            !self.mounts_at_start.contains(mount) && !system.iter().any(|path| mount.point == Path::new(path))
        });
        now
    }

    /// Takes leftovers away by force, so that one scenario's leak is not the next one's failure.
    fn force(&self) {
        for mount in self.extra_mounts().iter().rev() {
            let _ = Program::new("umount").args(["-i", "-l"]).arg(&mount.point).finish();
        }
        for mapping in mounts::mappings() {
            let _ = Program::new("cryptsetup").args(["close", "--deferred", &mapping]).finish();
        }
        let _ = Program::new("losetup").arg("-D").finish();
    }

    fn publish(&mut self, image: &Path) -> Outcome<PathBuf> {
        self.counter += 1;
        let published = disks::publish(image, &self.share, &format!("published{}.disk", self.counter));
        fs::remove_file(image)?;
        published
    }
}
