//! What the log says about plugins: their own lines, and what happens to them.
//!
//! Each line makes sense by its message alone; its fields repeat the facts for machines.

use super::Daemon;
use crate::control::SwapView;
use crate::plugin::Refusal;
use crate::plugin::world::{Level, Line, Message};
use crate::supervisor::{Note, Supervisor};

impl Daemon {
    /// Logs what a guest or its treatment has to say.
    pub(super) fn say(&self, line: &Line) {
        let Some(name) = self.roster.name(line.seat) else { return };
        let cycle = line.cycle;
        match &line.message {
            Message::Said { level, file, line, text } => {
                let (text, file) = (printable(text.as_str()), printable(file.as_str()));
                macro_rules! event {
                    ($level:ident) => {
                        tracing::$level!(plugin = &**name, cycle, file, line, "{name}: {text}")
                    };
                }
                match level {
                    Level::Error => event!(error),
                    Level::Warn => event!(warn),
                    Level::Info => event!(info),
                    Level::Debug => event!(debug),
                    Level::Trace => event!(trace),
                }
            }
            Message::Dropped(lines) => {
                tracing::warn!(
                    plugin = &**name,
                    cycle,
                    lines,
                    "{name}: {lines} log lines dropped, over plugins.log_rate"
                );
            }
            Message::NotGranted(id) => {
                let point = &self.config.points[*id].name;
                tracing::warn!(
                    plugin = &**name,
                    cycle,
                    point,
                    "{name}: {point} is not granted to it; its writes are refused with code 5"
                );
            }
            Message::Owned(id, seat) => {
                let point = &self.config.points[*id].name;
                let owner = self.roster.name(*seat).map_or("another plugin", |owner| owner);
                tracing::warn!(
                    plugin = &**name,
                    cycle,
                    point,
                    owner,
                    "{name}: {point} belongs to {owner}; writes are refused with code 5"
                );
            }
        }
    }
}

/// The one line of a swap: its five times.
pub(super) fn took_over(name: &str, swap: SwapView, cycle: u64) {
    let SwapView { detect_us, compile_us, prepare_us, boundary_us, .. } = swap;
    let SwapView { missed_cycles, cached, .. } = swap;
    tracing::info!(
        plugin = name,
        detect_us,
        compile_us,
        prepare_us,
        boundary_us,
        missed_cycles,
        cached,
        cycle,
        "{name} took over in cycle {cycle}: detect {}, compile {}{}, prepare {}, \
         boundary {}, missed cycles {missed_cycles}",
        ms(detect_us),
        ms(compile_us),
        if cached { " (cached)" } else { "" },
        ms(prepare_us),
        ms(boundary_us),
    );
}

/// A guest's text is data: what could move a terminal's cursor is escaped.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

pub(super) fn refused(name: &str, path: &dyn std::fmt::Display, refusal: &Refusal) {
    let Refusal { reason, remedy } = refusal;
    tracing::warn!(plugin = name, %path, reason, "{path} is not taken: {reason}; {remedy}");
}

/// Logs what the supervisor finds notable.
pub(super) fn tell(name: &str, note: &Note, supervisor: &Supervisor) {
    let trap = || {
        let view = supervisor.plugin(name)?;
        view.last_trap.map(ToString::to_string)
    };
    match note {
        Note::Started(_) | Note::Stopped => tracing::info!(plugin = name, "{name}: {note}"),
        Note::Refused(refusal) => {
            let Refusal { reason, remedy } = refusal;
            tracing::warn!(
                plugin = name,
                reason,
                "{name}.wasm is refused: {reason}; {remedy}; what ran before goes on"
            );
        }
        Note::Retrying { .. } => tracing::warn!(plugin = name, "{name}: {note}"),
        Note::Restarting { .. } | Note::Quarantined { .. } | Note::StillQuarantined(_) => {
            let trap = trap().unwrap_or_default();
            tracing::error!(plugin = name, trap, "{name}.wasm: {trap}: {note}");
        }
    }
}

/// Microseconds as milliseconds for people.
fn ms(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}
