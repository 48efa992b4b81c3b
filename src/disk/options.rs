//! Mount options as people write them, sorted by who takes them: the mount (fsmount(2)) or the file system
//! (fsconfig(2)). Knows nothing of any file system's own options.

use rustix::mount::MountAttrFlags;

use super::{DiskError, ErrorKind};

/// Sorted options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Of this one mount, in force from its first moment.
    pub(super) attributes: MountAttrFlags,
    /// `ro`: of the mount and the superblock.
    pub(super) read_only: bool,
    /// For the superblock and the file system, in order, with the value if there is one. The VFS takes its own
    /// (`sync`, `dirsync`, `lazytime`, …: `vfs_parse_sb_flag` in fs/fs_context.c) before the file system is asked.
    pub(super) others: Vec<(String, Option<String>)>,
}

/// Sorts options; of opposites the last one counts, as in mount(8).
pub(super) fn sort(words: &[String]) -> Result<Options, DiskError> {
    let mut options = Options { attributes: MountAttrFlags::empty(), read_only: false, others: Vec::new() };
    for word in words {
        match word.as_str() {
            // What there is without a word.
            "defaults" => {}
            "ro" => options.read_only = true,
            "rw" => options.read_only = false,
            word => match attribute(word) {
                Some((mask, value)) => {
                    options.attributes.remove(mask);
                    options.attributes.insert(value);
                }
                None => options.others.push(other(word)?),
            },
        }
    }
    Ok(options)
}

/// What a word does to the attributes: takes the mask away, then adds the value (mount_setattr(2)).
fn attribute(word: &str) -> Option<(MountAttrFlags, MountAttrFlags)> {
    use MountAttrFlags as A;
    let none = A::empty();
    Some(match word {
        "nosuid" => (none, A::MOUNT_ATTR_NOSUID),
        "suid" => (A::MOUNT_ATTR_NOSUID, none),
        "nodev" => (none, A::MOUNT_ATTR_NODEV),
        "dev" => (A::MOUNT_ATTR_NODEV, none),
        "noexec" => (none, A::MOUNT_ATTR_NOEXEC),
        "exec" => (A::MOUNT_ATTR_NOEXEC, none),
        "nodiratime" => (none, A::MOUNT_ATTR_NODIRATIME),
        "diratime" => (A::MOUNT_ATTR_NODIRATIME, none),
        "nosymfollow" => (none, A::MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => (A::MOUNT_ATTR_NOSYMFOLLOW, none),
        "noatime" => (A::MOUNT_ATTR__ATIME, A::MOUNT_ATTR_NOATIME),
        "strictatime" => (A::MOUNT_ATTR__ATIME, A::MOUNT_ATTR_STRICTATIME),
        // relatime is the value 0 and the kernel's default; what takes another one away comes back to it.
        "relatime" | "norelatime" | "atime" | "nostrictatime" => (A::MOUNT_ATTR__ATIME, none),
        _ => return None,
    })
}

fn other(word: &str) -> Result<(String, Option<String>), DiskError> {
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (word, None),
    };
    let refused = |why| Err(DiskError::new(ErrorKind::BadOption, format!("Mount option `{word}` {why}")));
    match key {
        "" => refused("has no name"),
        // It would name another device than the one that was checked.
        "source" => refused("is not for options: the disk is the one configured"),
        _ if word.contains('\0') => refused("contains a NUL"),
        _ => Ok((key.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MountAttrFlags as A;
    use proptest::prelude::*;

    fn sorted(words: &[&str]) -> Options {
        sort(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn each_option_reaches_the_one_who_takes_it() {
        let options = sorted(&["nosuid", "nodev", "acl", "noatime", "data=ordered", "ro", "sync", "empty="]);
        assert_eq!(options.attributes, A::MOUNT_ATTR_NOSUID | A::MOUNT_ATTR_NODEV | A::MOUNT_ATTR_NOATIME);
        assert!(options.read_only);
        let others: Vec<_> = options.others.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        assert_eq!(others, [("acl", None), ("data", Some("ordered")), ("sync", None), ("empty", Some(""))]);
    }

    #[test]
    fn of_opposites_the_last_one_counts() {
        for (words, attributes) in [
            (["nosuid", "suid"], A::empty()),
            (["suid", "nosuid"], A::MOUNT_ATTR_NOSUID),
            (["noatime", "strictatime"], A::MOUNT_ATTR_STRICTATIME),
            (["strictatime", "noatime"], A::MOUNT_ATTR_NOATIME),
            (["noatime", "relatime"], A::empty()),
            (["nosymfollow", "symfollow"], A::empty()),
            (["nodev", "defaults"], A::MOUNT_ATTR_NODEV),
        ] {
            assert_eq!(sorted(&words).attributes, attributes, "{words:?}");
        }
        assert!(!sorted(&["ro", "rw"]).read_only);
    }

    #[test]
    fn no_option_names_another_device() {
        for word in ["source=/dev/sda", "source", "=x", "", "a\0b"] {
            assert_eq!(sort(&[word.to_owned()]).unwrap_err().kind, ErrorKind::BadOption, "{word:?}");
        }
    }

    proptest! {
        #[test]
        fn nosuid_said_last_holds_whatever_was_said_before(mut words in proptest::collection::vec("[a-z]{1,9}(=[a-z]{0,3})?", 0..9)) {
            words.push("nosuid".to_owned());
            if let Ok(options) = sort(&words) {
                prop_assert!(options.attributes.contains(A::MOUNT_ATTR_NOSUID));
            }
        }
    }
}
