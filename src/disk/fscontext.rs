//! A detached mount made by fsopen(2), fsconfig(2) and fsmount(2), with the kernel's own words when it refuses. Knows
//! nothing of how the device was found, checked or unlocked.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, makedev, openat, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_create_exclusive, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::error::one_line;
use super::kernel_log::Mark;
use super::node::{self, Node};
use super::options::Options;
use super::{DiskError, ErrorKind, busy, xfs};

/// How many messages of an fs context are read; the kernel keeps 8 (`struct fc_log` in include/linux/fs_context.h).
const MESSAGES: usize = 16;

/// A mount that is nowhere to be seen yet.
#[derive(Debug)]
pub(super) struct Detached {
    pub(super) mount: OwnedFd,
    pub(super) root: OwnedFd,
    /// As in mountinfo, and kept when the mount is attached.
    pub(super) id: u64,
    /// The kernel's warnings.
    pub(super) warnings: Vec<String>,
}

/// Mounts `node`, which must stay open meanwhile, with the driver `filesystem`. Attributes such as `nosuid` are the
/// mount's from its first moment. A superblock that exists already is refused, by the kernel itself since Linux 6.6.
pub(super) fn mount(
    filesystem: &str,
    node: &Node,
    options: &Options,
    read_only: bool,
) -> Result<Detached, DiskError> {
    match attempt(filesystem, node, options, read_only) {
        // Perhaps of the same disk before it was pulled: that one is no danger to it.
        Err(error) if filesystem == "xfs" && error.kind == ErrorKind::Damaged && xfs::has_a_pulled_disk() => {
            let mut options = options.clone();
            options.others.push(("nouuid".to_owned(), None));
            attempt(filesystem, node, &options, read_only)
        }
        result => result,
    }
}

fn attempt(filesystem: &str, node: &Node, options: &Options, read_only: bool) -> Result<Detached, DiskError> {
    let mut log = Mark::now();
    let context = fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| match errno {
        Errno::NODEV => {
            let message =
                format!("Cannot mount {}: this kernel has no driver for {filesystem}", node.path.display());
            DiskError::new(ErrorKind::Other, message)
        }
        errno => failure(node, filesystem, &Step::Open, errno, &[]),
    })?;
    let mut refused = |(step, errno): (Step, Errno)| {
        let mut words = messages(context.as_fd()).unwrap_or_default();
        if matches!(step, Step::Create) {
            if let Ok(name) = node::kernel_name(node.devnum) {
                words.extend(log.lines_about(&name));
            }
        }
        failure(node, filesystem, &step, errno, &words)
    };
    configure(context.as_fd(), node, options, read_only).map_err(&mut refused)?;
    let mut attributes = options.attributes;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| failure(node, filesystem, &Step::Attach, errno, &[]))?;
    let warnings = messages(context.as_fd()).unwrap_or_default();
    finish(node, filesystem, mount, warnings)
}

/// What was being done when the kernel refused.
enum Step {
    Open,
    Option(String),
    Create,
    Attach,
}

fn configure(
    context: BorrowedFd<'_>,
    node: &Node,
    options: &Options,
    read_only: bool,
) -> Result<(), (Step, Errno)> {
    let source = node.path.as_os_str().as_bytes();
    fsconfig_set_string(context, "source", source).map_err(|errno| (Step::Open, errno))?;
    if read_only {
        fsconfig_set_flag(context, "ro").map_err(|errno| (Step::Option("ro".to_owned()), errno))?;
    }
    for (key, value) in &options.others {
        match value {
            Some(value) => fsconfig_set_string(context, key, value),
            None => fsconfig_set_flag(context, key),
        }
        .map_err(|errno| {
            let word = value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"));
            (Step::Option(word), errno)
        })?;
    }
    match fsconfig_create_exclusive(context) {
        // A kernel before 6.6, or a driver that still uses the legacy context.
        Err(Errno::OPNOTSUPP) => fsconfig_create(context),
        result => result,
    }
    .map_err(|errno| (Step::Create, errno))
}

