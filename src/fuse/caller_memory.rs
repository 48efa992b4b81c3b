//! Paths in the memory of a caller, read by a process of its own. Whoever calls decides what is behind that memory: a
//! page of a file whose file system never answers stops its reader for good, and a thread that is stopped so survives
//! SIGKILL, and with it the connection to the kernel. Knows nothing of what the paths are for.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The program's own command that reads; not for people.
pub const COMMAND: &str = "read-path-of-caller";

/// A page that was swapped out is back by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many readers at most; one that is stopped keeps its place until it is freed.
const READERS: usize = 16;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// The C string at this address of a thread's memory. `None`: there is none, or it was not read in time.
pub(super) fn path(thread: u32, address: u64) -> Option<OsString> {
    let place = Place::take()?;
    let mut reader = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .args([thread.to_string(), address.to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let said = listen(&mut reader, Instant::now() + PATIENCE);
    if said.is_some() {
        // It has closed its only output, to end.
        let _ = reader.wait();
        return said.filter(|path| !path.is_empty()).map(OsString::from_vec);
    }
    let _ = reader.kill();
    let wait = move || {
        let _ = reader.wait();
        drop(place);
    };
    // Without a thread it stays a zombie until we end.
    let _ = thread::Builder::new().name("reaper".into()).spawn(wait);
    None
}

/// What [`COMMAND`] does: writes the C string at an address of a thread's memory to standard output.
///
/// # Errors
/// The memory cannot be read, or standard output not written.
pub fn read(thread: u32, address: u64) -> io::Result<()> {
    let memory = File::open(format!("/proc/{thread}/mem"))?;
    let path = string(&memory, address).ok_or(io::ErrorKind::InvalidData)?;
    io::stdout().write_all(path.as_bytes())
}

/// Everything until the end of its output; `None` if that does not come in time.
fn listen(reader: &mut Child, deadline: Instant) -> Option<Vec<u8>> {
    let mut output = reader.stdout.take()?;
    let mut said = Vec::new();
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok()?;
        match poll(&mut [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
        }
        let mut piece = [0; libc::PATH_MAX as usize];
        match output.read(&mut piece).ok()? {
            0 => return Some(said),
            length => said.extend_from_slice(&piece[..length]),
        }
    }
}

/// One of [`READERS`], until it is dropped.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let more = |running| (running < READERS).then_some(running + 1);
        RUNNING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok().then_some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The C string at an address of another process, at most as long as a path can be.
fn string(memory: &File, address: u64) -> Option<OsString> {
    const PAGE: u64 = 4096;
    let mut text = Vec::new();
    while text.len() < libc::PATH_MAX as usize {
        // To the end of the page: what comes after it may not be mapped.
        let at = address.checked_add(text.len() as u64)?;
        let mut piece = vec![0; (PAGE - at % PAGE) as usize];
        memory.read_exact_at(&mut piece, at).ok()?;
        let end = piece.iter().position(|&byte| byte == 0);
        text.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
        if end.is_some() {
            return Some(OsString::from_vec(text));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_across_pages_and_not_beyond_what_is_mapped() {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut long = vec![b'x'; 3000];
        long.push(0);
        let text = string(&memory, long.as_ptr() as u64).unwrap();
        assert_eq!(text.into_vec(), &long[..3000]);
        assert_eq!(string(&memory, 0), None);
        assert_eq!(string(&memory, u64::MAX), None);
    }

    #[test]
    fn a_reader_that_says_nothing_is_not_waited_for() {
        let mut reader = Command::new("sleep").arg("600").stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(listen(&mut reader, Instant::now() + Duration::from_millis(1)), None);
        reader.kill().unwrap();
        reader.wait().unwrap();
        let mut reader = Command::new("echo").args(["-n", "path"]).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(listen(&mut reader, Instant::now() + Duration::from_secs(60)).unwrap(), b"path");
        reader.wait().unwrap();
    }
}
