//! Which helpers mount(8) and umount(8) of util-linux run for our types, and with which arguments. This very
//! program stands in for the helpers: called by such a name it records its arguments.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{FileAttr, FileHandle, FileType, Filesystem, INodeNo, ReplyAttr, Request, Session};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::lab::Lab;
use crate::program::Program;
use crate::{Outcome, mounts};

const CALLS: &str = "/run/lab-helper-calls";
const POINT: &str = "/mnt/lab-helper";
const UTAB: &str = "/run/mount/utab";
/// While it exists, helpers fail.
const FAILS: &str = "/run/lab-helper-fails";
const IDENTITY: &str = "/tmp/lab-helper-user";
const LINE: &str = "nofail,noauto,user,_netdev,x-foo,comment=bar,config=/a/b";

/// If this process was started under a helper's name: records the call and ends.
pub(crate) fn stand_in() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.first().is_some_and(|name| name.starts_with("/sbin/")) {
        let recorded = File::options().create(true).append(true).open(CALLS);
        let written = recorded.and_then(|mut file| writeln!(file, "{}", arguments.join(" ")));
        let user = rustix::process::geteuid().as_raw().to_string();
        let failed = written.and_then(|()| fs::write(IDENTITY, user)).is_err();
        std::process::exit(if failed || Path::new(FAILS).exists() { 32 } else { 0 });
    }
}

pub(super) fn mount_calls_the_helper_with_filtered_options(_: &mut Lab) -> Outcome {
    let _helpers = Helpers::install(&["mount.mydisks"], LINE)?;
    let options = "noexec,nosuid,nodev,config=/a/b,nofail,user,_netdev";
    let head = format!("/sbin/mount.mydisks mydisks {POINT}");
    assert_eq!(
        call("mount", &[])?,
        format!("{head} -o rw,{options}"),
        "x-*, noauto and comment= stay behind"
    );
    assert_eq!(call("mount", &["-o", "remount"])?, format!("{head} -o rw,remount,{options}"));
    assert_eq!(call("mount", &["-o", "remount,ro"])?, format!("{head} -o ro,remount,{options}"));
    assert_eq!(call("mount", &["-r"])?, format!("{head} -o ro,{options}"));
    assert_eq!(call("mount", &["-v"])?, format!("{head} -v -o rw,{options}"));
    assert_eq!(call("mount", &["-n"])?, format!("{head} -n -o rw,{options}"));
    assert_eq!(call("mount", &["-f"])?, format!("{head} -f -o rw,{options}"));
    assert_eq!(call("mount", &["-s"])?, format!("{head} -s -o rw,{options}"));
    let by_type = call("mount", &["-t", "mydisks", "-o", "config=/a b", "some source"])?;
    assert_eq!(by_type, format!("/sbin/mount.mydisks some source {POINT} -o rw,config=/a b"));
    Ok(())
}

pub(super) fn mount_all_skips_noauto(_: &mut Lab) -> Outcome {
    let helpers = Helpers::install(&["mount.mydisks"], LINE)?;
    Program::new("mount").arg("-a").ok()?;
    assert_eq!(calls(), "", "noauto");
    drop(helpers);
    let _helpers = Helpers::install(&["mount.mydisks"], "nofail,_netdev,config=/a/b")?;
    Program::new("mount").arg("-a").ok()?;
    assert_eq!(calls(), format!("/sbin/mount.mydisks mydisks {POINT} -o rw,config=/a/b,nofail,_netdev"));
    Ok(())
}

pub(super) fn mount_looks_only_in_sbin(_: &mut Lab) -> Outcome {
    let _helpers = Helpers::install(&[], LINE)?;
    let elsewhere = Path::new("/usr/local/sbin/mount.mydisks");
    symlink(std::env::current_exe()?, elsewhere)?;
    let finished = Program::new("mount").arg(POINT).finish()?;
    fs::remove_file(elsewhere)?;
    assert_eq!(calls(), "");
    assert_eq!(finished.code, Some(32));
    assert!(finished.stderr.contains("unknown filesystem type 'mydisks'"), "{finished:?}");
    Ok(())
}

