//! The host's disks, from the plug to the locked disk: what a person at the machine sees.

mod access;
mod cryptsetup_faults;
mod hands;
mod hangs;
mod leaving;
mod lifetime;
mod midway;
mod pulls;
mod refusals;
mod reload;
mod status;
mod systemd;
mod udev;

use std::fs;
use std::path::{Path, PathBuf};

use super::{Scenario, scenarios};
use crate::daemon::{self, MOUNTPOINT};
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

/// What every disk must do.
pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    access::fstab_line_shows_an_encrypted_disk_and_locks_it_after_disuse,
    access::luks1_disk_is_unlocked,
    access::plain_ext4_is_mounted,
    access::plain_xfs_is_mounted,
    access::plain_btrfs_is_mounted,
    access::plain_vfat_is_mounted,
    access::plain_exfat_is_mounted,
    access::plain_ntfs_is_mounted_or_the_kernel_lacks_its_driver,
    access::only_partition_with_a_file_system_is_the_default,
    access::partition_of_the_config_is_mounted,
    access::first_attached_disk_of_the_list_is_mounted,
    access::slow_key_delays_no_other_name_and_is_shared_by_its_callers,
    access::replugged_disk_is_mounted_again,
    refusals::plain_disk_is_refused_when_a_key_is_configured,
    refusals::any_key_header_is_refused,
    refusals::header_that_turns_encryption_off_is_refused,
    access::disk_with_a_damaged_first_header_copy_is_unlocked,
    refusals::wrong_key_is_rejected,
    refusals::key_file_must_be_there_and_closed_to_others,
    refusals::absent_disk_is_no_medium,
    refusals::twins_are_refused_until_one_is_pulled,
    refusals::other_file_system_than_configured_is_refused,
    refusals::wild_serials_harm_nothing,
    refusals::bad_config_mounts_nothing,
    lifetime::umount_is_refused_while_busy_and_locks_when_idle,
    lifetime::sigterm_unmounts_and_locks,
    lifetime::sigterm_while_busy_is_refused_clearly,
    lifetime::umount_names_who_has_the_mapping_open,
    lifetime::umount_names_who_is_in_the_root,
    lifetime::mount_and_mapping_of_a_killed_daemon_are_taken_over,
    lifetime::mapping_without_mount_is_taken_over,
    lifetime::second_daemon_leaves_what_the_first_has_open_alone,
    lifetime::pulled_disk_leaves_no_mapping,
    status::stat_and_ls_of_the_root_do_not_trigger,
    status::status_json_tells_the_state_of_each_name,
    udev::udisks_is_kept_off_configured_disks_and_off_no_others,
    udev::udisks_is_kept_off_what_is_unlocked,
    reload::added_name_is_there_at_once,
    reload::removed_name_stays_until_it_is_idle_and_comes_back,
    reload::broken_config_changes_nothing_and_says_why,
    reload::slow_unlock_survives_a_reload_and_ends_with_its_last_caller,
    reload::clock_that_is_set_unmounts_nothing,
];

/// Disks that are pulled and exchanged: each situation once.
pub(crate) const PULLS: &[Scenario] = scenarios![
    pulls::pulled_while_idle_it_is_absent_until_it_is_back,
    midway::pulled_while_probed_its_caller_learns_that_at_once,
    midway::pulled_while_it_is_unlocked_its_caller_gets_the_next_disk,
    midway::pulled_while_attached_its_caller_learns_that_at_once,
    pulls::pulled_while_mounted_it_is_said_what_may_be_lost,
    pulls::pulled_while_read_the_reader_gets_an_error_and_the_name_is_free,
    pulls::pulled_while_written_the_writer_gets_an_error_and_the_name_is_free,
    midway::pulled_while_unmounted_it_is_said_what_may_be_lost,
    pulls::replugged_disk_works_while_a_process_still_holds_what_it_was,
    pulls::second_disk_waits_and_takes_over_when_the_first_is_pulled,
    pulls::disks_are_exchanged_after_disuse_with_no_command_at_all,
];

/// Their variants, and what takes long.
pub(crate) const PULLS_LONG: &[Scenario] = scenarios![
    pulls::pulled_while_it_is_unlocked_its_caller_learns_that_at_once,
    midway::pulled_while_its_file_system_is_mounted_its_caller_learns_that_at_once,
    midway::pulled_while_unmounted_after_disuse_it_is_said_what_may_be_lost,
    midway::pulled_while_everything_ends_whoever_ends_it_is_told_what_may_be_lost,
    midway::pulled_while_the_root_of_a_killed_daemon_is_unmounted_it_is_said_what_may_be_lost,
    pulls::pulled_while_used_out_of_sight_it_is_said_what_may_be_lost,
    pulls::replugged_plain_disk_works_while_a_process_still_holds_what_it_was,
    pulls::replugged_encrypted_xfs_works_while_a_process_still_holds_what_it_was,
    pulls::replugged_xfs_works_while_a_process_still_holds_what_it_was,
    pulls::pulled_disk_that_is_held_does_not_keep_the_other_from_being_locked,
    pulls::disks_are_exchanged_after_umount_with_no_other_command,
];

