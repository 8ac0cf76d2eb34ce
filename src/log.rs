//! Where the log goes: readable text, the journal with its fields, or JSON; always from here.
//!
//! Everything else only uses `tracing`'s macros. The journal shows nothing but the message unless
//! it is asked for fields, so a log line must make sense by its message alone; its fields repeat
//! the facts in the words of the configuration, for searching. This file writes no log file and
//! rotates nothing: stderr and the journal have owners for that. Whether stderr is the journal is
//! found out in `systemd.rs`; that no text of strangers forges a line is seen to in
//! `log/legible.rs`.

mod legible;

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::Context;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use crate::systemd;

use legible::Legible;

/// The `[log]` table of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How much is logged. Can change while the daemon runs.
    pub level: Level,
    /// In which form. Fixed at start.
    pub format: Format,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `Journal` if stderr goes there, `Text` otherwise.
    #[default]
    Auto,
    /// One readable line each on stderr, in colour on a terminal.
    Text,
    /// One JSON object a line on stderr.
    Json,
    /// journald's own protocol: fields can be searched with `journalctl CAMSHAFT_PLUGIN=name`.
    Journal,
}

/// How much is logged: `info`, or with exceptions by module, `info,camshaft::plugin=debug`.
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
            // `Targets` has a parser, but it takes a misspelt level for the name of a module.
            let (module, level) = match part.split_once('=') {
                Some((module, level)) => (Some(module.trim()), level.trim()),
                None => (None, part),
            };
            let level = level_of(level).ok_or_else(|| {
                format!("{level:?} is no log level: off, error, warn, info, debug, trace")
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

/// The running log.
#[derive(Debug)]
pub struct Handle(reload::Handle<Targets, Registry>);

impl Handle {
    /// Logs this much from now on.
    pub fn set_level(&self, level: &Level) {
        self.0.reload(level.0.clone()).expect("the subscriber is global and lives for ever");
    }
}

/// Starts the log for the whole process.
///
/// # Errors
/// When it was started before. A journal that cannot be reached is not one: the log is then text.
pub fn start(settings: &Settings) -> anyhow::Result<Handle> {
    let (filter, handle) = reload::Layer::new(settings.level.0.clone());
    let (output, warning) = output(settings.format);
    let subscriber = tracing_subscriber::registry().with(filter).with(Legible(output));
    tracing::subscriber::set_global_default(subscriber).context("the log was started before")?;
    if let Some(error) = warning {
        tracing::warn!(%error, "journald cannot be reached ({error}); the log goes to stderr");
    }
    Ok(Handle(handle))
}

/// The part of the subscriber that decides what is logged; an output hangs below it.
type Filter = tracing_subscriber::layer::Layered<reload::Layer<Targets, Registry>, Registry>;
type Output = Box<dyn Layer<Filter> + Send + Sync>;

/// The output for a format, and why it is not the journal if it should have been.
fn output(format: Format) -> (Output, Option<io::Error>) {
    let wants_journal = match format {
        Format::Auto => systemd::journal_connected(),
        Format::Journal => true,
        Format::Text | Format::Json => false,
    };
    match wants_journal.then(journal).transpose() {
        Ok(Some(journal)) => (journal, None),
        Ok(None) if format == Format::Json => (json(), None),
        Ok(None) => (text(), None),
        Err(error) => (text(), Some(error)),
    }
}

fn text() -> Output {
    // The NO_COLOR convention (no-color.org): set and not empty means no.
    let wants_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // For people: the message says everything, and the other forms have the fields.
    let message_only = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        _ => Ok(()),
    });
    tracing_subscriber::fmt::layer()
        .with_timer(Timestamp)
        .with_target(false)
        .fmt_fields(message_only)
        .with_writer(io::stderr)
        .with_ansi(wants_color && io::stderr().is_terminal())
        .boxed()
}

fn json() -> Output {
    let layer = tracing_subscriber::fmt::layer().with_timer(Timestamp).with_writer(io::stderr);
    layer.json().flatten_event(true).boxed()
}

fn journal() -> io::Result<Output> {
    let layer = tracing_journald::layer()?
        // Even when it runs as target/release/camshaft or through a link.
        .with_syslog_identifier("camshaft".into())
        // Without a prefix our `priority` of the scan would overwrite the journal's own PRIORITY.
        .with_field_prefix(Some("CAMSHAFT".into()))
        // By itself the layer calls `info` a notice, which journalctl prints in bold.
        .with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        });
    Ok(layer.boxed())
}

/// RFC 3339 in UTC with milliseconds: sorts as text and means the same on every machine of a plant.
struct Timestamp;

impl FormatTime for Timestamp {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", humantime::format_rfc3339_millis(SystemTime::now()))
    }
}

fn level_of(word: &str) -> Option<LevelFilter> {
    // Not `LevelFilter`'s own parser: that one takes numbers and the empty word as well.
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
