//! The disk: an ext4 image made without mounting anything, its plain mount, and a listing of all it holds.
//!
//! A case starts from a fresh copy; the listing afterwards is how the visible effect of a call is compared.

use crate::place::SEATS;
use crate::raw;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of everything on a pristine disk, in seconds since 1970: any other time was set by a call.
pub(crate) const PRISTINE_TIME: u64 = 1_000_000_000;

/// Which pristine disk a case starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Its root directory is open to everybody for search, as usual.
    Open,
    /// Its root directory is closed to all but root (mode 700).
    Closed,
}

/// Makes the two pristine images in `workshop`.
pub(crate) fn make_pristine(workshop: &Path) {
    let tree = workshop.join("tree");
    plant(&tree);
    for disk in [Disk::Open, Disk::Closed] {
        let image = pristine(workshop, disk);
        fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("image file");
        // Nothing is left for the kernel to initialise in the background.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        let mut mkfs = Command::new(program("mkfs.ext4"));
        mkfs.args([
            "-q",
            "-F",
            "-b",
            "1024",
            "-I",
            "256",
            "-N",
            "512",
            "-E",
            options,
            "-O",
            "^resize_inode",
            "-d",
        ]);
        succeed(mkfs.arg(&tree).arg(&image));
    }
    // What mkfs cannot copy: the mode of the root, and attributes that a tmpfs before Linux 6.6 does not keep.
    for (disk, mode) in [(Disk::Open, "040755"), (Disk::Closed, "040700")] {
        let mut commands = format!("set_inode_field / mode {mode}\nea_set / user.note root\n");
        for seat in 0..SEATS {
            writeln!(commands, "ea_set /file.{seat} user.note file\nea_set /dir.{seat} user.note directory")
                .expect("writing to a string");
        }
        let file = workshop.join("debugfs");
        fs::write(&file, commands).expect("command file");
        succeed(Command::new(program("debugfs")).args(["-w", "-f"]).arg(&file).arg(pristine(workshop, disk)));
    }
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The path of a pristine image.
pub(crate) fn pristine(workshop: &Path, disk: Disk) -> PathBuf {
    workshop.join(match disk {
        Disk::Open => "open.ext4",
        Disk::Closed => "closed.ext4",
    })
}

/// Where a program lies; the environment's PATH is not asked.
pub(crate) fn program(name: &str) -> PathBuf {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is not installed"))
}

fn plant(tree: &Path) {
    for seat in 0..SEATS {
        let own = |stem: &str| tree.join(format!("{stem}.{seat}"));
        fs::create_dir_all(own("dir").join("deep")).expect("mkdir");
        fs::create_dir_all(own("empty")).expect("mkdir");
        fs::write(own("file"), format!("content {seat}\n")).expect("write");
        fs::write(own("other"), format!("other {seat}\n")).expect("write");
        fs::write(own("dir").join("inner"), format!("inner {seat}\n")).expect("write");
        fs::write(own("dir").join("deep").join("leaf"), format!("leaf {seat}\n")).expect("write");
        symlink(format!("file.{seat}"), own("link")).expect("symlink");
        symlink(format!("made-through-link.{seat}"), own("dangling")).expect("symlink");
    }
    fs::write(tree.join("script"), "#!/bin/sh\nexit 7\n").expect("write");
    fs::copy("/bin/true", tree.join("program")).expect("copy of true");
    for executable in ["script", "program"] {
        fs::set_permissions(tree.join(executable), fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    age(tree);
}

fn age(directory: &Path) {
    for entry in fs::read_dir(directory).expect("readdir") {
        let path = entry.expect("readdir").path();
        if path.is_dir() && !path.is_symlink() {
            age(&path);
        }
        set_time(&path);
    }
    set_time(directory);
}

fn set_time(path: &Path) {
    let moment = rustix::time::Timespec { tv_sec: PRISTINE_TIME as i64, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: moment, last_modification: moment };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
}

/// A plain kernel mount of an image through a loop device; unmounted on drop.
pub(crate) struct PlainMount {
    at: PathBuf,
    image: PathBuf,
}

impl PlainMount {
    /// Mounts `image` on the directory `at` with the options that mydisks sets by default.
    pub(crate) fn new(image: &Path, at: &Path, read_only: bool) -> Self {
        let (_loop_device, device) =
            raw::attach_loop(image).unwrap_or_else(|errno| panic!("loop device: {errno}"));
        let attach = || {
            let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(context.as_fd(), "source", &device)?;
            if read_only {
                fsconfig_set_flag(context.as_fd(), "ro")?;
            }
            fsconfig_create(context.as_fd())?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
            move_mount(mount.as_fd(), "", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        attach().unwrap_or_else(|errno| {
            panic!("plain mount of {} on {}: {errno}", image.display(), at.display())
        });
        Self { at: at.into(), image: image.into() }
    }
}

impl Drop for PlainMount {
    fn drop(&mut self) {
        let gone = crate::child::wait_for(Duration::from_secs(10), || {
            unmount(&self.at, UnmountFlags::empty()).is_ok()
        });
        assert!(gone, "the plain mount on {} stays busy", self.at.display());
        // A child's mount namespace may outlive the child by a moment, and the file system with it.
        let free = crate::child::wait_for(Duration::from_secs(10), || loop_device(&self.image).is_none());
        assert!(free, "the loop device of {} stays in use", self.image.display());
    }
}

/// The loop device that is attached to `image`.
pub(crate) fn loop_device(image: &Path) -> Option<String> {
    fs::read_dir("/sys/block").expect("/sys/block").flatten().find_map(|entry| {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        (Path::new(file.trim_end()) == image).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

/// Which times of the disk's root directory a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootTimes {
    /// As those of any other file.
    Shown,
    /// None: several processes worked there, and the last one's time stands.
    Hidden,
}

/// Lists all that `image` holds, one line per file: kind, mode, owner, size, times, attributes, content.
pub(crate) fn listing(image: &Path, at: &Path, root_times: RootTimes) -> String {
    let _mounted = PlainMount::new(image, at, true);
    let mut lines = String::new();
    list(at, Path::new(""), root_times == RootTimes::Shown, &mut lines);
    lines
}

fn list(top: &Path, below: &Path, show_times: bool, lines: &mut String) {
    let path = if below.as_os_str().is_empty() { top.to_owned() } else { top.join(below) };
    let data = fs::symlink_metadata(&path).expect("lstat on the plain mount");
    let kind = FileType::from_raw_mode(data.mode());
    let times =
        if show_times { format!("{}/{}", age_of(data.mtime()), age_of(data.atime())) } else { String::new() };
    let content = match kind {
        FileType::RegularFile => format!("{:?}", short(&fs::read(&path).expect("read on the plain mount"))),
        FileType::Symlink => format!("-> {}", fs::read_link(&path).expect("readlink").display()),
        FileType::CharacterDevice | FileType::BlockDevice => format!("device {:x}", data.rdev()),
        _ => String::new(),
    };
    let mode = Mode::from_raw_mode(data.mode()).bits();
    // The size of a directory is no effect of a call.
    let size = if kind == FileType::Directory { 0 } else { data.size() };
    let owner = format!("{}:{} links {}", data.uid(), data.gid(), data.nlink());
    let notes = attributes(&path, kind);
    writeln!(lines, "{} {kind:?} {mode:o} {owner} size {size} {times} {notes} {content}", below.display())
        .expect("writing to a string");
    if kind == FileType::Directory {
        let mut names: Vec<_> =
            fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("readdir").file_name()).collect();
        names.sort();
        for name in names {
            list(top, &below.join(name), true, lines);
        }
    }
}

/// A time that a call set by hand as it is, the pristine time as such, and the time of the test as `now`.
fn age_of(seconds: i64) -> String {
    let day_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64 - 86400;
    match seconds {
        _ if seconds == PRISTINE_TIME as i64 => "pristine".into(),
        _ if seconds > day_ago => "now".into(),
        _ => seconds.to_string(),
    }
}

fn attributes(path: &Path, kind: FileType) -> String {
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return String::new();
    }
    let mut names = vec![0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("listxattr on the plain mount");
    let mut found: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = [0u8; 4096];
            let name = std::ffi::OsStr::from_bytes(name);
            let length =
                rustix::fs::lgetxattr(path, name, &mut value[..]).expect("getxattr on the plain mount");
            format!("{}={:?}", name.to_string_lossy(), String::from_utf8_lossy(&value[..length]))
        })
        .collect();
    found.sort();
    found.join(",")
}

fn short(content: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(content).chars().take(60).collect();
    format!("{text}({} bytes)", content.len())
}
