//! The edge to udev: one thread that reads every disk and USB device at the start, then sleeps until udev has
//! handled an event of one, reads that device again and reports what is new. An event only says where to look;
//! what the records mean is decided in `block` and `usb`, what is new in `inventory`.
//!
//! The socket is opened before anything is read, so nothing falls between. libudev is not safe to share: all
//! its objects are made in the monitor's thread and stay there.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use udev::{Device, Enumerator, Event, EventType, MonitorBuilder, MonitorSocket};

use super::inventory::Inventory;
use super::record::Record;
use super::{DeviceEvent, DiskSeq, MonitorError, block, usb};

/// Bytes of events that the kernel keeps for us before it drops some: thousands. Takes memory only when full.
pub const RECEIVE_BUFFER: usize = 16 << 20;

/// Receive errors in a row, with no event between, after which the socket is given up.
const MAX_RECEIVE_ERRORS: u32 = 16;

/// Exists while systemd-udevd runs (the test that libudev itself makes).
const UDEVD_CONTROL: &str = "/run/udev/control";

pub(super) const DISK_ATTRIBUTES: [&str; 4] = ["size", "ro", "diskseq", "hidden"];
pub(super) const PARTITION_ATTRIBUTES: [&str; 2] = ["size", "partition"];
pub(super) const USB_ATTRIBUTES: [&str; 6] =
    ["busnum", "devnum", "idVendor", "idProduct", "bDeviceClass", "bConfigurationValue"];

/// The thread that watches devices. Dropping it stops it, after a report that is under way.
#[derive(Debug)]
pub struct Monitor {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts to watch. `report` is called in the monitor's thread: first for all that is present, then
    /// [`DeviceEvent::EnumerationDone`], then for every change. While it blocks, events wait in the kernel.
    ///
    /// Needs no privilege; without it the receive buffer stays at the kernel's limit (`net.core.rmem_max`).
    ///
    /// # Errors
    /// No thread, eventfd or netlink socket. Later failures are reported as [`DeviceEvent::MonitorFailed`].
    pub fn start(report: impl FnMut(DeviceEvent) + Send + 'static) -> Result<Self, MonitorError> {
        Self::with_receive_buffer(RECEIVE_BUFFER, report)
    }

