//! Entering a name shows the files of its disk.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::{KEY, config, head, is_mounted, key_line, list, name, wait_for_state};
use crate::daemon::{self, MOUNTPOINT};
use crate::disks::{self, Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

pub(super) fn fstab_line_shows_an_encrypted_disk_and_locks_it_after_disuse(lab: &mut Lab) -> Outcome {
    let recipe = Recipe::plain(Filesystem::Ext4).file("letter", "text\n").locked(Lock::Luks2, KEY);
    let backing = lab.disk(&recipe)?;
    let options = format!("idle-timeout = \"2s\"\n{}", key_line()?);
    daemon::write_config(&config("MAIN", &options))?;
    daemon::install_fstab("nofail")?;
    let mounted = daemon::mount_by_fstab()?;
    assert_eq!(mounted.code, Some(0), "{mounted:?}");
    assert!(daemon::is_mounted(), "mount(8) returns when the root is there");
    lab.plug(&backing, "MAIN")?;
    wait_for_state("backup", "ready")?;
    assert_eq!(mounts::mappings(), [] as [&str; 0], "a plug alone unlocks nothing");
    let listed = Program::new("ls").arg(name("backup")).ok()?;
    assert_eq!(listed, "hello\nletter\nlost+found\n");
    assert_eq!(fs::read_to_string(name("backup").join("letter"))?, "text\n");
    assert_eq!(mounts::mappings(), ["mydisks-backup"]);
    let mount = mounts::at(&name("backup"))?.pop().ok_or("not in mountinfo")?;
    assert_eq!(mount.filesystem, "ext4");
    assert!(mount.options.contains("nosuid") && mount.options.contains("nodev"), "{mount:?}");
    wait::until_true("the disk to be unmounted after disuse", PATIENCE, || !is_mounted("backup"))?;
    wait::until_true("the disk to be locked", PATIENCE, || mounts::mappings().is_empty())?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello", "letter"], "and it opens again");
    wait::until_true("the disk to be locked again", PATIENCE, || mounts::mappings().is_empty())?;
    Program::new("umount").arg(MOUNTPOINT).ok()?;
    wait::until_true("the daemon to end", PATIENCE, || daemon::processes().is_empty())
}

pub(super) fn luks1_disk_is_unlocked(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks1, KEY))?;
    lab.plug(&backing, "OLD")?;
    lab.start(&config("OLD", &key_line()?))?;
    assert_eq!(list("backup")?, ["hello"]);
    assert_eq!(mounts::mappings(), ["mydisks-backup"]);
    Ok(())
}

/// As with cryptsetup itself, which uses the second copy then.
pub(super) fn disk_with_a_damaged_first_header_copy_is_unlocked(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    fs::File::options().write(true).open(&image)?.write_all_at(&[0; 512], 4096)?;
    let backing = disks::publish(&image, &lab.share, "damaged.disk")?;
    lab.plug(&backing, "DAMAGED")?;
    lab.start(&config("DAMAGED", &key_line()?))?;
    assert_eq!(list("backup")?, ["hello"]);
    let log = daemon::log_text();
    assert!(log.contains("header copies"), "a person is told: {log}");
    Ok(())
}

pub(super) fn plain_ext4_is_mounted(lab: &mut Lab) -> Outcome {
    plain(lab, Filesystem::Ext4)
}

pub(super) fn plain_xfs_is_mounted(lab: &mut Lab) -> Outcome {
    plain(lab, Filesystem::Xfs)
}

pub(super) fn plain_btrfs_is_mounted(lab: &mut Lab) -> Outcome {
    plain(lab, Filesystem::Btrfs)
}

pub(super) fn plain_vfat_is_mounted(lab: &mut Lab) -> Outcome {
    plain(lab, Filesystem::Vfat)
}

pub(super) fn plain_exfat_is_mounted(lab: &mut Lab) -> Outcome {
    plain(lab, Filesystem::Exfat)
}

/// Debian 12's kernel has no ntfs3: then the access fails, and the reason in words names the file system.
pub(super) fn plain_ntfs_is_mounted_or_the_kernel_lacks_its_driver(lab: &mut Lab) -> Outcome {
    if Program::new("modprobe").arg("ntfs3").finish()?.code == Some(0) {
        return plain(lab, Filesystem::Ntfs);
    }
    let backing = lab.disk(&Recipe::plain(Filesystem::Ntfs))?;
    lab.plug(&backing, "NTFS")?;
    lab.start(&config("NTFS", ""))?;
    let error = list("backup").err().ok_or("listed without a driver")?;
    let said = super::status_of("backup")?["error"].to_string();
    assert!(said.contains("ntfs3"), "{error}: {said}");
    assert!(!is_mounted("backup"));
    Ok(())
}

fn plain(lab: &mut Lab, filesystem: Filesystem) -> Outcome {
    let backing = lab.disk(&Recipe::plain(filesystem))?;
    lab.plug(&backing, "PLAIN")?;
    lab.start(&config("PLAIN", ""))?;
    assert_eq!(list("backup")?, ["hello"]);
    assert_eq!(fs::read_to_string(name("backup").join("hello"))?, "from the disk\n");
    fs::write(name("backup").join("new"), "written")?;
    let mount = mounts::at(&name("backup"))?.pop().ok_or("not in mountinfo")?;
    assert_eq!(mount.filesystem, filesystem.kernel_name());
    assert!(mount.options.contains("nosuid") && mount.options.contains("nodev"), "{mount:?}");
    Ok(())
}

