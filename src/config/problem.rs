//! Problems of a configuration: each has its line, its key, what was found and what would be right.
//!
//! No decision is made here. `read.rs` and the checks report problems, and `load` returns
//! [`Problems`] if there is at least one.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::patience;
use crate::text::nearest;

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line in the file, from 1; `None` if the problem concerns the file as a whole.
    pub line: Option<usize>,
    /// Column in that line, in characters from 1. Only a mistake in the syntax has one; any other
    /// is found by its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The key, such as `device[plant].point[tank.level].safe`; empty if no key could be read.
    pub key: String,
    /// The text or value that the file has now.
    pub found: String,
    /// The right values; `None` where the hint says them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The key that was probably meant, as a question: `did you mean ...?`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// All problems of one file, in the order of their lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// Path of the file, as the caller of `load` named it.
    pub file: PathBuf,
    /// The problems, at least one.
    pub list: Vec<Problem>,
    /// Whether a problem exists only because a file gave no answer in time. Another try may then
    /// succeed.
    #[serde(skip)]
    pub is_late: bool,
}

impl fmt::Display for Problems {
    /// One line for each problem: `FILE:LINE: KEY: expected X, found Y`, with the column behind the
    /// line for a mistake in the syntax.
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
    /// The single problem that the file cannot be read.
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

/// A value of the file with its place, for messages of later checks.
#[derive(Debug, Clone)]
pub(super) struct Said<T> {
    pub(super) value: T,
    /// Line in the file, from 1.
    pub(super) line: usize,
    /// The whole key.
    pub(super) key: String,
}

/// Collects problems, because a user wants to see all of them at once.
pub(super) struct Report<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    /// Where the last look-up of a line ended, as (offset, line): offsets mostly increase.
    last: Cell<(usize, usize)>,
    is_late: Cell<bool>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let (last, is_late) = (Cell::new((0, 1)), Cell::new(false));
        Self { text, problems: RefCell::default(), last, is_late }
    }

    /// The line, from 1, of a byte offset in the file.
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

    /// The text of the file in `span`, on one line and short enough for a message.
    pub(super) fn quote(&self, span: std::ops::Range<usize>) -> String {
        // Long enough for any sensible value, short enough for one line of a terminal.
        const MOST_CHARS: usize = 40;
        let text = self.text.get(span).unwrap_or_default();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() <= MOST_CHARS {
            return line;
        }
        line.chars().take(MOST_CHARS).chain("...".chars()).collect()
    }

    /// Reports that `found` stands at this place where `expected` would be right.
    pub(super) fn wrong(
        &self,
        line: usize,
        key: &str,
        found: impl Into<String>,
        expected: impl fmt::Display,
    ) {
        self.push(line, key, found.into(), Ok(expected.to_string()));
    }

    /// Reports a mistake in the syntax at a byte offset in the file.
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

    /// Marks the report: at least one problem exists only because a file gave no answer in time.
    pub(super) fn late(&self) {
        self.is_late.set(true);
    }

    /// Reports that `found` stands at the place of a value where `expected` would be right.
    pub(super) fn wrong_at<T>(
        &self,
        at: &Said<T>,
        found: impl Into<String>,
        expected: impl fmt::Display,
    ) {
        self.wrong(at.line, &at.key, found, expected);
    }

    /// Reports an unknown key, with the nearest known one.
    pub(super) fn unknown_key(&self, line: usize, key: &str, name: &str, known: &[&str]) {
        let right = match nearest(name, known.iter().copied()) {
            Some(near) => Err(format!("did you mean `{near}`?")),
            None => Ok(format!("one of `{}`", known.join("`, `"))),
        };
        self.push(line, key, "an unknown key".into(), right);
    }

    /// Reports what was found, and either what is expected there or a hint.
    fn push(&self, line: usize, key: &str, found: String, right: Result<String, String>) {
        let (expected, hint) = match right {
            Ok(expected) => (Some(expected), None),
            Err(hint) => (None, Some(hint)),
        };
        let (line, key) = (Some(line), key.to_owned());
        let problem = Problem { line, column: None, key, found, expected, hint };
        self.problems.borrow_mut().push(problem);
    }

    /// Whether no problem was reported so far.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// All problems, in the order of their lines.
    pub(super) fn into_problems(self, file: &Path) -> Problems {
        let mut list = self.problems.into_inner();
        list.sort_by_key(|problem| problem.line);
        Problems { file: file.to_owned(), list, is_late: self.is_late.get() }
    }
}
