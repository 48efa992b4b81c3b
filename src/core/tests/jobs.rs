//! The jobs that the core has asked for, and how they end.

use super::world::{Open, World};
use crate::core::*;
use crate::device::DiskSeq;
use crate::disk::{DiskError, ErrorKind, Opened, Order, Source};

#[derive(Clone, Debug)]
pub(super) enum Job {
    Prepare(Box<Order>),
    /// Prepared; told to attach.
    Attach(String),
    Unmount(MountId, Unmount),
    Lock(Option<String>),
    Eject(DiskSeq),
}

impl World {
    /// Ends a job well, or with this error.
    pub(super) fn end_job(&mut self, job: JobId, error: Option<ErrorKind>) {
        let Some((slot, work)) = self.jobs.remove(&job) else { return };
        match work {
            Job::Prepare(order) => self.end_prepare(job, slot, &order, error),
            Job::Attach(mapping) => {
                let result = match error {
                    None => {
                        self.mounted.insert(slot, self.open[&mapping].mount);
                        self.back.remove(&slot);
                        Ok(self.instant())
                    }
                    Some(kind) => Err(failure(kind)),
                };
                self.send(Event::Attached { job, result });
            }
            Job::Unmount(mount, how) => {
                let there = self.mounted.get(&slot) == Some(&mount);
                let result = match error {
                    _ if there && self.covered.contains(&slot) => UnmountResult::Covered("tmpfs".into()),
                    Some(ErrorKind::Busy) if there && how != Unmount::Lazy => {
                        UnmountResult::Busy("pid 1 (root, vim): open file /x".into())
                    }
                    Some(ErrorKind::Io) if there && how == Unmount::Expire => UnmountResult::Marked,
                    Some(ErrorKind::Absent) if there => {
                        self.mounted.remove(&slot);
                        UnmountResult::GoneWithDisk
                    }
                    Some(ErrorKind::Damaged) if there => {
                        self.mounted.remove(&slot);
                        UnmountResult::GoneUnsaved("input/output error".into())
                    }
                    Some(_) if there => UnmountResult::Failed("it failed".into()),
                    _ if !there => UnmountResult::NotThere,
                    _ => {
                        self.mounted.remove(&slot);
                        UnmountResult::Gone
                    }
                };
                self.send(Event::Unmounted { job, result });
            }
            Job::Lock(mapping) => {
                let is_elsewhere = mapping.as_ref().is_some_and(|mapping| self.is_elsewhere(slot, mapping));
                let is_left = mapping.as_ref().is_some_and(|mapping| self.open[mapping].is_left);
                let result = match error {
                    _ if !is_left && is_elsewhere => LockResult::Held("mounted elsewhere".into()),
                    None | Some(ErrorKind::Absent | ErrorKind::Damaged) => {
                        self.open.remove(&mapping.unwrap());
                        match error {
                            Some(ErrorKind::Absent) => LockResult::LockedWithDisk,
                            Some(_) => LockResult::LockedUnsaved("input/output error".into()),
                            None => LockResult::Locked,
                        }
                    }
                    Some(ErrorKind::Busy) => LockResult::Held("somebody has it".into()),
                    Some(_) => LockResult::Failed("it failed".into()),
                };
                self.send(Event::Locked { job, result });
            }
            Job::Eject(seq) => {
                let result = match error {
                    None | Some(ErrorKind::Absent) => EjectResult::Ejected("it can be unplugged".into()),
                    Some(ErrorKind::Busy) => EjectResult::Busy("pid 1 (root, dd): open device".into()),
                    Some(_) => EjectResult::Failed("it failed".into()),
                };
                let gone = matches!(result, EjectResult::Ejected(_));
                self.send(Event::Ejected { job, result });
                if gone && self.disks.contains_key(&seq) {
                    self.pull(seq);
                }
            }
        }
    }

    /// The mount was ready before the disk was pulled, and the news of it came after that.
    pub(super) fn end_prepare_although_pulled(&mut self, job: JobId) {
        let Some((slot, Job::Prepare(order))) = self.jobs.remove(&job) else {
            panic!("not prepared: {job:?}")
        };
        self.is_prepared(job, slot, &order);
    }

    fn end_prepare(&mut self, job: JobId, slot: SlotId, order: &Order, error: Option<ErrorKind>) {
        let error = match error {
            None if disk_of(order).is_some_and(|seq| !self.disks.contains_key(&seq)) => {
                Some(ErrorKind::Absent)
            }
            // Somebody has brought another mount to the name.
            None if self.mounted.contains_key(&slot) => Some(ErrorKind::Busy),
            error => error,
        };
        match error {
            // It was opened, and could not be put away again.
            Some(kind @ ErrorKind::Other) => {
                let (_, opened) = self.open(slot, order, true);
                self.send(Event::Prepared {
                    job,
                    result: Err(failure(kind).and_left(Some(opened), "it hangs")),
                });
            }
            Some(kind) => {
                self.send(Event::Prepared { job, result: Err(failure(kind)) });
            }
            None => self.is_prepared(job, slot, order),
        }
    }

    fn is_prepared(&mut self, job: JobId, slot: SlotId, order: &Order) {
        let (mount, opened) = self.open(slot, order, false);
        self.jobs.insert(job, (slot, Job::Attach(opened.mapping.clone().unwrap())));
        let detached = Detached {
            mount,
            opened,
            filesystem: "ext4".into(),
            read_only: false,
            errors: 0,
            notes: Vec::new(),
        };
        self.send(Event::Prepared { job, result: Ok(detached) });
    }

    fn open(&mut self, slot: SlotId, order: &Order, fails: bool) -> (MountId, Opened) {
        let disk = disk_of(order);
        let mount = self.number();
        // Reused if it is open on that disk, and under another name if it is open on another.
        let reused = self.open.iter().find(|(_, open)| open.slot == slot && open.disk == disk);
        let is_left = fails && reused.is_none_or(|(_, open)| open.is_left);
        let mapping = reused.map_or_else(|| format!("mapping {mount}"), |(name, _)| name.clone());
        let mut mounts = reused.map_or_else(Vec::new, |(_, open)| open.mounts.clone());
        mounts.push(mount);
        let open = Open { slot, disk, partition: order.partition, mount, mounts, is_left };
        self.open.insert(mapping.clone(), open);
        (mount, Opened { mapping: Some(mapping), ..Opened::default() })
    }
}

pub(super) fn disk_of(order: &Order) -> Option<DiskSeq> {
    match order.source {
        Source::Device { diskseq, .. } => Some(DiskSeq(diskseq)),
        Source::Image(_) => None,
    }
}

fn failure(kind: ErrorKind) -> DiskError {
    DiskError::new(kind, format!("{kind:?}"))
}
