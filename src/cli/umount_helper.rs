//! `umount.mydisks DIR [-nlfvr] [-t TYPE] [-N NAMESPACE]`: what umount(8) runs for a mount of type `fuse.mydisks`
//! (umount(8), "External helpers"), with its exit codes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::roots;
use crate::control::{self, ControlError, Reply, Request};

/// mount(8), "Exit status".
const USAGE: u8 = 1;
const FAILED: u8 = 32;

#[derive(Debug, Parser)]
#[command(name = "umount.mydisks", version, about = "Unmount the mydisks root; run by umount(8)")]
struct Line {
    /// The mount point
    directory: PathBuf,
    /// Lazy: refused, see the manual
    #[arg(short)]
    lazy: bool,
    /// For umount(8); nothing is ever forced
    #[arg(short)]
    force: bool,
    /// For umount(8); there is no mtab to write
    #[arg(short = 'n')]
    no_mtab: bool,
    /// For umount(8)
    #[arg(short)]
    verbose: bool,
    /// For umount(8); nothing is left mounted read-only
    #[arg(short)]
    read_only: bool,
    /// For umount(8)
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// For umount(8): it has entered the namespace already
    #[arg(short = 'N')]
    namespace: Option<String>,
}

pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let line = match Line::try_parse_from([OsString::from("umount.mydisks")].iter().chain(arguments)) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to standard output and is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    if line.lazy {
        eprintln!(
            "umount.mydisks: a lazy unmount would leave disks unlocked: refused; `umount -i -l` does it anyway"
        );
        return ExitCode::from(USAGE);
    }
    match umount(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("umount.mydisks: {}: {message}", line.directory.display());
            ExitCode::from(FAILED)
        }
    }
}

fn umount(line: &Line) -> Result<(), String> {
    let root = roots::at(&line.directory)?;
    let waiting = |why: &str| eprintln!("umount.mydisks: {}: waiting: {why}", line.directory.display());
    match control::request(root.device, &Request::Stop, None, waiting) {
        Ok(Reply::Done(_)) => Ok(()),
        Ok(Reply::Failed(why) | Reply::Waiting(why)) => Err(why),
        Err(ControlError::Unserved(_)) => roots::clear(&root),
        Err(error) => Err(error.to_string()),
    }
}
