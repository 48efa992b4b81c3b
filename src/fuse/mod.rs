//! The FUSE root: name directories that become disks when somebody enters, and the status files. The disks
//! themselves are ordinary kernel mounts over the name directories; no data goes through here. Knows nothing of
//! disks and guests: it tells the core who wants what and gives the answers that it is told.

mod caller_memory;
mod callers;
mod calls;
mod connection;
mod filesystem;
mod mount;
mod names;
mod notices;
mod pump;
mod questions;
mod replies;
mod shadows;

use std::sync::Arc;

use crate::core::Event;

pub use caller_memory::{COMMAND as READ_CALLER, read as read_caller};
pub use callers::is_dying;
pub use connection::{Serving, serve};
pub use mount::{DetachedRoot, FUSE_TYPE, RootAttributes, abort};
pub use names::{Names, Node, StatusFile};
pub use notices::RootChanged;
pub use replies::Replies;

/// Where events for the core go; never blocks.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;
