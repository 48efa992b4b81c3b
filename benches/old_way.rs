//! What the daemon replaces: a udev rule that runs a shell script, which runs virsh.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Instant, SystemTime};

use crate::Outcome;
use crate::program::Program;

const RULES: &str = "/run/udev/rules.d/99-mydisks-bench.rules";
const SCRIPT: &str = "/run/mydisks-bench-old-way";
/// What the scripts had to say.
pub(crate) const LOG: &str = "/run/mydisks-bench-old-way.log";

/// Made anew when a script begins.
const BEGUN: &str = "/run/mydisks-bench-old-way.begun";

/// When the last script began, to a few milliseconds.
pub(crate) fn begun() -> Outcome<Instant> {
    let ago = SystemTime::now().duration_since(fs::metadata(BEGUN)?.modified()?)?;
    Ok(Instant::now().checked_sub(ago).ok_or("before the machine")?)
}

/// A device that is attached so.
pub(crate) enum Device<'a> {
    /// `1209`, `0002`: kinder than the scripts that matched these in the XML, which libvirt refuses for twins.
    Usb { vendor: &'a str, product: &'a str },
    /// By its serial.
    Disk { serial: &'a str, target: &'a str },
}

/// The rule and its script; taken away when it is dropped.
pub(crate) struct OldWay;

impl OldWay {
    /// Attaches such devices to this guest from now on. `guest` is in the words of a shell, with udev's properties as
    /// variables.
    pub(crate) fn install(device: &Device<'_>, guest: &str) -> Outcome<Self> {
        let (rule, command) = match device {
            Device::Usb { vendor, product } => (
                format!(
                    "ACTION==\"bind\", SUBSYSTEM==\"usb\", ENV{{DEVTYPE}}==\"usb_device\", \
                     ATTR{{idVendor}}==\"{vendor}\", ATTR{{idProduct}}==\"{product}\""
                ),
                "bus=${BUSNUM#0}; bus=${bus#0}; device=${DEVNUM#0}; device=${device#0}
xml=/run/mydisks-bench-$$.xml
echo \"<hostdev mode='subsystem' type='usb' managed='yes'><source><address bus='$bus' device='$device'/></source></hostdev>\" >$xml
$virsh attach-device \"$guest\" $xml --live; rm $xml"
                    .to_owned(),
            ),
            Device::Disk { serial, target } => (
                format!(
                    "ACTION==\"add\", SUBSYSTEM==\"block\", ENV{{DEVTYPE}}==\"disk\", \
                     ENV{{ID_SERIAL_SHORT}}==\"{serial}\""
                ),
                format!("$virsh attach-disk \"$guest\" \"$DEVNAME\" {target} --live"),
            ),
        };
        let script = format!(
            "#!/bin/sh\nexec >>{LOG} 2>&1 7>{BEGUN}\nvirsh='/usr/bin/virsh -q -c qemu:///system'\nguest={guest}\n{command}\n"
        );
        File::create(LOG)?;
        fs::write(SCRIPT, script)?;
        fs::set_permissions(SCRIPT, fs::Permissions::from_mode(0o755))?;
        if let Some(directory) = Path::new(RULES).parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(RULES, format!("{rule}, RUN+=\"{SCRIPT}\"\n"))?;
        reload().map(|()| Self)
    }
}

impl Drop for OldWay {
    fn drop(&mut self) {
        let _ = fs::remove_file(RULES);
        let _ = reload();
    }
}

fn reload() -> Outcome {
    Program::new("udevadm").args(["control", "--reload"]).ok().map(drop)
}
