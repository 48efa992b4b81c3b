//! The text of a configuration file as a person sees it: lines, columns, and an excerpt that is safe to print.
//! Knows nothing of TOML.

use std::fmt;
use std::ops::Range;

/// The widest excerpt of a line, in characters.
const WIDEST: usize = 100;
/// So much of a longer line is shown before the place.
const LEAD: usize = 40;
/// The longest string that a message quotes, in characters.
const LONGEST_QUOTE: usize = 80;

/// A place in the file, with what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The part of the line that is shown; printable.
    excerpt: String,
    /// Where in the excerpt the marks begin, and how many there are.
    marks: (usize, usize),
}

impl Place {
    /// Writes the line, and marks under the place, without a line break at the end.
    pub(super) fn draw(&self, out: &mut fmt::Formatter<'_>, gutter: usize, mark: char) -> fmt::Result {
        let (indent, width) = self.marks;
        let excerpt = self.excerpt.trim_end();
        writeln!(out, "{:>gutter$} |{}{excerpt}", self.line, if excerpt.is_empty() { "" } else { " " })?;
        write!(out, "{:gutter$} | {:indent$}{}", "", "", mark.to_string().repeat(width))
    }
}

/// A text with its lines found.
pub(super) struct Source<'t> {
    text: &'t str,
    /// Byte offset of each line's begin.
    lines: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        Self { text, lines: std::iter::once(0).chain(breaks).collect() }
    }

    /// The text between two byte offsets; empty if they are none.
    pub(super) fn slice(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or_default()
    }

    /// The place of a range of bytes; what goes beyond the range's first line is cut off.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let start = self.boundary(span.start);
        let number = self.lines.partition_point(|&begin| begin <= start).max(1);
        let begin = self.lines[number - 1];
        let end = self.lines.get(number).map_or(self.text.len(), |next| next - 1);
        let line = self.text[begin..end].trim_end_matches('\r');
        let before = &line[..(start - begin).min(line.len())];
        let inside =
            &line[before.len()..(self.boundary(span.end).max(start) - begin).clamp(before.len(), line.len())];
        let column = before.chars().count() + 1;
        let (excerpt, marks) = excerpt(line, column - 1, inside.chars().count());
        Place { line: number, column, excerpt, marks }
    }

    fn boundary(&self, at: usize) -> usize {
        (0..=at.min(self.text.len())).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0)
    }
}

/// At most [`WIDEST`] characters of a line around `marked` ones after `before`, and where in it the marks go.
fn excerpt(line: &str, before: usize, marked: usize) -> (String, (usize, usize)) {
    let length = line.chars().count();
    let begin = before.saturating_sub(LEAD).min(length.saturating_sub(WIDEST));
    let mut text = if begin > 0 { "…".to_owned() } else { String::new() };
    let (mut indent, mut width) = (usize::from(begin > 0), 0);
    for (at, c) in line.chars().enumerate().skip(begin).take(WIDEST) {
        let c = printable(c);
        let cells = c.chars().count();
        if at < before {
            indent += cells;
        } else if at < before + marked {
            width += cells;
        }
        text += &c;
    }
    if begin + WIDEST < length {
        text.push('…');
    }
    (text, (indent, width.max(1)))
}

/// One character as a terminal may get it: no control, formatting or combining characters. A tab is a space,
/// so that marks stand under what they mark.
fn printable(c: char) -> String {
    match c {
        '\t' => " ".to_owned(),
        '"' | '\'' | '\\' => c.to_string(),
        _ => c.escape_debug().to_string(),
    }
}

/// A text as a terminal may get it.
pub(super) fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\'' | '\\' => c.to_string(),
            _ => c.escape_debug().to_string(),
        })
        .collect()
}

/// A text from the file for use in a sentence: between backquotes, printable, clipped.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", clipped(text))
}

/// A text as a terminal may get it, with `…` for what is beyond the longest that a message quotes.
pub(super) fn clipped(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}…", escaped(&text[..end])),
        None => escaped(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(text: &str, span: Range<usize>) -> String {
        struct Drawing(Place);
        impl fmt::Display for Drawing {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.draw(out, 1, '^')
            }
        }
        Drawing(Source::new(text).place(span)).to_string()
    }

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let source = Source::new("a\r\näöü = 1\n");
        let place = |span| {
            let place = source.place(span);
            (place.line, place.column)
        };
        assert_eq!(place(0..1), (1, 1));
        assert_eq!(place(3..5), (2, 1));
        assert_eq!(place(10..11), (2, 5));
        assert_eq!(place(14..14), (3, 1), "the end of the text");
        assert_eq!(place(4..9), (2, 1), "inside of a character");
        assert_eq!(place(99..200), (3, 1), "beyond the end");
    }

    #[test]
    fn marks_stand_under_what_they_mark() {
        assert_eq!(drawn("x = \"y\"", 4..7), "1 | x = \"y\"\n  |     ^^^");
        assert_eq!(drawn("\tx\t= 1", 1..2), "1 |  x = 1\n  |  ^");
        assert_eq!(drawn("\u{1b}x = 1", 1..2), "1 | \\u{1b}x = 1\n  |       ^");
        assert_eq!(drawn("a = [\n1]\n", 4..8), "1 | a = [\n  |     ^");
        assert_eq!(drawn("", 0..0), "1 |\n  | ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{} = {}", "k".repeat(300), "v".repeat(300));
        let shown = drawn(&text, 303..603);
        let (line, marks) = shown.split_once('\n').unwrap();
        assert_eq!(line, format!("1 | …{} = {}…", "k".repeat(37), "v".repeat(60)));
        assert_eq!(marks, format!("  | {}{}", " ".repeat(41), "^".repeat(60)));
    }

    proptest! {
        #[test]
        fn every_range_has_a_place_that_prints_without_controls(text in any::<String>(), a in 0usize..80, b in 0usize..80) {
            let shown = drawn(&text, a..b);
            prop_assert_eq!(shown.lines().count(), 2);
            prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", shown);
            prop_assert!(quoted(&text).chars().all(|c| !c.is_control()));
        }
    }
}
