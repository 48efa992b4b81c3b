//! `mount.mydisks SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`: what mount(8) runs for an fstab line of
//! type `mydisks` (mount(8), "External helpers"), with its exit codes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::config_file::ConfigFile;
use super::{CONFIG, ONLY_ROOT, daemonize, mount_options};

/// mount(8), "Exit status".
const USAGE: u8 = 1;
const FAILED: u8 = 32;

#[derive(Debug, Parser)]
#[command(name = "mount.mydisks", version, about = "Mount the mydisks root; run by mount(8)")]
struct Line {
    /// The first field of the fstab line; not used
    spec: OsString,
    /// The mount point
    directory: PathBuf,
    /// Pass over unknown options
    #[arg(short)]
    sloppy: bool,
    /// Do everything but the mount
    #[arg(short)]
    fake: bool,
    /// For mount(8); there is no mtab to write
    #[arg(short = 'n')]
    no_mtab: bool,
    /// For mount(8)
    #[arg(short)]
    verbose: bool,
    /// For mount(8)
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// For mount(8): it has entered the namespace already
    #[arg(short = 'N')]
    namespace: Option<String>,
    /// The options of the fstab line
    #[arg(short, default_value = "")]
    options: String,
}

pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let line = match Line::try_parse_from([OsString::from("mount.mydisks")].iter().chain(arguments)) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to standard output and is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let fail = |code: u8, message: &str| {
        eprintln!("mount.mydisks: {message}");
        ExitCode::from(code)
    };
    let options = match mount_options::parse(&line.options, line.sloppy) {
        Ok(options) => options,
        Err(message) => return fail(USAGE, &message),
    };
    if !rustix::process::geteuid().is_root() {
        return fail(USAGE, ONLY_ROOT);
    }
    let config = options.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG));
    let file = ConfigFile::new(&config, Some(&line.directory), options.for_disks);
    let root = match file.and_then(|file| file.load()) {
        Ok((config, _)) => config.mountpoint,
        Err(message) => return fail(FAILED, &message),
    };
    if line.fake {
        return ExitCode::SUCCESS;
    }
    // What was passed over is not to be refused by the daemon.
    let kept: Vec<_> =
        line.options.split(',').filter(|word| mount_options::parse(word, false).is_ok()).collect();
    match daemonize::start(&config, &kept.join(","), &root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) if message.is_empty() => ExitCode::from(FAILED),
        Err(message) => fail(FAILED, &message),
    }
}
