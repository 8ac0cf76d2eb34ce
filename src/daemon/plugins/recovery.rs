//! Recovery: the scan runs, every output is safe, and no plugin runs until an operator ends
//! recovery.
//!
//! Recovery begins with `run --no-plugins`, or after too many ends that were not orderly;
//! `[recovery]` of the configuration has the limits. The kernel draws a random number, the boot
//! identity, at each boot. If it has not changed, an end that was not orderly was *abnormal*: a
//! watchdog, a panic, a stall or a kill. If it has changed, the end was a *power cut*: the machine
//! went down, probably not because of a program. The end of a refused start is orderly.
//!
//! The record has times of the monotonic clock, because many boards have no wall clock. Ends in
//! earlier boots count until a daemon without recovery has run for the time `within` of
//! `[recovery]`; then all counts are cleared.
//!
//! Plugins that may not run are *parked*: recovery (not the operator) holds them, and the end of
//! recovery releases all of them together. A cold restart (`field/reset.rs`) also parks plugins.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Plugins;
use crate::clock::{Clock, MonotonicClock};
use crate::config::{Config, RecoverySettings};
use crate::control::{By, Code, Failure, Reply, Response};
use crate::daemon::link::ScanLink;
use crate::file;
use crate::patience::{self, PATIENCE};
use crate::state::Folder;
use crate::text::counted;

mod beginning;
mod forget;
mod later;

pub(in crate::daemon) use beginning::Beginning;
use forget::{FORGET_AGAIN, end_recovery, forget_later};
use later::answer_later;

/// The name of the file in the state directory that has the record of starts and ends.
const FILE: &str = "starts.json";

/// The size limit of this file, in bytes. A record has some hundred bytes, and at most 1 200 with
/// the highest limits in the configuration. The daemon never writes a longer file.
const MAX_FILE_BYTES: u64 = 4096;

/// The time limit for the record of an orderly end. The process should end within 5 s after its
/// SIGTERM, so a disk that does not answer gets only 1 s.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// The file with the identity of this boot. The kernel draws a new identity at each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The size limit of the identity, in bytes. The identity has 36 characters and a line end.
const MAX_BOOT_ID_BYTES: u64 = 64;

/// The lock for reading, changing and writing the record. Without the lock, two threads could read
/// the same record, and the change of one thread would be lost.
static CHANGING: Mutex<()> = Mutex::new(());

/// The record of starts and ends, which is stored on the disk.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// Whether a daemon runs. The daemon sets this at its start, and clears it at an orderly end.
    running: bool,
    /// The identity of the boot of the last start.
    boot: String,
    /// The times of starts in this boot that followed an abnormal end, oldest first. Unit: seconds
    /// of the monotonic clock.
    ends: Vec<u64>,
    /// The number of abnormal ends in earlier boots.
    earlier_ends: u32,
    /// The number of ends that were power cuts.
    power_cuts: u32,
    /// Whether recovery is on. Recovery remains on after each new start, until an operator runs
    /// `camshaft recover`.
    recovery: bool,
}

/// The kind of end of the previous daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The daemon stopped in an orderly way, or its start was refused.
    Orderly,
    /// The daemon ended in another way, and the machine has not booted since then.
    Abnormal,
    /// The machine went down while the daemon ran.
    PowerCut,
}

impl Record {
    /// Records a start in this boot; `now_s` is in seconds of the monotonic clock. Returns how the
    /// previous daemon ended.
    fn start(&mut self, boot: &str, now_s: u64, settings: &RecoverySettings) -> End {
        let is_same_boot = self.boot == boot;
        let end = match (self.running, is_same_boot) {
            (false, _) => End::Orderly,
            (true, true) => End::Abnormal,
            (true, false) => End::PowerCut,
        };
        if !is_same_boot {
            self.earlier_ends = self.abnormal_ends();
            self.ends.clear();
            boot.clone_into(&mut self.boot);
        }
        match end {
            End::Orderly => {}
            End::Abnormal => self.ends.push(now_s),
            End::PowerCut => self.power_cuts = self.power_cuts.saturating_add(1),
        }
        self.running = true;
        self.ends.retain(|end| now_s.abs_diff(*end) <= settings.within.as_secs());
        // More ends than the limit are not stored, because they would not change the decision.
        let surplus = self.ends.len().saturating_sub(settings.ends.max(1) as usize);
        self.ends.drain(..surplus);
        self.recovery |= is_reached(self.abnormal_ends(), settings.ends)
            || is_reached(self.power_cuts, settings.power_cuts);
        end
    }

