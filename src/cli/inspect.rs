//! The commands that look: status, devices, check, import.

use std::io::{Read, Write};
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

/// `mydisks import`: the config to standard output, what it could not carry over to standard error.
pub(super) fn import(file: &Path) -> Result<(), String> {
    let name = crate::device::printable(&file.to_string_lossy());
    let most = config::LONGEST_LIST as u64 + 1;
    let mut list = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(most).read_to_end(&mut list),
        _ => std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut list)),
    };
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    let imported = config::import(&list).map_err(|error| match error {
        config::ImportError::Lines(lines) => {
            let lines: Vec<_> = lines.iter().map(|line| format!("{name}: {line}")).collect();
            lines.join("\n")
        }
        error => format!("{name}: {error}"),
    })?;
    for note in &imported.notes {
        // Nobody is left to tell if standard error is gone; the notes stand in the text too.
        let _ = writeln!(std::io::stderr(), "{name}: {note}");
    }
    print(imported.toml.as_bytes())
}

pub(super) fn print(text: &[u8]) -> Result<(), String> {
    match std::io::stdout().write_all(text) {
        // `mydisks status | head`
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| format!("cannot write: {error}")),
    }
}
