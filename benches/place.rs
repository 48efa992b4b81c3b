//! Waiting for a condition, and directories that take what is mounted in them away again.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

use crate::Outcome;

/// An emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks every millisecond until `look` is true.
pub(crate) fn wait_until(what: &str, mut look: impl FnMut() -> Outcome<bool>) -> Outcome {
    let start = Instant::now();
    while !look()? {
        if start.elapsed() > PATIENCE {
            return Err(format!("waited in vain for {what}").into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A new directory to mount on, with everything in it gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self(tempfile::Builder::new().prefix("mydisks-bench.").tempdir_in("/run")?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn directory(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
        for point in points.filter(|point| point.starts_with(self.path())) {
            // Best effort, of a measurement that has failed: the namespace ends soon.
            let _ = rustix::mount::unmount(point, UnmountFlags::DETACH);
        }
    }
}
