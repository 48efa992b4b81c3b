//! The command line: what people type, and what mount(8) and umount(8) run. Knows of the rest of the house only
//! what the daemon says and how it is started.

mod config_file;
mod daemonize;
mod guests;
mod inspect;
mod leave;
mod mount_helper;
mod mount_options;
mod roots;
mod udev_rule;
mod umount_helper;
mod utab;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::DEFAULT_FILE as CONFIG;
use crate::daemon::{self, Daemon, End, LogTarget};
use crate::fuse::{READ_CALLER, RootAttributes, read_caller};
#[cfg(feature = "libvirt")]
use crate::guests::ATTACH_FOR_DAEMON;
use config_file::ConfigFile;

/// Why a user's mount is refused.
const ONLY_ROOT: &str = "only root can mount it: the daemon opens disks and reads keys";

/// External disks as directories: unlocked and mounted when entered, unmounted and locked after disuse.
#[derive(Debug, Parser)]
#[command(name = "mydisks", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount the root and serve it
    Mount(Mount),
    /// Show what the mounts are doing
    Status {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
        /// The root, if there are several
        mountpoint: Option<PathBuf>,
    },
    /// Show what is plugged in, whose it is, and the config lines that would claim it
    Devices {
        /// The config to compare with; /etc/mydisks/mydisks.toml, if it is there
        #[arg(short, long)]
        config: Option<PathBuf>,
    },
    /// Check a config and say everything that is wrong with it
    Check {
        /// The config
        #[arg(default_value = CONFIG)]
        file: PathBuf,
    },
    /// Unmount and lock one disk now
    Umount(leave::Umount),
    /// Unmount and lock one disk and detach it from the system, so that it can be unplugged
    Eject(leave::Eject),
    /// Print the config for a device list of the old scripts
    Import {
        /// The list; `-` is standard input
        file: PathBuf,
    },
    /// Give a device to a guest
    Attach(guests::Attach),
    /// Take a device from its guest, until it is plugged in again
    Detach(guests::Detach),
    /// Let the daemon read its config again
    Reload {
        /// The root, if there are several
        #[arg(long)]
        mountpoint: Option<PathBuf>,
    },
    /// Print a path from a caller's memory; run by the daemon
    #[command(name = READ_CALLER, hide = true)]
    ReadCaller {
        /// Thread
        thread: u32,
        /// Where it begins
        address: u64,
    },
    /// Attach a device to a guest; run by the daemon
    #[cfg(feature = "libvirt")]
    #[command(name = ATTACH_FOR_DAEMON, hide = true)]
    AttachForDaemon,
    /// Print udev's properties for the device that its rule is at; run by udev
    #[command(name = udev_rule::COMMAND, hide = true)]
    UdevRule {
        /// The config
        #[arg(short, long, default_value = CONFIG)]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Mount {
    /// The config
    #[arg(short, long, default_value = CONFIG)]
    config: PathBuf,
    /// Stay in the foreground, log to standard error
    #[arg(short, long)]
    foreground: bool,
    /// As in fstab: ro, noexec, config=FILE and mount(8)'s own
    #[arg(short, default_value = "")]
    options: String,
    /// The process that a mount in the background goes on in
    #[arg(long, hide = true)]
    detached: bool,
    /// The root; the config's `mountpoint` unless given
    mountpoint: Option<PathBuf>,
}

/// Runs the program with these arguments, the first being the name that it was called by.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let called = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    match called.to_str() {
        Some("mount.mydisks" | "mount.fuse.mydisks") => return mount_helper::main(&arguments[1..]),
        Some("umount.mydisks" | "umount.fuse.mydisks") => return umount_helper::main(&arguments[1..]),
        _ => {}
    }
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to standard output and is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match line.command {
        Command::Mount(mount) => run_mount(&mount),
        Command::Status { json, mountpoint } => inspect::status(json, mountpoint.as_deref()),
        Command::Devices { config } => inspect::devices(config.as_deref()),
        Command::Check { file } => inspect::check(&file),
        Command::ReadCaller { thread, address } => {
            read_caller(thread, address).map_err(|error| format!("cannot read it: {error}"))
        }
        #[cfg(feature = "libvirt")]
        Command::AttachForDaemon => daemon::attach_for_daemon(),
        Command::UdevRule { config } => udev_rule::properties(&config),
        Command::Umount(umount) => leave::umount(umount),
        Command::Eject(eject) => leave::eject(eject),
        Command::Import { file } => inspect::import(&file),
        Command::Attach(attach) => guests::attach(attach),
        Command::Detach(detach) => guests::detach(detach),
        Command::Reload { mountpoint } => leave::reload(mountpoint.as_deref()),
    };
    report(result)
}

/// Prints what went wrong.
fn report(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Nobody is left to tell if standard error is gone. An empty message has been told by another process.
            if !message.is_empty() {
                let _ = writeln!(std::io::stderr(), "mydisks: {}", message.trim_end());
            }
            ExitCode::FAILURE
        }
    }
}

fn run_mount(mount: &Mount) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err(ONLY_ROOT.to_owned());
    }
    let options = mount_options::parse(&mount.options, false)?;
    let file = options.config.clone().unwrap_or_else(|| mount.config.clone());
    let file = ConfigFile::new(&file, mount.mountpoint.as_deref(), options.for_disks)?;
    if !mount.foreground && !mount.detached {
        // What can be said at once is said before anything is started.
        let (config, _) = file.load()?;
        return daemonize::start(file.path(), &mount.options, &config.mountpoint);
    }
    let target = if mount.foreground { LogTarget::of_foreground() } else { LogTarget::System };
    let _logging = daemon::start_logging(target);
    let (config, again) = file.load()?;
    let attributes = RootAttributes { read_only: options.read_only, no_exec: options.no_exec };
    let detached = if mount.detached { Some(daemonize::detach()?) } else { None };
    let mountpoint = config.mountpoint.clone();
    let daemon =
        Daemon::start(config, attributes, move || again.load()).map_err(|error| error.to_string())?;
    match detached {
        Some(detached) => detached.ready(),
        None => {
            // Not before the daemon runs: mount(8) looks at the root.
            let registered = mountpoint.clone();
            let tell = move || {
                utab::register(&registered);
                // A service is ready when umount(8) knows its helper too. Without a service manager this does nothing.
                if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
                    tracing::warn!("cannot tell the service manager that the disks are served: {error}");
                }
            };
            if let Err(error) = std::thread::Builder::new().name("ready".into()).spawn(tell) {
                tracing::warn!("nobody is told that the disks are served: out of threads: {error}");
            }
        }
    }
    // umount(8) of a root that was left dead must find our helper.
    match daemon.run() {
        End::Unmounted => utab::unregister(&mountpoint),
        End::Left => {}
        // The log has said what.
        End::UnmountedWithLoss => {
            utab::unregister(&mountpoint);
            return Err(String::new());
        }
        End::GaveUp => return Err(String::new()),
    }
    Ok(())
}
