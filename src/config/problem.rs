//! What is wrong with a configuration: each problem with its line, its key, what was found and what
//! would be right.
//!
//! Nothing is decided here. `read.rs` and the checks report, and [`Problems`] is what `load`
//! returns when there is at least one.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::patience;
use crate::text::nearest;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line in the file, from 1; `None` when it concerns the file as a whole.
    pub line: Option<usize>,
    /// Column in that line, in characters from 1; of a mistake in the syntax only, because any
    /// other is found by its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The key, such as `device[plant].point[tank.level].safe`; empty where no key could be read.
    pub key: String,
    /// What is there now.
    pub found: String,
    /// What would be right; `None` where the hint says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was probably meant, as a question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Everything that is wrong with one file, in order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file, as it was named when it was loaded.
    pub file: PathBuf,
    /// At least one.
    pub list: Vec<Problem>,
    /// Whether any of it is that a file gave no answer in time: another try may find nothing wrong.
    #[serde(skip)]
    pub is_late: bool,
}

impl fmt::Display for Problems {
    /// One line for each: `FILE:LINE: KEY: expected X, found Y`, with the column behind the line
    /// for a mistake in the syntax.
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
    /// The one problem that the file cannot even be read.
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

/// Something of the file, with the place that a later check can point at.
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
    /// Where the last look-up ended, as (offset, line): look-ups mostly walk forward.
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

    /// What the file says in `span`, on one line and not too long for a message.
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

    /// Notes that `found` is at this place where `expected` would be right.
    pub(super) fn wrong(
        &self,
        line: usize,
        key: &str,
        found: impl Into<String>,
        expected: impl fmt::Display,
    ) {
        self.push(line, key, found.into(), Ok(expected.to_string()));
    }

    /// Notes a mistake in the syntax at a byte offset in the file.
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

    /// Notes that what is reported is so because a file gave no answer in time.
    pub(super) fn late(&self) {
        self.is_late.set(true);
    }

    /// Notes that `found` was said at this place where `expected` would be right.
    pub(super) fn wrong_at<T>(
        &self,
        at: &Said<T>,
        found: impl Into<String>,
        expected: impl fmt::Display,
    ) {
        self.wrong(at.line, &at.key, found, expected);
    }

    /// Notes that a key is unknown, with the nearest of those that are known.
    pub(super) fn unknown_key(&self, line: usize, key: &str, name: &str, known: &[&str]) {
        let right = match nearest(name, known.iter().copied()) {
            Some(near) => Err(format!("did you mean `{near}`?")),
            None => Ok(format!("one of `{}`", known.join("`, `"))),
        };
        self.push(line, key, "an unknown key".into(), right);
    }

    /// Notes what was found, and what is expected there or else a hint.
    fn push(&self, line: usize, key: &str, found: String, right: Result<String, String>) {
        let (expected, hint) = match right {
            Ok(expected) => (Some(expected), None),
            Err(hint) => (None, Some(hint)),
        };
        let (line, key) = (Some(line), key.to_owned());
        let problem = Problem { line, column: None, key, found, expected, hint };
        self.problems.borrow_mut().push(problem);
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// All problems, in order of their lines.
    pub(super) fn into_problems(self, file: &Path) -> Problems {
        let mut list = self.problems.into_inner();
        list.sort_by_key(|problem| problem.line);
        Problems { file: file.to_owned(), list, is_late: self.is_late.get() }
    }
}
