//! Calls that look and change nothing: stat and its kin, access, opening and entering directories, watching.

use super::open::{execute, open, read, slash};
use super::{Case, done, either, enters, stays_out};
use crate::image::program;
use crate::place::{Outcome, Place};
use crate::raw;
use rustix::fs::{Access, AtFlags, CWD, OFlags, StatxFlags, inotify};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const CASES: &[Case] = &[
    enters("stat: file", |p| told(rustix::fs::stat(p.file()))),
    enters("stat: absent", |p| told(rustix::fs::stat(p.absent()))),
    enters("stat: file in a subdirectory", |p| told(rustix::fs::stat(p.inner()))),
    enters("stat: symbolic link", |p| told(rustix::fs::stat(p.link()))),
    enters("stat: .. of a directory", |p| told(rustix::fs::stat(p.dir().join("../").join(p.own("file"))))),
    enters("lstat: file", |p| told(rustix::fs::lstat(p.file()))),
    enters("lstat: symbolic link", |p| told(rustix::fs::lstat(p.link()))),
    enters("lstat: absent", |p| told(rustix::fs::lstat(p.absent()))),
    enters("statx: file", |p| extended(p.file(), AtFlags::empty())),
    enters("statx: absent", |p| extended(p.absent(), AtFlags::empty())),
    enters("statx AT_NO_AUTOMOUNT: file", |p| extended(p.file(), AtFlags::NO_AUTOMOUNT)),
    stays_out("stat: the root", |p| done(rustix::fs::stat(&p.root))),
    stays_out("stat: the name", |p| which(p, rustix::fs::stat(p.name()))),
    stays_out("stat: the name with a trailing slash", |p| which(p, rustix::fs::stat(slash(&p.name())))),
    stays_out("stat: the name's .", |p| which(p, rustix::fs::stat(p.name().join(".")))),
    stays_out("lstat: the name", |p| which(p, rustix::fs::lstat(p.name()))),
    stays_out("statx AT_STATX_FORCE_SYNC: the name", |p| {
        let data = rustix::fs::statx(CWD, p.name(), AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS)?;
        Ok(format!("mode {:o}", data.stx_mode))
    }),
    stays_out("ls -l: the root", |p| run(&["ls", "-l"], &p.root)),
    stays_out("ls -la --color: the root", |p| run(&["ls", "-la", "--color=always"], &p.root)),
    stays_out("find -maxdepth 1: the root", |p| run(&["find", "-maxdepth", "1"], &p.root)),
    stays_out("statfs: the root", |p| done(rustix::fs::statfs(&p.root))),
    stays_out("chdir: the root", |p| done(rustix::process::chdir(&p.root))),
    enters("access: file", |p| done(rustix::fs::access(p.file(), Access::READ_OK | Access::WRITE_OK))),
    enters("access: file, to execute", |p| done(rustix::fs::access(p.file(), Access::EXEC_OK))),
    enters("access: absent", |p| done(rustix::fs::access(p.absent(), Access::EXISTS))),
    enters("access: the name", |p| done(rustix::fs::access(p.name(), Access::READ_OK | Access::WRITE_OK))),
    either("access F_OK: the name", |p| done(rustix::fs::access(p.name(), Access::EXISTS))),
    enters("faccessat2 AT_EACCESS: file", |p| done(raw::faccessat2(&p.file(), libc::R_OK, libc::AT_EACCESS))),
    enters("faccessat2 AT_SYMLINK_NOFOLLOW: dangling symbolic link", |p| {
        done(raw::faccessat2(&p.dangling(), libc::R_OK, libc::AT_SYMLINK_NOFOLLOW))
    }),
    enters("faccessat2: absent", |p| done(raw::faccessat2(&p.absent(), libc::R_OK, 0))),
    enters("faccessat2 AT_EACCESS: the name", |p| {
        done(raw::faccessat2(&p.name(), libc::X_OK, libc::AT_EACCESS))
    }),
    enters("chdir: directory", |p| entered(rustix::process::chdir(p.dir()), "inner")),
    enters("chdir: file", |p| done(rustix::process::chdir(p.file()))),
    enters("chdir: absent", |p| done(rustix::process::chdir(p.absent()))),
    enters("chdir: the name", |p| entered(rustix::process::chdir(p.name()), &p.own("file"))),
    enters("chdir: the name's .", |p| entered(rustix::process::chdir(p.name().join(".")), &p.own("file"))),
    enters("chroot: directory", |p| entered(rustix::process::chroot(p.dir()), "/inner")),
    enters("chroot: absent", |p| done(rustix::process::chroot(p.absent()))),
    enters("chroot: the name", |p| {
        entered(rustix::process::chroot(p.name()), &format!("/{}", p.own("file")))
    }),
    enters("opendir: directory", |p| entries(p.dir(), &["inner", "deep"])),
    enters("opendir: file", |p| entries(p.file(), &[])),
    enters("opendir: absent", |p| entries(p.absent(), &[])),
    enters("opendir: the name", |p| entries(p.name(), &["script", &p.own("file"), &p.own("absent")])),
    enters("opendir: the name's .", |p| entries(p.name().join("."), &["script", &p.own("absent")])),
    stays_out("opendir: the name's ..", |p| entries(p.name().join(".."), &["backup"])),
    enters("readlink: symbolic link", |p| target(p.link())),
    enters("readlink: file", |p| target(p.file())),
    enters("readlink: absent", |p| target(p.absent())),
    enters("readlink: in a subdirectory", |p| target(p.inner())),
    either("readlink: the name", |p| target(p.name())),
    enters("statfs: file", |p| volume(p.file())),
    enters("statfs: absent", |p| volume(p.absent())),
    enters("statfs: the name", |p| volume(p.name())),
    enters("inotify_add_watch: file", |p| watched(p.file(), &p.file())),
    enters("inotify_add_watch: directory", |p| watched(p.dir(), &p.inner())),
    enters("inotify_add_watch: absent", |p| watched(p.absent(), &p.file())),
    enters("inotify_add_watch: the name", |p| watched(p.name(), &p.file())),
    enters("name_to_handle_at: file", |p| Ok(format!("{:?}", raw::file_handle(&p.file())?))),
    enters("name_to_handle_at: file in a subdirectory", |p| {
        Ok(format!("{:?}", raw::file_handle(&p.inner())?))
    }),
    enters("name_to_handle_at: absent", |p| Ok(format!("{:?}", raw::file_handle(&p.absent())?))),
    enters("name_to_handle_at: the name", |p| {
        let (kind, bytes) = raw::file_handle(&p.name())?;
        Ok(format!("type {kind:#x}, {} bytes", bytes.len()))
    }),
    enters("ls: file", |p| run(&["ls"], &p.file())),
    enters("ls: the name", |p| run(&["ls"], &p.name())),
    enters("find: the name", |p| found(&p.name())),
    enters("sh: cd into the name", |p| {
        let script = format!("cd {} && pwd >/dev/null && cat {}", p.name().display(), p.own("file"));
        run(&["sh", "-c"], Path::new(&script))
    }),
    enters("a library loader's search: absent in an absent directory", |p| {
        execute(p.absent().join("bin").join("program"))
    }),
];

