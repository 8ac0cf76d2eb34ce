//! The reports of programs that trapped, written off the loop and off the scan.
//!
//! The scan gives back the whole program that trapped. This part decides whether a report is made
//! of it, so that a crash loop does not write to the disk for ever. What is in a report and where
//! it goes is in `src/crash.rs`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Plugins;
use crate::config::Config;
use crate::crash::{About, Report, ReportStore};
use crate::patience::{PATIENCE, Places, wait_in};
use crate::plugin::instance::program::Program;
use crate::plugin::module::folder::reread;
use crate::plugin::trace::record::PostMortem;
use crate::plugin::{ModuleHash, Trap};

/// The time in which the same trap of the same module is reported once. A crash loop under the
/// restart policy traps up to every 30 s, and all its reports would say the same.
const PAUSE: Duration = Duration::from_secs(600);

/// The largest number of reports under way. Each holds a program and a copy of its memory, up to 50
/// MB. When all programs of a plant fail at once, the first few reports show why.
const MAX_UNDER_WAY: usize = 4;

/// The threads that read modules for reports. One whose file system does not answer is left behind.
static READING: LazyLock<Places> = LazyLock::new(|| Places::new(MAX_UNDER_WAY));

/// The largest number of traps that are remembered for [`PAUSE`]. When there are more, no further
/// one is reported for a while: a machine with so many different traps needs no more reports.
const MAX_REMEMBERED: usize = 64;

/// The key by which two traps are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    name: String,
    hash: ModuleHash,
    function: Option<String>,
    offset: Option<u32>,
}

impl Kind {
    /// The key of a trap. A program that exceeded its budget was stopped at some place, which
    /// differs each time, so the place is left out.
    fn of(name: &str, hash: ModuleHash, trap: &Trap, is_over: bool) -> Self {
        let place = Some(trap).filter(|_| !is_over);
        let function = place.and_then(|trap| trap.function.clone());
        Self { name: name.into(), hash, function, offset: place.and_then(|trap| trap.offset) }
    }
}

/// The reports, written and under way.
#[derive(Debug)]
pub(in crate::daemon) struct Crashes {
    /// The folder of the reports, with its limits.
    store: Arc<ReportStore>,
    /// One permit for each report under way.
    under_way: Arc<Semaphore>,
    /// The traps that were reported, and when.
    reported: HashMap<Kind, Instant>,
    /// The reports under way. The path of each is set as soon as it is written.
    writing: Vec<(String, ModuleHash, Arc<OnceLock<String>>)>,
    /// The newest report of each plugin.
    newest: HashMap<String, String>,
}

impl Crashes {
    /// No reports yet; new ones go into `folder`.
    pub(in crate::daemon) fn new(folder: PathBuf) -> Self {
        Self {
            store: Arc::new(ReportStore::new(folder)),
            under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            reported: HashMap::new(),
            writing: Vec::new(),
            newest: HashMap::new(),
        }
    }

    /// The path of this plugin's newest report since the daemon's start.
    pub(in crate::daemon) fn newest(&self, name: &str) -> Option<&String> {
        self.newest.get(name)
    }

    /// Whether this trap is to be reported now; the same trap is then not reported for [`PAUSE`].
    fn is_news(&mut self, kind: Kind, now: Instant) -> bool {
        self.reported.retain(|_, at| now.duration_since(*at) < PAUSE);
        if self.reported.contains_key(&kind) || self.reported.len() == MAX_REMEMBERED {
            return false;
        }
        self.reported.insert(kind, now);
        true
    }
}

impl Plugins {
    /// Makes a report of a program that has trapped; drops any other.
    pub(in crate::daemon) fn report_crash(&mut self, program: Program, config: &Config) {
        let Some(trap) = program.trap() else { return };
        let (kind, polls) =
            (Kind::of(&program.name, program.hash, trap, program.is_over()), program.polls);
        let settings = program.settings.clone();
        let about = About { polls, settings, ..self.about(&program.name, program.hash, config) };
        self.report(about, kind, || program.post_mortem(), config);
    }

