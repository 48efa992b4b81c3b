//! What /proc says of the threads that call: whether a thread is one of ours, or is about to die.

use std::fs;
use std::path::Path;

use nix::unistd::{Pid, getpgid, getpgrp};

/// Whether the thread is one of this process: its requests must never be held.
pub(super) fn is_ours(thread: u32) -> bool {
    // All threads of a process are in one group, and asking for that costs a tenth of a look into /proc.
    let of_our_group = |id| getpgid(Some(Pid::from_raw(id))) == Ok(getpgrp());
    // Zero would ask for our own.
    if !i32::try_from(thread).is_ok_and(|id| id > 0 && of_our_group(id)) {
        return false;
    }
    Path::new("/proc/self/task").join(thread.to_string()).exists()
}

/// Whether a fatal signal waits for the thread. The kernel turns every fatal signal into a pending SIGKILL of
/// each thread (kernel/signal.c, complete_signal). A thread that cannot be looked at counts as dying: it is in
/// another pid namespace or gone, and is better answered than held.
pub fn is_dying(thread: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{thread}/status")) else { return true };
    pending(&status).is_none_or(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
}

/// The signals that wait for the thread itself or its process (proc(5), `SigPnd` and `ShdPnd`).
fn pending(status: &str) -> Option<u64> {
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    Some(mask("SigPnd:")? | mask("ShdPnd:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_threads_are_known_and_others_are_not() {
        let thread = || rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert!(is_ours(thread()));
        assert!(std::thread::spawn(move || is_ours(thread())).join().unwrap());
        assert!(!is_ours(1));
        assert!(!is_ours(0));
    }

    #[test]
    fn a_running_thread_is_not_dying_and_an_absent_one_is() {
        assert!(!is_dying(std::process::id()));
        assert!(is_dying(0));
    }

    #[test]
    fn proc_files_are_read_as_proc_5_says() {
        let status = "Name:\tcat\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n";
        assert_eq!(pending(status), Some(0x100));
        assert_eq!(pending("SigPnd:\tx\n"), None);
    }
}
