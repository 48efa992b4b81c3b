//! Plugs and pulls USB disks of the machine that we run in: commands to the QEMU outside, over the virtio-serial
//! port `qmp`. Pulling is surprise removal through the real xHCI path. Knows nothing of what is on the disks.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::wait::{self, PATIENCE};
use crate::{Outcome, udevdb};

const PORT: &str = "/dev/virtio-ports/qmp";

/// The connection to QEMU's monitor. Only one process can hold it.
pub(crate) struct Qmp {
    port: File,
    received: Vec<u8>,
    last_id: u64,
}

/// How a disk shows itself.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// QEMU's usb-storage, always 46f4:0001, with a serial of our choice.
    Storage { serial: String },
    /// Bulk-only transport with our own SCSI strings.
    Scsi { vendor: String, product: String, serial: String },
    /// USB attached SCSI, the same.
    Uas { vendor: String, product: String, serial: String },
}

/// A disk that is plugged in.
#[derive(Clone, Debug)]
pub(crate) struct Plugged {
    /// QEMU's name of the device.
    pub(crate) id: String,
    /// The kernel's name, `sda`.
    pub(crate) name: String,
    /// `/dev/sda`.
    pub(crate) devnode: PathBuf,
    /// The kernel's number of this plug.
    pub(crate) diskseq: u64,
}

impl Qmp {
    pub(crate) fn open() -> Outcome<Qmp> {
        let port = OpenOptions::new()
            .read(true)
            .write(true)
            .open(PORT)
            .map_err(|error| format!("{PORT}: {error}: this runs inside the lab's machine only"))?;
        let mut qmp = Qmp { port, received: Vec::new(), last_id: u64::from(std::process::id()) << 32 };
        // Refused when an earlier holder of the port has done it: both answers mean that commands work.
        let _ = qmp.execute("qmp_capabilities", &json!({}));
        qmp.execute("query-status", &json!({}))?;
        Ok(qmp)
    }

    /// Plugs a disk over the file `backing` (outside and inside at the same path) and waits until udev knows it.
    pub(crate) fn plug(&mut self, id: &str, backing: &Path, shape: &Shape) -> Outcome<Plugged> {
        let before = disks().into_iter().map(|(_, seq)| seq).max().unwrap_or(0);
        self.insert(id, backing, shape)?;
        let (name, diskseq) = wait::until(&format!("the disk of {id} to appear"), PATIENCE, || {
            disks().into_iter().find(|(name, seq)| *seq > before && name.starts_with("sd"))
        })?;
        let devnode = Path::new("/dev").join(&name);
        wait::until_true(&format!("udev to know {name}"), PATIENCE, || {
            devnode.exists() && udevdb::of_block(&name).is_ok_and(|known| known.contains_key("ID_BUS"))
        })?;
        udevdb::settle()?;
        Ok(Plugged { id: id.to_owned(), name, devnode, diskseq })
    }

    /// Pulls it out and waits until its node is gone.
    pub(crate) fn pull(&mut self, disk: &Plugged) -> Outcome {
        self.execute("device_del", &json!({ "id": disk.id }))?;
        wait::until_true(&format!("{} to disappear", disk.name), PATIENCE, || {
            disks().iter().all(|(_, seq)| *seq != disk.diskseq)
        })?;
        let node = format!("d-{}", disk.id);
        wait::until_true("QEMU to let go of the backing file", PATIENCE, || {
            self.execute("blockdev-del", &json!({ "node-name": node })).is_ok()
        })?;
        udevdb::settle()
    }

    /// Plugs in a USB device that is no disk.
    pub(crate) fn plug_usb(&mut self, driver: &str, id: &str, properties: &Value) -> Outcome {
        let mut device = json!({ "driver": driver, "id": id, "bus": "xhci.0" });
        for (name, value) in properties.as_object().into_iter().flatten() {
            device[name] = value.clone();
        }
        self.execute("device_add", &device).map(drop)
    }

    /// Pulls it out.
    pub(crate) fn pull_usb(&mut self, id: &str) -> Outcome {
        self.execute("device_del", &json!({ "id": id })).map(drop)
    }

    /// From now on it answers one request a second.
    pub(crate) fn slow_down(&mut self, disk: &Plugged) -> Outcome {
        let backend = format!("/machine/peripheral/{0}/{0}.0/legacy[0]", disk.id);
        let throttle = json!({
            "id": backend, "iops": 1, "iops_rd": 0, "iops_wr": 0, "bps": 0, "bps_rd": 0, "bps_wr": 0,
        });
        self.execute("block_set_io_throttle", &throttle).map(drop)
    }

    fn insert(&mut self, id: &str, backing: &Path, shape: &Shape) -> Outcome {
        let node = format!("d-{id}");
        self.execute(
            "blockdev-add",
            &json!({
                "node-name": node, "driver": "raw", "cache": { "no-flush": true },
                "file": { "driver": "file", "filename": backing },
            }),
        )?;
        let (driver, vendor, product, serial) = match shape {
            Shape::Storage { serial } => {
                let device = json!({
                    "driver": "usb-storage", "id": id, "bus": "xhci.0", "drive": node,
                    "serial": serial, "removable": true,
                });
                return self.execute("device_add", &device).map(drop);
            }
            Shape::Scsi { vendor, product, serial } => ("usb-bot", vendor, product, serial),
            Shape::Uas { vendor, product, serial } => ("usb-uas", vendor, product, serial),
        };
        // The bridge stays detached until its disk is in place.
        let bridge = json!({ "driver": driver, "id": id, "bus": "xhci.0", "serial": serial });
        self.execute("device_add", &bridge)?;
        let disk = json!({
            "driver": "scsi-hd", "id": format!("s-{id}"), "bus": format!("{id}.0"), "drive": node,
            "vendor": vendor, "product": product, "serial": serial, "removable": true,
        });
        self.execute("device_add", &disk)?;
        let attach =
            json!({ "path": format!("/machine/peripheral/{id}"), "property": "attached", "value": true });
        self.execute("qom-set", &attach).map(drop)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Outcome<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({ "execute": command, "arguments": arguments, "id": id });
        self.port.write_all(format!("{request}\n").as_bytes())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer: Value = serde_json::from_slice(&self.line(deadline)?)?;
            if answer["id"] == json!(id) {
                return match answer.get("error") {
                    Some(error) => Err(format!("QEMU refuses {request}: {error}").into()),
                    None => Ok(answer["return"].clone()),
                };
            }
        }
    }

    /// The next line from QEMU: an answer, an event or the greeting.
    fn line(&mut self, deadline: Instant) -> Outcome<Vec<u8>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                return Ok(self.received.drain(..=end).collect());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left.max(Duration::from_millis(1)))?;
            if poll(&mut [PollFd::new(&self.port, PollFlags::IN)], Some(&left))? == 0 {
                return Err("QEMU's monitor does not answer".into());
            }
            let mut chunk = [0; 4096];
            let length = self.port.read(&mut chunk)?;
            if length == 0 {
                return Err("QEMU's monitor has hung up".into());
            }
            self.received.extend_from_slice(&chunk[..length]);
        }
    }
}

/// Every block device with its DISKSEQ.
fn disks() -> Vec<(String, u64)> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let sequence = fs::read_to_string(entry.path().join("diskseq")).ok()?;
            Some((entry.file_name().into_string().ok()?, sequence.trim().parse().ok()?))
        })
        .collect()
}
