//! The log of the daemon, in one of three forms: readable text, journald with fields, or JSON.
//!
//! All other Rust modules log with the macros of `tracing`. `journalctl` shows only the message of
//! a line, so each message is complete without its fields. The fields contain the same facts. For
//! example, the field `plugin` contains the name of a plugin, so an operator can search for the log
//! lines of one plugin.
//!
//! The log output is stderr or the socket of journald. A thread that logs never waits for the log
//! output. The lines go through a bounded queue to a separate thread, the log's writer:
//!
//! ```text
//! any thread --> macro --> layer --> queue (8192 lines) --> log's writer --> stderr or journald
//!                                      full: line dropped      error: line lost
//! ```
//! The queue becomes full if no process reads the log output. Causes: nothing reads a pipe, an
//! operator has pressed Ctrl-S in a terminal, or journald hangs. Dropped and lost lines are
//! counted, and the daemon reports the counts.
//!
//! The daemon writes no log files and rotates none. Other processes receive the lines through
//! stderr and journald, and store and rotate the logs. `systemd.rs` detects whether stderr is
//! connected to journald. `log/journal.rs` has the protocol of journald. `log/legible.rs` makes
//! sure that a text from outside cannot look like a log line of the daemon.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use self::journal::{Datagrams, Socket};
use self::legible::Legible;
use crate::systemd;

mod journal;
mod legible;

/// The maximum number of lines in the queue. Programs can log up to 1024 lines before the daemon
/// reads them. The limit is eight times that number. With 300 bytes for each line, a full queue
/// uses 2.5 MB.
const MAX_WAITING: usize = 8192;

/// The time that the log's writer gets to write its last lines, if the exit of the process must not
/// wait longer.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The section `[log]` of the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The level of the log. A reload can change it while the daemon runs.
    pub level: Level,
    /// The form of the log. It cannot change while the daemon runs.
    pub format: Format,
}

/// The form of the log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `Journal` if stderr is connected to journald. Otherwise `Text`.
    #[default]
    Auto,
    /// One readable line for each event, on stderr. On a terminal the lines are coloured.
    Text,
    /// One JSON object for each event, one per line, on stderr.
    Json,
    /// The protocol of journald. Fields can be searched, for example with `journalctl
    /// CAMSHAFT_PLUGIN=name`.
    Journal,
}

/// The filter for events. For example, `info` sets the level of all Rust modules, and
/// `info,camshaft::plugin=debug` sets another level for one Rust module.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Level(Targets);

impl Default for Level {
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut targets = Targets::new().with_default(LevelFilter::INFO);
        for part in text.split(',').map(str::trim) {
            // The parser of `Targets` is not used: it would read a misspelt level as the name of a
            // Rust module.
            let (module, level) = match part.split_once('=') {
                Some((module, level)) => (Some(module.trim()), level.trim()),
                None => (None, part),
            };
            let level = level_of(level).ok_or_else(|| {
                format!("{level:?} is no log level; use off, error, warn, info, debug or trace")
            })?;
            targets = match module {
                Some(module) => targets.with_target(module, level),
                None => targets.with_default(level),
            };
        }
        Ok(Self(targets))
    }
}

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The handle of the running log. With this handle, the daemon changes the level and reads the
/// counts of lost lines.
#[derive(Debug)]
pub struct Handle {
    /// The level of the log. The daemon sets it, and every thread that logs reads it.
    level: reload::Handle<Targets, Registry>,
    /// The number of lines that were dropped because the queue was full. The threads that log count
    /// these lines. The daemon reads the count.
    lost: ErrorCounter,
    /// The counts of lines that could not be written to the log output. The log's writer counts
    /// these lines. The daemon reads the counts.
    writing: Arc<Writing>,
}

/// Counts of lines that could not be written to the log output. The log's writer sets them, and the
/// [`Handle`] reads them.
#[derive(Debug, Default)]
struct Writing {
    /// Number of lines that could not be written since the start of the process.
    refused: AtomicU64,
    /// Whether the newest line could not be written.
    is_refused: AtomicBool,
    /// The kernel's error number for the last line that could not be written, or 0 if it is not
    /// known.
    why: AtomicI32,
}

/// The number of log lines that could not be written, and the reason. The daemon logs both, so it
/// gets this value only after the log output has accepted a newer line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwritten {
    /// Number of lines that could not be written since the start of the process.
    pub lines: u64,
    /// The kernel's error number for the last line that could not be written, or 0 if the number is
    /// not known.
    why: i32,
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            0 => f.write_str("the reason is not known"),
            code => write!(f, "{}", io::Error::from_raw_os_error(code)),
        }
    }
}

