//! The results of recipes, as text for people and as JSON for other software.
//!
//! `camshaft test` prints the text: the `Display` of [`TestReport`]. This file compares the bytes
//! of outputs. `recipe.rs` compares variables and messages.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::head::wanted;
use crate::plugin::Refusal;
use crate::process::image::Value;
use crate::process::variable::VariableKind;
use crate::text::counted;

/// The maximum number of wrong bytes that are listed for one pass. With 16 bytes, a person can see
/// a pattern in the differences.
const MAX_BYTES_SHOWN: usize = 16;

/// The maximum number of failed passes of one recipe that are stored. After one mistake most later
/// passes fail too, so further failed passes show nothing new.
const MAX_FAILURES: usize = 16;

/// The results of one module with all recipes of a test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TestReport {
    /// Path of the .wasm file.
    pub module: String,
    /// The results of the recipes, in the order of the command line.
    pub recipes: Vec<RecipeResult>,
    /// Number of recipes in which all results were as expected.
    pub passed: usize,
    /// Number of recipes in which the first pass did not start or a result was not as expected.
    pub failed: usize,
}

impl TestReport {
    /// Makes the report, and counts the recipes that passed and failed.
    pub(super) fn new(module: String, recipes: Vec<RecipeResult>) -> Self {
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
pub struct RecipeResult {
    /// Path of the recipe's file.
    pub recipe: String,
    /// Number of passes in the recipe.
    pub passes: usize,
    /// Number of passes that were run. A trap ends the recipe, so this number may be less than
    /// `passes`.
    pub played: usize,
    /// Number of passes that failed.
    pub failed: usize,
    /// The first failed passes, at most 16.
    pub failures: Vec<Failure>,
    /// The reason why the first pass did not start, for example a trap in `init`. `None` if the
    /// first pass started.
    pub refusal: Option<String>,
}

impl RecipeResult {
    /// Makes the result of a recipe before its first pass. The recipe has `passes` passes.
    pub(super) fn new(recipe: String, passes: usize) -> Self {
        Self { recipe, passes, played: 0, failed: 0, failures: Vec::new(), refusal: None }
    }

    /// Records that the first pass did not start, and the reason.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.refusal = Some(refusal.to_string());
    }

    /// Counts a pass. If the pass has failed, stores its mismatches, but only for the first
    /// [`MAX_FAILURES`] failed passes.
    pub(super) fn add(&mut self, failure: Failure) {
        self.played += 1;
        if !failure.mismatches.is_empty() {
            self.failed += 1;
            if self.failures.len() < MAX_FAILURES {
                self.failures.push(failure);
            }
        }
    }

    /// Whether the module started and no pass failed.
    pub fn is_good(&self) -> bool {
        self.refusal.is_none() && self.failed == 0
    }
}

/// The mismatches of one pass. A pass has failed if the list of mismatches is not empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// Position of the pass in the recipe. The first pass has number 1.
    pub pass: u64,
    /// Time of the virtual clock in that pass.
    #[serde(serialize_with = "as_text")]
    pub elapsed: Duration,
    /// The differences from the expected results.
    pub mismatches: Vec<Mismatch>,
}

impl Failure {
    /// Whether the module trapped, which ends the recipe.
    pub(super) fn is_trap(&self) -> bool {
        self.mismatches.iter().any(|mismatch| matches!(mismatch, Mismatch::Trap { .. }))
    }
}

/// Writes a duration as text, such as `50ms`, into the JSON report.
fn as_text<S: Serializer>(duration: &Duration, json: S) -> Result<S::Ok, S::Error> {
    json.collect_str(&humantime::format_duration(*duration))
}

/// One difference from the expected results.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Mismatch {
    /// The module trapped.
    Trap {
        /// Kind and place of the trap.
        trap: String,
    },
    /// A variable could not be set before the poll of the pass.
    #[serde(rename = "not set")]
    NotSet {
        /// Name of the variable.
        name: String,
        /// Type of the variable. If the variable does not exist, the type that a new variable with
        /// this value would have.
        #[serde(rename = "type")]
        kind: VariableKind,
        /// The value that could not be written.
        value: Value,
    },
    /// An output byte does not have the expected value.
    Output {
        /// Address of the byte in the output image.
        address: usize,
        /// The value in the recipe.
        expected: u8,
        /// The value in the output image.
        got: u8,
    },
    /// More output bytes differ, but the report does not list them.
    More {
        /// Number of the bytes that are not listed.
        outputs: usize,
    },
    /// A variable does not have the expected value.
    Variable {
        /// Name of the variable.
        name: String,
        /// The value in the recipe.
        expected: Value,
        /// The value of the variable. `None` if the variable does not exist.
        got: Option<Value>,
    },
    /// An expected message was not logged.
    Missing {
        /// Text of the message.
        message: String,
    },
    /// A message was logged that the recipe does not expect, or a message was logged more often
    /// than expected.
    Unexpected {
        /// Text of the message.
        message: String,
    },
}

/// Compares output bytes. Lists at most [`MAX_BYTES_SHOWN`] bytes that differ.
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
                write!(f, "output byte {address}: expected {expected} ({expected:#04x}), ")?;
                write!(f, "got {got} ({got:#04x})")
            }
            Self::More { outputs } => write!(f, "and {}", counted(*outputs, "more output byte")),
            Self::Variable { name, expected, got: Some(got) } => {
                write!(f, "variable `{name}`: expected {expected}, got {got}")
            }
            Self::Variable { name, expected, got: None } => {
                write!(f, "variable `{name}`: expected {expected}, found no such variable")
            }
            Self::Missing { message } => write!(f, "missing message: {message:?}"),
            Self::Unexpected { message } => write!(f, "unexpected message: {message:?}"),
        }
    }
}

fn counted_passes(number: usize) -> String {
    if number == 1 { "1 pass".into() } else { format!("{number} passes") }
}

impl fmt::Display for RecipeResult {
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
            writeln!(f, "  and failures in {more} that are not listed")?;
        }
        if self.played < self.passes {
            writeln!(f, "  not run: {}", counted_passes(self.passes - self.played))?;
        }
        Ok(())
    }
}

impl fmt::Display for TestReport {
    /// Writes the result of each recipe. The last line is `N passed, M failed`. N and M are numbers
    /// of recipes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.recipes.iter().try_for_each(|outcome| outcome.fmt(f))?;
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}
