//! Mount options: splitting them into words, refusing those that have no meaning here, and merging two lists so
//! that the later word wins over its opposite. Knows nothing of which options a file system has.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Mount options, one word each (`acl`, `subvol=home`), in order; no word twice and no two that contradict each
/// other. A value is kept without the double quotes that it may need in a list. Clones share the words: most mounts
/// have those of `[defaults]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions(Arc<[String]>);

/// A word that cannot be used, and where in the list it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// The word's bytes in the list.
    pub span: Range<usize>,
    /// The word.
    pub word: String,
    /// What is wrong with it.
    pub fault: OptionFault,
}

/// What can be wrong with one option; a sentence that follows the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OptionFault {
    /// Two commas in a row, or one at the end.
    #[error("is empty: there is a comma too many")]
    Empty,
    /// Longer than fsconfig(2) takes: `strndup_user(_, 256)` in fs/fsopen.c.
    #[error("has a name or value of more than 255 bytes, the most that the kernel takes")]
    TooLong,
    /// A name with other characters than names have.
    #[error(
        "must begin with a name of letters, digits, `_`, `-`, `.` and `:` (options are separated by `,` alone)"
    )]
    Name,
    /// Control characters in the value.
    #[error("has a control character in its value")]
    Control,
    /// Quotes that do not enclose the whole value.
    #[error("may have double quotes only around its whole value")]
    Quotes,
    /// It has no meaning here.
    #[error("{0}")]
    Senseless(&'static str),
}

impl fmt::Display for OptionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "option {} {}", super::source::quoted(&self.word), self.fault)
    }
}

impl std::error::Error for OptionError {}

impl MountOptions {
    /// What every mount begins with: a disk that came by cable brings no privileges along.
    pub fn base() -> Self {
        Self(["nosuid".to_owned(), "nodev".to_owned()].into())
    }

    /// The words in order.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// These options with `later` added. A later word replaces the earlier one that it contradicts or repeats:
    /// `X` and `noX`, `ro` and `rw`, `sync` and `async`, the words about access times, and two values of one key.
    #[must_use]
    pub fn merged(&self, later: &Self) -> Self {
        if later.0.is_empty() {
            return self.clone();
        }
        // Words are few; a file that repeats thousands of them is bounded by the set below, not by n².
        let mut seen = std::collections::HashSet::new();
        let both = self.0.iter().chain(later.0.iter());
        let mut kept: Vec<String> = both.rev().filter(|word| seen.insert(subject(word))).cloned().collect();
        kept.reverse();
        Self(kept.into())
    }

    /// The options of a comma-separated list, or everything that is wrong with it. Double quotes around a value
    /// (`context="a:b:c0,c1"`) protect its commas, as for mount(8). `defaults` means nothing and is dropped.
    pub fn parse(list: &str) -> Result<Self, Vec<OptionError>> {
        let mut faults = Vec::new();
        let mut words = Vec::new();
        for span in split(list) {
            let word = &list[span.clone()];
            match check(word) {
                Ok(None) => {}
                Ok(Some(word)) => words.push(word),
                Err(fault) => faults.push(OptionError { span, word: word.to_owned(), fault }),
            }
        }
        if faults.is_empty() { Ok(Self::default().merged(&Self(words.into()))) } else { Err(faults) }
    }
}

impl FromStr for MountOptions {
    type Err = OptionError;

    /// As [`MountOptions::parse`], with the first error only.
    fn from_str(list: &str) -> Result<Self, OptionError> {
        Self::parse(list).map_err(|mut faults| faults.swap_remove(0))
    }
}

impl fmt::Display for MountOptions {
    /// The list that parses to these options.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.0.iter().enumerate() {
            out.write_str(if at == 0 { "" } else { "," })?;
            match word.split_once('=') {
                Some((key, value)) if value.contains(',') => write!(out, "{key}=\"{value}\"")?,
                _ => out.write_str(word)?,
            }
        }
        Ok(())
    }
}

