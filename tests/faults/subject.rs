//! The daemon under test, with one name whose disk is an image, and a look at all that it could leak. It and the thread
//! that starts it have a mount namespace of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::slice;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mydisks::disk::leftovers;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::disk_fixture::{Image, PATIENCE};

/// What is configured.
pub(crate) struct Settings {
    /// Further keys of the disk.
    pub(crate) disk: String,
    /// Further lines of its name.
    pub(crate) more: String,
    pub(crate) idle_timeout: &'static str,
    pub(crate) access_timeout: Duration,
}

impl Settings {
    /// Nothing ends because time has passed.
    pub(crate) fn patient() -> Self {
        Self { disk: String::new(), more: String::new(), idle_timeout: "0", access_timeout: PATIENCE }
    }
}

pub(crate) struct Subject {
    daemon: Child,
    image: Image,
    root: PathBuf,
    /// Open files at rest.
    files: OnceLock<Vec<String>>,
}

impl Subject {
    /// A daemon that serves, and has one thread to spare.
    pub(crate) fn start(image: Image, settings: &Settings) -> Self {
        own_mount_namespace();
        let place = image.directory.path().to_owned();
        let root = place.join("root");
        fs::create_dir(&root).unwrap();
        let config = format!(
            "mountpoint = {root:?}\n[mounts.disk]\ndisks = [{{ image = {:?}{} }}]\nidle-timeout = {:?}\n\
             access-timeout = \"{}s\"\n{}",
            image.path,
            settings.disk,
            settings.idle_timeout,
            settings.access_timeout.as_secs(),
            settings.more
        );
        fs::write(place.join("mydisks.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mydisks"));
        command.args(["mount", "-f", "-c"]).arg(place.join("mydisks.toml")).arg(&root);
        let log = File::create(place.join("log")).unwrap();
        let daemon = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let subject = Self { daemon, image, root, files: OnceLock::new() };
        subject.until("the daemon serves", || fs::read(subject.root.join(".status/summary")).is_ok());
        subject.works("the start");
        subject.files.set(subject.open_files()).unwrap();
        subject
    }

    pub(crate) fn image(&self) -> &Path {
        &self.image.path
    }

    pub(crate) fn directory(&self) -> &Path {
        self.image.directory.path()
    }

    /// Enters the name, by another thread: it must not take this one along if it hangs.
    pub(crate) fn access(&self) -> Result<(), Errno> {
        let (sender, answer) = mpsc::channel();
        let name = self.name();
        thread::spawn(move || {
            let found = fs::read_dir(name).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
            sender.send(found.map(|entries| entries.len()))
        });
        match answer.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("an access hangs\n{}", self.log())) {
            Ok(entries) => {
                assert!(entries > 0, "an empty directory in the disk's place\n{}", self.log());
                Ok(())
            }
            Err(error) => Err(Errno::from_io_error(&error).unwrap()),
        }
    }

    /// An access succeeds, and nothing is left of it after a while.
    pub(crate) fn works(&self, after: &str) {
        self.until(&format!("an access after {after} succeeds"), || match self.access() {
            Ok(()) => true,
            // What failed is still being put away, or the machine is slow.
            Err(errno) => {
                assert!(
                    matches!(errno, Errno::BUSY | Errno::TIMEDOUT),
                    "after {after}: {errno:?}\n{}",
                    self.log()
                );
                false
            }
        });
        self.rests(after);
    }

    /// An access succeeds, and the disk is mounted soon.
    pub(crate) fn mounts(&self) {
        assert_eq!(self.access(), Ok(()), "{}", self.log());
        self.until("the disk is mounted", || self.is_mounted());
    }

    /// `mydisks umount`, and whether it says that it is done.
    pub(crate) fn umount(&self) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mydisks"));
        command.args(["umount", "disk", "--mountpoint"]).arg(&self.root);
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap().success()
    }

    /// Takes the disk away if it is mounted, as a person would by hand.
    pub(crate) fn unmount(&self) {
        if self.is_mounted() {
            let _ = unmount(self.name(), UnmountFlags::empty());
        }
    }

    /// Waits until nothing is mounted or attached, no file is open that was not before, and one job's thread is left.
    /// What is mounted is taken away.
    pub(crate) fn rests(&self, after: &str) {
        self.until(&format!("nothing is left after {after}"), || {
            self.unmount();
            self.left().is_empty()
        });
    }

    /// Waits for a condition.
    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            let left = self.left();
            assert!(Instant::now() < deadline, "not in time: {what}; there is {left:?}\n{}", self.log());
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        if self.is_mounted() {
            left.push("a mount".to_owned());
        }
        left.extend((0..self.loops()).map(|_| "a loop device".to_owned()));
        // Where there is no device mapper there is none.
        let mappings = leftovers::mappings().unwrap_or_default();
        left.extend(mappings.into_iter().map(|mapping| format!("mapping {}", mapping.name)));
        if let Some(known) = self.files.get() {
            let mut files = self.open_files();
            for known in known {
                files.iter().position(|file| file == known).map(|known| files.swap_remove(known));
            }
            left.extend(files);
        }
        let jobs = self.job_threads().len();
        if jobs != 1 {
            left.push(format!("{jobs} threads"));
        }
        left
    }

    /// How many loop devices the image has.
    pub(crate) fn loops(&self) -> usize {
        leftovers::loops(slice::from_ref(&self.image.path)).len()
    }

    /// The thread that will do the next job.
    pub(crate) fn spare_thread(&self) -> u32 {
        self.until("one thread has nothing to do", || match self.job_threads()[..] {
            [thread] => self.sleeps(thread),
            _ => false,
        });
        self.job_threads()[0]
    }

    fn job_threads(&self) -> Vec<u32> {
        let tasks = fs::read_dir(self.proc("task")).unwrap().flatten();
        let is_job = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "job")
        };
        tasks.filter(is_job).map(|task| task.file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    /// Whether it waits for another thread.
    fn sleeps(&self, thread: u32) -> bool {
        let place = fs::read_to_string(self.proc("task").join(thread.to_string()).join("wchan"));
        place.is_ok_and(|place| place.contains("futex"))
    }

    /// What they are; a file that is open twice is there twice.
    fn open_files(&self) -> Vec<String> {
        let files = fs::read_dir(self.proc("fd")).unwrap().flatten();
        files.filter_map(|file| Some(fs::read_link(file.path()).ok()?.display().to_string())).collect()
    }

    /// The end of it.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.directory().join("log")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(crate) fn is_mounted(&self) -> bool {
        let name = format!(" {} ", self.name().display());
        fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(&name)
    }

    fn proc(&self, what: &str) -> PathBuf {
        Path::new("/proc").join(self.daemon.id().to_string()).join(what)
    }

    fn name(&self) -> PathBuf {
        self.root.join("disk")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = unmount(self.name(), UnmountFlags::DETACH);
        let _ = unmount(&self.root, UnmountFlags::DETACH);
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// This thread's, and of those that it starts.
#[allow(unsafe_code)]
fn own_mount_namespace() {
    // SAFETY: only UnshareFlags::FILES could part threads from their descriptors.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).unwrap();
}
