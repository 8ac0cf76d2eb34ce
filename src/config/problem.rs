//! The problems of a configuration. Each problem has its line, its key, the value that was found
//! and the values that are allowed.
//!
//! Example of a message: `c.toml:7: scan.period: expected from 100us to 1s, found 2s`.
//!
//! This file checks nothing. `read.rs` and the files of the sections report problems to a
//! [`ProblemReport`]. At the end, `load` returns [`Problems`] if the report has at least one
//! problem.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::patience;
use crate::text::nearest;

/// One mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line in the file, from 1; `None` if the problem concerns the whole file.
    pub line: Option<usize>,
    /// Column in that line, in characters from 1. Only syntax errors have a column. Other problems
    /// have a key instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The full key, such as `device[plant].point[tank.level].safe`; empty if no key could be read.
    pub key: String,
    /// The text or the value in the file, or a description of what the file has at this place.
    pub found: String,
    /// The allowed values; `None` if `hint` is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The key that the user probably wanted, as a question: `did you mean ...?`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// All problems of one file, in the order of their lines. The list is never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// Path of the file, as the caller of `load` gave it.
    pub file: PathBuf,
    /// The problems, at least one.
    pub list: Vec<Problem>,
    /// Whether the configuration file, or a file that a driver reads, could not be read in time. If
    /// so, a second attempt may succeed.
    #[serde(skip)]
    pub is_late: bool,
}

impl fmt::Display for Problems {
    /// Writes one line for each problem: `FILE:LINE: KEY: expected X, found Y`. A syntax error has
    /// the column after the line: `FILE:LINE:COLUMN:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            if let Some(column) = problem.column {
                write!(f, "{column}:")?;
            }
            if !problem.key.is_empty() {
                write!(f, " {}:", problem.key)?;
            }
            if let Some(expected) = &problem.expected {
                write!(f, " expected {expected},")?;
            }
            write!(f, " found {}", problem.found)?;
            if let Some(hint) = &problem.hint {
                write!(f, "; {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    /// Returns a list with one problem: the file cannot be read.
    pub(super) fn unreadable(file: &Path, why: &std::io::Error) -> Self {
        let problem = Problem {
            line: None,
            column: None,
            key: String::new(),
            found: format!("no readable file ({why})"),
            expected: Some("a TOML file such as config/camshaft.toml".into()),
            hint: None,
        };
        Self { file: file.to_owned(), list: vec![problem], is_late: patience::is_late(why) }
    }
}

/// A value of the file with its line and key. Later checks use the line and the key in messages.
#[derive(Debug, Clone)]
pub(super) struct Said<T> {
    pub(super) value: T,
    /// Line in the file, from 1.
    pub(super) line: usize,
    /// The full key, such as `scan.period`.
    pub(super) key: String,
}

/// Collects the problems of one configuration file, so that one run reports several of them.
pub(super) struct ProblemReport<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    /// Byte offset and line number of the last search for a line number. The next search starts
    /// there, because offsets mostly increase.
    last: Cell<(usize, usize)>,
    is_late: Cell<bool>,
}

impl<'t> ProblemReport<'t> {
    /// Makes a report without problems for the file with this text.
    pub(super) fn new(text: &'t str) -> Self {
        let (last, is_late) = (Cell::new((0, 1)), Cell::new(false));
        Self { text, problems: RefCell::default(), last, is_late }
    }

    /// Returns the line, from 1, of a byte offset in the file.
    pub(super) fn line(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        let (start, line) = match self.last.get() {
            (last, line) if last <= offset => (last, line),
            _ => (0, 1),
        };
        let breaks = self.text.as_bytes()[start..offset].iter().filter(|&&byte| byte == b'\n');
        let line = line + breaks.count();
        self.last.set((offset, line));
        line
    }

    /// Returns the text of the file in `span` for a message: on one line, and shortened.
    pub(super) fn quote(&self, span: std::ops::Range<usize>) -> String {
        // 40 characters are enough for every sensible value and fit into one line of a terminal.
        const MOST_CHARS: usize = 40;
        let text = self.text.get(span).unwrap_or_default();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() <= MOST_CHARS {
            return line;
        }
        line.chars().take(MOST_CHARS).chain("...".chars()).collect()
    }

    /// Reports a mistake at a line and key: the file has `found`, and `expected` is allowed.
    pub(super) fn wrong(
        &self,
        line: usize,
        key: &str,
        found: impl Into<String>,
        expected: impl fmt::Display,
    ) {
        self.push(line, key, found.into(), Ok(expected.to_string()));
    }

    /// Reports a syntax error at a byte offset in the file.
    pub(super) fn unreadable(&self, offset: usize, found: &str, expected: &str) {
        let offset = offset.min(self.text.len());
        let before = self.text.get(..offset).unwrap_or_default();
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let problem = Problem {
            line: Some(self.line(offset)),
            column: Some(column),
            key: String::new(),
            found: found.into(),
            expected: Some(expected.into()),
            hint: None,
        };
        self.problems.borrow_mut().push(problem);
    }

    /// Records that a file that a driver reads could not be read in time.
    pub(super) fn late(&self) {
        self.is_late.set(true);
    }

    /// Reports a mistake at a value: the file has `found`, and `expected` is allowed.
    pub(super) fn wrong_at<T>(
        &self,
        at: &Said<T>,
        found: impl Into<String>,
        expected: impl fmt::Display,
    ) {
        self.wrong(at.line, &at.key, found, expected);
    }

    /// Reports an unknown key. The message suggests the most similar known key, or lists all known
    /// keys.
    pub(super) fn unknown_key(&self, line: usize, key: &str, name: &str, known: &[&str]) {
        let right = match nearest(name, known.iter().copied()) {
            Some(near) => Err(format!("did you mean `{near}`?")),
            None => Ok(format!("one of `{}`", known.join("`, `"))),
        };
        self.push(line, key, "an unknown key".into(), right);
    }

    /// Reports a problem. `right` is `Ok` with the allowed values, or `Err` with a hint.
    fn push(&self, line: usize, key: &str, found: String, right: Result<String, String>) {
        let (expected, hint) = match right {
            Ok(expected) => (Some(expected), None),
            Err(hint) => (None, Some(hint)),
        };
        let (line, key) = (Some(line), key.to_owned());
        let problem = Problem { line, column: None, key, found, expected, hint };
        self.problems.borrow_mut().push(problem);
    }

    /// Whether the report has no problem yet.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// Returns all problems, in the order of their lines.
    pub(super) fn into_problems(self, file: &Path) -> Problems {
        let mut list = self.problems.into_inner();
        list.sort_by_key(|problem| problem.line);
        Problems { file: file.to_owned(), list, is_late: self.is_late.get() }
    }
}