/// As root, umount(8) asks fstatfs(2) for the type if /run/mount/utab has no entry for the directory, and that knows
/// no subtype (`lookup_umount_fs_by_statfs`, libmount/src/context_umount.c).
pub(super) fn umount_without_a_utab_entry_asks_no_helper_of_ours(_: &mut Lab) -> Outcome {
    let _helpers = Helpers::install(&["umount.mydisks", "umount.fuse.mydisks"], LINE)?;
    let _mounted = Mounted::new()?;
    Program::new("umount").arg(POINT).ok()?;
    assert_eq!(calls(), "");
    assert_eq!(mounts::at(Path::new(POINT))?, [], "it unmounts by itself");
    Ok(())
}

pub(super) fn umount_without_a_utab_entry_asks_umount_fuse(_: &mut Lab) -> Outcome {
    let _helpers = Helpers::install(&["umount.fuse"], LINE)?;
    let _mounted = Mounted::new()?;
    assert_eq!(call("umount", &[])?, format!("/sbin/umount.fuse {POINT} -n"));
    assert_eq!(call("umount", &["-l"])?, format!("/sbin/umount.fuse {POINT} -l -t fuse.mydisks"));
    Ok(())
}

pub(super) fn lazy_and_forced_umount_ask_the_helper_of_the_mountinfo_type(_: &mut Lab) -> Outcome {
    let _helpers = Helpers::install(&["umount.mydisks", "umount.fuse.mydisks"], LINE)?;
    let _mounted = Mounted::new()?;
    let head = format!("/sbin/umount.fuse.mydisks {POINT}");
    assert_eq!(call("umount", &["-l"])?, format!("{head} -l"));
    assert_eq!(call("umount", &["-f"])?, format!("{head} -f"));
    Ok(())
}

pub(super) fn umount_with_any_utab_entry_asks_the_helper_of_the_mountinfo_type(_: &mut Lab) -> Outcome {
    let _helpers = Helpers::install(&["umount.mydisks", "umount.fuse.mydisks"], LINE)?;
    let _mounted = Mounted::new()?;
    let head = format!("/sbin/umount.fuse.mydisks {POINT}");
    for (option, passed) in [("", ""), ("-l", " -l"), ("-f", " -f"), ("-v", " -v"), ("-r", " -r")] {
        register("x-mydisks")?;
        let options: &[&str] = if option.is_empty() { &[] } else { &[option] };
        assert_eq!(call("umount", options)?, format!("{head}{passed}"));
    }
    Ok(())
}

/// What makes a plain `umount` ask us: `mount -f -i -o helper=mydisks` writes the entry and mounts nothing.
pub(super) fn umount_with_helper_in_utab_asks_that_helper(_: &mut Lab) -> Outcome {
    let _helpers = Helpers::install(&["umount.mydisks", "umount.fuse.mydisks"], LINE)?;
    let _mounted = Mounted::new()?;
    register("helper=mydisks")?;
    let line = format!("/sbin/umount.mydisks {POINT} -t fuse.mydisks");
    fs::write(FAILS, "")?;
    let refused = Program::new("umount").arg(POINT).finish()?;
    fs::remove_file(FAILS)?;
    assert_eq!((calls(), refused.code), (line.clone(), Some(32)), "the helper's status is umount's");
    assert_eq!(call("umount", &[])?, line, "a refusal keeps the entry");
    assert!(!fs::read_to_string(UTAB)?.contains(POINT), "success takes it away");
    Ok(())
}

