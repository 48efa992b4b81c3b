//! The side of the command line and of umount(8)'s helper.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::{Reply, Request, socket_path};

/// Why a command got no reply.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no daemon serves it ({0}): mount it again, which takes over what is mounted")]
    Unserved(io::Error),
    /// Only root may.
    #[error("only root may do that")]
    NotRoot,
    /// The daemon went away, or is not ours.
    #[error("the daemon gave no reply: {0}")]
    NoReply(io::Error),
}

/// Whether a daemon listens for this root.
pub fn is_served(device: (u32, u32)) -> bool {
    UnixStream::connect(socket_path(device)).is_ok()
}

/// Takes away what a killed daemon of this root has left.
pub fn forget(device: (u32, u32)) {
    // It is refused by the next client if it stays.
    let _ = std::fs::remove_file(socket_path(device));
}

/// Asks the daemon of this root and waits for its reply, however long the work takes; `waiting` gets what it waits for.
/// After `limit` it is told to wait no longer, and its reply says what came of that.
///
/// # Errors
/// See [`ControlError`].
pub fn request(
    device: (u32, u32),
    request: &Request,
    limit: Option<Duration>,
    mut waiting: impl FnMut(&str),
) -> Result<Reply, ControlError> {
    let mut stream = UnixStream::connect(socket_path(device)).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ControlError::NotRoot,
        _ => ControlError::Unserved(error),
    })?;
    let mut exchange = || {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        if let Some(limit) = limit {
            wait_no_longer_after(limit, stream.try_clone()?);
        }
        let mut lines = BufReader::new(&stream);
        loop {
            let mut line = String::new();
            lines.read_line(&mut line)?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match serde_json::from_str(&line)? {
                Reply::Waiting(why) => waiting(&why),
                reply => return Ok(reply),
            }
        }
    };
    exchange().map_err(ControlError::NoReply)
}

fn wait_no_longer_after(limit: Duration, stream: UnixStream) {
    thread::spawn(move || {
        thread::sleep(limit);
        // Fails if the daemon has closed it meanwhile.
        let _ = stream.shutdown(Shutdown::Write);
    });
}