    /// Makes a report of a program whose start trapped.
    pub(in crate::daemon) fn report_failed_start(
        &mut self,
        name: &str,
        hash: ModuleHash,
        post_mortem: PostMortem,
        config: &Config,
    ) {
        let kind = Kind::of(name, hash, &post_mortem.trap, post_mortem.is_over);
        self.report(self.about(name, hash, config), kind, || Some(post_mortem), config);
    }

    /// Records the reports that are written by now.
    pub(in crate::daemon) fn settle_reports(&mut self) {
        let is_known = |name: &String| self.supervisor.plugin(name).is_some();
        let Crashes { writing, newest, .. } = &mut self.crashes;
        writing.retain(|(name, hash, place)| {
            let Some(file) = place.get() else {
                // The thread has given up if it no longer holds the place.
                return Arc::strong_count(place) > 1;
            };
            newest.retain(|name, _| is_known(name));
            newest.insert(name.clone(), file.clone());
            self.record.reported(name, *hash, file.clone());
            false
        });
    }

    /// What a report says about the program itself, with the plugin's present settings.
    fn about(&self, name: &str, hash: ModuleHash, config: &Config) -> About {
        let plugins = &config.fixed.plugins;
        About {
            plugin: name.into(),
            hash,
            polls: 0,
            settings: config.settings(name),
            limits: plugins.limits,
            compiler: plugins.compiler,
            path: plugins.dir.join(format!("{name}.wasm")),
        }
    }

    /// Writes a report on a thread that may wait, unless too many are under way or the trap is
    /// known.
    fn report(
        &mut self,
        about: About,
        kind: Kind,
        post_mortem: impl FnOnce() -> Option<PostMortem> + Send + 'static,
        config: &Config,
    ) {
        if !config.fixed.crash.record {
            return;
        }
        let Ok(permit) = Arc::clone(&self.crashes.under_way).try_acquire_owned() else {
            let name = &about.plugin;
            tracing::info!(
                plugin = &**name,
                "{name}: no crash report: {MAX_UNDER_WAY} others are being written"
            );
            return;
        };
        if !self.crashes.is_news(kind, Instant::now()) {
            return;
        }
        let (store, points) = (Arc::clone(&self.crashes.store), Arc::clone(&config.live.points));
        let is_there = self.folder.loss().is_none();
        let place = Arc::new(OnceLock::new());
        self.crashes.writing.push((about.plugin.clone(), about.hash, Arc::clone(&place)));
        tokio::task::spawn_blocking(move || {
            let name = about.plugin.clone();
            // This comes first: with the instance its share of plugins.code is given back, and the
            // next instance may be waiting for that.
            let Some(post_mortem) = post_mortem() else { return };
            // Another version may lie there by now: the report compares the hash. A report without
            // its module is better than a report that waits for a folder.
            let (path, most) = (about.path.clone(), about.limits.module_bytes);
            let read = || wait_in(&READING, PATIENCE, move || reread(&path, most)).ok();
            let module = if is_there { read() } else { None };
            let report = Report::new(about, post_mortem, &points, module);
            match store.put(&report) {
                Ok(path) => {
                    let report = path.display();
                    let _ = place.set(report.to_string());
                    tracing::warn!(
                        plugin = name,
                        %report,
                        "{name}: its crash report is {report}; `camshaft replay` runs it again"
                    );
                }
                Err(error) => {
                    tracing::warn!(plugin = name, %error, "{name}: no crash report: {error}");
                }
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trap_is_news_once_in_ten_minutes_and_floods_are_none() {
        let mut crashes = Crashes::new(PathBuf::new());
        let hash = ModuleHash::of(b"");
        let kind = |offset| Kind { name: "p".into(), hash, function: None, offset: Some(offset) };
        let start = Instant::now();
        assert!(crashes.is_news(kind(1), start));
        assert!(!crashes.is_news(kind(1), start + PAUSE / 2));
        assert!(crashes.is_news(kind(2), start + PAUSE / 2));
        assert!(crashes.is_news(kind(1), start + PAUSE));
        let news = (0..1000).filter(|n| crashes.is_news(kind(*n), start + PAUSE)).count();
        assert_eq!(news, MAX_REMEMBERED - 2);
    }
}
