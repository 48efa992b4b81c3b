//! The configuration: its model, strict parsing with errors that point at the place, and validation. Knows
//! nothing of the rest of the house but the identities. mydisks.toml(5) is its reference for people.
//!
//! A text goes `syntax` → tree of `node`s → `root`, `mount`, `guest`, `disk` → model, and every reader notes what it
//! cannot accept in `findings` and goes on, so that a person is told everything at once.

mod disk;
mod duration;
mod exclusive;
mod file;
mod findings;
mod guest;
mod import;
mod keys;
mod model;
mod mount;
mod node;
mod options;
mod problem;
mod root;
mod source;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use crate::device::{DiskSpec, UsbRule};
pub use duration::{DurationError, parse as parse_duration};
pub use import::{ImportError, Imported, LONGEST_LIST, Note, import};
pub use model::{Config, Filesystem, Guest, GuestDisk, Mount, OnExit, UnknownFilesystem};
pub use options::{MountOptions, OptionError, OptionFault};
pub use problem::{ConfigError, Problem, Problems};
pub use source::Place;

use findings::{Findings, Spot};
use node::Node;
use source::Source;

/// Where the configuration is unless another file is given.
pub const DEFAULT_FILE: &str = "/etc/mydisks/mydisks.toml";

/// The longest configuration, in bytes; ten thousand names need two million.
pub const LONGEST: usize = 8 << 20;

/// Reads and parses a configuration file.
///
/// Running as root, it refuses a file that is not root's or that its group or others can write, since the file
/// makes root mount disks and read key files.
///
/// # Errors
///
/// The file cannot be read or trusted, is no text of at most [`LONGEST`] bytes, or is not valid; see
/// [`ConfigError`].
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    parse_bytes(&file::read(path)?, path)
}

/// Parses the text of a configuration; `file` is what errors call it.
///
/// # Errors
///
/// The text is longer than [`LONGEST`], or not valid: then [`ConfigError::Invalid`] has everything that is wrong
/// with it.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    if text.len() > LONGEST {
        return Err(ConfigError::TooLong { file: file.to_owned() });
    }
    let source = Source::new(text);
    let mut findings = Findings::new(&source);
    let tree = syntax::parse(text, &mut findings).unwrap_or_default();
    let tree = toml::de::DeValue::Table(tree);
    let whole = Spot { path: String::new(), span: 0..0 };
    let config = root::read(&Node::new(whole, &tree), &mut findings);
    findings.into_error(file).map_or(Ok(config), Err)
}

fn parse_bytes(bytes: &[u8], file: &Path) -> Result<Config, ConfigError> {
    if bytes.len() > LONGEST {
        return Err(ConfigError::TooLong { file: file.to_owned() });
    }
    let wrong = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(text, file),
        Err(error) => error.valid_up_to(),
    };
    let before = String::from_utf8_lossy(&bytes[..wrong]);
    let problem = Problem {
        place: Source::new(&before).place(wrong..wrong),
        key: String::new(),
        message: format!("the byte 0x{:02x} is not UTF-8 text", bytes[wrong]),
        suggestion: None,
        earlier: None,
    };
    Err(ConfigError::Invalid(Problems { file: file.to_owned(), list: vec![problem], omitted: 0 }))
}