    /// As [`Monitor::start`], with a receive buffer of so many bytes: a small one loses events, which a test may
    /// want.
    ///
    /// # Errors
    /// As [`Monitor::start`].
    pub fn with_receive_buffer(
        bytes: usize,
        report: impl FnMut(DeviceEvent) + Send + 'static,
    ) -> Result<Self, MonitorError> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(MonitorError::Start)?);
        let stopped = Arc::clone(&stop);
        let (listening, started) = bounded(1);
        let thread = thread::Builder::new()
            .name("udev".into())
            .spawn(move || watch(bytes, &stopped, &listening, Box::new(report)))
            .map_err(|error| MonitorError::Start(errno(&error)))?;
        let monitor = Self { stop, thread: Some(thread) };
        // A thread that ends without a word has panicked.
        started.recv().unwrap_or(Err(MonitorError::Start(Errno::CANCELED)))?;
        Ok(monitor)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Cannot block: one is far from an eventfd's limit.
        let _ = rustix::io::write(self.stop.as_fd(), &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // Dropped by its own callback: the thread ends when that returns.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

type Report = Box<dyn FnMut(DeviceEvent)>;

/// The life of the monitor's thread; the result of opening the socket goes to `listening`.
fn watch(bytes: usize, stop: &OwnedFd, listening: &Sender<Result<(), MonitorError>>, report: Report) {
    if !udev_runs() {
        tracing::warn!(
            "systemd-udevd does not run: disks have no ids, and what is plugged in now may go unseen"
        );
    }
    let socket = match listen(bytes) {
        Ok(socket) => socket,
        Err(error) => {
            let _ = listening.send(Err(error));
            return;
        }
    };
    let _ = listening.send(Ok(()));
    let mut watcher =
        Watcher { socket, inventory: Inventory::default(), dirty: Dirty::default(), errors: 0, report };
    if let Err(error) = watcher.run(stop) {
        (watcher.report)(DeviceEvent::MonitorFailed(error));
    }
}

fn listen(bytes: usize) -> Result<MonitorSocket, MonitorError> {
    let failed = |error: std::io::Error| MonitorError::Listen(errno(&error));
    // All of `usb`, not the devices alone: an interface that appears is the only news of an authorization.
    let socket = MonitorBuilder::new()
        .and_then(|builder| builder.match_subsystem("block"))
        .and_then(|builder| builder.match_subsystem("usb"))
        .and_then(MonitorBuilder::listen)
        .map_err(failed)?;
    let forced = set_socket_recv_buffer_size_force(&socket, bytes);
    if let Err(error) = forced.or_else(|_| set_socket_recv_buffer_size(&socket, bytes)) {
        tracing::warn!("cannot enlarge the receive buffer for udev's events: {error}");
    }
    Ok(socket)
}

/// Directories under /sys of devices that must be read again.
#[derive(Default)]
struct Dirty {
    disks: BTreeSet<PathBuf>,
    usb: BTreeSet<PathBuf>,
}

struct Watcher {
    socket: MonitorSocket,
    inventory: Inventory,
    dirty: Dirty,
    /// Receive errors since the last event.
    errors: u32,
    report: Report,
}

impl Watcher {
    fn run(&mut self, stop: &OwnedFd) -> Result<(), MonitorError> {
        self.enumerate()?;
        while self.wait(stop)? {
            if self.drain()? {
                self.read_dirty();
            } else {
                tracing::warn!("udev's events came faster than they were read: reading every device anew");
                self.enumerate()?;
            }
        }
        Ok(())
    }

    /// Sleeps until there is an event (true) or the monitor is to stop (false).
    fn wait(&self, stop: &OwnedFd) -> Result<bool, MonitorError> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, None)).map_err(MonitorError::Receive)?;
        Ok(fds[1].revents().is_empty())
    }

    /// Takes in every event that is waiting, so that a burst leads to one reading. False if events were lost.
    fn drain(&mut self) -> Result<bool, MonitorError> {
        let mut complete = true;
        loop {
            while let Some(event) = self.socket.iter().next() {
                self.errors = 0;
                self.note(&event);
            }
            // udev_monitor_receive_device(3): errno tells why there was none.
            let error = errno(&std::io::Error::last_os_error());
            if error == Errno::AGAIN || error == Errno::INTR {
                return Ok(complete);
            }
            self.errors += 1;
            if self.errors > MAX_RECEIVE_ERRORS {
                return Err(MonitorError::Receive(error));
            }
            // ENOBUFS: the buffer was full (netlink(7)). Whatever else it is, an event may be lost.
            complete = false;
        }
    }

    /// Notes where to look after this event. Only a removal is news by itself: its device cannot be read.
    fn note(&mut self, event: &Event) {
        let path = event.syspath();
        let removed = event.event_type() == EventType::Remove;
        let number = |name| event.property_value(name)?.to_str()?.parse::<u64>().ok();
        match event.devtype().and_then(|devtype| devtype.to_str()) {
            Some("disk") if removed => {
                let gone = self.inventory.disk_removed(path, number("DISKSEQ").map(DiskSeq));
                settle(&mut self.dirty.disks, path, gone, &mut self.report);
            }
            Some("usb_device") if removed => {
                let address = number("DEVNUM").and_then(|address| u16::try_from(address).ok());
                let gone = self.inventory.usb_removed(path, address);
                settle(&mut self.dirty.usb, path, gone, &mut self.report);
            }
            Some("disk") => drop(self.dirty.disks.insert(path.to_owned())),
            Some("usb_device") => drop(self.dirty.usb.insert(path.to_owned())),
            Some("partition") => self.dirty.disks.extend(path.parent().map(Path::to_owned)),
            Some("usb_interface") => self.dirty.usb.extend(path.parent().map(Path::to_owned)),
            _ => {}
        }
    }

    /// Reads every device: those in /sys, and those known, which may be gone.
    fn enumerate(&mut self) -> Result<(), MonitorError> {
        self.dirty.disks.extend(self.inventory.disk_paths().cloned());
        self.dirty.usb.extend(self.inventory.usb_paths().cloned());
        self.dirty.disks.extend(enumerated("block", "disk")?);
        self.dirty.usb.extend(enumerated("usb", "usb_device")?);
        self.read_dirty();
        (self.report)(DeviceEvent::EnumerationDone);
        Ok(())
    }

    /// A USB device first, then the disk that it is.
    fn read_dirty(&mut self) {
        let udev_runs = udev_runs();
        let Dirty { disks, usb } = std::mem::take(&mut self.dirty);
        for path in usb {
            let device = record(&path, &USB_ATTRIBUTES)
                .and_then(|record| usb::usb_device(&record, self.inventory.usb_at(&path), udev_runs));
            self.inventory.usb_read(&path, device).into_iter().for_each(&mut self.report);
        }
        for path in disks {
            let disk = record(&path, &DISK_ATTRIBUTES)
                .and_then(|whole| block::disk(&whole, &partitions(&path), udev_runs));
            self.inventory.disk_read(&path, disk).into_iter().for_each(&mut self.report);
        }
    }
}

