//! From a LUKS header to an opened, proven mapping: one that is there is taken over, a name that a pulled disk still
//! holds is avoided. Knows nothing of what is inside.

use std::path::Path;
use std::time::{Duration, Instant};

use super::cancel::{Cancel, Limits};
use super::cryptsetup::Cryptsetup;
use super::lock::{Closing, Locked, close};
use super::luks_header::{self, Header};
use super::node::Node;
use super::{DiskError, ErrorKind, Opened, Order, busy, key, mapping};

/// How long undoing may take; it must be possible after the deadline and after a cancellation too.
const UNDOING: Duration = Duration::from_secs(20);

/// An open mapping.
#[derive(Debug)]
pub(super) struct Unlocked {
    /// `mydisks-NAME`, or one of its stand-ins.
    pub(super) name: String,
    pub(super) node: Node,
    /// It was there before: an earlier run has opened it.
    pub(super) is_taken_over: bool,
    /// What a person should know although it worked.
    pub(super) notes: Vec<String>,
}

/// Unlocks `header`, or takes over the mapping of the order's name that lies on it.
pub(super) fn unlock(
    cryptsetup: &Cryptsetup,
    order: &Order,
    header: &Node,
    limits: Limits<'_>,
) -> Result<Unlocked, DiskError> {
    let Some(key_file) = order.key_file.as_deref() else {
        let message = format!("No key-file is configured for {}", header.path.display());
        return Err(DiskError::new(ErrorKind::NoKey, message));
    };
    if header.is_claimed()? {
        return take_over(order, header);
    }
    let key = key::open(key_file)?;
    limits.check("reading the LUKS header")?;
    let checked = luks_header::read(header)?;
    check_uuid(&checked, order, header)?;
    let name = choose_name(cryptsetup, &order.mapping, limits)?;
    limits.check("unlocking")?;
    let opened = cryptsetup.open(&checked, &header.path, &name, key, header.is_read_only()?, limits);
    match opened.and_then(|()| mapping::open(&name, header)) {
        Ok(node) => Ok(Unlocked { name, node, is_taken_over: false, notes: notes(&checked, header) }),
        // Somebody was faster: a cryptsetup that a killed predecessor of ours had started.
        Err(error) if error.kind == ErrorKind::Busy && mapping::over(header, &order.mapping).is_some() => {
            take_over(order, header)
        }
        Err(error) => Err(undo_failed_open(cryptsetup, error, key_file, header, &name)),
    }
}

/// Closes a mapping over `header` after a failure, whatever that was; the failure, with the mapping if it stays.
pub(super) fn undo(cryptsetup: &Cryptsetup, name: &str, header: &Node, error: DiskError) -> DiskError {
    let why = match try_to_close(cryptsetup, name) {
        Ok(Locked::Closed | Locked::WhenUnused) => return error,
        Ok(Locked::Held) => format!("{name} is in use"),
        Err(failed) => failed.message,
    };
    let left = mapping::status(name).ok().flatten().map(|status| Opened {
        mapping: Some(name.to_owned()),
        devnum: status.devnum,
        device: header.path.clone(),
        ..Opened::default()
    });
    error.and_left(left, &why)
}

fn try_to_close(cryptsetup: &Cryptsetup, name: &str) -> Result<Locked, DiskError> {
    // Cancelled or late is what the work is, not its undoing.
    let cancel = Cancel::new().map_err(|error| DiskError::system("Cannot make an eventfd", &error))?;
    let limits = Limits { cancel: &cancel, deadline: Instant::now() + UNDOING };
    // udev may have it open to probe it: then it goes when udev is done.
    close(cryptsetup, name, Closing::WhenUnused, limits)
}

fn take_over(order: &Order, header: &Node) -> Result<Unlocked, DiskError> {
    let Some(name) = mapping::over(header, &order.mapping) else {
        let message = format!("{} {}", header.path.display(), busy::holder(header));
        return Err(DiskError::new(ErrorKind::Busy, message));
    };
    let node = mapping::open(&name, header)?;
    Ok(Unlocked { name, node, is_taken_over: true, notes: Vec::new() })
}

/// The UUID was looked at before, but in bytes that were read at another time.
fn check_uuid(checked: &Header, order: &Order, header: &Node) -> Result<(), DiskError> {
    match &order.luks_uuid {
        Some(wanted) if !checked.uuid.eq_ignore_ascii_case(wanted) => {
            let device = header.path.display();
            let message = format!("The LUKS header on {device} does not have the UUID {wanted} any more");
            Err(DiskError::new(ErrorKind::WrongContent, message))
        }
        _ => Ok(()),
    }
}

fn notes(checked: &Header, header: &Node) -> Vec<String> {
    let device = header.path.display();
    let note =
        format!("one of the two LUKS header copies on {device} is damaged: `cryptsetup repair {device}`");
    checked.is_partly_damaged.then_some(note).into_iter().collect()
}

/// A name that no mapping has. Ours over a disk that was pulled, or over another that nobody uses, are closed first.
fn choose_name(cryptsetup: &Cryptsetup, wanted: &str, limits: Limits<'_>) -> Result<String, DiskError> {
    for name in mapping::names(wanted) {
        let Some(status) = mapping::status(&name)? else { return Ok(name) };
        let is_dead = mapping::is_dead(&name).unwrap_or(false);
        let closing = if is_dead { Closing::WhenUnused } else { Closing::IfUnused };
        match close(cryptsetup, &name, closing, limits) {
            Ok(Locked::Closed) => return Ok(name),
            // It leaves by itself, so the next name is free to stand in.
            _ if is_dead || status.goes_when_unused => {}
            Ok(_) => return Err(name_taken(&name)),
            Err(error) => return Err(error),
        }
    }
    Err(name_taken(wanted))
}

fn name_taken(name: &str) -> DiskError {
    let lies_on = mapping::lies_on(name).unwrap_or_default();
    let devices = lies_on.into_iter().filter_map(|devnum| super::node::kernel_name(devnum).ok());
    let devices = devices.map(|name| Path::new("/dev").join(name).display().to_string()).collect::<Vec<_>>();
    let place = if devices.is_empty() { "a disk that is gone".to_owned() } else { devices.join(", ") };
    let message = format!("Mapping {name} is in use over {place}: unmount it and `cryptsetup close {name}`");
    DiskError::new(ErrorKind::Busy, message)
}

/// A program that failed, was killed or lied may have left a mapping. The name was free before, so what has it now and
/// lies on this header, or on nothing yet, is what was left.
fn undo_failed_open(
    cryptsetup: &Cryptsetup,
    mut error: DiskError,
    key_file: &Path,
    header: &Node,
    name: &str,
) -> DiskError {
    match error.kind {
        ErrorKind::KeyRejected => {
            error.message = format!("{} (key file {})", error.message, key_file.display())
        }
        ErrorKind::Busy => {
            error.message = format!("{}: {} {}", error.message, header.path.display(), busy::holder(header))
        }
        _ if header.is_gone() => error.kind = ErrorKind::Absent,
        _ => {}
    }
    // What the kernel does not tell is taken to be there, and ours.
    let is_gone = matches!(mapping::status(name), Ok(None));
    let is_anothers =
        mapping::lies_on(name).is_ok_and(|devices| !devices.is_empty() && devices != [header.devnum]);
    if is_gone || is_anothers { error } else { undo(cryptsetup, name, header, error) }
}
