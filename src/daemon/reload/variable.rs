//! This file finds the variables that a changed configuration adds, or the reason why the daemon
//! must refuse a declaration.
//!
//! All functions in this file are pure: they have no side effects. A variable never changes its
//! type, so the daemon refuses a declaration with another type. A cold restart deletes the
//! variables that only programs have created. Declarations that wait for a restart are handled in
//! `reload/adopt.rs`.

use crate::config::{Change, Config, ConfigPlace};
use crate::process::variable::{MAX_VARIABLES, Variable, VariableKind};
use crate::scan::Snapshot;

/// Returns the variables that `new` declares and that a reload can add without a restart. The
/// function `writers` returns the names of the plugins that write a variable with another type than
/// declared. The result is an error if a variable already exists with another type, or if there is
/// no room for all variables.
pub(super) fn variables<'w>(
    new: &Config,
    changes: &[Change],
    news: &Snapshot,
    writers: impl Fn(&str, VariableKind) -> Vec<&'w str>,
) -> Result<Vec<(String, Variable)>, String> {
    let present = &news.variables;
    let is_live = |name: &str| {
        let is_it = |place: &ConfigPlace| match place {
            ConfigPlace::Variable(variable) => variable == name,
            _ => false,
        };
        changes.iter().any(|change| change.is_live() && is_it(&change.place))
    };
    let declared = new.live.variables.iter().filter(|(name, _)| is_live(name));
    let declared: Vec<_> = declared.cloned().collect();
    // A variable may already exist, because a program has created it. Its type must then be equal.
    for (name, value) in &declared {
        let (kind, found) = (value.kind(), present.read(name).map(Variable::kind));
        if let Some(found) = found.filter(|found| *found != kind) {
            return Err(other_type(name, kind, found, &writers(name, kind)));
        }
    }
    // Only variables that do not exist yet need room.
    let more = declared.iter().filter(|(name, _)| present.read(name).is_none()).count();
    let room = MAX_VARIABLES - present.len();
    if more > room {
        return Err(format!(
            "[[variable]]: expected at most {room} new variables beside the variables that \
             programs have created, found {more}; declare fewer variables, or hold the plugins \
             that create too many, then `camshaft restart --cold`, which deletes the variables of \
             programs, then `camshaft reload`"
        ));
    }
    Ok(declared)
}

/// Returns the reason why a variable cannot be declared: it exists with another type. The text
/// lists the remedy step by step. A cold restart alone is no remedy, because a plugin that writes
/// the variable would create it again.
fn other_type(name: &str, declared: VariableKind, found: VariableKind, writers: &[&str]) -> String {
    let place = format!("variable[{name}].type: expected {found}, found {declared}");
    let last = "then `camshaft reload`";
    let all = writers.join(" and ");
    match writers {
        [_] => format!(
            "{place}: {all} writes it as {found}; declare this type, or hold {all} or deploy a \
             version that writes {declared}, then `camshaft restart --cold`, {last}"
        ),
        [_, _, ..] => format!(
            "{place}: {all} write it as {found}; declare this type, or hold them or deploy \
             versions that write {declared}, then `camshaft restart --cold`, {last}"
        ),
        [] => format!(
            "{place}: the variable was created as {found}, and no running plugin writes it; \
             declare this type, or `camshaft restart --cold`, which deletes variables that no \
             [[variable]] declares, {last}"
        ),
    }
}
