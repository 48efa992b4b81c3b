//! Threads for jobs that may block: each job has one to itself. A thread that has ended its job is kept for the next
//! one, since to start a thread takes longer than most steps of a mount. Knows nothing of what the jobs do.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_channel::{SendError, Sender, bounded};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs, each at once.
#[derive(Default)]
pub(super) struct Workers {
    /// The way to the one thread that has nothing to do.
    spare: Mutex<Option<Sender<Job>>>,
}

impl Workers {
    /// Runs a job on a thread of its own.
    ///
    /// # Errors
    /// Out of threads: the job is dropped.
    pub(super) fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let job: Job = Box::new(job);
        let spare = self.spare().take();
        let job = match spare {
            None => job,
            Some(spare) => match spare.send(job) {
                Ok(()) => return Ok(()),
                Err(SendError(job)) => job,
            },
        };
        let workers = Arc::clone(self);
        thread::Builder::new().name("job".into()).spawn(move || workers.work(job))?;
        Ok(())
    }

    fn work(&self, first: Job) {
        let mut job = first;
        loop {
            job();
            let (sender, next) = bounded(1);
            match &mut *self.spare() {
                Some(_) => return,
                none => *none = Some(sender),
            }
            match next.recv() {
                Ok(next) => job = next,
                Err(_) => return,
            }
        }
    }

    fn spare(&self) -> MutexGuard<'_, Option<Sender<Job>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread::ThreadId;

    #[test]
    fn jobs_that_wait_for_each_other_all_run() {
        let workers = Arc::new(Workers::default());
        for _ in 0..20 {
            let barrier = Arc::new(Barrier::new(5));
            for _ in 0..4 {
                let barrier = Arc::clone(&barrier);
                workers
                    .run(move || {
                        barrier.wait();
                    })
                    .unwrap();
            }
            barrier.wait();
        }
    }

    #[test]
    fn a_thread_that_has_nothing_to_do_gets_the_next_job() {
        let workers = Arc::new(Workers::default());
        let (done, ended) = bounded::<ThreadId>(1);
        let run = || {
            let done = done.clone();
            workers.run(move || done.send(thread::current().id()).unwrap()).unwrap();
            ended.recv().unwrap()
        };
        let first = run();
        while workers.spare().is_none() {
            thread::yield_now();
        }
        assert_eq!(run(), first);
    }

    #[test]
    fn a_job_that_panics_takes_no_other_with_it() {
        let workers = Arc::new(Workers::default());
        workers.run(|| panic!("as it is meant to")).unwrap();
        let (done, ended) = bounded(1);
        workers.run(move || done.send(()).unwrap()).unwrap();
        ended.recv().unwrap();
    }
}
