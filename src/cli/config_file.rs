//! The config as the command line means it: the file, and what `-o` and the mount point beside it say. Read at the
//! start, and again whenever the daemon asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::roots;
use crate::config::{self, Config, MountOptions};

/// Where the config is, and what the command line adds to it.
#[derive(Clone)]
pub(super) struct ConfigFile {
    /// Absolute: the daemon leaves the directory that it was started in.
    file: PathBuf,
    /// In place of the file's.
    mountpoint: Option<PathBuf>,
    /// For all disks, after those of the file.
    options: MountOptions,
}

/// The same for a daemon that has its root.
pub(super) struct Again {
    file: ConfigFile,
    /// The file's mount point at the start.
    configured: PathBuf,
    /// The mount point.
    served: PathBuf,
}

impl ConfigFile {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// One sentence: the path is empty, or the working directory is gone.
    pub(super) fn new(file: &Path, mountpoint: Option<&Path>, options: MountOptions) -> Result<Self, String> {
        let absolute = std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(Self { file: absolute, mountpoint: mountpoint.map(Path::to_owned), options })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    /// The config, and the way to read it again.
    ///
    /// # Errors
    /// The text of a [`config::ConfigError`], or one sentence about the mount point.
    pub(super) fn load(&self) -> Result<(Config, Again), String> {
        let mut config = self.read()?;
        let configured = config.mountpoint;
        // The kernel shows mount points without links and dots; everything here compares with that.
        config.mountpoint = roots::canonical(self.mountpoint.as_ref().unwrap_or(&configured))?;
        let served = config.mountpoint.clone();
        Ok((config, Again { file: self.clone(), configured, served }))
    }

    fn read(&self) -> Result<Config, String> {
        let mut config = config::load(&self.file).map_err(|error| error.to_string())?;
        for mount in config.mounts.iter_mut().map(Arc::make_mut) {
            mount.options = mount.options.merged(&self.options);
        }
        Ok(config)
    }
}

impl Again {
    /// What the file says now. A mount point that it did not change is the one that is served, wherever that came from.
    ///
    /// # Errors
    /// The text of a [`config::ConfigError`].
    pub(super) fn load(&self) -> Result<Config, String> {
        let mut config = self.file.read()?;
        config.mountpoint = if config.mountpoint == self.configured {
            self.served.clone()
        } else {
            // One that is not there is another one.
            roots::canonical(&config.mountpoint).unwrap_or(config.mountpoint)
        };
        Ok(config)
    }
}
