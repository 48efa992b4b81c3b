//! XFS refuses a file system whose UUID it has mounted already (`xfs_uuid_mount` in fs/xfs/xfs_mount.c). Whether that is
//! the same disk before it was pulled, which somebody still holds. Knows nothing of how mounts are made.

use std::path::Path;

use super::mapping;

/// Whether XFS still has a disk mounted that was pulled. Asks sysfs, where each mounted XFS has a directory that is
/// named after its device (`xfs_sysfs_init` in fs/xfs/xfs_mount.c), also after a lazy unmount.
pub(super) fn has_a_pulled_disk() -> bool {
    let Ok(entries) = std::fs::read_dir("/sys/fs/xfs") else { return false };
    let mut mounted = entries.flatten().filter(|entry| entry.path().join("log").is_dir());
    mounted.any(|entry| is_pulled(Path::new(&entry.file_name())))
}

fn is_pulled(kernel_name: &Path) -> bool {
    match mapping::name_of(kernel_name) {
        Some(mapping) => mapping::is_dead(&mapping).unwrap_or(false),
        None => !Path::new("/sys/class/block").join(kernel_name).exists(),
    }
}
