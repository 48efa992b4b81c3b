//! Threads that look at a disk before a caller is answered: a disk that does not answer keeps its thread. Bounded, since
//! callers decide how many there are. Knows nothing of what is looked at.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// So many at most. One takes a fraction of a millisecond, on a disk that answers.
const MOST: usize = 128;

type Work = Box<dyn FnOnce() + Send>;

/// Those that are being looked into.
#[derive(Debug, Default)]
pub(super) struct Questions(Arc<Running>);

#[derive(Debug, Default)]
struct Running {
    number: AtomicUsize,
    /// It was said that there are too many, and nothing has ended since.
    is_told: AtomicBool,
}

impl Questions {
    /// Has `look` look into `what` on a thread of its own; gives it back if there is none.
    pub(super) fn look_into<T: Send + 'static>(
        &self,
        what: T,
        look: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), T> {
        let spawn = |work| thread::Builder::new().name("truth".into()).spawn(work).map(drop);
        self.look_into_by(what, look, spawn)
    }

    fn look_into_by<T: Send + 'static>(
        &self,
        what: T,
        look: impl FnOnce(T) + Send + 'static,
        spawn: impl FnOnce(Work) -> io::Result<()>,
    ) -> Result<(), T> {
        let Some(place) = Place::take(&self.0) else {
            if !self.0.is_told.swap(true, Ordering::SeqCst) {
                tracing::error!("{MOST} callers wait for what a disk says of a name: others fail (EAGAIN)");
            }
            return Err(what);
        };
        // A closure that no thread was had for is dropped: what it is about must not go with it.
        let kept = Arc::new(Mutex::new(Some(what)));
        let taken = Arc::clone(&kept);
        let work = move || {
            let _place = place;
            if let Some(what) = take(&taken) {
                look(what);
            }
        };
        match spawn(Box::new(work)) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::error!("no thread for an answer, so a caller fails (EAGAIN): {error}");
                take(&kept).map_or(Ok(()), Err)
            }
        }
    }
}

fn take<T>(kept: &Mutex<Option<T>>) -> Option<T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// One of [`MOST`], until it is dropped.
struct Place(Arc<Running>);

impl Place {
    fn take(running: &Arc<Running>) -> Option<Self> {
        let more = |number| (number < MOST).then_some(number + 1);
        let taken = running.number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.is_ok().then(|| Self(Arc::clone(running)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.number.fetch_sub(1, Ordering::SeqCst);
        self.0.is_told.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn beyond_the_bound_a_question_comes_back_until_another_one_has_ended() {
        let questions = Questions::default();
        let (ends, has_ended) = mpsc::channel();
        let go: Vec<_> = (0..MOST)
            .map(|number| {
                let ends = ends.clone();
                let (go, wait) = mpsc::channel::<()>();
                let look = move |number| {
                    let _ = wait.recv();
                    ends.send(number).unwrap();
                };
                assert_eq!(questions.look_into(number, look), Ok(()));
                go
            })
            .collect();
        assert_eq!(questions.look_into("one more", |_| panic!("there is no place for it")), Err("one more"));
        drop(go);
        let mut all: Vec<usize> = has_ended.iter().take(MOST).collect();
        all.sort_unstable();
        assert_eq!(all, (0..MOST).collect::<Vec<_>>());
        let (done, is_done) = mpsc::channel();
        let mut question = Err(done);
        while let Err(done) = question {
            thread::yield_now();
            question = questions.look_into(done, |done| done.send(()).unwrap());
        }
        is_done.recv().unwrap();
    }

    #[test]
    fn without_a_thread_a_question_comes_back_and_keeps_no_place() {
        let questions = Questions::default();
        for _ in 0..=MOST {
            let none = |_: Work| Err(io::ErrorKind::WouldBlock.into());
            assert_eq!(questions.look_into_by(7, |_| panic!("there is no thread"), none), Err(7));
        }
        assert_eq!(questions.0.number.load(Ordering::SeqCst), 0);
    }
}
