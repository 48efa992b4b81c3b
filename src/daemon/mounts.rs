//! Watches the mount table and the file systems' errors: what is mounted on the name directories and how it is, now and
//! whenever that changes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::Message;
use super::turns::Turns;
use crate::core::{Event, OnName};
use crate::disk::mountinfo::{self, MountEntry, Watch};
use crate::disk::{self, Damage, DamageWatch};
use crate::fuse::Names;

/// A damaged file system may find an error with each write that it refuses: it is looked at again after so long.
const DEAF: Duration = Duration::from_secs(1);

/// The thread that watches.
pub(super) struct Watcher {
    kick: Arc<OwnedFd>,
}

impl Watcher {
    /// `damage` is watched as well: an error of a file system changes nothing in the mount table.
    pub(super) fn start(
        mountpoint: &Path,
        names: &Arc<Names>,
        turns: &Turns<Message>,
        damage: Option<Arc<DamageWatch>>,
    ) -> io::Result<Self> {
        let kick = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let watch = Watch::new()?;
        let watcher = Self { kick: Arc::clone(&kick) };
        let (mountpoint, names, turns) = (mountpoint.to_owned(), Arc::clone(names), turns.clone());
        thread::Builder::new().name("mounts".into()).spawn(move || {
            let mut is_deaf = false;
            loop {
                let heard = damage.iter().filter(|_| !is_deaf).map(|damage| damage.as_fd());
                let also: Vec<_> = [kick.as_fd()].into_iter().chain(heard).collect();
                if let Err(error) = watch.wait(&also, is_deaf.then_some(DEAF)) {
                    return tracing::error!("the mount table is watched no more: {error}");
                }
                is_deaf = damage.as_ref().is_some_and(|damage| damage.drain());
                // Before the table is read: a kick that comes meanwhile is another look.
                let _ = rustix::io::read(&*kick, &mut [0; 8]);
                let read = Instant::now();
                let on = match on_names(&mountpoint, &names) {
                    Ok(on) => on,
                    Err(error) => {
                        tracing::error!("the mount table cannot be read: {error}");
                        continue;
                    }
                };
                turns.bring(Message::Event(Event::Mounts { read, on }));
            }
        })?;
        Ok(watcher)
    }

    /// Reads the table again, soon.
    pub(super) fn look(&self) {
        // It fails only when it is set already, 2^64 times.
        let _ = rustix::io::write(&*self.kick, &1_u64.to_ne_bytes());
    }
}

fn on_names(mountpoint: &Path, names: &Names) -> io::Result<Vec<OnName>> {
    let entries = mountinfo::read()?;
    let slot = |entry: &MountEntry| names.slot(entry.mount_point.strip_prefix(mountpoint).ok()?.as_os_str());
    let on = entries.iter().filter_map(|entry| {
        Some(OnName {
            slot: slot(entry)?,
            mount: entry.id,
            what: entry.what(),
            on_top: !entries
                .iter()
                .any(|over| over.parent == entry.id && over.mount_point == entry.mount_point),
            read_only: entry.is_read_only(),
            damage: if entry.kind.starts_with("ext") {
                disk::damage(entry.devnum)
            } else {
                Damage::default()
            },
        })
    });
    Ok(on.collect())
}
