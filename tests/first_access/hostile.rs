//! A caller whose paths are in memory that never comes: once the kernel has copied them, he puts a file over them whose
//! file system never answers. Whoever looks at them then sleeps beyond SIGKILL. Nobody else may wait for that.

use crate::child::{self, Ended, wait_for};
use crate::image::{self, Disk};
use crate::place::{NAME, Outcome, Place, describe};
use crate::raw::{self, Paths};
use crate::subject::{Workshop, is_mounted, serve};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEntry, Request, Session, SessionACL,
};
use rustix::fd::AsRawFd;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, UNIX_EPOCH};

pub(crate) const TEST: &str = "a caller whose memory never comes";

/// Another name of the same daemon.
const OTHER: &str = "other";
/// After so long the daemon gives a caller up.
const ACCESS_TIMEOUT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// What goes wrong for him, for the others, and for the end of the daemon.
pub(crate) fn faults(workshop: &Workshop) -> Vec<String> {
    let scene = Scene::set(workshop);
    let mut faults = scene.ask();
    if readers().is_empty() {
        faults.push("nobody has looked at the caller's memory: nothing was tried".into());
    }
    faults.extend(scene.end());
    faults
}

struct Scene {
    directory: PathBuf,
    daemon: Child,
    stuck: Pid,
}

impl Scene {
    fn set(workshop: &Workshop) -> Self {
        let directory = workshop.path().join("hostile");
        for part in ["root", "stuck"] {
            fs::create_dir_all(directory.join(part)).expect("mkdir in the workshop");
        }
        let disk = |name| {
            let image = directory.join(format!("{name}.ext4"));
            fs::copy(image::pristine(workshop.path(), Disk::Open), &image).expect("copy of the image");
            format!("[mounts.{name}]\ndisks = [{{ image = {image:?} }}]\n")
        };
        let config = format!(
            "[defaults]\naccess-timeout = \"{}s\"\n{}{}",
            ACCESS_TIMEOUT.as_secs(),
            disk(NAME),
            disk(OTHER)
        );
        let daemon = serve(&directory, &config);
        let at = directory.join("stuck");
        let stuck = raw::fork(|| never_answer(&at));
        let is_there = wait_for(PATIENCE, || is_mounted(&directory.join("root")) && is_mounted(&at));
        assert!(
            is_there,
            "nothing to test: {}",
            fs::read_to_string(directory.join("log")).unwrap_or_default()
        );
        Self { directory, daemon, stuck }
    }

    /// He and two others, at the name that he is at and at another one.
    fn ask(&self) -> Vec<String> {
        let place = |seat| Place { root: self.directory.join("root"), elsewhere: PathBuf::new(), seat };
        let covered = self.directory.join("covered");
        // Until his memory is gone the daemon does nothing.
        let daemon = Pid::from_child(&self.daemon);
        kill_process(daemon, Signal::STOP).expect("SIGSTOP");
        let others = |call: fn(&Path) -> Outcome, name: &str| {
            let (covered, path) = (&covered, self.directory.join("root").join(name));
            Box::new(move || {
                wait_for(PATIENCE, || covered.exists());
                kill_process(daemon, Signal::CONT).expect("SIGCONT");
                describe(&call(&path))
            }) as Box<dyn FnOnce() -> String>
        };
        let stuck = self.directory.join("stuck/page");
        let calls: Vec<Box<dyn FnOnce() -> String>> = vec![
            Box::new(|| describe(&rename_from_vanishing_memory(&place(0), &stuck, &covered))),
            others(list, NAME),
            others(list, OTHER),
        ];
        let ended = child::at_once(calls, ACCESS_TIMEOUT + PATIENCE);
        // If nobody has come to it.
        let _ = kill_process(daemon, Signal::CONT);
        ["he", "another caller of the name", "a caller of another name"]
            .into_iter()
            .zip(&ended)
            .filter(|(_, ended)| **ended != Ended::Said("ok".into()))
            .map(|(who, ended)| format!("{who}: {ended}"))
            .collect()
    }