impl Handle {
    /// Sets the level of the log. The new level is valid from the next event on.
    pub fn set_level(&self, level: &Level) {
        self.level.reload(level.0.clone()).expect("the subscriber exists until the process ends");
    }

    /// Returns the number of lines that were dropped because the queue was full.
    pub fn lost(&self) -> u64 {
        self.lost.dropped_lines() as u64
    }

    /// Returns the number of lines that could not be written to the log output since the start.
    /// Examples of causes: the reader of a pipe has closed it, the disk is full, or journald has
    /// ended.
    pub fn refused(&self) -> u64 {
        self.writing.refused.load(Ordering::Relaxed)
    }

    /// Returns the number of lines that could not be written, and the reason. `None` if the newest
    /// line could not be written.
    pub fn unwritten(&self) -> Option<Unwritten> {
        self.writing.unwritten()
    }
}

impl Writing {
    /// Returns the number of lines that could not be written, and the reason. `None` if the newest
    /// line could not be written.
    fn unwritten(&self) -> Option<Unwritten> {
        // `Acquire` makes sure that this thread sees the counts that belong to `is_refused`.
        let is_refused = self.is_refused.load(Ordering::Acquire);
        let (lines, why) = (self.refused.load(Ordering::Relaxed), self.why.load(Ordering::Relaxed));
        (!is_refused).then_some(Unwritten { lines, why })
    }

    /// Records whether one line could be written.
    fn was(&self, written: &io::Result<()>) {
        if let Err(error) = written {
            self.why.store(error.raw_os_error().unwrap_or_default(), Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.is_refused.store(written.is_err(), Ordering::Release);
    }
}

/// The log output. It records for each line whether the line could be written.
struct LogOutput<W>(W, Arc<Writing>);

impl<W: Write> Write for LogOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.0.write_all(line);
        self.1.was(&written);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Waits 100 ms (`LAST_WORDS`), so that the log's writer can write its last lines before the
/// process exits.
pub fn last_words() {
    std::thread::sleep(LAST_WORDS);
}

/// The handle of the thread that writes the log. The drop of this handle waits until the queued
/// lines are written, but at most 1.1 s. Lines that are still in the queue after this time are
/// lost.
#[derive(Debug)]
pub struct LogWriter(
    #[expect(dead_code, reason = "only the drop of the field is used")] WorkerGuard,
);

/// Starts the log of the process.
///
/// # Errors
/// When the log was started before. If journald cannot be reached, the function returns no error:
/// the log then goes to stderr as text.
pub fn start(settings: &Settings) -> anyhow::Result<(Handle, LogWriter)> {
    let (filter, level) = reload::Layer::new(settings.level.0.clone());
    let wants_journal = match settings.format {
        Format::Auto => systemd::journal_connected(),
        Format::Journal => true,
        Format::Text | Format::Json => false,
    };
    let socket = wants_journal.then(Socket::open);
    let writing = Arc::<Writing>::default();
    let (output, lost, writer, warning) = match (socket, settings.format) {
        (Some(Ok(socket)), _) => {
            let (queue, writer) = queue(LogOutput(socket, Arc::clone(&writing)));
            (Datagrams(queue.clone()).boxed(), queue.error_counter(), writer, None)
        }
        (failed, format) => {
            let (queue, writer) = queue(LogOutput(io::stderr(), Arc::clone(&writing)));
            let lost = queue.error_counter();
            let output = if format == Format::Json { json(queue) } else { text(queue) };
            (output, lost, writer, failed.and_then(Result::err))
        }
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(Legible(output));
    tracing::subscriber::set_global_default(subscriber)
        .context("the log of this process is already started")?;
    std::panic::set_hook(Box::new(log_panic));
    if let Some(error) = warning {
        tracing::warn!(%error, "journald cannot be reached ({error}); the log goes to stderr");
    }
    Ok((Handle { level, lost, writing }, LogWriter(writer)))
}

/// Logs the message of a panic. The default hook would write the message to stderr. If stderr is
/// not read, the thread that panicked would then wait.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    tracing::error!(thread = name, "thread {name} has {panic}{backtrace}");
}

/// The part of the subscriber that filters events by level. An `Output` is a layer on top of this
/// part.
type Filter = tracing_subscriber::layer::Layered<reload::Layer<Targets, Registry>, Registry>;
type Output = Box<dyn Layer<Filter> + Send + Sync>;

/// Makes a bounded queue and a thread that writes its lines to `place`. A full queue drops lines,
/// so no sender waits.
fn queue(place: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_WAITING);
    queue.thread_name("log").finish(place)
}

/// Makes the layer that puts each event into `queue` as a readable line. A line contains the
/// message without the fields.
fn text(queue: NonBlocking) -> Output {
    // By the NO_COLOR convention (no-color.org), a value that is not empty means no colour.
    let wants_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // The message is complete without the fields. Only the forms for other software (JSON and
    // journald) also write the fields.
    let message_only = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        _ => Ok(()),
    });
    tracing_subscriber::fmt::layer()
        .with_timer(Timestamp)
        .with_target(false)
        .fmt_fields(message_only)
        .with_writer(queue)
        .with_ansi(wants_color && io::stderr().is_terminal())
        .boxed()
}

