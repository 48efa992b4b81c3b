//! What the machine inside tells the runner outside: lines of JSON in a file of the share.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Outcome;

const FILE: &str = "report";

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Line {
    Started {
        scenario: String,
    },
    /// For the person who reads the results.
    Said {
        text: String,
    },
    Ended {
        scenario: String,
        seconds: f32,
        error: Option<String>,
    },
}

/// Appends a line to the report in `share`.
pub(crate) fn write(share: &Path, line: &Line) -> Outcome {
    let text = serde_json::to_string(line)?;
    let mut file = File::options().create(true).append(true).open(share.join(FILE))?;
    Ok(file.write_all(format!("{text}\n").as_bytes())?)
}

/// The complete lines from the one with number `skip` on.
pub(crate) fn read(share: &Path, skip: usize) -> Outcome<Vec<Line>> {
    let text = fs::read_to_string(share.join(FILE)).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().skip(skip).map(|line| Ok(serde_json::from_str(line)?)).collect()
}