pub(super) fn only_partition_with_a_file_system_is_the_default(lab: &mut Lab) -> Outcome {
    let backing = lab.partitioned_disk(&[Recipe::empty(), Recipe::plain(Filesystem::Ext4)])?;
    lab.plug(&backing, "PARTS")?;
    lab.start(&config("PARTS", ""))?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}

pub(super) fn partition_of_the_config_is_mounted(lab: &mut Lab) -> Outcome {
    let second = Recipe::plain(Filesystem::Vfat).file("second", "");
    let backing = lab.partitioned_disk(&[Recipe::plain(Filesystem::Ext4), second])?;
    lab.plug(&backing, "PARTS")?;
    let disk = |number| format!("disks = [{{ id = \"PARTS\", partition = {number} }}]\n");
    lab.start(&format!("{}[mounts.one]\n{}[mounts.two]\n{}", head(), disk(1), disk(2)))?;
    assert_eq!(list("two")?, ["hello", "second"]);
    assert_eq!(list("one")?, ["hello"]);
    Ok(())
}

pub(super) fn first_attached_disk_of_the_list_is_mounted(lab: &mut Lab) -> Outcome {
    let first = lab.disk(&Recipe::plain(Filesystem::Ext4).file("first", ""))?;
    let second = lab.disk(&Recipe::plain(Filesystem::Ext4).file("second", ""))?;
    lab.plug(&second, "SECOND")?;
    let disks = "[mounts.backup]\nidle-timeout = \"1s\"\ndisks = [\"FIRST\", \"SECOND\"]\n";
    lab.start(&(head() + disks))?;
    assert_eq!(list("backup")?, ["hello", "second"], "the only one that is there");
    lab.plug(&first, "FIRST")?;
    wait::until_true("disuse", PATIENCE, || !is_mounted("backup"))?;
    wait::until("the first of the list", PATIENCE, || {
        let listed = list("backup").ok()?;
        (listed == ["first", "hello"]).then_some(())
    })
}

pub(super) fn slow_key_delays_no_other_name_and_is_shared_by_its_callers(lab: &mut Lab) -> Outcome {
    let image = lab.image(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let slow = make_slow(&image)?;
    let backing = disks::publish(&image, &lab.share, "slow.disk")?;
    let quick = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    lab.plug(&backing, "SLOW")?;
    lab.plug(&quick, "QUICK")?;
    let key = key_line()?;
    let table = |name: &str, id: &str| format!("[mounts.{name}]\ndisks = [\"{id}\"]\n{key}\n");
    let timeout = format!("[defaults]\naccess-timeout = \"{}s\"\n", 10 * slow);
    lab.start(&(head() + &timeout + &table("slow", "SLOW") + &table("quick", "QUICK")))?;
    let (sender, answers) = mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        thread::spawn(move || sender.send(list("slow")));
    }
    wait_for_state("slow", "unlocking")?;
    assert_eq!(list("quick")?, ["hello"]);
    assert!(answers.try_recv().is_err(), "the slow one is still at work");
    for _ in 0..3 {
        assert_eq!(answers.recv_timeout(4 * PATIENCE)??, ["hello"]);
    }
    let mut mappings = mounts::mappings();
    mappings.sort();
    assert_eq!(mappings, ["mydisks-quick", "mydisks-slow"]);
    Ok(())
}

/// Gives the disk's key an argon2 that takes some 10 s here; how many seconds it is likely to take.
pub(super) fn make_slow(image: &std::path::Path) -> Outcome<u64> {
    let convert = |passes: u64| {
        Program::new("cryptsetup")
            .args(["-q", "luksConvertKey", "--key-file=-", "--pbkdf", "argon2id", "--pbkdf-parallel", "1"])
            .args(["--pbkdf-memory", "65536", "--pbkdf-force-iterations", &passes.to_string()])
            .arg(image)
            .input(KEY)
            .ok()
    };
    let probe = 4;
    convert(probe)?;
    let start = Instant::now();
    let test = ["open", "--test-passphrase", "--type", "luks", "--key-file=-"];
    Program::new("cryptsetup").args(test).arg(image).input(KEY).ok()?;
    let milliseconds = u64::try_from(start.elapsed().as_millis())?;
    convert((10_000 * probe / milliseconds).max(probe))?;
    Ok(10.max(milliseconds / 1000))
}

pub(super) fn replugged_disk_is_mounted_again(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::plain(Filesystem::Ext4).locked(Lock::Luks2, KEY))?;
    let disk = lab.plug(&backing, "AGAIN")?;
    lab.start(&config("AGAIN", &key_line()?))?;
    assert_eq!(list("backup")?, ["hello"]);
    lab.pull(&disk)?;
    wait_for_state("backup", "absent")?;
    lab.plug(&backing, "AGAIN")?;
    wait_for_state("backup", "ready")?;
    assert_eq!(list("backup")?, ["hello"]);
    Ok(())
}
