//! What the ext4 driver tells of errors that it met in a mounted file system, in /sys/fs/ext4 (ext4(5)). Other drivers
//! tell nothing. Knows nothing of mounts.

use std::fs;
use std::path::Path;

use super::node;

/// The end of a sentence, ` after 3 errors, the last in ext4_lookup`, for the ext2, ext3 or ext4 on the block device with
/// this number; empty without errors, and for other file systems.
pub fn damage(devnum: u64) -> String {
    let Ok(name) = node::kernel_name(devnum) else { return String::new() };
    let directory = Path::new("/sys/fs/ext4").join(name);
    let read = |attribute| fs::read_to_string(directory.join(attribute)).unwrap_or_default();
    sentence(read("errors_count").trim().parse().unwrap_or(0), read("last_error_func").trim())
}

fn sentence(count: u64, last: &str) -> String {
    if count == 0 {
        return String::new();
    }
    let last = if last.is_empty() { String::new() } else { format!(", the last in {last}") };
    format!(" after {count} {}{last}", if count == 1 { "error" } else { "errors" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_and_the_last_is_told() {
        assert_eq!(sentence(0, ""), "");
        assert_eq!(sentence(1, ""), " after 1 error");
        assert_eq!(sentence(3, "ext4_lookup"), " after 3 errors, the last in ext4_lookup");
        assert_eq!(damage(rustix::fs::makedev(1, 3)), "");
    }
}