    /// Returns the number of abnormal ends in this boot and in earlier boots.
    fn abnormal_ends(&self) -> u32 {
        let here = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.earlier_ends.saturating_add(here)
    }

    /// Ends recovery by order of the operator, and clears all counts.
    fn end_recovery(&mut self) {
        self.recovery = false;
        self.forget_ends();
    }

    /// Clears all counts. Returns whether a count was not 0.
    fn forget_ends(&mut self) -> bool {
        let is_news = self.abnormal_ends() > 0 || self.power_cuts > 0;
        self.ends.clear();
        (self.earlier_ends, self.power_cuts) = (0, 0);
        is_news
    }
}

/// Whether this number of ends starts recovery. A limit of 0 switches the check off.
fn is_reached(ends: u32, limit: u32) -> bool {
    limit > 0 && ends >= limit
}

/// Returns the identity of this boot. If the identity cannot be read, it is empty for all boots,
/// and every end that is not orderly is recorded as abnormal.
fn boot() -> String {
    let id = file::read(Path::new(BOOT_ID), MAX_BOOT_ID_BYTES).ok().flatten();
    String::from_utf8_lossy(&id.unwrap_or_default()).trim().to_owned()
}

/// Reads the record from the disk. The read may take long. A missing or damaged file is treated as
/// an empty record.
fn load(folder: &Folder) -> Record {
    let path = folder.path().join(FILE);
    let text = match file::read(&path, MAX_FILE_BYTES) {
        Ok(None) => return Record::default(),
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    text.unwrap_or_else(|error| {
        let file = path.display();
        tracing::warn!(%file, error, "{file} is not a record of starts ({error}) and is replaced");
        Record::default()
    })
}

/// Changes the record on the disk. Returns the results of `change` and of the write. If `change`
/// has changed nothing, the function writes nothing.
fn change<T>(folder: &Folder, change: impl FnOnce(&mut Record) -> T) -> (T, io::Result<()>) {
    // If a thread with the lock panics, the file is still complete, so the lock remains usable.
    let _alone = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = load(folder);
    let mut record = before.clone();
    let outcome = change(&mut record);
    if record == before {
        return (outcome, Ok(()));
    }
    let text = serde_json::to_vec(&record).expect("a record is valid JSON");
    (outcome, folder.replace(FILE, &text))
}

/// The state of recovery, and the plugins that are parked.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Recovery {
    /// The state directory with the record; `None` if the directory cannot be used.
    folder: Option<Arc<Folder>>,
    /// Reason why no plugin may run; `None` if recovery is off.
    reason: Option<String>,
    /// The names of the parked plugins.
    parked: BTreeSet<String>,
}

/// Records a start, and decides whether recovery is on.
pub(in crate::daemon) fn begin(
    folder: Option<&Arc<Folder>>,
    no_plugins: bool,
    settings: &RecoverySettings,
    beginning: &Arc<Beginning>,
) -> Recovery {
    let mut reason = no_plugins.then(|| "started with --no-plugins".to_owned());
    if let Some(folder) = folder {
        reason = beginning.record(folder, settings, PATIENCE).or(reason);
    }
    match (&reason, folder) {
        (Some(reason), _) => tracing::error!(
            reason,
            "RECOVERY: no plugin runs, outputs are safe ({reason}); `camshaft plugins` lists the \
             plugins, `camshaft hold NAME` holds a plugin, `camshaft recover` starts all others"
        ),
        // A run without plugins proves nothing, so in recovery the counts are not cleared.
        (None, Some(folder)) => forget_later(Arc::clone(folder), settings.within),
        (None, None) => {}
    }
    Recovery { folder: folder.cloned(), reason, parked: BTreeSet::new() }
}

