//! The commands that look: status, devices, check.

use std::io::Write;
use std::path::Path;

use super::roots;
use crate::{config, daemon, status};

/// `mydisks status`: the daemon's own text, from the root's status files.
pub(super) fn status(json: bool, mountpoint: Option<&Path>) -> Result<(), String> {
    let root = roots::find(mountpoint)?;
    let file = root.mountpoint.join(".status").join(if json { "status.json" } else { "summary" });
    let text = std::fs::read(&file).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTCONN) => format!(
            "the daemon of {0} is gone: `mount {0}` starts another, which takes over what is mounted",
            root.mountpoint.display()
        ),
        _ => format!("cannot read {}: {error}", file.display()),
    })?;
    print(&text)
}

/// `mydisks devices`: looks for itself, so that it helps to write the first config.
pub(super) fn devices(named: Option<&Path>) -> Result<(), String> {
    let file = named.unwrap_or(Path::new(config::DEFAULT_FILE));
    let config = match file.try_exists() {
        Ok(false) if named.is_none() => config::parse("", file),
        _ => config::load(file),
    };
    let config = config.map_err(|error| error.to_string())?;
    let snapshot = daemon::look_once(config).map_err(|error| format!("cannot look for devices: {error}"))?;
    print(status::devices(&snapshot.devices).as_bytes())
}

/// `mydisks check`
pub(super) fn check(file: &Path) -> Result<(), String> {
    let config = config::load(file).map_err(|error| error.to_string())?;
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (mounts, guests) = (count(config.mounts.len(), "mount"), count(config.guests.len(), "guest"));
    print(format!("{}: {mounts}, {guests}, no errors\n", file.display()).as_bytes())
}

pub(super) fn print(text: &[u8]) -> Result<(), String> {
    match std::io::stdout().write_all(text) {
        // `mydisks status | head`
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| format!("cannot write: {error}")),
    }
}
