//! The line of /run/mount/utab by which umount(8) knows that this root has a helper. As root it takes the type of a
//! mount without such a line from statfs(2), which knows no subtype (`lookup_umount_fs_by_statfs` in libmount), and
//! unmounts by itself: with a disk mounted below that is "target is busy" for ever. Only mount(8) and umount(8) write
//! that file.

use std::path::Path;
use std::process::{Command, Stdio};

const DIRECTORIES: [&str; 2] = ["/usr/bin", "/bin"];

/// Adds the line for this root, whose path has no links in it (`-c`: a file called `mydisks` is not its source). A failure is logged: then `umount` must be told the type, or be the program's own.
pub(super) fn register(mountpoint: &Path) {
    run("mount", &["-c", "-f", "-i", "-t", "fuse.mydisks", "-o", "helper=mydisks", "mydisks"], mountpoint);
}

/// Takes it away, after the root has been unmounted by other means than umount(8).
pub(super) fn unregister(mountpoint: &Path) {
    run("umount", &["--fake", "-i"], mountpoint);
}

fn run(program: &str, arguments: &[&str], mountpoint: &Path) {
    let Some(path) =
        DIRECTORIES.map(|directory| Path::new(directory).join(program)).into_iter().find(|p| p.exists())
    else {
        return tracing::warn!("there is no {program} in {}", DIRECTORIES.join(" or "));
    };
    let output = Command::new(path)
        .args(arguments)
        .arg(mountpoint)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            tracing::warn!("{program} cannot note that umount has a helper here: {}", words.trim());
        }
        Err(error) => tracing::warn!("{program} cannot be run: {error}"),
    }
}
