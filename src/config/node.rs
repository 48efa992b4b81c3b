//! A TOML value with its place, and strict reading of it: each method gives the value of the wanted type or notes
//! why there is none. Knows nothing of what the keys mean.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use toml::de::{DeTable, DeValue};

use super::findings::{Findings, Spot};
use super::keys::home;
use super::source::{clipped, quoted};
use super::suggest::nearest;

/// A value, with its path and place.
pub(super) struct Node<'t> {
    pub(super) spot: Spot,
    value: &'t DeValue<'t>,
}

/// A table of which the keys are known to be allowed.
pub(super) struct Table<'t> {
    pub(super) spot: Spot,
    table: &'t DeTable<'t>,
}

/// A named table of a table of tables, `[mounts.NAME]`.
pub(super) struct Named<'t> {
    pub(super) name: &'t str,
    /// The name's own place.
    pub(super) key: Spot,
    pub(super) node: Node<'t>,
}

impl<'t> Node<'t> {
    pub(super) fn new(spot: Spot, value: &'t DeValue<'t>) -> Self {
        Self { spot, value }
    }

    pub(super) fn value(&self) -> &'t DeValue<'t> {
        self.value
    }

    /// Notes that the value has another type than `wanted` (with its article).
    pub(super) fn wrong_type(&self, wanted: &str, meant: Option<String>, findings: &mut Findings<'_>) {
        let message = format!("must be {wanted}, not {}", kind(self.value));
        findings.suggest(&self.spot, message, meant);
    }

    pub(super) fn string(&self, findings: &mut Findings<'_>) -> Option<&'t str> {
        let DeValue::String(text) = self.value else {
            let number = matches!(self.value, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_));
            let written = findings.slice(self.spot.span.clone());
            let meant = (number && written.len() < 40).then(|| format!("\"{written}\""));
            self.wrong_type("a string", meant, findings);
            return None;
        };
        Some(text)
    }

    pub(super) fn boolean(&self, findings: &mut Findings<'_>) -> Option<bool> {
        match self.value {
            DeValue::Boolean(truth) => Some(*truth),
            DeValue::String(text) if matches!(&**text, "true" | "false") => {
                self.wrong_type("true or false", Some(text.to_string()), findings);
                None
            }
            _ => {
                self.wrong_type("true or false", None, findings);
                None
            }
        }
    }

