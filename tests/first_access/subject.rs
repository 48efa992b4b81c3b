//! The two sides of the comparison, with one face: mydisks with an unmounted name, and a plain mount of the same disk.
//!
//! Both take a list of calls, start each in its own process at once, and tell what came of it and of the disk.

use crate::calls::Case;
use crate::child::{self, Ended, wait_for};
use crate::image::{self, Disk, PlainMount, RootTimes, listing, pristine};
use crate::place::{NAME, Place, describe};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a call may take on a slow machine before it counts as hung.
const CALL_DEADLINE: Duration = Duration::from_secs(15);
/// How long the daemon may take to start, to notice an unmount, to free a loop device.
const DAEMON_DEADLINE: Duration = Duration::from_secs(30);
/// How long a mount may follow the answer that it was the reason for.
const MOUNT_DEADLINE: Duration = Duration::from_secs(3);
/// How long a name is watched that must stay as it is.
const WATCH: Duration = Duration::from_millis(250);

/// What one run of calls came to.
#[derive(Debug)]
pub(crate) struct Run {
    /// The report of each call, in the order given.
    pub ended: Vec<Ended>,
    /// Whether the disk was mounted at the name afterwards.
    pub mounted: bool,
    /// All that is on the disk afterwards.
    pub disk: String,
}

/// What a run waits for when the calls have returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// The mount, which may follow an answer by a moment.
    Mounted,
    /// A while, in which nothing may be attached or mounted.
    Untouched,
    /// Nothing.
    Either,
}

