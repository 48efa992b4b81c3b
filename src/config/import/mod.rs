//! Reads the device list of the scripts that this program replaces, and writes the configuration that does the same. A
//! line that cannot be understood refuses the whole list; what is understood and cannot be carried over is noted.

mod line;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use thiserror::Error;

use super::source::quoted;
use super::{ConfigError, parse};
use line::{Entry, Owner};

/// The longest list, in bytes.
pub const LONGEST_LIST: usize = 1 << 20;

/// The longest line of it, in bytes.
const LONGEST_LINE: usize = 4096;

/// What a list comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// A configuration that [`parse`] accepts.
    pub toml: String,
    /// What was left out or changed, in the order of the lines.
    pub notes: Vec<Note>,
}

/// Something about one line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// From 1.
    pub line: usize,
    /// One sentence, printable.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.text)
    }
}

/// Why a list is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// Longer than [`LONGEST_LIST`].
    #[error("is longer than {} KiB; no list of devices is", LONGEST_LIST >> 10)]
    TooLong,
    /// These lines cannot be understood.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Lines(Vec<Note>),
}

/// The configuration for a list with lines like
///
/// ```text
/// usb-051d:0002 guest1        a USB device for a guest
/// SERIAL guest2 vdb           a disk for a guest: a third word is its target
/// SERIAL backup               a disk of the host, mounted as backup
/// ```
///
/// # Errors
/// See [`ImportError`].
pub fn import(list: &[u8]) -> Result<Imported, ImportError> {
    if list.len() > LONGEST_LIST {
        return Err(ImportError::TooLong);
    }
    let (mut entries, mut notes, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (number, bytes) in list.split(|&byte| byte == b'\n').enumerate().map(|(at, bytes)| (at + 1, bytes)) {
        match text(number, bytes).and_then(|text| line::read(number, text, &mut notes)) {
            Ok(entry) => entries.extend(entry),
            Err(text) => errors.push(Note { line: number, text }),
        }
    }
    if !errors.is_empty() {
        return Err(ImportError::Lines(errors));
    }
    without_repetitions(&mut entries, &mut notes);
    let toml = loop {
        let (toml, lines) = write::toml(&entries, &notes);
        let Err(error) = parse(&toml, Path::new("list")) else { break toml };
        leave_out(&mut entries, &mut notes, &lines, &error);
    };
    notes.sort_by_key(|note| note.line);
    Ok(Imported { toml, notes })
}

/// One line of a text for people.
fn text(number: usize, bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > LONGEST_LINE {
        return Err(format!("is longer than {LONGEST_LINE} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\r').unwrap_or(text);
    let text = if number == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
    match text.chars().find(|&character| character.is_control() && character != '\t') {
        Some(control) => Err(format!("has the control character {control:?}")),
        None => Ok(text),
    }
}

/// A line that says again what an earlier one says.
fn without_repetitions(entries: &mut Vec<Entry>, notes: &mut Vec<Note>) {
    let mut seen: BTreeMap<(String, Owner, Option<String>), usize> = BTreeMap::new();
    entries.retain(|entry| {
        let key = (entry.device.value(), entry.owner.clone(), entry.target.clone());
        let first = *seen.entry(key).or_insert(entry.line);
        if first != entry.line {
            notes.push(Note { line: entry.line, text: format!("left out: says the same as line {first}") });
        }
        first == entry.line
    });
}

/// Takes out the entries that the configuration does not accept beside the earlier ones.
fn leave_out(
    entries: &mut Vec<Entry>,
    notes: &mut Vec<Note>,
    lines: &BTreeMap<usize, usize>,
    error: &ConfigError,
) {
    let wrong: BTreeMap<usize, String> = match error {
        ConfigError::Invalid(problems) => {
            let of_line = |line: usize| lines.range(..=line).next_back().map(|(_, &number)| number);
            let told = problems.list.iter().rev();
            told.filter_map(|problem| {
                let earlier = problem.earlier.as_ref().and_then(|(place, _)| of_line(place.line));
                let with = earlier.map_or_else(String::new, |line| format!(", on line {line} of the list"));
                let without_place = problem.message.split(" is claimed by ").next().unwrap_or_default();
                let message = if without_place == problem.message {
                    format!("{}{with}", problem.message)
                } else {
                    format!("{without_place} has a place already{with}")
                };
                Some((of_line(problem.place.line)?, message))
            })
            .collect()
        }
        _ => BTreeMap::new(),
    };
    if wrong.is_empty() {
        // Nothing says which: then none can stay, so that the loop ends.
        entries.clear();
    }
    entries.retain(|entry| match wrong.get(&entry.line) {
        None => true,
        Some(why) => {
            let what = quoted(&entry.device.name());
            notes.push(Note { line: entry.line, text: format!("left out {what}: {why}") });
            false
        }
    });
}
