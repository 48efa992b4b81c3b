//! Prints what is plugged in, and every change of it, one line per event, until standard input ends. Shows what
//! the daemon would see; needs no privilege. An argument is the size of the receive buffer in bytes.

use std::io::Read;
use std::time::Instant;

use mydisks::device::udev::{Monitor, RECEIVE_BUFFER};
use mydisks::device::{
    BlockNode, DeviceEvent, Disk, MonitorError, UsbDevice, disk_claims, printable, usb_claims,
};

fn main() -> Result<(), MonitorError> {
    let bytes = std::env::args().nth(1).and_then(|bytes| bytes.parse().ok()).unwrap_or(RECEIVE_BUFFER);
    let started = Instant::now();
    let _monitor = Monitor::with_receive_buffer(bytes, move |event| {
        println!("{:9.3} {}", started.elapsed().as_secs_f64(), line(&event));
    })?;
    // What is read does not matter, only that it ends.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

fn line(event: &DeviceEvent) -> String {
    match event {
        DeviceEvent::DiskPresent(disk) => disk_line(disk),
        DeviceEvent::DiskGone(seq) => format!("disk gone     {}", seq.0),
        DeviceEvent::UsbPresent(device) => usb_line(device),
        DeviceEvent::UsbGone { port, bus, address } => format!("usb gone      {port} {bus}:{address}"),
        DeviceEvent::EnumerationDone => "all enumerated".into(),
        DeviceEvent::MonitorFailed(error) => format!("failed: {error}"),
    }
}

fn disk_line(disk: &Disk) -> String {
    let nodes = std::iter::once(&disk.node).chain(disk.partitions.iter().map(|partition| &partition.node));
    let nodes: Vec<String> = nodes.map(node).collect();
    format!("disk present  {} {} claims {}", disk.seq.0, nodes.join(" "), disk_claims(disk).join(" "))
}

fn node(node: &BlockNode) -> String {
    let content = match (&node.content.fs_type, node.probed) {
        (Some(fs_type), _) => printable(fs_type),
        (None, true) => "-".into(),
        (None, false) => "?".into(),
    };
    format!("{}[{} {content}]", node.devnode.display(), node.size)
}

fn usb_line(device: &UsbDevice) -> String {
    let (bus, address) = (device.bus, device.address);
    let marks = [(device.bound, " bound"), (device.is_hub, " hub")];
    let marks: String = marks.iter().filter(|mark| mark.0).map(|mark| mark.1).collect();
    let name = device.name.as_deref().map(printable).unwrap_or_default();
    let claims = usb_claims(device).join(" ");
    format!("usb present   {} {bus}:{address}{marks} {name:?} claims {claims}", device.port)
}
