//! The entries `[[variable]]`: their names and first values.
//!
//! Which plugin may write a variable is decided in `grant.rs`, and which ones outlive the daemon in
//! `retain.rs`. Programs may make further variables, see `process/variable.rs`.

use std::collections::HashMap;

use super::check::once;
use super::file::VariableFile;
use super::problem::{Report, Said};
use crate::process::image::Value;
use crate::process::variable::{MAX_VARIABLES, Variable, VariableKind};

/// The declared variables with their first values, in the order of the file.
pub(super) fn variables(file: &[VariableFile], report: &Report<'_>) -> Vec<(String, Variable)> {
    let mut lines = HashMap::new();
    let mut all = Vec::new();
    for (index, variable) in file.iter().enumerate() {
        let kind = variable.kind.as_ref().map(|said| said.value);
        let value = kind.and_then(|kind| match &variable.initial {
            None => Some(Variable::initial(kind)),
            Some(said) => understood(kind, said, report),
        });
        let Some(name) = &variable.name else { continue };
        once(name, &mut lines, "variable", report);
        if index == MAX_VARIABLES {
            let right = format!("at most {MAX_VARIABLES} variables");
            report.wrong(name.line, "variable", format!("variable {}", index + 1), right);
        }
        all.extend(value.map(|value| (name.value.to_string(), value)));
    }
    all
}

/// The first value of a variable; `None` once a problem was reported.
fn understood(kind: VariableKind, said: &Said<Value>, report: &Report<'_>) -> Option<Variable> {
    let value = Variable::from_value(kind, said.value).filter(|_| said.value.is_finite());
    if value.is_none() {
        let right = match kind {
            VariableKind::Boolean => "true or false, for type boolean",
            VariableKind::Int => "a whole number of 32 bits, for type int",
            VariableKind::Double => "a finite number, for type double",
        };
        report.wrong_at(said, said.value.to_string(), right);
    }
    value
}