    pub(super) fn integer(&self, range: RangeInclusive<u32>, findings: &mut Findings<'_>) -> Option<u32> {
        let DeValue::Integer(integer) = self.value else {
            let meant = self.value.as_str().and_then(|text| text.parse::<u32>().ok());
            self.wrong_type("an integer", meant.map(|number| number.to_string()), findings);
            return None;
        };
        let number =
            u32::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| range.contains(n));
        if number.is_none() {
            findings.add(&self.spot, format!("must be from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A string that its type accepts.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, findings: &mut Findings<'_>) -> Option<T> {
        let text = self.string(findings)?;
        text.parse().map_err(|error| findings.add(&self.spot, format!("{} {error}", quoted(text)))).ok()
    }

    /// An absolute path without `.`, `..`, `//` or a `/` at its end, so that equal files have equal paths as far
    /// as the text can tell.
    pub(super) fn path(&self, findings: &mut Findings<'_>) -> Option<PathBuf> {
        let text = self.string(findings)?;
        if text.is_empty() {
            findings.add(&self.spot, "must not be empty");
        } else if text.chars().any(char::is_control) {
            findings.add(&self.spot, "must not contain control characters");
        } else if !text.starts_with('/') {
            findings
                .add(&self.spot, format!("{} must be an absolute path, beginning with `/`", quoted(text)));
        // PATH_MAX with its final NUL, and NAME_MAX (linux/limits.h).
        } else if text.len() > 4095 || text.split('/').any(|name| name.len() > 255) {
            findings.add(&self.spot, "is longer than a path can be");
        } else {
            let normal = normalised(Path::new(text));
            if normal.as_os_str() == text {
                return Some(normal);
            }
            let message = format!("{} must have no `.`, `..`, `//` or final `/`", quoted(text));
            findings.suggest(&self.spot, message, normal.to_str());
        }
        None
    }

    /// The elements of a list that is not empty.
    pub(super) fn list(&self, findings: &mut Findings<'_>) -> Option<Vec<Node<'t>>> {
        let DeValue::Array(array) = self.value else {
            let written = findings.slice(self.spot.span.clone());
            let single = self.value.is_str() && written.len() < 80;
            self.wrong_type("a list", single.then(|| format!("[{written}]")), findings);
            return None;
        };
        if array.is_empty() {
            findings.add(&self.spot, "must not be an empty list");
            return None;
        }
        let element = |(at, value): (usize, &'t toml::Spanned<DeValue<'t>>)| {
            let path = format!("{}[{at}]", self.spot.path);
            Node::new(Spot { path, span: value.span() }, value.get_ref())
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// A table with no other keys than `known`.
    pub(super) fn table(&self, known: &[&'static str], findings: &mut Findings<'_>) -> Option<Table<'t>> {
        let table = self.any_table(findings)?;
        for key in table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let spot = Spot { path: joined(&self.spot.path, name), span: key.span() };
            match (nearest(name, known.iter().copied()), home(name)) {
                (_, Some(place)) => findings.add(&spot, format!("does not belong here; {place}")),
                (meant, None) => findings.suggest(&spot, "is not a known key", meant),
            }
        }
        Some(Table { spot: self.spot.clone(), table })
    }

    /// The entries of a table whose keys are names, in the order of the names.
    pub(super) fn named(&self, findings: &mut Findings<'_>) -> Vec<Named<'t>> {
        let table = self.any_table(findings);
        let entries = table.into_iter().flat_map(|table| table.iter());
        entries
            .map(|(key, value)| {
                let path = joined(&self.spot.path, key.get_ref());
                let node = Node::new(Spot { path: path.clone(), span: value.span() }, value.get_ref());
                Named { name: key.get_ref(), key: Spot { path, span: key.span() }, node }
            })
            .collect()
    }

    fn any_table(&self, findings: &mut Findings<'_>) -> Option<&'t DeTable<'t>> {
        let table = self.value.as_table();
        if table.is_none() {
            self.wrong_type("a table", None, findings);
        }
        table
    }

    /// The places of parts of this string's text: exact if the string is written on one line without escapes, so
    /// that its text stands in the file as it is; else the whole string.
    pub(super) fn parts(
        &self,
        parts: impl Iterator<Item = Range<usize>>,
        findings: &Findings<'_>,
    ) -> impl Iterator<Item = Spot> {
        let Spot { path, span } = self.spot.clone();
        let written = findings.slice(span.clone());
        let as_it_is = written.len() >= 2 && self.value.as_str() == written.get(1..written.len() - 1);
        parts.map(move |part| {
            // An empty part is shown by the character that follows it.
            let exact = span.start + 1 + part.start..span.start + 1 + part.end.max(part.start + 1);
            Spot { path: path.clone(), span: if as_it_is { exact } else { span.clone() } }
        })
    }
}

impl<'t> Table<'t> {
    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Node<'t>> {
        let value = self.table.get(key)?;
        let spot = Spot { path: joined(&self.spot.path, key), span: value.span() };
        Some(Node::new(spot, value.get_ref()))
    }
}

/// The path of a key in a table; the key in quotes where TOML wants them, and clipped where it is very long.
pub(super) fn joined(path: &str, key: &str) -> String {
    let of_a_bare_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    // Every value gets its path, so this is one allocation and no formatting.
    let mut joined = String::with_capacity(path.len() + key.len().min(100) + 3);
    joined.push_str(path);
    if !path.is_empty() {
        joined.push('.');
    }
    if !key.is_empty() && key.len() <= 100 && key.bytes().all(of_a_bare_key) {
        joined.push_str(key);
    } else {
        joined.push('"');
        joined.push_str(&clipped(key));
        joined.push('"');
    }
    joined
}

fn normalised(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            _ => normal.push(component),
        }
    }
    normal
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
