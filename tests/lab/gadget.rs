//! USB devices that the test machine's own kernel makes (configfs gadget on dummy_hcd): any vendor, product and
//! serial, twins included, no QEMU involved.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::program::Program;
use crate::wait::{self, PATIENCE};

const CONFIGFS: &str = "/sys/kernel/config";
const CONTROLLERS: u32 = 4;

/// What a device says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(crate) vendor: u16,
    pub(crate) product: u16,
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    pub(crate) serial: String,
}

/// A device that is plugged in until dropped.
pub(crate) struct Gadget {
    directory: PathBuf,
}

impl Gadget {
    /// Plugs a disk over `backing` into dummy controller `controller` (0 to 3).
    pub(crate) fn disk(name: &str, controller: u32, claims: &Claims, backing: &Path) -> Outcome<Gadget> {
        Self::plug(name, controller, claims, "mass_storage.0", |function| {
            fs::write(function.join("lun.0/file"), backing.as_os_str().as_encoded_bytes())
        })
    }

    /// Plugs a serial line: a device that is no disk.
    pub(crate) fn serial_line(name: &str, controller: u32, claims: &Claims) -> Outcome<Gadget> {
        Self::plug(name, controller, claims, "acm.0", |_| Ok(()))
    }

    fn plug(
        name: &str,
        controller: u32,
        claims: &Claims,
        function: &str,
        set_up: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Outcome<Gadget> {
        load()?;
        let directory = Path::new(CONFIGFS).join("usb_gadget").join(name);
        fs::create_dir(&directory)?;
        let gadget = Gadget { directory };
        let directory = &gadget.directory;
        fs::write(directory.join("idVendor"), format!("{:#06x}", claims.vendor))?;
        fs::write(directory.join("idProduct"), format!("{:#06x}", claims.product))?;
        let strings = directory.join("strings/0x409");
        fs::create_dir_all(&strings)?;
        fs::write(strings.join("manufacturer"), &claims.manufacturer)?;
        fs::write(strings.join("product"), &claims.model)?;
        fs::write(strings.join("serialnumber"), &claims.serial)?;
        let configuration = directory.join("configs/c.1");
        fs::create_dir_all(configuration.join("strings/0x409"))?;
        let function = directory.join("functions").join(function);
        fs::create_dir(&function)?;
        set_up(&function)?;
        symlink(&function, configuration.join("function"))?;
        fs::write(directory.join("UDC"), format!("dummy_udc.{controller}"))?;
        Ok(gadget)
    }
}

impl Drop for Gadget {
    fn drop(&mut self) {
        let directory = &self.directory;
        let _ = fs::write(directory.join("UDC"), "\n");
        let _ = fs::remove_file(directory.join("configs/c.1/function"));
        for part in ["configs/c.1/strings/0x409", "configs/c.1", "strings/0x409"] {
            let _ = fs::remove_dir(directory.join(part));
        }
        for function in ["mass_storage.0", "acm.0"] {
            let _ = fs::remove_dir(directory.join("functions").join(function));
        }
        let _ = fs::remove_dir(directory);
    }
}

fn load() -> Outcome {
    Program::new("modprobe").args(["-a", "libcomposite", "usb_f_mass_storage", "usb_f_acm"]).ok()?;
    Program::new("modprobe")
        .arg("dummy_hcd")
        .arg(format!("num={CONTROLLERS}"))
        .arg("is_super_speed=0")
        .ok()?;
    let gadgets = Path::new(CONFIGFS).join("usb_gadget");
    if !gadgets.is_dir() {
        Program::new("mount").args(["-t", "configfs", "configfs", CONFIGFS]).ok()?;
    }
    wait::until_true("the gadget controllers", PATIENCE, || {
        gadgets.is_dir()
            && (0..CONTROLLERS).all(|n| Path::new(&format!("/sys/class/udc/dummy_udc.{n}")).exists())
    })
}