/// Counts a start in the record. Returns a reason if no plugin may run.
fn count(record: &mut Record, settings: &RecoverySettings) -> Option<String> {
    let was_in_recovery = record.recovery;
    let end = record.start(&boot(), MonotonicClock.now().as_secs(), settings);
    let (ends, cuts) = (record.abnormal_ends(), record.power_cuts);
    let within = humantime::format_duration(settings.within);
    let so_many = |limit| match limit {
        0 => "the configured limit is 0, so recovery does not begin".to_owned(),
        limit => format!("recovery begins at {limit}"),
    };
    let (of_ends, of_cuts) = (counted(ends, "abnormal end"), counted(cuts, "power cut"));
    match end {
        End::Orderly => {}
        End::Abnormal => tracing::warn!(
            ends,
            "the last end was abnormal (watchdog, panic, stall or kill): {ends} within {within}; \
             {}",
            so_many(settings.ends)
        ),
        End::PowerCut => tracing::warn!(
            cuts,
            "the machine went down while the daemon ran (a power cut, a reset or a panic of the \
             kernel): {cuts} without a run of {within} between them; {}",
            so_many(settings.power_cuts)
        ),
    }
    record.recovery.then(|| match was_in_recovery {
        true => "an earlier recovery was not ended by `camshaft recover`".to_owned(),
        false if is_reached(ends, settings.ends) => {
            format!("{of_ends} within {within}")
        }
        false => format!("{of_cuts} without a run of {within} between them"),
    })
}

/// Records an orderly end, if the disk stores it within [`LAST_WRITE`].
fn end(folder: Option<&Arc<Folder>>) {
    let Some(folder) = folder.cloned() else { return };
    let mark = move || change(&folder, |record| record.running = false).1;
    if let Err(error) = patience::wait(LAST_WRITE, mark) {
        tracing::warn!(%error, "this end cannot be recorded ({error}), so it counts as abnormal");
    }
}

impl Recovery {
    /// Whether recovery is on. In recovery, no plugin may run.
    pub(in crate::daemon) fn is_on(&self) -> bool {
        self.reason.is_some()
    }

    /// Returns the reason why no plugin may run; `None` if recovery is off.
    pub(in crate::daemon) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Records an orderly end, if the disk stores it within [`LAST_WRITE`].
    pub(in crate::daemon) fn end(&self) {
        end(self.folder.as_ref());
    }

    /// Returns the path of the state directory, if the directory can be used.
    pub(in crate::daemon) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(|folder| folder.path())
    }

    /// Whether this plugin is parked.
    pub(in crate::daemon) fn is_parked(&self, name: &str) -> bool {
        self.parked.contains(name)
    }

    /// Removes a plugin from the list of parked plugins, because an order or the configuration has
    /// decided whether the plugin runs.
    pub(in crate::daemon) fn forget(&mut self, name: &str) {
        self.parked.remove(name);
    }
}

impl Plugins {
    /// Handles a new plugin before the daemon uses its file: holds it if the configuration requires
    /// this, or parks it during recovery or a cold restart.
    pub(in crate::daemon) fn meet(&mut self, name: &str, is_emptying: bool, config: &Config) {
        if self.supervisor.plugin(name).is_some() {
            return;
        }
        self.store.is_stale = true;
        if config.settings(name).hold {
            // If the supervisor refuses the name here, it also refuses the file of that name.
            if self.supervisor.hold(name).is_ok() {
                self.record.held(name, By::Configuration, None);
            }
        } else if self.is_closed(is_emptying) {
            self.park(name);
        }
    }

    /// Whether new plugins must wait for the end of recovery or of a cold restart.
    fn is_closed(&self, is_emptying: bool) -> bool {
        self.recovery.is_on() || is_emptying
    }

    /// Holds or releases a plugin after a reload has changed its `hold`. The supervisor must have
    /// an entry for the plugin.
    pub(in crate::daemon) fn hold_as_configured(
        &mut self,
        name: &str,
        hold: bool,
        is_emptying: bool,
        link: &mut ScanLink,
    ) {
        self.recovery.forget(name);
        if hold {
            self.settle_swaps(link);
            self.record.held(name, By::Configuration, None);
            self.supervisor.hold(name).expect("the name comes from the supervisor");
            return;
        }
        // A change of `hold` ends only the hold; a quarantine remains.
        self.record.released(name, By::Configuration, false, None);
        match self.is_closed(is_emptying) {
            true => self.park(name),
            false => self.supervisor.let_go(name),
        }
    }

