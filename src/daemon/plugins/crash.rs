//! The crash reports of programs that trapped. Threads write the reports, so that neither the loop
//! nor the scan waits for a disk.
//!
//! After a trap, the scan returns the whole program to the daemon. `Plugins::report` decides
//! whether the daemon writes a crash report about the trap, because a program that traps again and
//! again must not cause writes without end. `src/crash.rs` defines the content and the folder of a
//! report.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Plugins;
use crate::config::Config;
use crate::crash::{About, CrashReport, ReportStore};
use crate::patience::{PATIENCE, Places, wait_in};
use crate::plugin::instance::program::Program;
use crate::plugin::module::folder::reread;
use crate::plugin::trace::record::PostMortem;
use crate::plugin::{ModuleHash, Trap};

/// The time in which the same trap of the same module causes only one crash report. Under the
/// restart policy, a module may trap every 30 s, and all its reports would have the same content.
const PAUSE: Duration = Duration::from_secs(600);

/// The largest number of crash reports that are written in parallel. During the write, each report
/// needs memory for a program and a copy of the program's memory, up to 50 MB. If all programs of a
/// plant fail together, the first reports show the reason.
const MAX_UNDER_WAY: usize = 4;

/// The threads that read modules for reports. If a file system does not answer, the report is
/// written without the module, and the thread remains blocked.
static READING: LazyLock<Places> = LazyLock::new(|| Places::new(MAX_UNDER_WAY));

/// The largest number of traps that are stored for [`PAUSE`]. If the list is full, no report is
/// written for a new trap. The list already has enough different traps.
const MAX_REMEMBERED: usize = 64;

/// The key of a trap. The daemon treats two traps with the same key as the same trap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TrapKey {
    /// The name of the plugin.
    name: String,
    /// The module that trapped.
    hash: ModuleHash,
    /// The function that trapped, if it is known.
    function: Option<String>,
    /// The position of the trap in the module's code, if it is known.
    offset: Option<u32>,
}

impl TrapKey {
    /// Returns the key of a trap. A program that exceeded its budget is stopped at a different
    /// position each time, so its key has no function and no position.
    fn of(name: &str, hash: ModuleHash, trap: &Trap, is_over: bool) -> Self {
        let place = Some(trap).filter(|_| !is_over);
        let function = place.and_then(|trap| trap.function.clone());
        Self { name: name.into(), hash, function, offset: place.and_then(|trap| trap.offset) }
    }
}

/// The crash reports that exist, and the reports that are being written.
#[derive(Debug)]
pub(in crate::daemon) struct Crashes {
    /// The folder of the reports, and its limits.
    store: Arc<ReportStore>,
    /// One permit for each report that is being written.
    under_way: Arc<Semaphore>,
    /// The traps of the last [`PAUSE`] for which a report was begun, with the time of each report.
    reported: HashMap<TrapKey, Instant>,
    /// The reports that are being written: plugin, module and path. The thread sets the path after
    /// it has written the report.
    writing: Vec<(String, ModuleHash, Arc<OnceLock<String>>)>,
    /// The path of the newest report of each plugin.
    newest: HashMap<String, String>,
}

impl Crashes {
    /// Returns the state at the start, without reports. The daemon will write new reports to
    /// `folder`.
    pub(in crate::daemon) fn new(folder: PathBuf) -> Self {
        Self {
            store: Arc::new(ReportStore::new(folder)),
            under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            reported: HashMap::new(),
            writing: Vec::new(),
            newest: HashMap::new(),
        }
    }

    /// Returns the path of this plugin's newest report since the start of the daemon.
    pub(in crate::daemon) fn newest(&self, name: &str) -> Option<&String> {
        self.newest.get(name)
    }

