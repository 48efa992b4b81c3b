//! What goes into the core and what comes out of it. Nothing here does anything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::device::{Disk, DiskSeq, MountName, UsbDevice};
use crate::disk::{Damage, DiskError, Opened, Order};
use crate::guests::{GuestAction, GuestEvent};

/// A moment, as the core is told it; the core never asks a clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For decisions: does not jump, and stands still while the system is suspended (`CLOCK_MONOTONIC`).
    pub monotonic: Instant,
    /// For people.
    pub wall: SystemTime,
}

/// A mount's name: its number, which it keeps for ever. At the start they are places in the config; names that a
/// reload adds get the numbers that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// A FUSE request that waits for its answer: the kernel's `unique`, never used twice on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A piece of work that an edge does for one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A command of a person, by the connection that it came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What the caller of a trigger holds while it waits (facts of fs/fuse/dir.c and fs/namei.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// LOOKUP, CREATE, MKDIR, SETATTR…: the name directory's inode lock, which move_mount(2) needs too.
    Directory,
    /// OPENDIR, ACCESS, STATFS: none.
    Nothing,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody enters a name directory that nothing is mounted on.
    Trigger {
        /// To be answered, once.
        request: RequestId,
        /// The directory.
        slot: SlotId,
        /// What the caller holds.
        hold: Hold,
    },
    /// Somebody walks to a name: LOOKUP(root, name), not from one of our own threads.
    Walk {
        /// To be answered, once.
        request: RequestId,
        /// The name.
        slot: SlotId,
    },
    /// A signal reached the caller of this request (FUSE_INTERRUPT).
    Interrupted(RequestId),
    /// Whether that caller is about to die of it.
    Caller {
        /// Its request.
        request: RequestId,
        /// A fatal signal is pending.
        dying: bool,
    },
    /// A disk is there, or has changed.
    DiskPresent(Box<Disk>),
    /// That plug of a disk has ended.
    DiskGone(DiskSeq),
    /// A USB device is there, or has changed.
    UsbPresent(UsbDevice),
    /// The USB device at this bus and device number has gone.
    UsbGone {
        /// Bus number.
        bus: u16,
        /// Device number on it.
        address: u16,
    },
    /// Devices are no longer reported, and why: what is known of them stays as it was.
    Blind(String),
    /// A [`Action::Prepare`] has ended.
    Prepared {
        /// Which.
        job: JobId,
        /// A detached mount, kept by the edge until [`Action::Attach`] or [`Action::Abandon`]; or why not.
        result: Result<Detached, DiskError>,
    },
    /// An [`Action::Attach`] has ended.
    Attached {
        /// Which.
        job: JobId,
        /// When move_mount(2) had returned; or why it failed.
        result: Result<Instant, DiskError>,
    },
    /// An [`Action::Unmount`] has ended.
    Unmounted {
        /// Which.
        job: JobId,
        /// What came of it.
        result: UnmountResult,
    },
    /// An [`Action::Lock`] has ended.
    Locked {
        /// Which.
        job: JobId,
        /// What came of it.
        result: LockResult,
    },
    /// What is mounted on the name directories.
    Mounts {
        /// Taken before the table was read: what was attached later need not be in it.
        read: Instant,
        /// Each mount.
        on: Vec<OnName>,
    },
    /// What an earlier run left: a mount that has been moved under the new root, or a mapping only.
    Left {
        /// Where it belongs.
        slot: SlotId,
        /// Mounted; otherwise only open.
        is_mounted: bool,
        /// What there is.
        detached: Detached,
    },
    /// Something about libvirt's guests.
    Guest(GuestEvent),
    /// A person wants a device to go to a guest.
    GuestAttach {
        /// To be replied to, once.
        command: CommandId,
        /// An id, vendor:product, USB port or device node.
        device: String,
        /// The guest; `None` = the one that the config has for it.
        guest: Option<String>,
    },
    /// A person wants a device to leave its guest, and to stay away until it is plugged in again.
    GuestDetach {
        /// To be replied to, once.
        command: CommandId,
        /// As in [`Event::GuestAttach`].
        device: String,
    },
    /// A person wants one name unmounted and locked.
    Umount {
        /// To be replied to, once.
        command: CommandId,
        /// Which.
        name: String,
        /// And what else.
        wish: Wish,
        /// Once it is idle, and not refused while it is busy.
        waits: bool,
    },
    /// Whoever gave that command has gone or will wait no longer; what is under way for it goes on.
    GaveUp(CommandId),
    /// An [`Action::Eject`] has ended.
    Ejected {
        /// Which.
        job: JobId,
        /// What came of it.
        result: EjectResult,
    },
    /// The config was read again.
    Reload {
        /// To be replied to, once; `None` = a signal asked for it.
        command: Option<CommandId>,
        /// The new one; or what is wrong with it.
        config: Result<Arc<Config>, String>,
    },
    /// An [`Action::Names`] is done: the kernel remembers nothing of the hidden names.
    Forgotten,
    /// Everything is to be unmounted and locked, and the daemon to end; `None` = a signal said so.
    Stop(Option<CommandId>),
    /// The FUSE root could not be unmounted: somebody is in it.
    RootBusy(String),
    /// The FUSE root has been unmounted by somebody else.
    RootGone,
    /// A status file was opened.
    Status(RequestId),
    /// It is time that [`Core::next_wakeup`](super::Core::next_wakeup) named.
    Tick,
}

