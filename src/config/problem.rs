//! What is wrong with a configuration, told so that a person finds the place and knows what to write instead.
//! Knows nothing of keys and their meaning.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::source::{Place, escaped};

/// Why there is no configuration. Its `Display` is the whole text for a terminal, free of control characters
/// whatever the file contains.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be opened or read.
    #[error("{}: cannot be read: {source}", shown(.file))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory, FIFO, device or socket.
    #[error("{}: is not a regular file", shown(.file))]
    NotAFile {
        /// The file.
        file: PathBuf,
    },
    /// Longer than [`super::LONGEST`].
    #[error("{}: is longer than {} MiB; a configuration is not", shown(.file), super::LONGEST >> 20)]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// We are root, and somebody who is not could have written it.
    #[error(
        "{}: {reason}; it makes root mount disks and read key files, so only root may be able to change it: {remedy}",
        shown(.file)
    )]
    Untrusted {
        /// The file.
        file: PathBuf,
        /// `belongs to uid 1000`, `can be written by its group or by others (mode 0664)`.
        reason: String,
        /// The command that mends it.
        remedy: String,
    },
    /// It was read, and this is wrong with it.
    #[error("{0}")]
    Invalid(Problems),
}

fn shown(file: &std::path::Path) -> String {
    escaped(&file.to_string_lossy())
}

/// All that is wrong in one file, in the order of the places. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file they are in.
    pub file: PathBuf,
    /// The problems; at most [`Problems::MOST`].
    pub list: Vec<Problem>,
    /// How many more there were.
    pub omitted: usize,
}

impl Problems {
    /// So many problems are kept; whoever has more has not written a configuration.
    pub const MOST: usize = 200;
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The dotted path of the key, `mounts.backup.disks[0].id`; empty where there is none (yet).
    pub key: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
    /// The earlier place that this one collides with, and what it is.
    pub earlier: Option<(Place, &'static str)>,
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = shown(&self.file);
        for problem in &self.list {
            write!(out, "{file}:{}:{}: ", problem.place.line, problem.place.column)?;
            writeln!(out, "{problem}")?;
        }
        match self.list.len() + self.omitted {
            1 => write!(out, "1 error in {file}"),
            all if self.omitted == 0 => write!(out, "{all} errors in {file}"),
            all => write!(out, "{all} errors in {file}, the first {} found are shown", self.list.len()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        write!(out, "{}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(out, "; did you mean `{}`?", escaped(suggestion))?;
        }
        let gutter =
            self.place.line.max(self.earlier.as_ref().map_or(0, |(place, _)| place.line)).to_string().len();
        writeln!(out, "\n{:gutter$} |", "")?;
        if let Some((place, what)) = &self.earlier {
            place.draw(out, gutter, '-')?;
            writeln!(out, " {what}")?;
        }
        self.place.draw(out, gutter, '^')?;
        writeln!(out)
    }
}