    /// Whether the daemon must write a crash report of this trap now. The result is false if a
    /// report of the same trap is younger than [`PAUSE`], or if [`MAX_REMEMBERED`] traps are
    /// stored.
    fn is_news(&mut self, kind: TrapKey, now: Instant) -> bool {
        self.reported.retain(|_, at| now.duration_since(*at) < PAUSE);
        if self.reported.contains_key(&kind) || self.reported.len() == MAX_REMEMBERED {
            return false;
        }
        self.reported.insert(kind, now);
        true
    }
}

impl Plugins {
    /// Makes a crash report of a program that trapped. A program without a trap is dropped without
    /// a report.
    pub(in crate::daemon) fn report_crash(&mut self, program: Program, config: &Config) {
        self.trimming.note();
        // A program that was stopped or replaced has no trap and needs no report.
        let Some(trap) = program.trap() else { return };
        let (kind, polls) =
            (TrapKey::of(&program.name, program.hash, trap, program.is_over()), program.polls);
        let settings = program.settings.clone();
        let about = About { polls, settings, ..self.about(&program.name, program.hash, config) };
        self.report(about, kind, || program.post_mortem(), config);
    }

    /// Makes a crash report of a program that trapped in its start section, in `_initialize`, in
    /// `init` or in its shadow run.
    pub(in crate::daemon) fn report_failed_start(
        &mut self,
        name: &str,
        hash: ModuleHash,
        post_mortem: PostMortem,
        config: &Config,
    ) {
        let kind = TrapKey::of(name, hash, &post_mortem.trap, post_mortem.is_over);
        self.report(self.about(name, hash, config), kind, || Some(post_mortem), config);
    }

    /// Records in the history the crash reports that were written since the last call.
    pub(in crate::daemon) fn settle_reports(&mut self) {
        let is_known = |name: &String| self.supervisor.plugin(name).is_some();
        let Crashes { writing, newest, .. } = &mut self.crashes;
        writing.retain(|(name, hash, place)| {
            let Some(file) = place.get() else {
                // If no thread shares `place` any more, the thread ended without a report.
                return Arc::strong_count(place) > 1;
            };
            newest.retain(|name, _| is_known(name));
            newest.insert(name.clone(), file.clone());
            self.record.reported(name, *hash, file.clone());
            false
        });
    }

    /// Returns the data about the program for a report: the present settings of the plugin, and 0
    /// as the number of polls.
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

    /// Writes a crash report on a thread that may wait for the disk. The function writes no report
    /// if the configuration switches reports off, if too many other reports are being written, or
    /// if [`Crashes::is_news`] is false.
    fn report(
        &mut self,
        about: About,
        kind: TrapKey,
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
                "{name}: no crash report: {MAX_UNDER_WAY} other reports are being written"
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
            // The thread first makes the report data and drops the instance. The drop frees the
            // memory of the instance in `plugins.code`. The next instance may be waiting for this
            // memory.
            let Some(post_mortem) = post_mortem() else { return };
            // The file may already have another version, so `CrashReport::new` compares the hash.
            // If the folder does not answer, the report is written without the module.
            let (path, most) = (about.path.clone(), about.limits.module_bytes);
            let read = || wait_in(&READING, PATIENCE, move || reread(&path, most)).ok();
            let module = if is_there { read() } else { None };
            let report = CrashReport::new(about, post_mortem, &points, module);
            match store.put(&report) {
                Ok(path) => {
                    let report = path.display();
                    let _ = place.set(report.to_string());
                    tracing::warn!(
                        plugin = name,
                        %report,
                        "{name}: its crash report is {report}; `camshaft replay` repeats the trap"
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
        let kind =
            |offset| TrapKey { name: "p".into(), hash, function: None, offset: Some(offset) };
        let start = Instant::now();
        assert!(crashes.is_news(kind(1), start));
        assert!(!crashes.is_news(kind(1), start + PAUSE / 2));
        assert!(crashes.is_news(kind(2), start + PAUSE / 2));
        assert!(crashes.is_news(kind(1), start + PAUSE));
        let news = (0..1000).filter(|n| crashes.is_news(kind(*n), start + PAUSE)).count();
        assert_eq!(news, MAX_REMEMBERED - 2);
    }
}
