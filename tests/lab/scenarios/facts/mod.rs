//! Measured facts that the design leans on, kept as scenarios so that a kernel, udev, cryptsetup or mount(8) that
//! behaves otherwise is noticed. None of them needs the daemon. Those of `guests` run in the group of that name, which
//! has libvirtd.

mod cryptsetup;
pub(crate) mod guests;
pub(crate) mod mount_helpers;
mod mounting;
mod plugging;

pub(crate) use cryptsetup::forge_null_keyslot;

use super::{Scenario, scenarios};

/// All facts.
pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    plugging::diskseq_is_new_at_each_plug_and_shared_by_partitions,
    plugging::twins_share_one_by_id_link,
    plugging::wild_serials_reach_udev_and_do_no_harm,
    plugging::usb_remove_lacks_the_serial_and_block_remove_keeps_it,
    plugging::gadget_has_the_identity_it_claims,
    cryptsetup::exit_status_tells_the_kinds_of_failure_apart,
    cryptsetup::key_from_standard_input_keeps_its_line_break,
    cryptsetup::name_that_is_taken_is_refused_with_5,
    cryptsetup::read_only_device_gives_a_read_only_mapping,
    cryptsetup::null_keyslot_opens_with_any_key_in_luks2_of_2_6,
    cryptsetup::null_cipher_needs_an_empty_key_in_luks1,
    cryptsetup::changed_cipher_of_the_data_is_accepted,
    cryptsetup::detached_header_in_memory_gives_the_same_mapping,
    cryptsetup::mapping_outlives_the_pull_until_deferred_close_and_lazy_umount,
    mounting::expire_marks_first_and_unmounts_if_untouched,
    mounting::expire_is_refused_while_busy,
    mounting::error_of_ext4_is_told_by_fanotify_whose_mark_does_not_keep_it_mounted,
    mount_helpers::mount_calls_the_helper_with_filtered_options,
    mount_helpers::mount_all_skips_noauto,
    mount_helpers::mount_looks_only_in_sbin,
    mount_helpers::mount_writes_utab_for_some_options_but_not_for_nofail,
    mount_helpers::mount_without_permission_runs_the_helper_as_the_plain_user,
    mount_helpers::umount_without_a_utab_entry_asks_no_helper_of_ours,
    mount_helpers::umount_without_a_utab_entry_asks_umount_fuse,
    mount_helpers::lazy_and_forced_umount_ask_the_helper_of_the_mountinfo_type,
    mount_helpers::umount_with_any_utab_entry_asks_the_helper_of_the_mountinfo_type,
    mount_helpers::umount_with_helper_in_utab_asks_that_helper,
];
