//! The entries `[[variable]]`: the name, the type and the first value of each declared variable.
//!
//! Variables are values that the daemon stores and that programs share. Programs may also make
//! variables that no entry declares (`process/variable.rs`). `grant.rs` decides which plugin may
//! write a variable. `retain.rs` lists the variables whose values outlive the daemon.
//!
//! An entry in a file:
//!
//! ```toml
//! [[variable]]
//! name = "tank.setpoint"
//! type = "double"               # boolean, int or double
//! initial = 60.0                # default: false or 0
//! retain = true                 # default: false
//! ```

use std::collections::HashMap;

use super::check::once;
use super::file::VariableFile;
use super::problem::{ProblemReport, Said};
use crate::process::image::Value;
use crate::process::variable::{MAX_VARIABLES, Variable, VariableKind};

/// Returns the declared variables with their first values, in the order of the file. Reports names
/// that occur twice, and a file with more than [`MAX_VARIABLES`] entries.
pub(super) fn variables(
    file: &[VariableFile],
    report: &ProblemReport<'_>,
) -> Vec<(String, Variable)> {
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

/// Converts the key `initial` of a variable to the type `kind`. Returns `None` after it has
/// reported a value that does not fit this type.
fn understood(
    kind: VariableKind,
    said: &Said<Value>,
    report: &ProblemReport<'_>,
) -> Option<Variable> {
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
