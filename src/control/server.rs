//! The side of the daemon.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{SendFlags, send};

use super::{DIRECTORY, Reply, Request, socket_path};

/// Longer requests are not ours.
const LONGEST: u64 = 64 << 10;

/// A client must have said what it wants by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// Out of file descriptors, accept(2) fails at once for as long as the connection waits: not to be asked again sooner.
const PAUSE: Duration = Duration::from_millis(200);

/// The listening socket; removed when dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
}

/// Gives replies to the connections that wait for them.
#[derive(Clone, Debug, Default)]
pub struct Replier {
    waiting: Arc<Mutex<HashMap<u64, UnixStream>>>,
}

impl Server {
    /// Listens for the root with this device number. `take` gets each request with the number to reply to, and nothing
    /// with that number when the client has gone or waits no longer.
    ///
    /// # Errors
    /// When /run/mydisks or the socket cannot be made.
    pub fn start(
        device: (u32, u32),
        replier: Replier,
        take: impl Fn(u64, Option<Request>) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let path = socket_path(device);
        make_directory()?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let server = Self { path };
        thread::Builder::new().name("control".into()).spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (replier, take) = (replier.clone(), take.clone());
                let Ok(stream) = stream else {
                    thread::sleep(PAUSE);
                    continue;
                };
                // Out of threads: the client sees the connection close.
                let _ = thread::Builder::new().name("command".into()).spawn(move || {
                    serve(number as u64, stream, &replier, take);
                });
            }
        })?;
        Ok(server)
    }
}

/// Makes /run/mydisks, which is root's alone.
///
/// # Errors
/// Those of mkdir(2) and chmod(2).
pub fn make_directory() -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY)?;
    // It may be older than this run.
    fs::set_permissions(DIRECTORY, Permissions::from_mode(0o700))
}

impl Drop for Server {
    fn drop(&mut self) {
        // Left over it would only be refused by the next client.
        let _ = fs::remove_file(&self.path);
    }
}

impl Replier {
    /// Replies to request number `number`; a client that has gone is not missed.
    pub fn reply(&self, number: u64, reply: &Reply) {
        let mut waiting = self.waiting();
        if let Reply::Waiting(_) = reply {
            if let Some(stream) = waiting.get(&number) {
                say(stream, reply);
            }
        } else if let Some(stream) = waiting.remove(&number) {
            say(&stream, reply);
            // Ends the thread that waits for the client to go.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, UnixStream>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(number: u64, stream: UnixStream, replier: &Replier, take: impl Fn(u64, Option<Request>)) {
    let mut line = String::new();
    let read = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| BufReader::new((&stream).take(LONGEST)).read_line(&mut line))
        .and_then(|_| stream.set_read_timeout(None))
        .and_then(|()| stream.try_clone());
    let Ok(to_client) = read else { return };
    match serde_json::from_str(&line) {
        Ok(request) => {
            replier.waiting().insert(number, to_client);
            take(number, Some(request));
            // Nothing more is to come: this ends with the client, or when it has been replied to.
            let _ = io::copy(&mut &stream, &mut io::sink());
            take(number, None);
        }
        Err(error) => say(&stream, &Reply::Failed(format!("the daemon does not know this request: {error}"))),
    }
}

fn say(stream: &UnixStream, reply: &Reply) {
    // Two strings at most: nothing in it that serde_json refuses.
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    // A client that has gone is not missed, nor one that does not read: the core's turn does not wait for its buffer.
    let _ = send(stream, &line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