/// Makes the layer that puts each event into `queue` as a JSON object with all fields.
fn json(queue: NonBlocking) -> Output {
    let layer = tracing_subscriber::fmt::layer().with_timer(Timestamp).with_writer(queue);
    layer.json().flatten_event(true).boxed()
}

/// Timestamps of log lines: RFC 3339, in UTC, with milliseconds. Timestamps in this form can be
/// sorted as text. They do not depend on the time zone of a machine.
struct Timestamp;

impl FormatTime for Timestamp {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", humantime::format_rfc3339_millis(SystemTime::now()))
    }
}

/// Returns the level for a word. `None` if the word is not a level.
fn level_of(word: &str) -> Option<LevelFilter> {
    // The parser of `LevelFilter` is not used, because it also accepts numbers and the empty word.
    Some(match word {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_with_exceptions_by_module() {
        let check = |text: &str, lets_through: &[(&str, tracing::Level)], not: &[_]| {
            let Level(targets) = text.parse().unwrap();
            let passes = |&(target, level): &(&str, _)| targets.would_enable(target, &level);
            assert!(lets_through.iter().all(passes), "{text} lets too little through");
            assert!(!not.iter().any(passes), "{text} lets too much through");
        };
        let (info, debug) = (tracing::Level::INFO, tracing::Level::DEBUG);
        let (scan, plugin) = ("camshaft::scan", "camshaft::plugin::wasm");
        check("info", &[(scan, info)], &[(scan, debug)]);
        check("off", &[], &[(scan, info), (scan, tracing::Level::ERROR)]);
        check("warn, camshaft::plugin=debug", &[(plugin, debug)], &[(scan, info)]);
        check("camshaft::plugin=off", &[(scan, info)], &[(plugin, info), (scan, debug)]);
    }

    /// The log output in this test is a full disk, so every write returns an error. A write to a
    /// pipe without a reader returns an error too.
    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let writing = Arc::<Writing>::default();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (mut queue, writer) = queue(LogOutput(full, Arc::clone(&writing)));
        (0..3).for_each(|_| queue.write_all(b"a line\n").unwrap());
        // The drop waits until the queued lines are written.
        drop(writer);
        assert_eq!(writing.refused.load(Ordering::Relaxed), 3);
        assert_eq!(writing.unwritten(), None, "the report itself could not be written");
        LogOutput(Vec::new(), Arc::clone(&writing)).write_all(b"a line\n").unwrap();
        let unwritten = writing.unwritten().unwrap();
        assert_eq!(unwritten.lines, 3);
        assert!(unwritten.to_string().contains("No space left"), "{unwritten}");
    }

    #[test]
    fn a_misspelt_level_is_refused_by_name() {
        let check = |text: &str, named: &str| {
            let error = text.parse::<Level>().unwrap_err();
            assert!(error.starts_with(&format!("{named:?} is no log level")), "{error}");
        };
        check("inof", "inof");
        check("", "");
        check("3", "3");
        check("info,camshaft::scan", "camshaft::scan");
        check("info,camshaft::scan=loud", "loud");
    }

    #[test]
    fn the_settings_are_two_optional_words() {
        let check = |text: &str, level: &str, format| {
            let expected = Settings { level: level.parse().unwrap(), format };
            assert_eq!(toml::from_str(text), Ok(expected), "{text}");
        };
        check("", "info", Format::Auto);
        check("level = 'debug'\nformat = 'json'", "debug", Format::Json);
        check("format = 'journal'", "info", Format::Journal);
        assert!(toml::from_str::<Settings>("format = 'xml'").is_err());
        assert!(toml::from_str::<Settings>("level = 'inof'").is_err());
    }

    #[test]
    fn a_timestamp_has_milliseconds_and_says_utc() {
        let mut text = String::new();
        Timestamp.format_time(&mut Writer::new(&mut text)).unwrap();
        assert_eq!(text.len(), "2026-01-31T12:00:00.000Z".len(), "{text}");
        assert!(text.ends_with('Z'), "{text}");
    }
}
