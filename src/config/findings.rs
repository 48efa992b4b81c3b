//! Collects what is wrong while a file is read, so that a person gets all of it at once.

use std::ops::Range;
use std::path::Path;

use super::problem::{ConfigError, Problem, Problems};
use super::source::Source;

/// A key's or value's path and its bytes in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// `mounts.backup.disks[0]`; empty for the file as a whole.
    pub(super) path: String,
    pub(super) span: Range<usize>,
}

/// The problems found so far in one text.
pub(super) struct Findings<'t> {
    source: &'t Source<'t>,
    found: Vec<(usize, Problem)>,
    omitted: usize,
}

impl<'t> Findings<'t> {
    pub(super) fn new(source: &'t Source<'t>) -> Self {
        Self { source, found: Vec::new(), omitted: 0 }
    }

    /// The text between two byte offsets.
    pub(super) fn slice(&self, span: Range<usize>) -> &'t str {
        self.source.slice(span)
    }

    /// The line that a place is in, from 1.
    pub(super) fn line(&self, spot: &Spot) -> usize {
        self.source.place(spot.span.clone()).line
    }

    /// Notes a problem.
    pub(super) fn add(&mut self, spot: &Spot, message: impl Into<String>) {
        self.put(spot, message.into(), None, None);
    }

    /// Notes a problem and what was probably meant, if that is known.
    pub(super) fn suggest(
        &mut self,
        spot: &Spot,
        message: impl Into<String>,
        meant: Option<impl Into<String>>,
    ) {
        self.put(spot, message.into(), meant.map(Into::into), None);
    }

    /// Notes a problem that exists because of an earlier place, and what that one is.
    pub(super) fn collide(
        &mut self,
        spot: &Spot,
        message: impl Into<String>,
        earlier: &Spot,
        what: &'static str,
    ) {
        self.put(spot, message.into(), None, Some((earlier, what)));
    }

    fn put(
        &mut self,
        spot: &Spot,
        message: String,
        suggestion: Option<String>,
        earlier: Option<(&Spot, &'static str)>,
    ) {
        if self.found.len() == Problems::MOST {
            self.omitted += 1;
            return;
        }
        let problem = Problem {
            place: self.source.place(spot.span.clone()),
            key: spot.path.clone(),
            message,
            suggestion,
            earlier: earlier.map(|(spot, what)| (self.source.place(spot.span.clone()), what)),
        };
        self.found.push((spot.span.start, problem));
    }

    /// The error that all problems together are, if there are any.
    pub(super) fn into_error(mut self, file: &Path) -> Option<ConfigError> {
        if self.found.is_empty() {
            return None;
        }
        self.found.sort_by_key(|&(offset, _)| offset);
        let list = self.found.into_iter().map(|(_, problem)| problem).collect();
        Some(ConfigError::Invalid(Problems { file: file.to_owned(), list, omitted: self.omitted }))
    }
}
