//! Putting a disk away once it is unmounted: the mapping closed, the loop device freed, and both verified with the
//! kernel. Knows nothing of mounts.

use std::path::Path;
use std::time::{Duration, Instant};

use super::cancel::{Cancel, Limits};
use super::cryptsetup::Cryptsetup;
use super::node::Node;
use super::{DiskError, ErrorKind, Opened, image, mapping};

/// What to do with a mapping that somebody still has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Leave it, and say so.
    IfUnused,
    /// Let the kernel remove it when the last user is gone: for a disk that was pulled, and after a lazy unmount.
    WhenUnused,
}

/// What became of a disk that was to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// Nothing of it is left, verified with the kernel.
    Closed,
    /// Somebody has the mapping or the loop device open; nothing was changed.
    Held,
    /// Somebody has it open; it goes away by itself with its last user.
    WhenUnused,
}

/// Closes the mapping and waits for the loop device to be freed. What is gone already is fine, and so is a mapping of
/// that name that is not the one that was opened. Of a disk with neither it is told whether somebody has it mounted
/// still. Asks the kernel, not the program, what became of it. The loop device
/// frees itself; udev may have it open for a moment, so that is waited for until the deadline, a second at most.
///
/// # Errors
/// `cryptsetup` cannot be run, fails otherwise than for users, does not end before the deadline, or is cancelled.
pub fn lock(
    opened: &Opened,
    closing: Closing,
    deadline: Instant,
    cancel: &Cancel,
) -> Result<Locked, DiskError> {
    lock_with(&Cryptsetup::default(), opened, closing, deadline, cancel)
}

/// [`lock`] with a `cryptsetup` of the caller's choice.
///
/// # Errors
/// As [`lock`].
pub fn lock_with(
    cryptsetup: &Cryptsetup,
    opened: &Opened,
    closing: Closing,
    deadline: Instant,
    cancel: &Cancel,
) -> Result<Locked, DiskError> {
    let limits = Limits { cancel, deadline };
    if let Some(name) = &opened.mapping {
        let is_ours = mapping::status(name)?.is_some_and(|status| status.devnum == opened.devnum);
        if is_ours {
            match close(cryptsetup, name, closing, limits)? {
                Locked::Closed => {}
                not_closed => return Ok(not_closed),
            }
        }
    }
    match &opened.loop_device {
        None if opened.mapping.is_none() => lingers(opened),
        Some(device) if !becomes_free(device, opened.disk_sequence, limits) => match closing {
            Closing::IfUnused => Ok(Locked::Held),
            // It was attached so that it frees itself.
            Closing::WhenUnused => Ok(Locked::WhenUnused),
        },
        _ => Ok(Locked::Closed),
    }
}

/// Whether a disk without mapping is still in use, although our mount of it is gone from sight: it may be mounted
/// elsewhere, or live on for those who were in it.
fn lingers(opened: &Opened) -> Result<Locked, DiskError> {
    let node = match Node::open(&opened.device) {
        Err(error) if error.kind == ErrorKind::Absent => return Ok(Locked::Closed),
        node => node?,
    };
    let is_another = node.disk_sequence()? != opened.disk_sequence;
    Ok(if is_another || !node.is_claimed()? { Locked::Closed } else { Locked::WhenUnused })
}

/// Closes one mapping, and asks the kernel what became of it.
pub(super) fn close(
    cryptsetup: &Cryptsetup,
    name: &str,
    closing: Closing,
    limits: Limits<'_>,
) -> Result<Locked, DiskError> {
    limits.check("closing the mapping")?;
    let complaint = cryptsetup.close(name, closing == Closing::WhenUnused, limits)?;
    match (mapping::status(name)?, complaint) {
        (None, _) => Ok(Locked::Closed),
        (Some(status), _) if status.goes_when_unused => Ok(Locked::WhenUnused),
        (Some(status), Some(_)) if status.open_count > 0 => Ok(Locked::Held),
        (Some(_), complaint) => {
            let words = complaint.unwrap_or_else(|| "it said that all was well".to_owned());
            let message = format!("Mapping {name} is still there after `cryptsetup close`: {words}");
            Err(DiskError::new(ErrorKind::Other, message))
        }
    }
}

/// Whether the loop device loses its file. The kernel detaches it at the last close and tells nobody who waits for
/// that, so this looks again after growing pauses.
fn becomes_free(device: &Path, sequence: u64, limits: Limits<'_>) -> bool {
    let patience = limits.deadline.min(Instant::now() + Duration::from_secs(1));
    let mut pause = Duration::from_millis(1);
    while image::is_attached(device, sequence) {
        if limits.cancel.is_cancelled() || Instant::now() >= patience {
            return false;
        }
        Limits { deadline: patience, ..limits }.pause(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    true
}
