//! What one process holds of a disk, from /proc/PID (proc_pid(5)). Links are read, and descriptors are told by the mount
//! id in fdinfo; a directory is only then walked to, with `O_PATH`, which asks the file system nothing. A process that
//! ends meanwhile holds nothing.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, makedev, openat, statx};

use super::mounts::Mounts;
use super::{Holder, Subject, Use};

/// How many uses of one process are told; the others are counted.
const TOLD: usize = 3;

/// All processes but this one, by number.
pub(super) fn list() -> Vec<u32> {
    let mut processes = numbers(Path::new("/proc"));
    processes.retain(|&pid| pid != std::process::id());
    processes.sort_unstable();
    processes
}

/// The names of users by number, from /etc/passwd alone: a directory service may not answer.
pub(super) fn users() -> HashMap<u32, String> {
    parse_users(&fs::read_to_string("/etc/passwd").unwrap_or_default())
}

fn parse_users(text: &str) -> HashMap<u32, String> {
    let mut users = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(number))) = (fields.next(), fields.nth(1).map(str::parse)) {
            // The first line of a number counts (getpwuid(3)).
            users.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// The process with what it holds; `None` if that is nothing.
pub(super) fn holder(
    pid: u32,
    users: &HashMap<u32, String>,
    uses: impl Iterator<Item = Use>,
) -> Option<Holder> {
    let mut different = HashSet::new();
    let mut uses: Vec<Use> = uses.filter(|one| different.insert(one.clone())).collect();
    if uses.is_empty() {
        return None;
    }
    let more = uses.len().saturating_sub(TOLD);
    uses.truncate(TOLD);
    let process = PathBuf::from(format!("/proc/{pid}"));
    let command = fs::read(process.join("comm")).unwrap_or_default();
    let command = String::from_utf8_lossy(command.strip_suffix(b"\n").unwrap_or(&command)).into_owned();
    let user = effective_user(&fs::read(process.join("status")).unwrap_or_default());
    let user = user.map_or_else(
        || "unknown user".to_owned(),
        |number| users.get(&number).cloned().unwrap_or_else(|| number.to_string()),
    );
    Some(Holder::Process { pid, user, command, uses, more })
}

/// The second number of `Uid:` in /proc/PID/status. The name that stands before it has no line break in it
/// (`proc_task_name` escapes it), so no process can make up such a line.
fn effective_user(status: &[u8]) -> Option<u32> {
    let status = String::from_utf8_lossy(status);
    let numbers = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    numbers.split_whitespace().nth(1)?.parse().ok()
}

/// Everything that it holds, with repetitions.
pub(super) fn uses(pid: u32, subject: &Subject, mounts: &Mounts) -> Vec<Use> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let mut tasks: Vec<PathBuf> = numbers(&process.join("task"))
        .into_iter()
        .map(|task| process.join("task").join(task.to_string()))
        .collect();
    let look = Look { subject, mounts };
    let mut uses = Vec::new();
    // A thread can have directories of its own.
    for task in &tasks {
        uses.extend(look.at_link(task, "cwd", Use::WorkingDirectory));
        uses.extend(look.at_link(task, "root", Use::Root));
    }
    // When the first thread has ended, the memory and the files are found only with the others.
    tasks.retain(|task| fs::read_link(task.join("exe")).is_ok());
    if let Some(task) = tasks.first() {
        let program = look.at_link(task, "exe", Use::Program);
        let path = fs::read_link(task.join("exe")).unwrap_or_default();
        let mapped = look.mapped(task).filter(|mapped| program.is_none() || *mapped != path).map(Use::Mapped);
        uses.extend(mapped);
        uses.extend(program);
        look.descriptors(task, &mut uses);
    }
    uses
}

struct Look<'a> {
    subject: &'a Subject,
    mounts: &'a Mounts,
}