/// Disks that are sent away.
pub(crate) const LEAVING: &[Scenario] = scenarios![
    leaving::ejected_disk_is_locked_and_detached_and_comes_back_when_plugged_in_again,
    leaving::ejected_disk_gives_way_to_the_next_of_the_list,
    leaving::eject_is_refused_while_anybody_uses_anything_of_the_disk,
    leaving::lazily_unmounted_disk_is_locked_when_its_last_user_ends,
    leaving::lazily_unmounted_plain_disk_is_shown_as_in_use_until_its_last_user_ends,
    leaving::umount_that_waits_says_for_whom_and_is_done_when_he_has_gone,
    leaving::who_gives_up_waiting_leaves_the_disk_mounted,
    leaving::sigterm_keeps_what_is_mounted_if_the_config_says_so,
];

/// What others do to them by hand.
pub(crate) const HANDS: &[Scenario] = scenarios![
    hands::disk_that_is_unmounted_by_hand_is_locked,
    hands::disk_that_is_unmounted_lazily_by_hand_is_locked_when_its_last_user_ends,
    hands::disk_that_is_mounted_a_second_time_elsewhere_stays_there_and_is_locked_after_that,
    hands::disk_that_is_moved_away_is_left_there_and_is_ours_again_when_it_is_moved_back,
    hands::what_is_mounted_over_a_name_is_told_and_left_alone,
    hands::disk_that_is_pulled_while_it_is_covered_is_unmounted_when_it_is_not,
    hands::disk_that_becomes_read_only_is_shown_so,
    hands::errors_that_the_file_system_finds_are_told_at_once_and_to_whoever_unmounts_it,
    hands::root_that_is_taken_away_lazily_by_hand_leaves_nothing_unlocked,
];

/// What goes wrong with the programs and the kernel.
pub(crate) const FAULTS: &[Scenario] = scenarios![
    cryptsetup_faults::cryptsetup_that_cannot_be_run_is_told_and_the_next_access_succeeds,
    cryptsetup_faults::however_cryptsetup_ends_its_caller_is_told_and_nothing_is_left,
    cryptsetup_faults::mapping_that_a_crash_left_is_locked_or_taken_over,
    cryptsetup_faults::cryptsetup_that_hangs_is_killed_when_its_caller_has_waited_long_enough,
    cryptsetup_faults::cryptsetup_that_is_killed_while_it_waits_for_udev_leaves_its_semaphore_and_nothing_else,
    cryptsetup_faults::disk_that_cannot_be_locked_is_told_and_tried_again,
    cryptsetup_faults::close_that_hangs_is_killed_and_tried_again,
    hangs::disk_that_hangs_while_it_is_unmounted_delays_nothing_else,
    hangs::sigterm_ends_the_daemon_although_an_unmount_hangs_and_the_next_run_takes_over,
];

/// In a machine whose process 1 is systemd.
pub(crate) const SYSTEMD: &[Scenario] = scenarios![
    systemd::line_of_fstab_is_a_mount_unit_that_starts_and_stops,
    systemd::killed_service_is_started_again_and_takes_over_what_is_mounted,
    systemd::unit_of_a_disk_that_was_pulled_does_not_unmount_the_next,
];

/// The same, and not in the time of `make test`.
pub(crate) const SYSTEMD_LONG: &[Scenario] = scenarios![
    systemd::line_of_fstab_is_unmounted_by_hand_without_a_word_to_systemd,
    systemd::disk_that_systemd_unmounts_is_locked,
];

const KEY: &[u8] = b"correct horse battery staple\n";

/// A configuration with one name, `backup`, one disk and what else its table shall hold.
fn config(id: &str, more: &str) -> String {
    format!("{}\n[mounts.backup]\ndisks = [{id:?}]\n{more}\n", head())
}

fn head() -> String {
    format!("mountpoint = {MOUNTPOINT:?}\n")
}

/// The line that names the usual key, which is written too.
fn key_line() -> Outcome<String> {
    Ok(format!("key-file = {:?}", daemon::write_key("backup.key", KEY)?))
}

pub(super) fn name(name: &str) -> PathBuf {
    Path::new(MOUNTPOINT).join(name)
}

/// Names of the files in the directory of a name, sorted.
fn list(mount: &str) -> std::io::Result<Vec<String>> {
    let entries = fs::read_dir(name(mount))?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<String> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "lost+found");
    names.sort();
    Ok(names)
}

/// The errno of entering a name that cannot be entered.
fn errno(mount: &str) -> Option<i32> {
    list(mount).err().and_then(|error| error.raw_os_error())
}

/// Waits until udev's news has reached the daemon: its status says so.
fn wait_for_state(mount: &str, state: &str) -> Outcome {
    wait::until_true(&format!("{mount} to be {state}"), PATIENCE, || {
        status_of(mount).is_ok_and(|status| status["state"] == state)
    })
}

/// The object of a name in `status.json`.
pub(super) fn status_of(mount: &str) -> Outcome<serde_json::Value> {
    let status: serde_json::Value = serde_json::from_slice(&fs::read(name(".status/status.json"))?)?;
    let mounts = status["mounts"].as_array().ok_or("status.json has no mounts")?;
    let found = mounts.iter().find(|entry| entry["name"] == mount);
    Ok(found.ok_or_else(|| format!("{mount} is not in status.json"))?.clone())
}

pub(super) fn is_mounted(mount: &str) -> bool {
    mounts::at(&name(mount)).is_ok_and(|mounts| !mounts.is_empty())
}
