//! The commands that move a device by hand: attach and detach. They ask the daemon and show what it says.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{inspect, roots};
use crate::control::{self, Reply, Request};

/// `mydisks attach`
#[derive(Debug, Args)]
pub(super) struct Attach {
    /// Its id, vendor:product, USB port or device node
    device: String,
    /// The guest; the one that the config has for it unless given
    guest: Option<String>,
    /// The root, if there are several
    #[arg(long)]
    mountpoint: Option<PathBuf>,
}

/// `mydisks detach`
#[derive(Debug, Args)]
pub(super) struct Detach {
    /// Its id, vendor:product, USB port or device node
    device: String,
    /// The root, if there are several
    #[arg(long)]
    mountpoint: Option<PathBuf>,
}

pub(super) fn attach(attach: Attach) -> Result<(), String> {
    let Attach { device, guest, mountpoint } = attach;
    ask(&Request::Attach { device: node(&device), guest }, mountpoint.as_deref())
}

pub(super) fn detach(detach: Detach) -> Result<(), String> {
    ask(&Request::Detach { device: node(&detach.device) }, detach.mountpoint.as_deref())
}

/// A link in /dev is followed here, where the person sees it: `/dev/disk/by-id/…` is `/dev/sdb`.
fn node(device: &str) -> String {
    let path = device.starts_with("/dev/").then(|| std::fs::canonicalize(device).ok()).flatten();
    path.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_else(|| device.to_owned())
}

fn ask(request: &Request, mountpoint: Option<&Path>) -> Result<(), String> {
    let root = roots::find(mountpoint)?;
    match control::request(root.device, request, None, |_| {}) {
        Ok(Reply::Done(text)) => inspect::print(format!("{text}\n").as_bytes()),
        Ok(Reply::Failed(why) | Reply::Waiting(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}
