//! The machine of the lab (tests/lab/vm.sh), with what a benchmark needs plugged in.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Outcome, crowd, image};

/// A disk of the machine.
pub(crate) struct MachineDisk {
    /// How it is connected.
    pub(crate) kind: &'static str,
    /// By which the configuration names it.
    pub(crate) serial: &'static str,
    /// In /dev/disk/by-id.
    pub(crate) link: &'static str,
    /// QEMU's device.
    device: &'static str,
    /// More words about its drive.
    drive: &'static str,
}

/// All its disks.
pub(crate) const DISKS: [MachineDisk; 3] = [
    MachineDisk {
        kind: "virtio",
        serial: "BENCHDISK",
        link: "virtio-BENCHDISK",
        device: "virtio-blk-pci",
        drive: "",
    },
    MachineDisk {
        kind: "USB",
        serial: "BENCHSTICK",
        link: "usb-QEMU_QEMU_HARDDISK_BENCHSTICK-0:0",
        device: "usb-storage,bus=xhci.0",
        drive: "",
    },
    // As a disk with moving heads; the others answer from memory.
    MachineDisk {
        kind: "USB (120 operations a second)",
        serial: "BENCHSLOW",
        link: "usb-QEMU_QEMU_HARDDISK_BENCHSLOW-0:0",
        device: "usb-storage,bus=xhci.0",
        drive: ",throttling.iops-total=120",
    },
];

/// Runs this benchmark in there and prints its figures; whether all could be measured.
pub(crate) fn run(name: &str) -> Outcome<bool> {
    println!("\nin the machine of the lab (emulated: its times compare with one another only)");
    let share = tempfile::Builder::new().prefix("mydisks-bench.").tempdir()?;
    let qemu = match name {
        "first-access" => disks(share.path())?,
        "crowd" => crowd::devices(),
        _ => String::new(),
    };
    let console = share.path().join("console");
    let output = File::create(&console)?;
    let status = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/vm.sh"))
        .args(["-t", "900", "sh", "-c", "exec \"$@\" >\"$LAB_SHARE/figures\" 2>&1", "sh"])
        .arg(std::env::current_exe()?)
        .arg("--inside")
        .arg(name)
        .env("LAB_SHARE", share.path())
        .env("LAB_QEMU", qemu)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()?;
    print!("{}", fs::read_to_string(share.path().join("figures")).unwrap_or_default());
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => {
            let console = fs::read(&console).unwrap_or_default();
            Err(format!("the machine ended with {status}\n{}", String::from_utf8_lossy(&console)).into())
        }
    }
}

/// The words by which QEMU has them.
fn disks(share: &Path) -> Outcome<String> {
    let mut qemu = String::new();
    for disk in DISKS {
        let (file, serial) = (share.join(disk.serial), disk.serial);
        image::make(&file)?;
        qemu += &format!(
            " -drive if=none,id={serial},file={},format=raw,cache=unsafe{}",
            file.display(),
            disk.drive
        );
        qemu += &format!(" -device {},drive={serial},serial={serial}", disk.device);
    }
    Ok(qemu)
}