/// The kernel's id of a mount (`STATX_MNT_ID`, first field of mountinfo).
pub type MountId = u64;

/// A mount on a name directory, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnName {
    /// The name.
    pub slot: SlotId,
    /// Which mount.
    pub mount: MountId,
    /// For people: `tmpfs (none)`.
    pub what: String,
    /// Nothing is mounted over it.
    pub on_top: bool,
    /// Nobody can write to it now, as the mount table says.
    pub read_only: bool,
    /// What its file system has found in itself.
    pub damage: Damage,
}

/// What is known of a mount that is made but not attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// The kernel's id of the mount.
    pub mount: MountId,
    /// What must be closed when it is gone.
    pub opened: Opened,
    /// The kernel's name of the file system.
    pub filesystem: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// So many errors its file system had found when it was mounted.
    pub errors: u64,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// How an unmount went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnmountResult {
    /// It is gone from the name directory.
    Gone,
    /// The same, and after that the disk of [`Action::Unmount`] was not there any more.
    GoneWithDisk,
    /// The same, and the disk is there, but does not keep what it was given; a sentence's end that says why.
    GoneUnsaved(String),
    /// It was not there any more: somebody else has unmounted it, or moved it away.
    NotThere,
    /// Not used since the last look, or marked for the next (`MNT_EXPIRE`, EAGAIN): still mounted.
    Marked,
    /// In use: still mounted. Who uses it, as the end of a sentence; empty after [`Unmount::Expire`], where nobody asks.
    Busy(String),
    /// This is mounted over it: neither can be reached.
    Covered(String),
    /// It failed otherwise: still mounted.
    Failed(String),
}

/// What a person wants of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Unmounted and locked.
    Locked,
    /// Out of sight at once, and locked with its last user.
    LockedLater,
    /// Unmounted, locked, and its disk detached from the system.
    Ejected,
}

/// How ejecting went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EjectResult {
    /// It can be unplugged; a sentence's end that says why.
    Ejected(String),
    /// Somebody uses something of it; nothing was changed. Who, as the end of a sentence.
    Busy(String),
    /// It failed otherwise.
    Failed(String),
}

/// How locking went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockResult {
    /// Mapping and loop device are verified to be gone.
    Locked,
    /// The same, and the disk was asked after by [`Action::Lock`] and was not there any more.
    LockedWithDisk,
    /// The same, and the disk is there, but does not keep what it was given; a sentence's end that says why.
    LockedUnsaved(String),
    /// Somebody still holds it; the sentence says who, where that is known.
    Held(String),
    /// It failed otherwise.
    Failed(String),
}

