//! The whole way from an order to a detached mount, step by step, and back again if a step fails. Knows nothing of how
//! the steps are done.

use super::cancel::{Cancel, Limits};
use super::content::{self, Content};
use super::cryptsetup::Cryptsetup;
use super::fscontext::{self, Detached};
use super::node::{Disk, Node};
use super::options::{self, Options};
use super::unlock::{self, Unlocked};
use super::{DiskError, ErrorKind, Opened, Order, Prepared, Source, busy, damage, image, virtual_machines};

/// Makes a disk ready: opens and checks it, finds what is on it, unlocks it if it is encrypted, and mounts it where
/// nobody sees it. Blocks, for an argon2 key for many seconds; runs no program for a disk that is not encrypted. After
/// a failure nothing of it is left: the mapping is closed, the loop device freed. If that fails too, it is in
/// [`DiskError::left`].
///
/// The deadline is looked at before each step; a mount that was made just after it is given back all the same. A
/// cancelled one is not.
///
/// # Errors
/// See [`ErrorKind`]; the message says what was tried on which device.
pub fn prepare(order: &Order, cancel: &Cancel) -> Result<Prepared, DiskError> {
    prepare_with(&Cryptsetup::default(), order, cancel)
}

/// [`prepare`] with a `cryptsetup` of the caller's choice.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_with(cryptsetup: &Cryptsetup, order: &Order, cancel: &Cancel) -> Result<Prepared, DiskError> {
    let limits = Limits { cancel, deadline: order.deadline };
    let options = options::sort(&order.options)?;
    limits.check("opening the disk")?;
    let disk = match &order.source {
        Source::Device { disk, diskseq, partitions } => Disk::open(disk, *diskseq, partitions)?,
        Source::Image(path) => image::attach(path, limits)?,
    };
    let job = Job { order, options, disk: &disk, limits };
    inspect(cryptsetup, &job).map_err(|mut error| {
        // Whatever failed, that is why; udev's news of it may be later than the failure.
        if disk.node.is_gone() {
            error.kind = ErrorKind::Absent;
        }
        if let Some(left) = &mut error.left {
            left.loop_device.clone_from(&disk.loop_device);
            left.disk_sequence = disk.sequence;
        }
        error
    })
}

fn inspect(cryptsetup: &Cryptsetup, job: &Job<'_>) -> Result<Prepared, DiskError> {
    let refused = match job.try_hint()? {
        Hinted::Mounted(prepared) => return Ok(*prepared),
        Hinted::Refused(filesystem, error) => Some((filesystem, error)),
        Hinted::None => None,
    };
    job.limits.check("looking at what is on the disk")?;
    let (node, content) = content::choose(job.disk, job.order)?;
    match (content, refused) {
        (Content::Luks, _) => encrypted(cryptsetup, job, &node),
        // It is what udev believed, so the driver's word is the last.
        (Content::Filesystem(found), Some((tried, error))) if found == tried => Err(error),
        (Content::Filesystem(filesystem), _) => job.mount_plain(&node, filesystem),
    }
}

fn encrypted(cryptsetup: &Cryptsetup, job: &Job<'_>, header: &Node) -> Result<Prepared, DiskError> {
    let Unlocked { name, node, is_taken_over, notes } =
        unlock::unlock(cryptsetup, job.order, header, job.limits)?;
    let mounted = job
        .limits
        .check("looking into the unlocked disk")
        .and_then(|()| content::inside(&node, header, job.order))
        .and_then(|filesystem| job.mount(&node, filesystem));
    match mounted {
        Ok(mut mount) => {
            mount.notes.splice(0..0, notes);
            Ok(job.prepared(mount, &node, Some(name), header))
        }
        // Somebody else uses the mapping that was to be taken over.
        Err(error) if error.kind == ErrorKind::Busy && is_taken_over => Err(error),
        Err(error) => {
            // Our own descriptor would keep it open.
            drop(node);
            Err(unlock::undo(cryptsetup, &name, header, error))
        }
    }
}

/// What the last steps need to know.
struct Job<'a> {
    order: &'a Order,
    options: Options,
    disk: &'a Disk,
    limits: Limits<'a>,
}

/// A mount, and how it was made.
struct Mounted {
    detached: Detached,
    filesystem: &'static str,
    read_only: bool,
    errors: u64,
    notes: Vec<String>,
}

/// What came of mounting what udev believes to be there.
enum Hinted {
    /// There is no hint, or more to be checked than a driver does.
    None,
    Mounted(Box<Prepared>),
    /// The driver did not like what it found, or the options.
    Refused(&'static str, DiskError),
}

impl Job<'_> {
    fn try_hint(&self) -> Result<Hinted, DiskError> {
        let Some((node, filesystem)) = content::hinted(self.disk, self.order)? else {
            return Ok(Hinted::None);
        };
        match self.mount_plain(&node, filesystem) {
            Ok(prepared) => Ok(Hinted::Mounted(Box::new(prepared))),
            Err(error) => match error.kind {
                ErrorKind::Absent
                | ErrorKind::Busy
                | ErrorKind::NotAllowed
                | ErrorKind::TimedOut
                | ErrorKind::Exhausted => Err(error),
                _ => Ok(Hinted::Refused(filesystem, error)),
            },
        }
    }

    fn mount_plain(&self, node: &Node, filesystem: &'static str) -> Result<Prepared, DiskError> {
        let mounted = self.mount(node, filesystem)?;
        Ok(self.prepared(mounted, node, None, node))
    }

    fn mount(&self, node: &Node, filesystem: &'static str) -> Result<Mounted, DiskError> {
        if node.is_claimed()? {
            let message = format!("{} {}", node.path.display(), busy::holder(node));
            return Err(DiskError::new(ErrorKind::Busy, message));
        }
        // Of an encrypted disk this comes late, but now the mapping claims the disk.
        virtual_machines::refuse_if_open(&self.disk.node, None)?;
        let is_protected = node.is_read_only()?;
        let mut notes = Vec::new();
        if is_protected && !self.options.read_only {
            notes.push(format!("{} is write-protected, mounted read-only", node.path.display()));
        }
        let read_only = self.options.read_only || is_protected;
        self.limits.check("mounting")?;
        let mut detached = fscontext::mount(filesystem, node, &self.options, read_only)?;
        if self.limits.cancel.is_cancelled() {
            // Dropping the mount unmounts it (`dissolve_on_fput` in fs/namespace.c).
            return Err(DiskError::new(ErrorKind::TimedOut, "Cancelled after mounting"));
        }
        notes.append(&mut detached.warnings);
        let errors = if filesystem.starts_with("ext") { damage(node.devnum).count } else { 0 };
        Ok(Mounted { detached, filesystem, read_only, errors, notes })
    }

    fn prepared(&self, mounted: Mounted, node: &Node, mapping: Option<String>, on: &Node) -> Prepared {
        Prepared {
            mount: mounted.detached.mount,
            root: mounted.detached.root,
            mount_id: mounted.detached.id,
            opened: Opened {
                mapping,
                loop_device: self.disk.loop_device.clone(),
                devnum: node.devnum,
                device: on.path.clone(),
                disk_sequence: self.disk.sequence,
            },
            filesystem: mounted.filesystem.to_owned(),
            read_only: mounted.read_only,
            errors: mounted.errors,
            notes: mounted.notes,
        }
    }
}
