//! The results of recipes, for people and for other programs.
//!
//! This file compares output bytes; `recipe.rs` compares variables and messages. The `Display` of
//! [`Report`] is the text that `camshaft test` prints.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::head::wanted;
use crate::plugin::Refusal;
use crate::process::image::Value;
use crate::process::variable::VariableKind;
use crate::text::counted;

/// Most differing bytes that are listed for one pass: enough to see a pattern.
const MAX_BYTES_SHOWN: usize = 16;

/// Most failed passes of one recipe that are kept. After one mistake most of the later passes fail
/// too, so more of them tell nothing new.
const MAX_FAILURES: usize = 16;

/// The results of a module in all its recipes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Path of the module's file.
    pub module: String,
    /// The result of each recipe, in the order of the command line.
    pub recipes: Vec<Outcome>,
    /// Number of recipes in which everything was as expected.
    pub passed: usize,
    /// Number of recipes in which something was not as expected.
    pub failed: usize,
}

impl Report {
    pub(super) fn new(module: String, recipes: Vec<Outcome>) -> Self {
        let passed = recipes.iter().filter(|outcome| outcome.is_good()).count();
        let failed = recipes.len() - passed;
        Self { module, recipes, passed, failed }
    }

    /// Whether every recipe passed.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }
}

/// The result of one recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Path of the recipe's file.
    pub recipe: String,
    /// Number of passes in the recipe.
    pub passes: usize,
    /// Number of passes that were run. The number is less than `passes` after a trap.
    pub played: usize,
    /// Number of passes that failed.
    pub failed: usize,
    /// The first failed passes, at most 16.
    pub failures: Vec<Failure>,
    /// The reason why the module did not get as far as the first pass; `None` if it did.
    pub refusal: Option<String>,
}

impl Outcome {
    /// The result of a recipe with this many passes, before it is run.
    pub(super) fn new(recipe: String, passes: usize) -> Self {
        Self { recipe, passes, played: 0, failed: 0, failures: Vec::new(), refusal: None }
    }

    /// Records that the module did not get as far as the first pass.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.refusal = Some(refusal.to_string());
    }

    /// Counts a pass, and keeps it if it failed.
    pub(super) fn add(&mut self, failure: Failure) {
        self.played += 1;
        if !failure.mismatches.is_empty() {
            self.failed += 1;
            if self.failures.len() < MAX_FAILURES {
                self.failures.push(failure);
            }
        }
    }

    /// Whether everything was as expected.
    pub fn is_good(&self) -> bool {
        self.refusal.is_none() && self.failed == 0
    }
}

/// The differences from what was expected in one pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// Number of the pass; the first is 1.
    pub pass: u64,
    /// Time of the clock in that pass.
    #[serde(serialize_with = "as_text")]
    pub elapsed: Duration,
    /// The differences.
    pub mismatches: Vec<Mismatch>,
}

impl Failure {
    /// Whether the module trapped, which ends the recipe.
    pub(super) fn is_trap(&self) -> bool {
        self.mismatches.iter().any(|mismatch| matches!(mismatch, Mismatch::Trap { .. }))
    }
}

fn as_text<S: Serializer>(duration: &Duration, json: S) -> Result<S::Ok, S::Error> {
    json.collect_str(&humantime::format_duration(*duration))
}

/// One difference from what is expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Mismatch {
    /// The module trapped.
    Trap {
        /// Kind and place of the trap.
        trap: String,
    },
    /// A variable could not be set before the pass.
    #[serde(rename = "not set")]
    NotSet {
        /// Name of the variable.
        name: String,
        /// Type of the variable, or the type that it would have got.
        #[serde(rename = "type")]
        kind: VariableKind,
        /// The value that it should have got.
        value: Value,
    },
    /// An output byte has another value.
    Output {
        /// Address of the byte in the output image.
        address: usize,
        /// The value in the recipe.
        expected: u8,
        /// The value in the output image.
        got: u8,
    },
    /// More output bytes differ than are listed.
    More {
        /// Number of the bytes that are not listed.
        outputs: usize,
    },
    /// A variable has another value.
    Variable {
        /// Name of the variable.
        name: String,
        /// The value in the recipe.
        expected: Value,
        /// The value of the variable; `None` if it does not exist.
        got: Option<Value>,
    },
    /// An expected message was not logged.
    Missing {
        /// Text of the message.
        message: String,
    },
    /// A message was logged that the recipe does not have, or a message was logged more often than
    /// the recipe has it.
    Unexpected {
        /// Text of the message.
        message: String,
    },
}

/// The bytes that differ from the expected ones; at most [`MAX_BYTES_SHOWN`] are listed.
pub(super) fn compare_outputs(expected: &[u8], got: &[u8]) -> Vec<Mismatch> {
    let pairs = expected.iter().zip(got).enumerate();
    let mut differing = pairs.filter(|(_, (expected, got))| expected != got);
    let listed = differing.by_ref().take(MAX_BYTES_SHOWN);
    let output = |(address, (&expected, &got))| Mismatch::Output { address, expected, got };
    let mut mismatches: Vec<_> = listed.map(output).collect();
    let more = differing.count();
    mismatches.extend((more > 0).then_some(Mismatch::More { outputs: more }));
    mismatches
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap { trap } => write!(f, "trap: {trap}"),
            Self::NotSet { name, kind, value } => {
                write!(f, "variable `{name}` is of type {kind} and cannot be set to {value}; ")?;
                f.write_str(wanted(*kind))
            }
            Self::Output { address, expected, got } => {
                write!(f, "output {address}: expected {expected} ({expected:#04x}), ")?;
                write!(f, "got {got} ({got:#04x})")
            }
            Self::More { outputs } => write!(f, "and {}", counted(*outputs, "more output")),
            Self::Variable { name, expected, got: Some(got) } => {
                write!(f, "variable `{name}`: expected {expected}, got {got}")
            }
            Self::Variable { name, expected, got: None } => {
                write!(f, "variable `{name}`: expected {expected}, but there is none")
            }
            Self::Missing { message } => write!(f, "missing message: {message:?}"),
            Self::Unexpected { message } => write!(f, "unexpected message: {message:?}"),
        }
    }
}

fn counted_passes(number: usize) -> String {
    if number == 1 { "1 pass".into() } else { format!("{number} passes") }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recipe, passes, .. } = self;
        if self.is_good() {
            return writeln!(f, "ok    {recipe} ({})", counted_passes(*passes));
        }
        writeln!(f, "FAIL  {recipe}")?;
        if let Some(refusal) = &self.refusal {
            writeln!(f, "  {refusal}")?;
        }
        for failure in &self.failures {
            let elapsed = humantime::format_duration(failure.elapsed);
            writeln!(f, "  pass {} at {elapsed}:", failure.pass)?;
            for mismatch in &failure.mismatches {
                writeln!(f, "    {mismatch}")?;
            }
        }
        if self.failed > self.failures.len() {
            let more = counted_passes(self.failed - self.failures.len());
            writeln!(f, "  and failed in {more} more")?;
        }
        if self.played < self.passes {
            writeln!(f, "  not run: {}", counted_passes(self.passes - self.played))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    /// Writes each recipe. The last line is `N passed, M failed`; the numbers count recipes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.recipes.iter().try_for_each(|outcome| outcome.fmt(f))?;
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}