impl Look<'_> {
    /// A link to a directory or program that has no fdinfo. To walk to it takes an expiry mark away, but a mount that
    /// this process holds cannot have one (`do_umount` in fs/namespace.c).
    fn at_link(&self, task: &Path, name: &str, what: fn(PathBuf) -> Use) -> Option<Use> {
        let link = task.join(name);
        let target = fs::read_link(&link).ok()?;
        if !self.mounts.answers(&target) {
            return None;
        }
        let place = openat(CWD, &link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let info = fs::read(format!("/proc/self/fdinfo/{}", place.as_raw_fd())).ok()?;
        self.is_on(mount_id(&info)?, &link).then(|| what(target))
    }

    /// Descriptors of files and directories on the file system, and of its block devices.
    fn descriptors(&self, task: &Path, uses: &mut Vec<Use>) {
        for number in numbers(&task.join("fd")) {
            let link = task.join("fd").join(number.to_string());
            // Pipes, sockets and the like have no path.
            let Ok(target) = fs::read_link(&link) else { continue };
            if !target.has_root() {
                continue;
            }
            if target.starts_with("/dev") && self.is_device(&link) {
                uses.push(Use::Device(target));
                continue;
            }
            let info = fs::read(task.join("fdinfo").join(number.to_string())).unwrap_or_default();
            if mount_id(&info).is_some_and(|mount| self.is_on(mount, &link)) {
                uses.push(Use::File(target));
            }
        }
    }

    fn is_on(&self, mount: u64, link: &Path) -> bool {
        // A mount that no table has: one that was taken away lazily, or an inner one of the kernel.
        self.mounts.is_wanted(mount)
            || (!self.mounts.is_listed(mount) && self.is_on_file_system(link).unwrap_or(false))
    }

    /// By what the kernel knows of the inode; asks no server (`AT_STATX_DONT_SYNC`).
    fn is_on_file_system(&self, link: &Path) -> Option<bool> {
        let found = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::empty()).ok()?;
        Some(self.subject.filesystems.contains(&makedev(found.stx_dev_major, found.stx_dev_minor)))
    }

    fn is_device(&self, link: &Path) -> bool {
        if self.subject.devices.is_empty() {
            return false;
        }
        let Ok(found) = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE) else { return false };
        let is_block_device = FileType::from_raw_mode(found.stx_mode.into()) == FileType::BlockDevice;
        is_block_device && self.subject.devices.contains(&makedev(found.stx_rdev_major, found.stx_rdev_minor))
    }

    /// Files of the file system that are mapped; /proc/PID/maps shows the device number that mountinfo shows.
    fn mapped(&self, task: &Path) -> impl Iterator<Item = PathBuf> + use<> {
        let maps = fs::read(task.join("maps")).unwrap_or_default();
        let lines = maps.split(|&byte| byte == b'\n').filter_map(parse_mapping);
        let mut mapped: Vec<PathBuf> = lines
            .filter(|(devnum, _)| self.subject.filesystems.contains(devnum))
            .map(|(_, path)| path)
            .collect();
        mapped.dedup();
        mapped.into_iter()
    }
}

/// `mnt_id:` of fdinfo (proc_pid_fdinfo(5)).
fn mount_id(info: &[u8]) -> Option<u64> {
    let info = String::from_utf8_lossy(info);
    info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// Device number and path of one line of /proc/PID/maps: `address perms offset major:minor inode path`, the device
/// in hexadecimal. A line break in the path is written `\012`.
fn parse_mapping(line: &[u8]) -> Option<(u64, PathBuf)> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let device = std::str::from_utf8(fields.nth(3)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let devnum = makedev(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let path = fields.nth(1)?.trim_ascii_start();
    let path = std::ffi::OsString::from_vec(path.to_vec());
    path.as_bytes().starts_with(b"/").then(|| (devnum, PathBuf::from(path)))
}

/// The names in a directory of /proc that are numbers.
fn numbers(directory: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mapping_is_told_by_device_and_keeps_the_spaces_in_its_path() {
        let line = b"7f00-7f01 r--p 00000000 fd:1f 257                        /mnt/a b/lib.so (deleted)";
        let expected = (makedev(0xfd, 0x1f), PathBuf::from("/mnt/a b/lib.so (deleted)"));
        assert_eq!(parse_mapping(line), Some(expected));
        for none in
            [&b"7f00-7f01 rw-p 00000000 00:00 0 "[..], b"7f00 rw-p 0 00:00 0    [heap]", b"", b"a b c d e f"]
        {
            assert_eq!(parse_mapping(none), None);
        }
    }

    #[test]
    fn a_descriptor_is_told_by_its_mount() {
        assert_eq!(mount_id(b"pos:\t0\nflags:\t0100000\nmnt_id:\t65\nino:\t257\n"), Some(65));
        assert_eq!(mount_id(b"pos:\t0\n"), None);
    }

    #[test]
    fn the_user_is_the_effective_one() {
        let status = b"Name:\tx\\nUid:\t9\t9\t9\t9\nState:\tS\nUid:\t1000\t0\t0\t0\n";
        assert_eq!(effective_user(status), Some(0));
        assert_eq!(effective_user(b""), None);
    }

    #[test]
    fn the_first_name_of_a_user_counts_and_broken_lines_do_not() {
        let users =
            parse_users("root:x:0:0::/:/bin/sh\nbroken\ntoor:x:0:0::/:/bin/sh\nx:y:z:0\nann:x:1000:1::/:\n");
        assert_eq!(users.len(), 2);
        assert_eq!((users[&0].as_str(), users[&1000].as_str()), ("root", "ann"));
    }

    #[test]
    fn what_is_held_twice_is_told_once_and_the_rest_counted() {
        let one = || Use::File("/x".into());
        let many = (0..10).map(|number| Use::File(format!("/{number}").into()));
        let holder = holder(std::process::id(), &HashMap::new(), [one(), one()].into_iter().chain(many));
        let Some(Holder::Process { uses, more, command, .. }) = holder else { panic!("{holder:?}") };
        assert_eq!((uses.len(), more), (TOLD, 11 - TOLD));
        assert!(!command.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            parse_mapping(&bytes);
            mount_id(&bytes);
            effective_user(&bytes);
        }
    }
}