    /// Holds a plugin until all parked plugins are released.
    pub(in crate::daemon) fn park(&mut self, name: &str) {
        // If the supervisor refuses the name here, it also refuses the file of that name.
        if self.supervisor.hold(name).is_ok() {
            self.recovery.parked.insert(name.to_owned());
        }
    }

    /// Releases all parked plugins.
    pub(in crate::daemon) fn unpark(&mut self) {
        for name in std::mem::take(&mut self.recovery.parked) {
            self.supervisor.let_go(&name);
        }
    }

    /// Ends recovery by order of an operator, if it is on, and records its end on the disk.
    pub(in crate::daemon) fn recover(&mut self, is_emptying: bool, reply: oneshot::Sender<Reply>) {
        if self.recovery.reason.take().is_none() {
            let message = "recovery is not on; `camshaft plugins` shows which plugins run";
            let _ = reply.send(Err(Failure::new(Code::Refused, message)));
            return;
        }
        tracing::warn!(
            "recovery has ended: all plugins start, except plugins on hold or in quarantine"
        );
        if !is_emptying {
            self.unpark();
        }
        let folder = self.recovery.folder.clone();
        let place = folder.as_ref().map(|folder| folder.path().display().to_string());
        let so_far = format!(
            "plugins start, but the end of recovery is not recorded yet in {}: until it is \
             recorded, a restart of the daemon may begin in recovery again",
            place.unwrap_or_default()
        );
        answer_later(reply, so_far, move || {
            let Some(folder) = folder else { return Ok(Response::Done) };
            change(&folder, Record::end_recovery).1.map_err(|error| {
                let again = humantime::format_duration(FORGET_AGAIN);
                tokio::spawn(end_recovery(folder, FORGET_AGAIN));
                let message = format!(
                    "plugins start, but the end of recovery cannot be recorded yet ({error}): \
                     until it is recorded, a restart of the daemon may begin in recovery again; \
                     the daemon tries again every {again}"
                );
                Failure::new(Code::Internal, message)
            })?;
            Ok(Response::Done)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ends: u32, power_cuts: u32) -> RecoverySettings {
        RecoverySettings { ends, power_cuts, within: Duration::from_secs(600) }
    }

    /// The lives of several daemons, one after the other. Each life has three values: its boot, the
    /// time of its start in seconds, and its end.
    type Lives<'l> = &'l [(&'l str, u64, Fate)];

    /// The end of a life: orderly, abnormal, or abnormal after ten minutes of running.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fate {
        Stopped,
        Killed,
        Healthy,
    }
    use Fate::{Healthy, Killed, Stopped};

    /// Whether recovery is on at one more start after these lives. This last start is in the boot
    /// `next`, one second after the start of the last life.
    fn recovers(lives: Lives<'_>, next: &str, settings: &RecoverySettings) -> bool {
        let mut record = Record::default();
        for (boot, at, fate) in lives {
            record.start(boot, *at, settings);
            assert!(record.running && record.ends.len() <= settings.ends.max(1) as usize);
            if *fate == Healthy {
                record.forget_ends();
            }
            record.running = *fate != Stopped;
        }
        record.start(next, lives.last().map_or(0, |(_, at, _)| at + 1), settings);
        record.recovery
    }

    #[test]
    fn three_abnormal_ends_within_ten_minutes_lead_to_recovery() {
        let check = |lives: &[(u64, Fate)], expected| {
            let lives: Vec<_> = lives.iter().map(|(at, fate)| ("boot", *at, *fate)).collect();
            assert_eq!(recovers(&lives, "boot", &settings(3, 0)), expected, "{lives:?}");
        };
        check(&[], false);
        check(&[(5000, Killed), (5010, Killed)], false);
        check(&[(5000, Killed), (5010, Killed), (5020, Killed)], true);
        check(&[(5000, Killed), (5010, Stopped), (5020, Killed), (5030, Killed)], true);
        check(&[(5000, Killed), (5010, Stopped), (5020, Stopped), (5030, Killed)], false);
        // The first end is counted at the start at 5010. The last start, at 5611, is more than ten
        // minutes later.
        check(&[(5000, Killed), (5010, Killed), (5610, Killed)], false);
        check(&[(5000, Killed), (5010, Killed), (5609, Killed)], true);
        // A life of ten minutes clears the list, but an orderly stop does not clear it.
        check(&[(5000, Killed), (5010, Killed), (5020, Healthy), (5030, Killed)], false);
        // Recovery remains on after an orderly stop.
        check(&[(5000, Killed), (5010, Killed), (5020, Killed), (5030, Stopped)], true);
        check(&[(1, Killed), (2, Killed), (3, Killed), (4, Stopped), (9999, Stopped)], true);
    }

    #[test]
    fn an_end_with_the_machine_is_a_power_cut_and_counts_apart() {
        let storm: Lives<'_> =
            &[("a", 9, Killed), ("b", 9, Killed), ("c", 9, Killed), ("d", 9, Killed)];
        let check = |lives, next, ends, power_cuts, expected| {
            let found = recovers(lives, next, &settings(ends, power_cuts));
            assert_eq!(found, expected, "{lives:?}, then {next}; {ends} ends, {power_cuts} cuts");
        };
        check(storm, "e", 3, 0, false);
        check(storm, "e", 3, 5, false);
        check(storm, "e", 3, 4, true);
        // Weeks pass between two starts. The monotonic clock begins at zero at each boot.
        let weeks = &storm.iter().map(|(boot, at, _)| (*boot, *at, Healthy)).collect::<Vec<_>>();
        check(weeks, "e", 3, 2, false);
        // Power cuts and crashes are counted separately. Crashes of earlier boots still count.
        check(&[("a", 9, Killed), ("b", 9, Killed), ("b", 10, Killed)], "b", 3, 2, false);
        check(&[("a", 9, Killed), ("a", 10, Killed), ("a", 11, Stopped)], "b", 2, 0, true);
        let crashes: Lives<'_> =
            &[("a", 9, Killed), ("a", 10, Killed), ("a", 11, Stopped), ("b", 9, Killed)];
        check(crashes, "b", 3, 0, true);
        check(crashes, "b", 0, 0, false);
    }

    /// A defect of the past: the disk was slow at the start, and plugins ran without the operator's
    /// order.
    #[test]
    fn a_recovery_that_was_read_counts_though_the_start_cannot_be_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        change(&folder, |record| record.recovery = true).1.unwrap();
        // Each write waits for this lock, so no write is possible.
        let _slow = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let (beginning, limit) = (Arc::<Beginning>::default(), Duration::from_millis(500));
        assert!(beginning.record(&folder, &settings(3, 0), limit).is_some());
    }

    #[test]
    fn a_record_survives_and_a_bad_one_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(load(&folder), Record::default());
        let full = || Record {
            running: true,
            boot: boot(),
            ends: vec![u64::from(u32::MAX); 100],
            earlier_ends: u32::MAX,
            power_cuts: u32::MAX,
            recovery: true,
        };
        change(&folder, |record| *record = full()).1.unwrap();
        assert_eq!(load(&folder), full());
        assert_eq!(full().boot.len(), 36, "the boot identity has 36 characters");
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() < MAX_FILE_BYTES);
        for bad in ["", "{}", "[]", "{\"running\":1}"] {
            std::fs::write(dir.path().join(FILE), bad).unwrap();
            assert_eq!(load(&folder), Record::default(), "{bad}");
        }
        // An earlier version of the daemon wrote this text. The daemon uses `recovery` of this
        // text, but not the wall-clock times.
        let old = r#"{"running":true,"abnormal_ends":[1764000000,1764000001],"recovery":true}"#;
        std::fs::write(dir.path().join(FILE), old).unwrap();
        let expected = Record { running: true, recovery: true, ..Record::default() };
        assert_eq!(load(&folder), expected);
    }
}