    /// The daemon ends while its reader is stuck, and that ends when it can.
    fn end(mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        // A process is not gone before all its threads are.
        match ended(&mut self.daemon, PATIENCE) {
            Some(status) if status.success() => {}
            Some(status) => faults.push(format!("the daemon ended with {status}")),
            None => faults.push("the daemon did not end on SIGTERM".into()),
        }
        let _ = kill_process(self.stuck, Signal::KILL);
        let _ = waitpid(Some(self.stuck), WaitOptions::empty());
        let _ = unmount(self.directory.join("stuck"), UnmountFlags::DETACH);
        if !wait_for(PATIENCE, || readers().is_empty()) {
            faults.push(format!("left behind: processes {:?}", readers()));
        }
        if !faults.is_empty() {
            let _ = self.daemon.kill();
            let _ = ended(&mut self.daemon, PATIENCE);
            faults.push(fs::read_to_string(self.directory.join("log")).unwrap_or_default());
        }
        for path in [format!("root/{NAME}"), format!("root/{OTHER}"), "root".to_owned()] {
            // There is nothing to take away if all went well.
            let _ = unmount(self.directory.join(path), UnmountFlags::DETACH);
        }
        faults
    }
}

fn ended(process: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let mut status = None;
    wait_for(patience, || {
        status = process.try_wait().ok().flatten();
        status.is_some()
    });
    status
}

fn list(name: &Path) -> Outcome {
    let entries = fs::read_dir(name).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let errno = |error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
    entries.map(|_| String::new()).map_err(errno)
}

/// While the call waits, another thread puts `stuck` over the paths, and then makes the file `covered`.
fn rename_from_vanishing_memory(place: &Place, stuck: &Path, covered: &Path) -> Outcome {
    let paths = Paths::new(&place.file(), &place.absent());
    let file = File::open(stuck).expect("the file that never comes can be opened");
    let caller = rustix::thread::gettid().as_raw_nonzero();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let call = format!("{} ", libc::SYS_renameat2);
            let is_waiting = || {
                fs::read_to_string(format!("/proc/self/task/{caller}/syscall"))
                    .is_ok_and(|text| text.starts_with(&call))
            };
            if wait_for(PATIENCE, is_waiting) && paths.put_over(&file).is_ok() {
                File::create(covered).expect("a file in the workshop");
            }
        });
        paths.rename().map(|()| String::new())
    })
}

/// The daemon's processes that read callers' memory.
fn readers() -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    let is_reader = |process: &PathBuf| {
        fs::read(process.join("cmdline")).is_ok_and(|line| {
            line.split(|byte| *byte == 0).nth(1) == Some(mydisks::fuse::READ_CALLER.as_bytes())
        })
    };
    processes.filter(is_reader).map(|process| process.display().to_string()).collect()
}

/// Serves a file system at this directory with one file, which is never read.
fn never_answer(at: &Path) {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
    let options = format!("fd={},rootmode=40755,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let options = CString::new(options).expect("no NUL in it");
    mount("stuck", at, "fuse", MountFlags::empty(), options.as_c_str()).expect("a FUSE mount");
    let session = Session::from_fd(Stuck, device.into(), SessionACL::All, Config::default());
    session.and_then(Session::run).expect("the kernel speaks FUSE");
}

struct Stuck;

const FILE: INodeNo = INodeNo(2);
const FOR_EVER: Duration = Duration::from_secs(3600);

fn attributes(node: INodeNo) -> FileAttr {
    let (kind, perm) =
        if node == FILE { (FileType::RegularFile, 0o444) } else { (FileType::Directory, 0o755) };
    FileAttr {
        ino: node,
        size: 4096,
        blocks: 8,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Stuck {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() {
            Some("page") => reply.entry(&FOR_EVER, &attributes(FILE), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &attributes(node));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // Dropped, it would be an error.
        std::mem::forget(reply);
    }
}
