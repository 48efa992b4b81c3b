//! The options of an fstab line, as mount(8) hands them to a helper.

use std::path::PathBuf;

use crate::config::MountOptions;

/// What an option list asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `config=FILE`
    pub(super) config: Option<PathBuf>,
    /// `ro`
    pub(super) read_only: bool,
    /// `noexec`
    pub(super) no_exec: bool,
    /// What holds for every disk too, in mount's words.
    pub(super) for_disks: MountOptions,
}

/// Words that mount(8) and systemd use themselves, or that are so anyway here.
const IGNORED: [&str; 27] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "fail",
    "_netdev",
    "user",
    "nouser",
    "users",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "nodev",
    "nosuid",
    "exec",
    "rw",
    "async",
    "relatime",
    "norelatime",
    "nostrictatime",
    "nolazytime",
    "loud",
    "silent",
    "atime",
    "diratime",
    "nomand",
];

/// Words that hold for the disks as well as for the root.
const FOR_DISKS: [&str; 8] =
    ["ro", "noexec", "noatime", "nodiratime", "strictatime", "lazytime", "sync", "dirsync"];

/// Reads a list. With `sloppy` (mount -s) unknown words are passed over.
///
/// # Errors
/// One sentence about the first word that cannot be honoured.
pub(super) fn parse(list: &str, sloppy: bool) -> Result<Options, String> {
    let mut options = Options::default();
    let mut for_disks: Vec<&str> = Vec::new();
    for word in list.split(',').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("config", Some(file)) if file.starts_with('/') => options.config = Some(PathBuf::from(file)),
            ("config", _) => return Err("option config= wants an absolute path".to_owned()),
            ("remount", None) => {
                return Err("remount is not supported: change the config, unmount and mount again".to_owned());
            }
            ("suid" | "dev", None) => {
                return Err(format!("{key} is no option of the root: give it to a mount in the config"));
            }
            ("comment" | "uhelper", Some(_)) => {}
            (key, _) if key.starts_with("x-") || key.starts_with("X-") => {}
            (word, None) if FOR_DISKS.contains(&word) => {
                for_disks.push(word);
            }
            (word, None) if IGNORED.contains(&word) => {
                for_disks.retain(|known| !opposites(word).contains(known));
            }
            _ if sloppy => {}
            _ => return Err(format!("unknown mount option {word:?}")),
        }
    }
    options.read_only = for_disks.contains(&"ro");
    options.no_exec = for_disks.contains(&"noexec");
    options.for_disks = MountOptions::parse(&for_disks.join(","))
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    Ok(options)
}

/// What a word takes back when it stands later in the list.
fn opposites(word: &str) -> &'static [&'static str] {
    match word {
        "rw" => &["ro"],
        "exec" => &["noexec"],
        "async" => &["sync"],
        "atime" => &["noatime"],
        "relatime" => &["noatime", "strictatime"],
        "diratime" => &["nodiratime"],
        "nostrictatime" => &["strictatime"],
        "nolazytime" => &["lazytime"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_mount_and_systemd_change_nothing() {
        let list = "rw,nofail,noauto,user,_netdev,x-systemd.automount,x-foo=1,X-bar,comment=a b,nosuid,nodev";
        assert_eq!(parse(list, false), Ok(Options::default()));
    }

    #[test]
    fn config_ro_and_noexec_are_taken() {
        let options = parse("config=/etc/x.toml,ro,noexec", false).unwrap();
        assert_eq!(options.config, Some(PathBuf::from("/etc/x.toml")));
        assert!(options.read_only && options.no_exec);
        assert_eq!(options.for_disks.words(), ["ro", "noexec"]);
    }

    #[test]
    fn the_later_word_counts() {
        assert_eq!(parse("ro,noexec,noatime,rw,exec,relatime", false), Ok(Options::default()));
        assert!(parse("rw,ro", false).unwrap().read_only);
    }

    #[test]
    fn unknown_words_are_refused_unless_sloppy() {
        for wrong in ["suid", "dev", "bogus", "bogus=1", "ro=1", "config=relative", "config", "remount"] {
            assert!(parse(wrong, false).is_err(), "{wrong}");
        }
        assert_eq!(parse("bogus,ro", true).unwrap().for_disks.words(), ["ro"]);
    }
}