fn told(data: rustix::io::Result<rustix::fs::Stat>) -> Outcome {
    let data = data?;
    Ok(format!("inode {} mode {:o} size {} links {}", data.st_ino, data.st_mode, data.st_size, data.st_nlink))
}

/// Success, and whether it is the root's own directory or the disk's that was seen.
fn which(place: &Place, data: rustix::io::Result<rustix::fs::Stat>) -> Outcome {
    let same = data?.st_dev == rustix::fs::stat(&place.root)?.st_dev;
    Ok(if same { "the empty directory below" } else { "the disk" }.into())
}

fn extended(path: PathBuf, flags: AtFlags) -> Outcome {
    let data = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS)?;
    Ok(format!("inode {} mode {:o} size {}", data.stx_ino, data.stx_mode, data.stx_size))
}

/// A change of directory or root that must have led to where `probe` exists.
fn entered(result: rustix::io::Result<()>, probe: &str) -> Outcome {
    result?;
    read(probe)
}

/// Opens and reads a directory; tells which of `probes` it lists.
fn entries(path: PathBuf, probes: &[&str]) -> Outcome {
    let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let found: Vec<&str> =
        probes.iter().copied().filter(|probe| names.iter().any(|name| name == probe)).collect();
    Ok(format!("lists {found:?}"))
}

fn target(path: PathBuf) -> Outcome {
    Ok(rustix::fs::readlink(path, Vec::new())?.to_string_lossy().into_owned())
}

pub(super) fn volume(path: PathBuf) -> Outcome {
    let data = rustix::fs::statfs(path)?;
    Ok(format!("type {:x}, {} blocks of {}", data.f_type, data.f_blocks, data.f_bsize))
}

/// Watches `path` for opens, opens `opened`, and tells whether the watch saw it.
fn watched(path: PathBuf, opened: &Path) -> Outcome {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, path, inotify::WatchFlags::OPEN)?;
    read(opened)?;
    match rustix::io::read(&watch, &mut [0u8; 4096]) {
        Ok(_) => Ok("sees an open".into()),
        Err(Errno::AGAIN) => Ok("sees nothing".into()),
        Err(errno) => Err(errno),
    }
}

/// Whether find lists the script. In company its exit status tells of what others have removed while it looked, also with
/// `-ignore_readdir_race`.
fn found(path: &Path) -> Outcome {
    let mut process = Command::new(program("find"));
    process.arg(path).args(["-maxdepth", "1", "-name", "script"]).stderr(std::process::Stdio::null());
    let output = process.output().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let lists =
        String::from_utf8_lossy(&output.stdout).lines().any(|line| Path::new(line) == path.join("script"));
    Ok(format!("lists the script: {lists}"))
}

/// Runs a program on a path and gives its exit status and what it complained of, with the place's paths left out.
pub(super) fn run(command: &[&str], path: &Path) -> Outcome {
    let mut process = Command::new(program(command[0]));
    process.env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    if command[0] == "find" {
        process.arg(path).args(&command[1..]);
    } else {
        process.args(&command[1..]).arg(path);
    }
    let output = process.output().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.rsplit(": ").next().unwrap_or_default().trim().to_owned();
    Ok(format!("{} {complaint}", output.status))
}