/// What a word is about; words about the same thing exclude each other.
fn subject(word: &str) -> &str {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    match name {
        // mount(8): relatime, noatime and strictatime are three answers to one question.
        "atime" | "noatime" | "relatime" | "norelatime" | "strictatime" | "nostrictatime" => "atime",
        "ro" | "rw" => "ro",
        "sync" | "async" => "sync",
        _ => name.strip_prefix("no").filter(|positive| !positive.is_empty()).unwrap_or(name),
    }
}

/// The words' byte ranges: between commas that are not inside double quotes. No word in an empty list.
fn split(list: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut begin = 0;
    let mut quoted = false;
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                words.push(begin..at);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !list.is_empty() {
        words.push(begin..list.len());
    }
    words
}

/// The word as it is kept; `None` for one that means nothing.
fn check(word: &str) -> Result<Option<String>, OptionFault> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    if word.is_empty() {
        return Err(OptionFault::Empty);
    }
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if name.is_empty() || !name.chars().all(of_a_name) {
        return Err(OptionFault::Name);
    }
    if let Some(reason) = senseless(name) {
        return Err(OptionFault::Senseless(reason));
    }
    let value = value.map(unquoted).transpose()?;
    if name.len() > 255 || value.is_some_and(|value| value.len() > 255) {
        return Err(OptionFault::TooLong);
    }
    Ok(match value {
        Some(value) => Some(format!("{name}={value}")),
        None if name == "defaults" => None,
        None => Some(name.to_owned()),
    })
}

fn unquoted(value: &str) -> Result<&str, OptionFault> {
    let inner = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').ok_or(OptionFault::Quotes)?,
        None => value,
    };
    if inner.contains('"') {
        return Err(OptionFault::Quotes);
    }
    if inner.chars().any(char::is_control) { Err(OptionFault::Control) } else { Ok(inner) }
}