/// How to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// `MNT_EXPIRE`: only if unused since the last such call.
    Expire,
    /// Only if not busy.
    Now,
    /// `MNT_DETACH`: the disk has been pulled, there is nothing to wait for.
    Lazy,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer a FUSE request.
    Answer(RequestId, Answer),
    /// Make a detached mount.
    Prepare {
        /// Report as.
        job: JobId,
        /// For this name.
        slot: SlotId,
        /// Of this.
        order: Order,
    },
    /// Stop working on that [`Action::Prepare`] as soon as possible; it still reports.
    Cancel(JobId),
    /// Answer `first` with [`Answer::Retry`], then attach the detached mount of that job.
    Attach {
        /// The job of the [`Action::Prepare`].
        job: JobId,
        /// Callers that hold the directory's lock.
        first: Vec<RequestId>,
    },
    /// Drop the detached mount of that job, close what is under it, and report [`Event::Locked`].
    Abandon(JobId),
    /// Unmount.
    Unmount {
        /// Report as.
        job: JobId,
        /// This name.
        slot: SlotId,
        /// The mount that must be there; another one is left alone.
        mount: MountId,
        /// How.
        how: Unmount,
        /// To be asked after that whether it has got everything; `None` = nothing can be lost, or that is told already.
        disk: Option<Opened>,
    },
    /// Close the mapping and see the loop device go.
    Lock {
        /// Report as.
        job: JobId,
        /// What to close.
        opened: Opened,
        /// Let the kernel close it when the last user goes, rather than fail.
        deferred: bool,
        /// Ask the disk whether it has got everything: its file system was written to where nobody saw it.
        asks: bool,
    },
    /// Something to do for a guest.
    Guest(GuestAction),
    /// Flush a disk that nothing of ours is open of, and detach it from the system.
    Eject {
        /// Report as.
        job: JobId,
        /// The whole disk's node.
        disk: PathBuf,
        /// `DISKSEQ` that it must still have.
        sequence: DiskSeq,
    },
    /// The names in the root change. Nothing is mounted on those that are hidden; make the kernel forget them, and
    /// report [`Event::Forgotten`].
    Names {
        /// In the root from now on.
        shown: Vec<(SlotId, MountName)>,
        /// Not any more.
        hidden: Vec<SlotId>,
    },
    /// Read the mount table and report [`Event::Mounts`].
    LookAtMounts,
    /// Report [`Event::Caller`].
    LookAtCaller(RequestId),
    /// What a command waits for.
    Tell(CommandId, String),
    /// End of a command.
    Reply(CommandId, Result<String, String>),
    /// A status snapshot for a status file that was opened.
    Show(RequestId, Box<super::Snapshot>),
    /// Something to log.
    Log(Level, String),
    /// End now, and leave mounts and mappings as they are.
    Leave,
    /// The end waits for a job; it comes within this time, or is refused.
    StillEnding(Duration),
    /// End now, although a job does not come back from the kernel, and leave everything as it is.
    GiveUp,
    /// Everything is closed: unmount the FUSE root and end, or report [`Event::RootBusy`].
    End {
        /// To be replied to then; `None` = a signal asked for the end.
        command: Option<CommandId>,
        /// What may be lost of the disks that were unmounted for it, and how: then it is no success.
        loss: Option<String>,
    },
}

/// An answer to a FUSE request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Walk again: ESTALE, or for a LOOKUP what makes its system call right (see `fuse::Replies`).
    Retry,
    /// To a [`Event::Walk`]: the name directory.
    Entry,
    /// Fails with this errno. A [`Event::Walk`] does so only if its name is hidden.
    Fail(i32),
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Expected.
    Info,
    /// Somebody should look.
    Warning,
    /// Something that should work does not.
    Error,
}

/// The error of a name that does not exist, for commands.
pub(super) fn unknown_name(name: &str) -> String {
    match name.parse::<MountName>() {
        Ok(name) => format!("no mount is called {name}; `mydisks status` lists them"),
        Err(error) => format!("not a mount's name: it {error}"),
    }
}