pub(super) fn mount_writes_utab_for_some_options_but_not_for_nofail(_: &mut Lab) -> Outcome {
    for (options, entry) in
        [("nofail", ""), ("nofail,_netdev", "OPTS=_netdev"), ("nofail,x-foo", "OPTS=x-foo")]
    {
        let _helpers = Helpers::install(&["mount.mydisks", "umount.fuse.mydisks"], options)?;
        let _mounted = Mounted::new()?;
        call("mount", &[])?;
        let table = fs::read_to_string(UTAB).unwrap_or_default();
        let line = table.lines().find(|line| line.contains(POINT)).unwrap_or_default();
        assert!(line.ends_with(entry) && line.is_empty() == entry.is_empty(), "{options}: {table}");
        call("umount", &["-l"])?;
    }
    Ok(())
}

pub(super) fn mount_without_permission_runs_the_helper_as_the_plain_user(_: &mut Lab) -> Outcome {
    let _helpers = Helpers::install(&["mount.mydisks"], "nofail")?;
    fs::write(CALLS, "")?;
    fs::set_permissions(CALLS, fs::Permissions::from_mode(0o666))?;
    let person = ["--reuid=1000", "--regid=1000", "--clear-groups", "mount", POINT];
    let finished = Program::new("setpriv").args(person).finish()?;
    let recorded = fs::read_to_string(CALLS)?;
    assert!(recorded.starts_with("/sbin/mount.mydisks"), "{finished:?}");
    assert_eq!(fs::read_to_string(IDENTITY)?, "1000", "the helper's effective user");
    Ok(())
}

/// Writes an entry for the mount point into utab.
fn register(option: &str) -> Outcome {
    let words = ["-f", "-i", "-t", "fuse.mydisks", "-o", option, "mydisks", POINT];
    Program::new("mount").args(words).ok().map(drop)
}

/// Runs mount or umount with these arguments on the mount point; the helper's command line.
fn call(program: &str, arguments: &[&str]) -> Outcome<String> {
    Program::new(program).args(arguments).arg(POINT).ok()?;
    Ok(calls())
}

/// What the helpers have recorded since the last look.
fn calls() -> String {
    let text = fs::read_to_string(CALLS).unwrap_or_default();
    let _ = fs::remove_file(CALLS);
    text.trim_end().to_owned()
}

/// Stand-ins in /sbin and a line in fstab, until dropped.
struct Helpers(Vec<String>);

impl Helpers {
    fn install(names: &[&str], options: &str) -> Outcome<Helpers> {
        fs::create_dir_all(POINT)?;
        fs::write("/etc/fstab", format!("mydisks {POINT} mydisks {options} 0 0\n"))?;
        let mut helpers = Helpers(Vec::new());
        for name in names {
            let path = format!("/sbin/{name}");
            symlink(std::env::current_exe()?, &path)?;
            helpers.0.push(path);
        }
        calls();
        Ok(helpers)
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_file(UTAB);
        let _ = fs::remove_file(IDENTITY);
    }
}

/// A served FUSE file system of type `fuse.mydisks` on the mount point, until dropped.
struct Mounted;

/// Has a root directory and nothing in it.
struct Bare;

impl Mounted {
    fn new() -> Outcome<Mounted> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        let number = device.as_raw_fd().to_string();
        let settings = [
            ("source", "mydisks"),
            ("subtype", "mydisks"),
            ("fd", number.as_str()),
            ("rootmode", "40755"),
            ("user_id", "0"),
            ("group_id", "0"),
        ];
        for (key, value) in settings {
            fsconfig_set_string(context, key, value)?;
        }
        fsconfig_set_flag(context, "allow_other")?;
        fsconfig_create(context)?;
        let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let empty_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        let session =
            Session::from_fd(Bare, device.into(), fuser::SessionACL::All, fuser::Config::default())?;
        std::thread::spawn(move || session.run());
        move_mount(mount.as_fd(), "", rustix::fs::CWD, POINT, empty_path)?;
        Ok(Mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(POINT, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Filesystem for Bare {
    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attributes = FileAttr {
            ino,
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        reply.attr(&Duration::from_secs(60), &attributes);
    }
}
