//! The commands that a daemon carries out: umount, eject and reload. They ask it and show what it says.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{inspect, roots};
use crate::config::{self, DurationError};
use crate::control::{self, Reply, Request};

/// `mydisks umount`
#[derive(Debug, Args)]
pub(super) struct Umount {
    /// The name of its mount
    name: String,
    /// Take it out of sight now even if it is in use: who uses it goes on, new accesses are refused until it is locked,
    /// and it is locked when its last user ends
    #[arg(short, long, conflicts_with = "wait")]
    lazy: bool,
    #[command(flatten)]
    patience: Patience,
    /// The root, if there are several
    #[arg(long)]
    mountpoint: Option<PathBuf>,
}

/// `mydisks eject`
#[derive(Debug, Args)]
pub(super) struct Eject {
    /// The name of its mount
    name: String,
    #[command(flatten)]
    patience: Patience,
    /// The root, if there are several
    #[arg(long)]
    mountpoint: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Patience {
    /// If it is in use, wait until it is not, and do it then: for as long as it takes, or for a duration like 30s or 5m.
    /// Ctrl-C gives up, and it stays mounted
    #[arg(short, long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "", value_parser = limit)]
    wait: Option<Limit>,
}

/// How long a command waits; `None` = for ever.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<Duration>);

fn limit(text: &str) -> Result<Limit, DurationError> {
    match text {
        "" => Ok(Limit(None)),
        text => config::parse_duration(text).map(|limit| Limit(Some(limit))),
    }
}

pub(super) fn umount(umount: Umount) -> Result<(), String> {
    let Umount { name, lazy, patience, mountpoint } = umount;
    let request = Request::Umount { name, lazy, wait: patience.wait.is_some() };
    ask(&request, &patience, mountpoint.as_deref())
}

pub(super) fn eject(eject: Eject) -> Result<(), String> {
    let Eject { name, patience, mountpoint } = eject;
    let request = Request::Eject { name, wait: patience.wait.is_some() };
    ask(&request, &patience, mountpoint.as_deref())
}

/// `mydisks reload`
pub(super) fn reload(mountpoint: Option<&Path>) -> Result<(), String> {
    ask(&Request::Reload, &Patience { wait: None }, mountpoint)
}

/// How long a command waits for a disk that does not answer.
const AT_MOST: Duration = Duration::from_secs(90);

fn ask(request: &Request, patience: &Patience, mountpoint: Option<&Path>) -> Result<(), String> {
    let root = roots::find(mountpoint)?;
    let limit = patience.wait.map_or(Some(AT_MOST), |Limit(limit)| limit);
    let waiting = |why: &str| {
        // Nobody is left to tell if standard error is gone.
        let _ = writeln!(std::io::stderr(), "mydisks: waiting: {why}");
    };
    match control::request(root.device, request, limit, waiting) {
        Ok(Reply::Done(text)) => inspect::print(format!("{text}\n").as_bytes()),
        Ok(Reply::Failed(why) | Reply::Waiting(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}
