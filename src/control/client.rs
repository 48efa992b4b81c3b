//! The side of the command line and of umount(8)'s helper.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

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

/// Asks the daemon of this root and waits for its reply, however long the work takes.
///
/// # Errors
/// See [`ControlError`].
pub fn request(device: (u32, u32), request: &Request) -> Result<Reply, ControlError> {
    let mut stream = UnixStream::connect(socket_path(device)).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ControlError::NotRoot,
        _ => ControlError::Unserved(error),
    })?;
    let mut exchange = || {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    };
    exchange().map_err(ControlError::NoReply)
}