/// A directory of the suite's own: on a tmpfs with shared propagation, in a mount namespace that ends with the suite.
pub(crate) struct Workshop {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Workshop {
    /// Makes it below the temporary directory of the environment (TMPDIR).
    pub(crate) fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("mydisks-first-access.").tempdir().expect("temporary directory");
        let path = directory.path().canonicalize().expect("path of the temporary directory");
        crate::own_mount_namespace();
        let none: Option<&std::ffi::CStr> = None;
        rustix::mount::mount("workshop", &path, "tmpfs", rustix::mount::MountFlags::empty(), none)
            .expect("tmpfs for the workshop");
        rustix::mount::mount_change(&path, MountPropagationFlags::SHARED).expect("shared propagation");
        for part in ["root", "plain", "plain/backup", "look", "elsewhere"] {
            fs::create_dir(path.join(part)).expect("mkdir in the workshop");
        }
        image::make_pristine(&path);
        Self { path, _directory: directory }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn fresh_disk(&self, disk: Disk, image: &Path) {
        // A new file each time: whatever still had the old one open would go on writing to the old one.
        let _ = fs::remove_file(image);
        fs::copy(pristine(&self.path, disk), image).expect("copy of the pristine image");
        for entry in fs::read_dir(self.elsewhere()).expect("readdir").flatten() {
            // The entry's own type: a symbolic link may point into the name, and following it would be an access.
            let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let _ = if directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }

    fn elsewhere(&self) -> PathBuf {
        self.path.join("elsewhere")
    }

    fn run(&self, root: &Path, cases: &[&Case]) -> Vec<Ended> {
        let calls = cases
            .iter()
            .enumerate()
            .map(|(seat, case)| {
                let place = Place { root: root.into(), elsewhere: self.elsewhere(), seat };
                let call = case.call;
                Box::new(move || describe(&call(&place))) as Box<dyn FnOnce() -> String>
            })
            .collect();
        child::at_once(calls, CALL_DEADLINE)
    }

    fn listing(&self, image: &Path, cases: &[&Case]) -> String {
        let times = if cases.len() == 1 { RootTimes::Shown } else { RootTimes::Hidden };
        listing(image, &self.path.join("look"), times)
    }

    /// Makes the calls on a plain mount of a fresh disk.
    pub(crate) fn on_plain_mount(&self, cases: &[&Case]) -> Run {
        let image = self.path.join("plain.ext4");
        let root = self.path.join("plain");
        self.fresh_disk(cases[0].disk, &image);
        let mount = PlainMount::new(&image, &root.join(NAME), false);
        let ended = self.run(&root, cases);
        drop(mount);
        Run { ended, mounted: true, disk: self.listing(&image, cases) }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Its directory can only be removed when nothing is mounted there.
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// The daemon under test.
pub(crate) struct Subject<'a> {
    workshop: &'a Workshop,
    daemon: Child,
}

impl<'a> Subject<'a> {
    /// Starts `mydisks mount -f` with one name, whose disk is an image, and waits until it serves.
    pub(crate) fn start(workshop: &'a Workshop) -> Self {
        let mut subject = Self { workshop, daemon: launch(workshop) };
        subject.await_service();
        subject
    }

    fn await_service(&mut self) {
        let served = wait_for(DAEMON_DEADLINE, || {
            self.root_is_mounted() || matches!(self.daemon.try_wait(), Ok(Some(_)))
        });
        let name = self.name();
        let answer =
            child::alone(|| describe(&rustix::fs::stat(&name).map(|_| String::new())), DAEMON_DEADLINE);
        assert!(
            served && self.root_is_mounted() && answer == Ended::Said("ok".into()),
            "mydisks does not serve {}: stat of the name: {answer}; its log:\n{}",
            self.root().display(),
            self.log()
        );
    }

    /// What the daemon has written to its standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.workshop.path.join("log")).unwrap_or_default()
    }

    /// Makes the calls as the very first access to the unmounted name, then unmounts it again.
    ///
    /// # Errors
    ///
    /// What the daemon did wrong apart from the calls: it died, did not let go of the disk, hung on unmount. It has
    /// then been replaced by a new one.
    pub(crate) fn on_first_access(
        &mut self,
        cases: &[&Case],
        afterwards: Afterwards,
    ) -> (Run, Result<(), String>) {
        let early = self.name_is_mounted() || self.loop_device().is_some();
        self.workshop.fresh_disk(cases[0].disk, &self.image());
        let ended = self.workshop.run(&self.root(), cases);
        let mounted = match afterwards {
            Afterwards::Mounted => wait_for(MOUNT_DEADLINE, || self.name_is_mounted()),
            Afterwards::Untouched => {
                wait_for(WATCH, || self.name_is_mounted() || self.loop_device().is_some())
            }
            Afterwards::Either => self.name_is_mounted(),
        };
        let mut state = self.release();
        if early {
            state = state.and(Err("the disk was mounted or attached again before the first call".into()));
        }
        if ended.iter().any(|end| matches!(end, Ended::Hung { .. })) {
            state = state.and(Err("a call hung".into()));
        }
        if state.is_err() {
            self.restart();
        }
        let disk = self.workshop.listing(&self.image(), cases);
        (Run { ended, mounted, disk }, state)
    }

    /// What goes wrong for processes that work on the disk while it is unmounted under them.
    pub(crate) fn under_unmounts(&mut self) -> Vec<String> {
        self.workshop.fresh_disk(Disk::Open, &self.image());
        let mut faults = crate::under_unmounts::faults(&self.root(), &self.workshop.elsewhere());
        if let Err(complaint) = self.release() {
            faults.push(format!("the daemon: {complaint}"));
            self.restart();
        }
        faults
    }

    /// Lets the kernel forget the name, so that the next access has to look it up first.
    pub(crate) fn forget_the_name(&self) {
        // 2: dentries and inodes that nobody uses. Nothing else forgets them without an act of the daemon's.
        fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
    }

    fn release(&mut self) -> Result<(), String> {
        let name = self.name();
        let mut complaint = String::from("the name was never unmounted");
        let free = wait_for(DAEMON_DEADLINE, || {
            if let Ok(Some(status)) = self.daemon.try_wait() {
                complaint = format!("mydisks ended: {status}");
                return true;
            }
            if self.name_is_mounted() {
                let unmount = || {
                    describe(&rustix::mount::unmount(&name, UnmountFlags::empty()).map(|()| String::new()))
                };
                let said = child::alone(unmount, CALL_DEADLINE);
                complaint = format!("umount of the name: {said}");
                return matches!(said, Ended::Hung { .. });
            }
            complaint = match self.loop_device() {
                Some(device) => format!("{device} stays attached to the unmounted image"),
                None => String::new(),
            };
            complaint.is_empty()
        });
        if free && complaint.is_empty() { Ok(()) } else { Err(complaint) }
    }

    fn restart(&mut self) {
        self.stop();
        self.daemon = launch(self.workshop);
        self.await_service();
    }

    /// Ends the daemon without its help and frees what it held, whatever state it is in.
    fn stop(&mut self) {
        abort_connection(&self.root());
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        for path in [self.name(), self.root()] {
            wait_for(Duration::from_secs(5), || {
                !mounts().iter().any(|mount| Path::new(&mount.at) == path)
                    || rustix::mount::unmount(&path, UnmountFlags::DETACH).is_err()
            });
        }
        if let Some(device) = self.loop_device() {
            let _ = Command::new(image::program("losetup")).args(["-d", &format!("/dev/{device}")]).status();
        }
        wait_for(Duration::from_secs(5), || self.loop_device().is_none());
    }

    fn root(&self) -> PathBuf {
        self.workshop.path.join("root")
    }

    fn name(&self) -> PathBuf {
        self.root().join(NAME)
    }

    fn image(&self) -> PathBuf {
        self.workshop.path.join("subject.ext4")
    }

    fn root_is_mounted(&self) -> bool {
        let root = self.root();
        mounts().iter().any(|mount| Path::new(&mount.at) == root && mount.kind == "fuse.mydisks")
    }

    fn name_is_mounted(&self) -> bool {
        is_mounted(&self.name())
    }

    fn loop_device(&self) -> Option<String> {
        image::loop_device(&self.image())
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(workshop: &Workshop) -> Child {
    let image = workshop.path.join("subject.ext4");
    workshop.fresh_disk(Disk::Open, &image);
    let config = format!("[mounts.{NAME}]\ndisks = [{{ image = {image:?} }}]\nidle-timeout = \"0\"\n");
    serve(&workshop.path, &config)
}

/// Starts a daemon whose mount point is `root` in this directory; its log is there too.
pub(crate) fn serve(directory: &Path, config: &str) -> Child {
    let (file, root) = (directory.join("mydisks.toml"), directory.join("root"));
    fs::write(&file, format!("mountpoint = {root:?}\n{config}")).expect("config file");
    let log = fs::File::options().create(true).append(true).open(directory.join("log")).expect("log file");
    Command::new(env!("CARGO_BIN_EXE_mydisks"))
        .args(["mount", "-f", "-c"])
        .arg(&file)
        .arg(&root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("mydisks starts")
}

/// Whether anything is mounted there.
pub(crate) fn is_mounted(path: &Path) -> bool {
    mounts().iter().any(|mount| Path::new(&mount.at) == path)
}

struct Mount {
    device: String,
    at: String,
    kind: String,
}

/// What is mounted in this namespace (proc_pid_mountinfo(5)). The workshop's paths need no unescaping.
fn mounts() -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        Some(Mount {
            device: (*left.get(2)?).into(),
            at: (*left.get(4)?).into(),
            kind: right.split(' ').next()?.into(),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Frees every process that waits for the FUSE daemon of `root`: nothing else does when the daemon itself is stuck.
fn abort_connection(root: &Path) {
    let connections = Path::new("/sys/fs/fuse/connections");
    if fs::read_dir(connections).map_or(true, |mut entries| entries.next().is_none()) {
        let none: Option<&std::ffi::CStr> = None;
        let _ =
            rustix::mount::mount("fusectl", connections, "fusectl", rustix::mount::MountFlags::empty(), none);
    }
    for mount in
        mounts().iter().filter(|mount| Path::new(&mount.at) == root && mount.kind.starts_with("fuse"))
    {
        if let Some((_, minor)) = mount.device.split_once(':') {
            let _ = fs::write(connections.join(minor).join("abort"), "1");
        }
    }
}
