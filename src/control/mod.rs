//! Commands of people to a running daemon: one line of JSON there, and one or more back, over a socket that only root
//! can reach.
//! Knows nothing of what the commands do.

mod client;
mod server;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use client::{ControlError, forget, is_served, request};
pub use server::{Replier, Server, make_directory};

/// Where the sockets are.
pub const DIRECTORY: &str = "/run/mydisks";

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Unmount and lock one name.
    Umount {
        /// Which.
        name: String,
        /// Out of sight at once, locked with its last user.
        #[serde(default)]
        lazy: bool,
        /// When it is idle, however long that takes.
        #[serde(default)]
        wait: bool,
    },
    /// Unmount and lock one name, and detach its disk from the system.
    Eject {
        /// Which.
        name: String,
        /// When the disk is idle, however long that takes.
        #[serde(default)]
        wait: bool,
    },
    /// Give a device to a guest.
    Attach {
        /// An id, vendor:product, USB port or device node.
        device: String,
        /// The guest; none = the one that the config has for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guest: Option<String>,
    },
    /// Take a device from its guest, until it is plugged in again.
    Detach {
        /// An id, vendor:product, USB port or device node.
        device: String,
    },
    /// Read the config again.
    Reload,
    /// Unmount and lock everything, unmount the root and end.
    Stop,
}

/// How it went: a sentence either way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Done(String),
    /// Refused or failed, or done and something may be lost: the sentence says which.
    Failed(String),
    /// Not yet, and why; another one follows. A client that closes its end, or half of it, waits no longer.
    Waiting(String),
}

/// Where the daemon of a FUSE root listens. `device` is the root's device number as mountinfo shows it, so that it
/// is found without walking into the root.
fn socket_path(device: (u32, u32)) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/{}:{}", device.0, device.1))
}
