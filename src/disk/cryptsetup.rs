//! The program `cryptsetup`: how it is called, and what its exit status and words mean. Knows nothing of disks beyond
//! the path that it passes on.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::cancel::Limits;
use super::luks_header::Header;
use super::program::{self, Finished, RunError};
use super::{DiskError, ErrorKind};

/// `cryptsetup`, looked for anew at each call, so that it may be installed or updated while we run.
#[derive(Clone, Debug)]
pub struct Cryptsetup {
    directories: Vec<PathBuf>,
}

impl Default for Cryptsetup {
    fn default() -> Self {
        Self { directories: program::DIRECTORIES.map(PathBuf::from).to_vec() }
    }
}

impl Cryptsetup {
    /// Looks for the program in `directories` instead of the system's own; for tests.
    pub fn in_directories(directories: Vec<PathBuf>) -> Self {
        Self { directories }
    }

    /// Opens the data on `device` as mapping `name`, as `header` says; the header on the device is not read. The key comes from the descriptor, so that what was checked
    /// is what is read; read to its end, newlines are part of it (cryptsetup(8), "From a key file").
    pub(super) fn open(
        &self,
        header: &Header,
        device: &Path,
        name: &str,
        key: File,
        read_only: bool,
        limits: Limits<'_>,
    ) -> Result<(), DiskError> {
        let header_path = header.path();
        // A disk must not choose which token plug-ins we load.
        let mut arguments =
            ["open", "--type", header.kind, "--batch-mode", "--disable-external-tokens", "--key-file", "-"]
                .map(OsStr::new)
                .to_vec();
        arguments.extend([OsStr::new("--header"), header_path.as_os_str()]);
        if read_only {
            arguments.push(OsStr::new("--readonly"));
        }
        arguments.extend([OsStr::new("--"), device.as_os_str(), OsStr::new(name)]);
        let what = format!("cryptsetup open {}", device.display());
        let finished = self.run(&what, &arguments, Some(key), limits)?;
        if finished.status.success() { Ok(()) } else { Err(open_failure(&device.display(), &finished)) }
    }

    /// Closes mapping `name`. What became of it is for the kernel to say, not for the exit status; this is
    /// what the program said if it was not content.
    pub(super) fn close(
        &self,
        name: &str,
        deferred: bool,
        limits: Limits<'_>,
    ) -> Result<Option<String>, DiskError> {
        let mut arguments = vec![OsStr::new("close")];
        if deferred {
            arguments.push(OsStr::new("--deferred"));
        }
        arguments.extend([OsStr::new("--"), OsStr::new(name)]);
        let finished = self.run(&format!("cryptsetup close {name}"), &arguments, None, limits)?;
        Ok((!finished.status.success()).then(|| finished.explain()))
    }

    fn run(
        &self,
        what: &str,
        arguments: &[&OsStr],
        input: Option<File>,
        limits: Limits<'_>,
    ) -> Result<Finished, DiskError> {
        let Some(program) = program::find("cryptsetup", &self.directories) else {
            let places = self.directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
            let message = format!("cryptsetup is not installed (looked in {})", places.join(", "));
            return Err(DiskError::new(ErrorKind::Other, message));
        };
        program::run(&program, arguments, input, limits).map_err(|error| match error {
            RunError::System(error) => {
                DiskError::not_the_disks(format!("Cannot run {}", program.display()), &error)
            }
            RunError::TimedOut(_) | RunError::Cancelled(_) => {
                DiskError::new(ErrorKind::TimedOut, format!("`{what}` {error}"))
            }
        })
    }
}

/// cryptsetup(8), "Return codes": 1 wrong parameters, 2 no permission (bad passphrase), 3 out of memory, 4 wrong device
/// specified, 5 device exists or is busy. A header that libblkid recognised and cryptsetup does not is a damaged one.
fn open_failure(device: &dyn std::fmt::Display, finished: &Finished) -> DiskError {
    let said = finished.said.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let (kind, what) = match finished.status.code() {
        Some(2) => (ErrorKind::KeyRejected, "no key slot accepts the key file"),
        Some(3) => (ErrorKind::Exhausted, "not enough memory for its key derivation"),
        Some(5) => (ErrorKind::Busy, "it is in use"),
        Some(1 | 4)
            if says(&["not a valid luks", "header", "metadata", "checksum", "corrupt", "keyslot"]) =>
        {
            (ErrorKind::Damaged, "its LUKS header is damaged")
        }
        Some(4) if says(&["does not exist", "access denied"]) => (ErrorKind::Absent, "it is gone"),
        _ => (ErrorKind::Other, "cryptsetup failed"),
    };
    DiskError::new(kind, format!("Cannot unlock {device}, {what}: {}", finished.explain()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn exit_statuses_become_kinds() {
        for (code, said, kind) in [
            (2, "No key available with this passphrase.", ErrorKind::KeyRejected),
            (5, "Device mydisks-x already exists.", ErrorKind::Busy),
            (1, "Device /dev/sdb is not a valid LUKS device.", ErrorKind::Damaged),
            (3, "", ErrorKind::Exhausted),
            (
                1,
                "device-mapper: reload ioctl on mydisks-x failed: No such file or directory",
                ErrorKind::Other,
            ),
            (77, "\u{1b}[31mgarbage", ErrorKind::Other),
        ] {
            let finished = Finished { status: ExitStatus::from_raw(code << 8), said: said.to_owned() };
            let error = open_failure(&"/dev/sdb", &finished);
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains("/dev/sdb") && error.message.contains(said), "{error}");
        }
        let crashed = Finished { status: ExitStatus::from_raw(11), said: String::new() };
        assert!(open_failure(&"/dev/sdb", &crashed).message.ends_with("killed by signal 11"));
    }
}
