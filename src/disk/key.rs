//! Key files: opened once, checked through the descriptor, which is then what is read. Knows nothing of what the key
//! opens.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{DiskError, ErrorKind};

/// cryptsetup's limit for a key file (`DEFAULT_KEYFILE_SIZE_MAXKB`), in bytes.
const LARGEST: u64 = 8 << 20;

/// Opens a key file that belongs to root, is closed to everybody else, and is no symbolic link. The directories above
/// it are the administrator's matter.
pub(super) fn open(path: &Path) -> Result<File, DiskError> {
    let shown = path.display();
    // Not blocking: a FIFO in its place must not hold us up.
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file =
        OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::LOOP) => {
                    no_key(format!("Key file {shown} is a symbolic link: name the file itself"))
                }
                _ => no_key(format!("Cannot open key file {shown}: {error}")),
            }
        })?;
    let metadata =
        file.metadata().map_err(|error| no_key(format!("Cannot look at key file {shown}: {error}")))?;
    match fault(&metadata) {
        None => Ok(file),
        Some(fault) => Err(no_key(format!("Key file {shown} {fault}"))),
    }
}

fn fault(metadata: &Metadata) -> Option<String> {
    let (mode, owner, size) = (metadata.mode() & 0o7777, metadata.uid(), metadata.len());
    if !metadata.is_file() {
        Some("is not a regular file".to_owned())
    } else if owner != 0 {
        Some(format!("belongs to user {owner}: make it root's with `chown root`"))
    } else if mode & 0o077 != 0 {
        Some(format!("is open to others (mode {mode:04o}): close it with `chmod 0400`"))
    } else if size == 0 {
        Some("is empty".to_owned())
    } else if size > LARGEST {
        Some(format!("has {size} bytes, more than the {LARGEST} that cryptsetup reads"))
    } else {
        None
    }
}

fn no_key(message: String) -> DiskError {
    DiskError::new(ErrorKind::NoKey, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn fault_of(path: &Path) -> String {
        let error = open(path).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoKey);
        assert!(error.message.contains(&*path.to_string_lossy()));
        error.message
    }

    #[test]
    fn a_key_that_others_could_have_read_or_written_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        assert!(fault_of(&key).contains("No such file"));
        write(&key, "secret").unwrap();
        for mode in [0o640, 0o604, 0o601, 0o620] {
            set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            if rustix::process::geteuid().is_root() {
                assert!(fault_of(&key).contains("open to others"), "{mode:o}");
            }
        }
        set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
        if !rustix::process::geteuid().is_root() {
            assert!(fault_of(&key).contains("belongs to user"));
            return;
        }
        assert!(open(&key).is_ok());
        std::os::unix::fs::chown(&key, Some(1), None).unwrap();
        assert!(fault_of(&key).contains("belongs to user 1"));
    }

    #[test]
    fn a_key_is_a_file_of_a_fitting_size_and_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        write(&key, "").unwrap();
        set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(fault_of(&key).contains("is empty"));
            File::options().write(true).open(&key).unwrap().set_len(LARGEST + 1).unwrap();
            assert!(fault_of(&key).contains("bytes, more than"));
        }
        let link = directory.path().join("link");
        symlink(&key, &link).unwrap();
        assert!(fault_of(&link).contains("symbolic link"));
        assert!(fault_of(directory.path()).contains("not a regular file"));
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert!(fault_of(&fifo).contains("not a regular file"));
    }
}
