//! What the kernel itself has on a disk: loop devices over its files, swap, mounts, block devices on top of it. Only
//! text of /proc and /sys is compared. Knows nothing of processes.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::super::mountinfo::unescape;
use super::super::{busy, image};
use super::mounts::Mounts;
use super::{Holder, Subject};

/// All of them.
pub(super) fn holders(subject: &Subject, mounts: &Mounts) -> Vec<Holder> {
    let is_on = |path: &Path| mounts.is_on(path) || subject.is_device(path);
    let below = mounts.below().iter();
    let mut found: Vec<Holder> =
        below.map(|(at, kind)| Holder::MountBelow { at: at.clone(), kind: kind.clone() }).collect();
    if subject.is_unmounted {
        found.extend(mounts.own().map(|at| Holder::Mount(at.to_owned())));
    }
    for &device in &subject.devices {
        found.extend(busy::block_devices_on(device).into_iter().map(Holder::BlockDevice));
    }
    let loops = image::files().unwrap_or_default();
    found.extend(loops.into_iter().filter(|(_, file)| is_on(file)).map(|(device, file)| {
        let on_it = busy::block_devnum(&device).map(on_block_device).unwrap_or_default();
        Holder::Loop { device, file, on_it }
    }));
    let swaps = parse_swaps(&fs::read("/proc/swaps").unwrap_or_default());
    found.extend(swaps.into_iter().filter(|path| is_on(path)).map(Holder::Swap));
    found
}

fn on_block_device(devnum: u64) -> Vec<String> {
    let mounted = busy::mounted_on(devnum).map(|at| format!("mounted on {}", at.display()));
    busy::block_devices_on(devnum).into_iter().chain(mounted).collect()
}

/// The first column of /proc/swaps, below its heading (`swap_show` in mm/swapfile.c).
fn parse_swaps(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|&byte| byte == b'\n').skip(1);
    let names = lines.filter_map(|line| line.split(|byte| byte.is_ascii_whitespace()).next());
    names.filter(|name| name.starts_with(b"/")).map(|name| path(unescape(name))).collect()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_files_are_read_with_their_spaces() {
        let table = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/sda2                               partition\t1\t\t0\t\t-2\n\
            /mnt/a\\040b/swap                        file\t\t1\t\t0\t\t-3\n";
        assert_eq!(parse_swaps(table), [Path::new("/dev/sda2"), Path::new("/mnt/a b/swap")]);
        assert!(parse_swaps(b"").is_empty());
    }
}
