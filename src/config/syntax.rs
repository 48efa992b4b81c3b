//! From text to a tree of TOML values with their places; what is no TOML becomes problems.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::{Findings, Spot};
use super::node::joined;

/// A broken text longer than this is told its first error only: the parser's memory for errors is not bounded.
const LONGEST_RECOVERED: usize = 1 << 20;
/// So many duplicate keys are shown with their first place: each may cost another pass over the text.
const MOST_LOCATED: usize = 20;
/// What the parser calls a key that is there already.
const DUPLICATE: &str = "duplicate key";
const TWICE: &str = "is defined twice; keep one";

/// Parses the text. After a key that was given twice the tree is complete but for that key, and is returned; after
/// any other error it is not worth a look, since what is missing in it would be reported as missing.
pub(super) fn parse<'t>(text: &'t str, findings: &mut Findings<'_>) -> Option<DeTable<'t>> {
    let first = match DeTable::parse(text) {
        Ok(tree) => return Some(tree.into_inner()),
        Err(error) => error,
    };
    let (tree, errors) = match text.len() {
        ..=LONGEST_RECOVERED => {
            let (tree, errors) = DeTable::parse_recoverable(text);
            (tree.into_inner(), errors)
        }
        _ => (DeTable::new(), vec![first]),
    };
    let mut complete = text.len() <= LONGEST_RECOVERED;
    for (at, error) in errors.iter().enumerate() {
        let span = error.span().unwrap_or_default();
        if error.message() != DUPLICATE {
            complete = false;
            broken(error.message(), span, findings);
        } else if at < MOST_LOCATED {
            duplicate(text, span, findings);
        } else {
            findings.add(&Spot { path: String::new(), span }, TWICE);
        }
    }
    complete.then_some(tree)
}

fn broken(message: &str, span: Range<usize>, findings: &mut Findings<'_>) {
    let spot = Spot { path: String::new(), span: span.clone() };
    // The parser goes on to expect a "literal string", but any string will do.
    if message.starts_with("string values must be quoted") {
        let written = findings.slice(span);
        let plain = written.len() < 80 && !written.contains(|c: char| c.is_control() || "\"'\\".contains(c));
        findings.suggest(&spot, "a string must be in quotes", plain.then(|| format!("\"{written}\"")));
    } else {
        findings.add(&spot, format!("not valid TOML: {message}"));
    }
}

/// Finds the first place of a key by a look at the text before the second one.
fn duplicate(text: &str, span: Range<usize>, findings: &mut Findings<'_>) {
    let key = findings.slice(span.clone());
    let begin = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(begin..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let header = line.trim_start().starts_with('[');
    let before = text.get(..if header { begin } else { span.start }).unwrap_or_default();
    let (tree, _) = DeTable::parse_recoverable(before);
    let tables = tables(before, tree.get_ref());
    let (path, first) = if header {
        let path = header_path(line);
        let first = tables.into_iter().find(|table| table.path == path).map(|table| table.span);
        (path, first)
    } else {
        // The last table that is still open is the one that the key stands in.
        let around = tables.into_iter().filter(|table| table.open).max_by_key(|table| table.span.start);
        let path = joined(around.as_ref().map_or("", |table| &table.path), key);
        (path, around.and_then(|table| table.table.get_key_value(key)).map(|(first, _)| first.span()))
    };
    let spot = Spot { path, span };
    match first {
        Some(span) => {
            let first = Spot { path: spot.path.clone(), span };
            findings.collide(&spot, TWICE, &first, "first here");
        }
        None => findings.add(&spot, TWICE),
    }
}

/// The path that a line with a table's header names.
fn header_path(line: &str) -> String {
    let (tree, _) = DeTable::parse_recoverable(line);
    let mut path = String::new();
    let mut table = Some(tree.get_ref());
    while let Some((key, value)) = table.and_then(|table| table.iter().next()) {
        path = joined(&path, key.get_ref());
        table = value.get_ref().as_table();
    }
    path
}

/// A table that has a place of its own in a text that ends after it.
struct Placed<'t> {
    path: String,
    /// Its header, or all of it if it is inline.
    span: Range<usize>,
    /// More keys of it could follow at the end of the text.
    open: bool,
    table: &'t DeTable<'t>,
}

/// All tables with a place of their own, the root first.
fn tables<'t>(text: &str, tree: &'t DeTable<'t>) -> Vec<Placed<'t>> {
    let mut found = vec![Placed { path: String::new(), span: 0..0, open: true, table: tree }];
    collect(text, "", tree, &mut found);
    found
}

fn collect<'t>(text: &str, path: &str, tree: &'t DeTable<'t>, found: &mut Vec<Placed<'t>>) {
    for (key, value) in tree {
        collect_value(text, joined(path, key.get_ref()), value, found);
    }
}

/// Recurses as deep as the parser lets a text nest.
fn collect_value<'t>(text: &str, path: String, value: &'t Spanned<DeValue<'t>>, found: &mut Vec<Placed<'t>>) {
    match value.get_ref() {
        DeValue::Table(table) => {
            collect(text, &path, table, found);
            let span = value.span();
            let open = match text.as_bytes().get(span.start) {
                Some(b'[') => true,
                Some(b'{') => !text.get(span.clone()).is_some_and(|inline| inline.ends_with('}')),
                // Neither a header nor a brace: a table that dotted keys imply has no place of its own.
                _ => return,
            };
            found.push(Placed { path, span, open, table });
        }
        DeValue::Array(array) => {
            for (at, element) in array.iter().enumerate() {
                collect_value(text, format!("{path}[{at}]"), element, found);
            }
        }
        _ => {}
    }
}
