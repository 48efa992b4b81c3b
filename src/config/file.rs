//! Reads a configuration file as a hostile thing: no FIFO can hold it up, no giant file fill the memory, and for
//! root no file counts that somebody else could have written.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::LONGEST;
use super::problem::ConfigError;

/// The bytes of the file, at most [`LONGEST`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: path.to_owned(), source };
    // Without NONBLOCK the open of a FIFO waits for a writer; it changes nothing for a regular file.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file =
        File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| unreadable(errno.into()))?);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ConfigError::NotAFile { file: path.to_owned() });
    }
    if rustix::process::geteuid().is_root() {
        trust(path, metadata.uid(), metadata.mode())?;
    }
    let mut bytes = Vec::new();
    file.by_ref().take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Refuses a file that others than root can write. With an ACL the group bits of the mode are its mask (acl(5)),
/// so a named user with write access is seen here as well.
fn trust(path: &Path, uid: u32, mode: u32) -> Result<(), ConfigError> {
    let (reason, remedy) = if uid != 0 {
        (format!("belongs to uid {uid}"), "chown root:root")
    } else if mode & 0o022 != 0 {
        (format!("can be written by its group or by others (mode {:04o})", mode & 0o7777), "chmod go-w")
    } else {
        return Ok(());
    };
    let remedy = format!("{remedy} {}", super::source::escaped(&path.to_string_lossy()));
    Err(ConfigError::Untrusted { file: path.to_owned(), reason, remedy })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_can_write_is_not_trusted() {
        let path = Path::new("/etc/mydisks/mydisks.toml");
        for mode in [0o100644, 0o100600, 0o100400, 0o100755] {
            assert!(trust(path, 0, mode).is_ok(), "{mode:o}");
        }
        for mode in [0o100664, 0o100646, 0o100666, 0o100620] {
            assert!(matches!(trust(path, 0, mode), Err(ConfigError::Untrusted { .. })), "{mode:o}");
        }
        assert_eq!(
            trust(path, 1000, 0o100644).unwrap_err().to_string(),
            "/etc/mydisks/mydisks.toml: belongs to uid 1000; it makes root mount disks and read key files, so only \
             root may be able to change it: chown root:root /etc/mydisks/mydisks.toml"
        );
        assert_eq!(
            trust(path, 0, 0o100666).unwrap_err().to_string(),
            "/etc/mydisks/mydisks.toml: can be written by its group or by others (mode 0666); it makes root mount \
             disks and read key files, so only root may be able to change it: chmod go-w /etc/mydisks/mydisks.toml"
        );
    }

    #[test]
    fn only_root_is_that_strict() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        match read(&path) {
            Ok(bytes) => assert!(!rustix::process::geteuid().is_root() && bytes == b"x"),
            Err(error) => {
                assert!(rustix::process::geteuid().is_root());
                assert!(matches!(error, ConfigError::Untrusted { .. }), "{error}");
            }
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(read(directory.path()), Err(ConfigError::NotAFile { .. })));
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(&fifo), Err(ConfigError::NotAFile { .. })));
        assert!(matches!(read(&directory.path().join("none")), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn no_more_is_read_than_one_byte_beyond_the_longest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let file = File::create(&path).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        file.set_len(2 * LONGEST as u64).unwrap();
        assert_eq!(read(&path).unwrap().len(), LONGEST + 1);
    }
}
