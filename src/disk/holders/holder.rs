//! One holder, and how it is told. Names that users chose are shown so that they can neither steer a terminal nor
//! begin a new line. Knows nothing of how holders are found.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

/// Whoever or whatever uses a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its id.
        pid: u32,
        /// Its effective user's name, or number if /etc/passwd has none.
        user: String,
        /// Its name, as **ps -o comm** shows it.
        command: String,
        /// What it holds: the first few.
        uses: Vec<Use>,
        /// How much more it holds.
        more: usize,
    },
    /// A loop device over a file on it.
    Loop {
        /// `/dev/loop3`
        device: PathBuf,
        /// The file.
        file: PathBuf,
        /// What is on that loop device: `mapping x`, `mounted at /x`.
        on_it: Vec<String>,
    },
    /// A swap file or swap space on it.
    Swap(PathBuf),
    /// Something is mounted on one of its directories.
    MountBelow {
        /// Where.
        at: PathBuf,
        /// The type of what is mounted there.
        kind: String,
    },
    /// It is mounted in our own mount namespace.
    Mount(PathBuf),
    /// Another block device lies on its block device: `mapping x`, `md0`.
    BlockDevice(String),
}

/// What a process holds. The paths are the kernel's: of a mount that was taken away lazily they begin at that mount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// It is in that directory.
    WorkingDirectory(PathBuf),
    /// It cannot see what is above that directory.
    Root(PathBuf),
    /// It runs that program.
    Program(PathBuf),
    /// It has that file or directory open.
    File(PathBuf),
    /// It has that file mapped into its memory.
    Mapped(PathBuf),
    /// It has the block device itself open.
    Device(PathBuf),
    /// It lives in another mount namespace, where the disk is mounted.
    Namespace(PathBuf),
}

impl Display for Holder {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, user, command, uses, more } => {
                let uses: Vec<String> = uses.iter().map(Use::to_string).collect();
                write!(f, "pid {pid} ({}, {}): {}", shown(user), shown(command), uses.join(", "))?;
                if *more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            Self::Loop { device, file, on_it } => {
                write!(f, "loop device {}: file {}", device.display(), path(file))?;
                if on_it.is_empty() { Ok(()) } else { write!(f, " ({})", shown(&on_it.join(", "))) }
            }
            Self::Swap(on) => write!(f, "swap space {}", path(on)),
            Self::MountBelow { at, kind } => {
                write!(f, "{} is mounted on {}", shown(kind), path(at))
            }
            Self::Mount(at) => write!(f, "it is mounted on {}", path(at)),
            Self::BlockDevice(name) => write!(f, "{} lies on it", shown(name)),
        }
    }
}

impl Display for Use {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (what, on) = match self {
            Self::WorkingDirectory(on) => ("working directory", on),
            Self::Root(on) => ("root directory", on),
            Self::Program(on) => ("program", on),
            Self::File(on) => ("open file", on),
            Self::Mapped(on) => ("mapped file", on),
            Self::Device(on) => ("open device", on),
            Self::Namespace(on) => ("mount namespace, in which it is mounted on", on),
        };
        write!(f, "{what} {}", path(on))
    }
}

fn path(path: &Path) -> String {
    shown(&path.to_string_lossy())
}

/// Every character that a terminal would obey or hide is escaped, and the middle of what is very long left out: of a
/// path, the end tells most.
fn shown(text: &str) -> String {
    const START: usize = 40;
    const END: usize = 120;
    let characters: Vec<char> = text.chars().collect();
    let escape = |characters: &[char]| {
        let mut escaped = String::with_capacity(characters.len());
        for character in characters {
            match character {
                '\\' | '\'' | '"' => escaped.push(*character),
                _ => escaped.extend(character.escape_debug()),
            }
        }
        escaped
    };
    if characters.len() <= START + END {
        return escape(&characters);
    }
    format!("{}…{}", escape(&characters[..START]), escape(&characters[characters.len() - END..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_in_one_line_whatever_it_calls_itself() {
        let holder = Holder::Process {
            pid: 12,
            user: "1000".into(),
            command: "a\n\u{1b}[2J\u{202e}".into(),
            uses: vec![Use::WorkingDirectory("/mnt/x".into()), Use::File("/mnt/x/it's".into())],
            more: 4,
        };
        let expected = "pid 12 (1000, a\\n\\u{1b}[2J\\u{202e}): working directory /mnt/x, open file /mnt/x/it's and 4 more";
        assert_eq!(holder.to_string(), expected);
    }

    #[test]
    fn a_long_path_keeps_its_beginning_and_its_end() {
        let long = format!("/mnt/mydisks/backup/{}/the-file", "ä".repeat(4000));
        let told = Use::File(long.into()).to_string();
        assert!(
            told.starts_with("open file /mnt/mydisks/backup/ä") && told.ends_with("ä/the-file"),
            "{told}"
        );
        assert_eq!(told.chars().count(), "open file ".len() + 161);
    }

    #[test]
    fn what_the_kernel_has_on_it_is_told() {
        let device = PathBuf::from("/dev/loop3");
        let over = Holder::Loop { device, file: "/mnt/x/disk.img".into(), on_it: vec!["mapping y".into()] };
        assert_eq!(over.to_string(), "loop device /dev/loop3: file /mnt/x/disk.img (mapping y)");
        assert_eq!(Holder::Swap("/mnt/x/swap".into()).to_string(), "swap space /mnt/x/swap");
        let below = Holder::MountBelow { at: "/mnt/x/y".into(), kind: "tmpfs".into() };
        assert_eq!(below.to_string(), "tmpfs is mounted on /mnt/x/y");
        assert_eq!(Holder::BlockDevice("mapping y".into()).to_string(), "mapping y lies on it");
    }
}
