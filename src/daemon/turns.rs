//! Lets a state machine take messages one at a time, in the order they came in, without a thread of its own: whoever
//! brings a message while nobody else is at it has the machine take it, and what others bring meanwhile. So a message
//! wakes no other thread, and nobody waits for a lock. Knows nothing of what the messages say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Machine<T> = Box<dyn FnMut(T) + Send>;

/// The way to the machine. Clones lead to the same one.
pub(super) struct Turns<T>(Arc<Mutex<Queue<T>>>);

struct Queue<T> {
    waiting: VecDeque<T>,
    /// `None`: somebody is at it, or it has not begun.
    machine: Option<Machine<T>>,
}

impl<T> Clone for Turns<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Turns<T> {
    /// Messages wait until [`Turns::begin`].
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Queue { waiting: VecDeque::new(), machine: None })))
    }

    /// What waits, before the machine begins.
    pub(super) fn take_waiting(&self) -> VecDeque<T> {
        std::mem::take(&mut self.queue().waiting)
    }

    /// The machine takes what waits, and what comes from now on. It must not block; it may bring messages itself.
    pub(super) fn begin(&self, machine: impl FnMut(T) + Send + 'static) {
        self.run(Box::new(machine));
    }

    /// The machine takes the message: before this returns, or soon on another thread that is at it.
    pub(super) fn bring(&self, message: T) {
        let mut queue = self.queue();
        queue.waiting.push_back(message);
        let Some(machine) = queue.machine.take() else { return };
        drop(queue);
        self.run(machine);
    }

    fn run(&self, mut machine: Machine<T>) {
        let panics = EndOfPanic;
        loop {
            let mut queue = self.queue();
            let Some(message) = queue.waiting.pop_front() else {
                queue.machine = Some(machine);
                return std::mem::forget(panics);
            };
            drop(queue);
            machine(message);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A machine that panics is lost, and with it the daemon, whichever thread it was: its successor takes over what is
/// mounted, as after a kill.
struct EndOfPanic;

impl Drop for EndOfPanic {
    fn drop(&mut self) {
        std::process::exit(101);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn messages_of_many_threads_are_all_taken_one_at_a_time_and_each_threads_in_order() {
        const THREADS: usize = 8;
        const EACH: usize = 2_000;
        let turns = Turns::new();
        let taken = Arc::new(Mutex::new(vec![Vec::new(); THREADS]));
        let (to, busy) = (Arc::clone(&taken), AtomicBool::new(false));
        turns.begin(move |(thread, number): (usize, usize)| {
            assert!(!busy.swap(true, Ordering::SeqCst), "two at once");
            to.lock().unwrap()[thread].push(number);
            busy.store(false, Ordering::SeqCst);
        });
        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (turns, barrier) = (turns.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    (0..EACH).for_each(|number| turns.bring((thread, number)));
                });
            }
        });
        let expected: Vec<usize> = (0..EACH).collect();
        assert!(taken.lock().unwrap().iter().all(|numbers| *numbers == expected));
    }

    #[test]
    fn what_the_machine_brings_itself_is_taken_after_what_it_is_at() {
        let turns = Turns::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (again, to) = (turns.clone(), Arc::clone(&log));
        turns.begin(move |number: u32| {
            if number < 3 {
                again.bring(number + 1);
            }
            to.lock().unwrap().push(number);
        });
        turns.bring(0);
        assert_eq!(*log.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn messages_wait_until_the_machine_begins() {
        let turns = Turns::new();
        (0..4).for_each(|number| turns.bring(number));
        assert_eq!(turns.take_waiting(), [0, 1, 2, 3]);
        turns.bring(4);
        let log = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&log);
        turns.begin(move |number| to.lock().unwrap().push(number));
        turns.bring(5);
        assert_eq!(*log.lock().unwrap(), [4, 5]);
    }
}
