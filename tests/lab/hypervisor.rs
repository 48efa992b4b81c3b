//! libvirtd and tiny guests in the test machine, asked and told through virsh: a second opinion that shares no code with
//! the program under test. libvirtd is started once and serves all scenarios.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::program::{Finished, Program};
use crate::wait::{self, PATIENCE};

/// Guests inside an emulated machine are emulated twice.
pub(crate) const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() * 2);

const FILES: &str = "/dev/shm/lab-guests";
const LIBVIRTD_PID: &str = "/run/libvirtd.pid";

/// What a guest is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Machine `pc` with a boot sector that grants every unplug request.
    Grants,
    /// The same without an answer to anything.
    Silent,
    /// Machine `q35` with a controller for SCSI disks; silent.
    Modern,
    /// Machine `q35` with one free PCI port; silent.
    Narrow,
}

/// Starts libvirtd unless it runs.
pub(crate) fn start() -> Outcome {
    if libvirtd().is_ok_and(|pid| rustix::process::test_kill_process(pid).is_ok()) {
        return Ok(());
    }
    // As systemd does: what is unmounted here is unmounted in the namespaces of guests, which would keep it alive.
    Program::new("mount").args(["--make-rshared", "/"]).ok()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab-libvirt");
    Program::new("sh").arg(script).ok().map(drop)
}

/// Defines a guest, which stays off.
pub(crate) fn define(name: &str, kind: Kind) -> Outcome {
    start()?;
    fs::create_dir_all(FILES)?;
    let boot = boot_sector(name, kind)?;
    let file = Path::new(FILES).join(format!("{name}.xml"));
    fs::write(&file, description(name, kind, &boot))?;
    virsh(["define", &file.to_string_lossy()]).map(drop)
}

/// Defines a guest and turns it on.
pub(crate) fn boot(name: &str, kind: Kind) -> Outcome {
    define(name, kind)?;
    virsh(["start", name]).map(drop)
}

/// A command of virsh that must succeed; what it printed.
pub(crate) fn virsh<'a>(words: impl IntoIterator<Item = &'a str>) -> Outcome<String> {
    Program::new("virsh").args(["-q", "-c", "qemu:///system"]).args(words).ok()
}

/// The same, whatever comes of it.
pub(crate) fn try_virsh<'a>(words: impl IntoIterator<Item = &'a str>) -> Outcome<Finished> {
    Program::new("virsh").args(["-q", "-c", "qemu:///system"]).args(words).finish()
}

/// The XML of what the guest has now.
pub(crate) fn live(name: &str) -> Outcome<String> {
    virsh(["dumpxml", name])
}

/// The XML of what it will start with.
pub(crate) fn persistent(name: &str) -> Outcome<String> {
    virsh(["dumpxml", "--inactive", name])
}

/// Waits until the live XML of a guest holds, or no longer holds, a text.
pub(crate) fn wait_until_live(name: &str, text: &str, is_there: bool) -> Outcome {
    let what = if is_there { "to have" } else { "to be rid of" };
    wait::until_true(&format!("{name} {what} {text}"), LONG, || {
        live(name).is_ok_and(|xml| xml.contains(text) == is_there)
    })
}

/// Attaches a device that is given as XML, live.
pub(crate) fn attach(name: &str, xml: &str) -> Outcome<Finished> {
    let file = PathBuf::from(FILES).join("device.xml");
    fs::write(&file, xml)?;
    try_virsh(["attach-device", name, &file.to_string_lossy(), "--live"])
}

/// The process of a guest that runs.
pub(crate) fn qemu(name: &str) -> Outcome<Pid> {
    pid_of(&format!("/run/libvirt/qemu/{name}.pid"))
}

/// The process of libvirtd.
pub(crate) fn libvirtd() -> Outcome<Pid> {
    pid_of(LIBVIRTD_PID)
}

/// Kills libvirtd without a word.
pub(crate) fn kill_libvirtd() -> Outcome {
    let pid = libvirtd()?;
    kill_process(pid, Signal::KILL)?;
    wait::until_true("libvirtd to be dead", PATIENCE, || rustix::process::test_kill_process(pid).is_err())
}

/// Starts it again after that.
pub(crate) fn start_libvirtd() -> Outcome {
    Program::new("libvirtd").arg("-d").ok()?;
    wait::until_true("libvirtd to answer", LONG, || virsh(["uri"]).is_ok())
}

/// Ends all guests and forgets them. Nothing that a scenario froze stays frozen.
pub(crate) fn clear() -> Outcome {
    let Ok(libvirtd) = libvirtd() else { return Ok(()) };
    let _ = kill_process(libvirtd, Signal::CONT);
    if rustix::process::test_kill_process(libvirtd).is_err() {
        start_libvirtd()?;
    }
    let names = virsh(["list", "--all", "--name"])?;
    for name in names.lines().map(str::trim).filter(|name| !name.is_empty()) {
        if let Ok(pid) = qemu(name) {
            let _ = kill_process(pid, Signal::CONT);
        }
        let _ = try_virsh(["destroy", name])?;
        let _ = try_virsh(["managedsave-remove", name])?;
        virsh(["undefine", name])?;
    }
    let _ = fs::remove_dir_all(FILES);
    Ok(())
}

fn pid_of(file: &str) -> Outcome<Pid> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Pid::from_raw(text.trim().parse()?).ok_or_else(|| format!("{file} holds no process").into())
}

/// The disk that the guest boots from: its own, since QEMU locks it.
fn boot_sector(name: &str, kind: Kind) -> Outcome<PathBuf> {
    let path = Path::new(FILES).join(format!("{name}.img"));
    if kind == Kind::Grants {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/mkbits.sh");
        Program::new("sh").arg(script).arg(&path).ok()?;
        return Ok(path);
    }
    // cli; hlt; again.
    let mut sector = vec![0xfa, 0xf4, 0xeb, 0xfd];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    fs::write(&path, sector)?;
    Ok(path)
}

fn description(name: &str, kind: Kind, boot: &Path) -> String {
    let boot = boot.display();
    let (machine, bus, more) = match kind {
        Kind::Grants | Kind::Silent => ("pc", "ide", String::new()),
        Kind::Modern => ("q35", "sata", format!("{}<controller type='scsi' model='virtio-scsi'/>", ports(8))),
        // The controller for USB takes the other one.
        Kind::Narrow => ("q35", "sata", ports(2)),
    };
    let target = if bus == "ide" { "hda" } else { "sda" };
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
         <os><type arch='x86_64' machine='{machine}'>hvm</type><boot dev='hd'/></os><features><acpi/></features>
         <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
         <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{boot}'/>
         <target dev='{target}' bus='{bus}'/></disk>
         <controller type='usb' model='qemu-xhci' ports='8'/>{more}<memballoon model='none'/></devices></domain>"
    )
}

fn ports(count: u32) -> String {
    let port = |index| format!("<controller type='pci' index='{index}' model='pcie-root-port'/>");
    format!(
        "<controller type='pci' index='0' model='pcie-root'/>{}",
        (1..=count).map(port).collect::<String>()
    )
}
