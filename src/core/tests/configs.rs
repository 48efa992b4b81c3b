//! The configs of most tests.

/// `far` can be reached through `a` and `b`, and belongs to whoever takes it; `c` and `d` share a disk.
pub(super) const CONFIG: &str = r#"
[defaults]
idle-timeout = "10s"
access-timeout = "30s"
[mounts.a]
disks = ["near", "far"]
[mounts.b]
disks = [{ uuid = "fa" }, { image = "/image" }]
[mounts.c]
disks = [{ id = "parts", partition = 1 }]
[mounts.d]
disks = [{ id = "parts", partition = 2 }]
"#;

pub(super) const WITHOUT_A: &str = "[mounts.b]\ndisks = [{ uuid = \"fa\" }, { image = \"/image\" }]";
pub(super) const NEVER_IDLE: &str = "[mounts.a]\ndisks = [\"near\"]\nidle-timeout = \"0\"";
pub(super) const NOTHING: &str = "";
/// The disks of `a` and `b`, the other way round, and other deadlines.
pub(super) const EXCHANGED: &str = r#"
[mounts.a]
disks = ["far", { image = "/image" }]
access-timeout = "20s"
[mounts.b]
disks = ["near"]
options = "ro"
access-timeout = "40s"
"#;
/// A new name before the others, with the disk of one of them.
pub(super) const ANOTHER: &str = r#"
[mounts."0"]
disks = ["near"]
idle-timeout = "1s"
[mounts.b]
disks = [{ image = "/image" }]
"#;

/// What a reload may meet in place of [`CONFIG`].
pub(super) const OTHERS: [&str; 5] = [WITHOUT_A, NEVER_IDLE, NOTHING, EXCHANGED, ANOTHER];