/// After a removal: either it was news, and earlier events of that plug no longer matter, or the device there is
/// another one, to be read.
fn settle(dirty: &mut BTreeSet<PathBuf>, path: &Path, gone: Option<DeviceEvent>, report: &mut Report) {
    match gone {
        Some(event) => {
            dirty.remove(path);
            report(event);
        }
        None => drop(dirty.insert(path.to_owned())),
    }
}

/// Directories of the devices of this kind; with or without udev.
fn enumerated(subsystem: &str, devtype: &str) -> Result<Vec<PathBuf>, MonitorError> {
    let found = || -> std::io::Result<Vec<PathBuf>> {
        let mut enumerator = Enumerator::new()?;
        enumerator.match_subsystem(subsystem)?;
        let devices = enumerator.scan_devices()?;
        let of_kind = devices.filter(|device| device.devtype().is_some_and(|found| found == devtype));
        Ok(of_kind.map(|device| device.syspath().to_owned()).collect())
    };
    found().map_err(|error| MonitorError::Enumerate(errno(&error)))
}

/// What there is to know of the partitions of the disk in this directory, in any order.
pub(super) fn partitions(disk: &Path) -> Vec<Record> {
    let entries = fs::read_dir(disk).into_iter().flatten().flatten().map(|entry| entry.path());
    // Only a partition's directory has this file; the disk's other directories are not devices.
    entries
        .filter(|path| path.join("partition").exists())
        .filter_map(|path| record(&path, &PARTITION_ATTRIBUTES))
        .collect()
}

/// Reads a device; `None` if it is gone.
pub(super) fn record(syspath: &Path, attributes: &[&str]) -> Option<Record> {
    let device = Device::from_syspath(syspath).ok()?;
    let mut record = Record::new(syspath.to_owned(), device.is_initialized());
    for property in device.properties() {
        record.set_property(property.name().to_string_lossy(), property.value().to_string_lossy());
    }
    for name in attributes {
        if let Some(value) = device.attribute_value(name) {
            record.set_attribute(*name, value.to_string_lossy());
        }
    }
    if let Some(driver) = device.driver() {
        record.set_attribute("driver", driver.to_string_lossy());
    }
    Some(record)
}

fn udev_runs() -> bool {
    Path::new(UDEVD_CONTROL).exists()
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn every_machine_can_be_enumerated_and_the_monitor_stopped() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let monitor = Monitor::start(move |event| drop(sender.send(event))).unwrap();
        let mut disks = Vec::new();
        loop {
            match receiver.recv_timeout(DEADLINE).unwrap() {
                DeviceEvent::EnumerationDone => break,
                DeviceEvent::DiskPresent(disk) => disks.push(disk),
                DeviceEvent::UsbPresent(_) => {}
                other => panic!("{other:?}"),
            }
        }
        for disk in disks {
            let sysfs = Path::new("/sys/class/block").join(disk.node.devnode.file_name().unwrap());
            let diskseq = fs::read_to_string(sysfs.join("diskseq")).unwrap();
            assert_eq!(diskseq.trim(), disk.seq.0.to_string());
        }
        drop(monitor);
        let rest: Vec<_> = receiver.iter().collect();
        assert!(!rest.iter().any(|event| matches!(event, DeviceEvent::MonitorFailed(_))), "{rest:?}");
    }
}