/// Why an option of mount(8) means nothing for a disk that the daemon mounts, if it does not.
fn senseless(name: &str) -> Option<&'static str> {
    Some(match name {
        "loop" => "is not used here; name the file with `image`",
        "offset" | "sizelimit" => "is not used here; choose a partition with `partition`",
        "bind" | "rbind" | "move" | "remount" => "is another kind of mount than that of a disk",
        "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "unbindable" | "runbindable" => {
            "cannot be chosen: a disk's mount propagates as the mount that it is under does"
        }
        "user" | "nouser" | "users" | "nousers" | "owner" | "noowner" | "group" | "nogroup" => {
            "is for mounts by hand; here everybody who may enter the directory causes the mount"
        }
        "auto" | "noauto" | "nofail" | "_netdev" | "comment" => {
            "belongs in the fstab line of the mount point, if anywhere"
        }
        "helper" | "uhelper" => "is not used here; no helper unmounts what the daemon mounts",
        "source" => "cannot be given; the device is what `disks` names",
        _ if name.starts_with("x-") || name.starts_with("X-") => "is for programs that read fstab",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(list: &str) -> MountOptions {
        list.parse().unwrap()
    }

    fn merged(first: &str, later: &str) -> String {
        options(first).merged(&options(later)).to_string()
    }

    #[test]
    fn a_later_word_takes_its_opposite_away() {
        for (first, later, result) in [
            ("nosuid,nodev", "acl", "nosuid,nodev,acl"),
            ("nosuid,nodev", "suid", "nodev,suid"),
            ("nosuid,nodev", "dev,suid", "dev,suid"),
            ("ro", "rw", "rw"),
            ("noexec", "exec", "exec"),
            ("async", "sync", "sync"),
            ("noatime", "relatime", "relatime"),
            ("strictatime", "noatime", "noatime"),
            ("noatime", "nodiratime", "noatime,nodiratime"),
            ("diratime", "nodiratime", "nodiratime"),
            ("lazytime", "nolazytime", "nolazytime"),
            ("nosymfollow", "symfollow", "symfollow"),
            ("user_xattr,acl", "nouser_xattr,noacl", "nouser_xattr,noacl"),
            ("nodiscard", "discard=async", "discard=async"),
            ("barrier=1", "nobarrier", "nobarrier"),
            ("commit=5,acl", "commit=60", "acl,commit=60"),
            ("compress=zstd", "compress-force=zstd", "compress=zstd,compress-force=zstd"),
            ("", "", ""),
        ] {
            assert_eq!(merged(first, later), result, "{first} + {later}");
        }
    }

    #[test]
    fn within_one_list_the_last_word_wins() {
        assert_eq!(options("ro,acl,rw,ro").words(), ["acl", "ro"]);
        assert_eq!(options("defaults,acl").words(), ["acl"]);
        assert!(options("defaults").words().is_empty());
    }

    #[test]
    fn quotes_protect_commas_in_a_value() {
        let list = r#"context="u:r:t:s0:c1,c2",acl"#;
        assert_eq!(options(list).words(), ["context=u:r:t:s0:c1,c2", "acl"]);
        assert_eq!(options(list).to_string(), list);
        assert_eq!(options(r#"subvol="home""#).words(), ["subvol=home"]);
    }

    #[test]
    fn bad_words_are_all_found_with_their_place() {
        let faults =
            MountOptions::parse("acl,,loop=/dev/loop0,no dev,x-mount.mkdir,a=\"b\"c,b=\u{1},ro").unwrap_err();
        let told: Vec<_> = faults.iter().map(|fault| (fault.span.start, fault.fault)).collect();
        assert_eq!(told[0], (4, OptionFault::Empty));
        assert!(matches!(told[1], (5, OptionFault::Senseless(why)) if why.contains("image")));
        assert_eq!(told[2], (21, OptionFault::Name));
        assert!(matches!(told[3], (28, OptionFault::Senseless(_))));
        assert_eq!(told[4].1, OptionFault::Quotes);
        assert_eq!(told[5].1, OptionFault::Control);
        assert_eq!(told.len(), 6);
    }

    #[test]
    fn the_kernels_limits_hold() {
        assert!(MountOptions::parse(&"n".repeat(255)).is_ok());
        assert!(MountOptions::parse(&format!("a={}", "v".repeat(255))).is_ok());
        for long in ["n".repeat(256), format!("a={}", "v".repeat(256))] {
            assert_eq!(MountOptions::parse(&long).unwrap_err()[0].fault, OptionFault::TooLong);
        }
    }

    #[test]
    fn words_that_mean_nothing_here_are_refused() {
        for word in
            ["bind", "remount", "user", "noauto", "nofail", "_netdev", "x-systemd.automount", "X-mount.mkdir"]
                .into_iter()
                .chain([
                    "shared",
                    "rslave",
                    "offset=512",
                    "uhelper=mydisks",
                    "helper=x",
                    "source=/dev/sda",
                    "owner",
                ])
        {
            assert!(MountOptions::parse(word).is_err(), "{word}");
        }
        assert!(MountOptions::parse("user_xattr,usrquota,grpid,errors=remount-ro").is_ok());
    }

    fn some_options() -> impl Strategy<Value = MountOptions> {
        let words =
            ["suid", "nosuid", "ro", "rw", "noatime", "relatime", "acl", "noacl", "commit=5", "commit=9"];
        let word = prop_oneof![
            proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
            "[a-z]{1,3}=\"[a-z,]{0,4}\"",
            "(no)?[a-z]{1,2}",
        ];
        proptest::collection::vec(word, 0..8).prop_map(|words| words.join(",").parse().unwrap())
    }

    proptest! {
        #[test]
        fn merging_is_idempotent_and_keeps_all_later_words(a in some_options(), b in some_options()) {
            let once = a.merged(&b);
            prop_assert_eq!(&once.merged(&b), &once);
            prop_assert!(once.words().ends_with(b.words()));
            let subjects: std::collections::HashSet<_> = once.words().iter().map(|w| subject(w)).collect();
            prop_assert_eq!(subjects.len(), once.words().len());
        }

        #[test]
        fn what_is_printed_parses_to_the_same(a in some_options()) {
            prop_assert_eq!(a.to_string().parse::<MountOptions>(), Ok(a));
        }

        #[test]
        fn no_list_panics_and_spans_are_in_it(list in any::<String>()) {
            if let Err(faults) = MountOptions::parse(&list) {
                for fault in faults {
                    prop_assert_eq!(&list[fault.span.clone()], &fault.word);
                }
            }
        }
    }
}