/// The root of the new mount, after the proof that it is of this device.
fn finish(
    node: &Node,
    filesystem: &str,
    mount: OwnedFd,
    warnings: Vec<String>,
) -> Result<Detached, DiskError> {
    let system = |errno: Errno| {
        DiskError::system(format_args!("Cannot look into {}", node.path.display()), &errno.into())
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(&mount, ".", flags, Mode::empty()).map_err(system)?;
    let told = statx(
        &root,
        "",
        AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
        StatxFlags::BASIC_STATS | StatxFlags::MNT_ID,
    )
    .map_err(system)?;
    // btrfs makes a device number up; that its device is claimed by now says as much.
    let is_same = match filesystem {
        "btrfs" => node.is_claimed()?,
        _ => makedev(told.stx_dev_major, told.stx_dev_minor) == node.devnum,
    };
    if !is_same {
        let message = format!("{} became another device while it was mounted", node.path.display());
        return Err(DiskError::new(ErrorKind::Absent, message));
    }
    Ok(Detached { mount, root, id: told.stx_mnt_id, warnings })
}

/// The messages that wait in an fs context, each of the form `e ext4: …` (`fscontext_read` in fs/fsopen.c).
fn messages(context: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut messages = Vec::new();
    let mut buffer = [0; 4096];
    while messages.len() < MESSAGES {
        match rustix::io::read(context, &mut buffer) {
            Ok(0) | Err(Errno::NODATA) => break,
            Ok(length) => messages.push(words(&buffer[..length])),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(messages)
}

/// A message without its level (`e`, `w`, `i` and a space).
fn words(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let text = ["e ", "w ", "i "].iter().find_map(|level| text.strip_prefix(level)).unwrap_or(&text);
    one_line(text)
}

fn failure(node: &Node, filesystem: &str, step: &Step, errno: Errno, words: &[String]) -> DiskError {
    let device = node.path.display();
    let kind = kind(node, step, errno, words);
    let reason = match words {
        [] => std::io::Error::from(errno).to_string(),
        words => one_line(&words.join("\n")),
    };
    let message = match (step, kind) {
        (Step::Option(word), _) => {
            format!("Cannot mount {device} as {filesystem} with option `{word}`: {reason}")
        }
        (_, ErrorKind::Busy) => format!("Cannot mount {device}: it {}", busy::holder(node)),
        (_, ErrorKind::Damaged) => {
            format!("Cannot mount {device}, its {filesystem} file system is damaged: {reason}")
        }
        (_, ErrorKind::Absent) => format!("Cannot mount {device}, it was unplugged: {reason}"),
        _ => format!("Cannot mount {device} as {filesystem}: {reason}"),
    };
    DiskError::new(kind, message)
}

/// What an errno means depends on the step: EINVAL is the option's at an option, and at the creation it is the
/// content's (its magic was recognised before), unless the kernel speaks of options, which drivers with the legacy
/// context read only then.
fn kind(node: &Node, step: &Step, errno: Errno, words: &[String]) -> ErrorKind {
    let speaks_of_options = || {
        words.iter().any(|words| {
            let words = words.to_lowercase();
            words.contains("option") || words.contains("parameter")
        })
    };
    match (step, errno) {
        (Step::Option(_), Errno::PERM | Errno::ACCESS) => ErrorKind::NotAllowed,
        (Step::Option(_), _) => ErrorKind::BadOption,
        (_, Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM | Errno::IO | Errno::NOENT) => {
            if node.is_gone() {
                ErrorKind::Absent
            } else {
                ErrorKind::Io
            }
        }
        (Step::Create, Errno::INVAL) if speaks_of_options() => ErrorKind::BadOption,
        (Step::Create, Errno::INVAL | Errno::UCLEAN | Errno::BADMSG | Errno::FBIG) => ErrorKind::Damaged,
        (_, errno) => ErrorKind::of(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_loses_its_level_and_its_line_end() {
        assert_eq!(words(b"e ext4: Unknown parameter 'foo'\n"), "ext4: Unknown parameter 'foo'");
        assert_eq!(words(b"w slow\x07"), "slow ");
        assert_eq!(words(b"\xff"), "\u{fffd}");
    }
}
