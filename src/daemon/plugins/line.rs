//! The log lines about programs: the lines that programs write, their refused calls, and their
//! swaps.
//!
//! The message of each line is complete without the fields. The fields (the keys and values of a
//! log line) repeat the facts for software that reads the log. Lines about the supervisor's events
//! are in `verdict.rs`, warnings about unusual properties of a module in `note.rs`, and lines about
//! owners of outputs in `owner.rs`.
//!
//! An example of a log line: `tank took over in cycle 4711: detect 3.1 ms, compile 210.0 ms,
//! prepare 1.2 ms, boundary 8.4 ms, missed cycles 0`.

use super::Plugins;
use crate::config::Config;
use crate::control::SwapView;
use crate::daemon::link::ScanLink;
use crate::plugin::Refusal;
use crate::process::line::{Level, Line, Message};
use crate::process::refused::{Keeper, MAX_ENTRIES, RefusedCall, Why};
use crate::text::{counted, legible, nearest};

impl Plugins {
    /// Logs a [`Line`]: a log line that a program has written, the number of its dropped log lines,
    /// or a refused call of the program.
    pub(in crate::daemon) fn log_line(&self, line: &Line, config: &Config, link: &ScanLink) {
        let Some(name) = self.roster.name(line.seat) else { return };
        let cycle = line.cycle;
        match &line.message {
            Message::Said { level, file, line, text } => {
                let (text, file) = (legible(text.as_str()), legible(file.as_str()));
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
                    "{name}: {} dropped, because of the limit plugins.log_rate",
                    counted(*lines, "log line")
                );
            }
            Message::Refused(call) => self.log_refused(name, cycle, call, config, link),
            Message::OthersRefused { is_denial: true } => tracing::warn!(
                plugin = &**name,
                cycle,
                "{name}: more than {MAX_ENTRIES} kinds and names of calls were refused; further \
                 refused calls are only counted"
            ),
            Message::OthersRefused { is_denial: false } => tracing::info!(
                plugin = &**name,
                cycle,
                "{name}: more than {MAX_ENTRIES} requested variables do not exist yet; \
                 further variables are only counted"
            ),
        }
    }

    /// Logs the first refused call of each kind and name, with the error code that the program got.
    fn log_refused(
        &self,
        name: &str,
        cycle: u64,
        refused: &RefusedCall,
        config: &Config,
        link: &ScanLink,
    ) {
        let (call, code) = (refused.call, refused.code());
        let name_of = |seat| self.roster.name(seat).map(|owner| &**owner);
        // The snapshot is used only if the refusal does not name the owner.
        let owner = refused.owner().and_then(name_of);
        let keeper = match owner {
            Some(owner) => Keeper::Program(owner),
            None => self.keeper(name, refused, link.handle.latest.seen(), config, link),
        };
        let about = Some(legible(refused.name.as_str())).filter(|about| !about.is_empty());
        let (point, variable) = match refused.why.is_about_variable() {
            true => (None, about.as_deref()),
            false => (about.as_deref(), None),
        };
        let words = legible(&refused.words(keeper));
        let words = match refused.why {
            Why::NoPoint => {
                format!("{words}; {}", remedy_of_no_point(refused.name.as_str(), config))
            }
            _ => words,
        };
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    plugin = name,
                    cycle,
                    call,
                    code,
                    point,
                    variable,
                    owner,
                    "{name}: {words}"
                )
            };
        }
        // A refusal for lack of a right is a warning. A missing variable is only information,
        // because the variable may be created later.
        match refused.is_denial() {
            true => event!(warn),
            false => event!(info),
        }
    }
}

/// Logs one log line about a swap, with the swap's four durations and its missed cycles.
///
/// The durations belong to these steps of the swap, in this sequence:
/// - detect: from the first sign of the new file until its bytes were read,
/// - compile: from the start of the loader's task until the machine code exists, from memory, from
///   the compile cache or from a compilation,
/// - prepare: from then until an instance exists and its `init` has returned,
/// - boundary: from the order to the scan until the cycle in which the program got its seat.
pub(in crate::daemon) fn took_over(name: &str, swap: SwapView, cycle: u64) {
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

/// Logs that a file is not accepted as a plugin, with the reason and the remedy.
pub(in crate::daemon) fn refused(name: &str, path: &dyn std::fmt::Display, refusal: &Refusal) {
    let Refusal { reason, remedy, .. } = refusal;
    tracing::warn!(plugin = name, %path, reason, "{path} is not accepted: {reason}; {remedy}");
}

/// Converts microseconds into a text in milliseconds.
fn ms(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

/// Returns the advice for a call with the name of a point that does not exist.
fn remedy_of_no_point(name: &str, config: &Config) -> String {
    match nearest(name, config.live.points.iter().map(|(_, point)| &*point.name)) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "`camshaft points` lists them".into(),
    }
}
