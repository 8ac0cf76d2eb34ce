//! The log lines about the supervisor's events. Each log line names the plugin, and the file or
//! version if the event concerns one.
//!
//! A log line describes the state of the supervisor at the time when the line is written.
//! `supervisor/note.rs` has the text of an event; `record.rs` makes the receipt of an event.
//!
//! Levels of the lines: a restart, a rollback, a quarantine, and a version that runs instead of the
//! file's version are errors. A refusal and a further attempt are warnings. A start and a stop are
//! information.

use crate::plugin::{ModuleHash, Refusal, Trap};
use crate::supervisor::{Note, State, Supervisor};

/// Logs an event of the supervisor.
pub(in crate::daemon) fn log_note(name: &str, note: &Note, supervisor: &Supervisor) {
    let view = supervisor.plugin(name);
    let file = view.as_ref().and_then(|view| view.file);
    // A line about a version that is not in the file must not name the file.
    let who = |hash: ModuleHash| match file == Some(hash) {
        true => format!("{name}.wasm"),
        false => format!("{name}: version {hash}"),
    };
    match note {
        Note::Started(_) | Note::Stopped => tracing::info!(plugin = name, "{name}: {note}"),
        Note::Refused { hash, refusal: Refusal { reason, remedy, .. } } => {
            let who = who(*hash);
            let is_running = view.is_some_and(|view| view.state == State::Running);
            let rest = if is_running {
                "the running version continues"
            } else {
                "no version of the plugin runs"
            };
            tracing::warn!(plugin = name, reason, "{who} is refused: {reason}; {remedy}; {rest}");
        }
        Note::Retrying { .. } | Note::TriedInstead { .. } => {
            tracing::warn!(plugin = name, "{name}: {note}");
        }
        Note::StandsIn { .. } | Note::GivenUp { .. } => {
            tracing::error!(plugin = name, "{name}: {note}");
        }
        Note::StillQuarantined { .. } => tracing::error!(plugin = name, "{name}.wasm: {note}"),
        Note::Restarting { .. } | Note::Quarantined { .. } | Note::RolledBack { .. } => {
            let runs = || view.as_ref()?.running.map(|version| version.hash);
            let who = match note {
                Note::Quarantined { hash, .. } | Note::RolledBack { from: hash, .. } => Some(*hash),
                _ => runs(),
            }
            .map_or_else(|| name.to_owned(), who);
            match view.as_ref().and_then(|view| view.last_trap).map(Trap::explained) {
                Some(trap) => tracing::error!(plugin = name, trap, "{who}: {trap}: {note}"),
                None => tracing::error!(plugin = name, "{who}: {note}"),
            }
        }
    }
}
