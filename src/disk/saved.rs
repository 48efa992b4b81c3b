//! Whether a disk has got all that was written to a file system that has just been unmounted. Knows nothing of mounts.
//!
//! umount2(2) does not tell: that the write-back failed is ignored (`generic_shutdown_super` in fs/super.c).

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::node::{Disk, Node};
use super::{DiskError, ErrorKind, Opened};

/// A disk that is being pulled fails first; so long the kernel may take to find that it is gone.
const MOMENT: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(50);

/// What a disk says after its file system was unmounted.
#[derive(Debug)]
pub enum Saved {
    /// It is there and has taken everything.
    Yes,
    /// It has been pulled.
    Pulled,
    /// It is there and fails.
    Failed(DiskError),
}

/// Flushes what carried the file system, or the disk itself if the mapping has been closed, and looks whether the disk is
/// still the one that was opened.
pub fn saved(opened: &Opened) -> Saved {
    let flushed = flush(opened);
    let deadline = Instant::now() + MOMENT;
    loop {
        match &flushed {
            _ if is_pulled(opened) => return Saved::Pulled,
            Ok(()) => return Saved::Yes,
            Err(_) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(error) => return Saved::Failed(error.clone()),
        }
    }
}

/// The same of what others have unmounted; `None` while it lives on for somebody.
pub fn saved_by_others(opened: &Opened) -> Option<Saved> {
    let is_alive =
        carrier(opened).is_ok_and(|node| node.is_some_and(|node| node.is_claimed().unwrap_or(false)));
    (!is_alive).then(|| saved(opened))
}

/// An error that the kernel met when it wrote, and told nobody, comes out here too (lib/errseq.c).
fn flush(opened: &Opened) -> Result<(), DiskError> {
    let node = match carrier(opened)? {
        Some(node) => node,
        None => match Disk::open(&opened.device, opened.disk_sequence, &[]) {
            Ok(disk) => disk.node,
            // Whether it was pulled is looked at by itself.
            Err(error) if error.kind == ErrorKind::Absent => return Ok(()),
            Err(error) => return Err(error),
        },
    };
    let what = format_args!("{} cannot be flushed", node.path.display()).to_string();
    node.flush().map_err(|error| DiskError::system(what, &error))
}

/// The block device that carried the file system; `None` if a mapping has been closed.
fn carrier(opened: &Opened) -> Result<Option<Node>, DiskError> {
    let mapping = opened.mapping.as_ref().map(|name| Path::new("/dev/mapper").join(name));
    match Node::open(mapping.as_deref().unwrap_or(&opened.device)) {
        Ok(node) => Ok((node.devnum == opened.devnum).then_some(node)),
        Err(error) if error.kind == ErrorKind::Absent => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_pulled(opened: &Opened) -> bool {
    Disk::open(&opened.device, opened.disk_sequence, &[]).is_err_and(|error| error.kind == ErrorKind::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_not_there_has_been_pulled() {
        let opened = Opened { device: "/dev/no-such-disk".into(), ..Opened::default() };
        assert!(matches!(saved(&opened), Saved::Pulled));
    }
}
