//! The record of each version of each plugin: when it ran, for how long, why it ended, and whether
//! it is good.
//!
//! ```text
//!            probation passed               trap, quarantine, rollback
//!  unproven ────────────────▶ good, doubtful ─────────────────────────▶ bad
//!                                  ▲                                      │
//!                                  └──── passed again after a release ────┘
//! ```
//! The record is computed from the receipts of events (`control/receipt.rs`). Three facts have no
//! receipt: a passed probation, the outputs that a version owns, and the release of one version.
//! The journal of receipts drops old receipts, but the record remains. A file in the state
//! directory has the record, and the number of the last receipt that the record includes. The next
//! start adds only the later receipts. Next: `version/one.rs` (the record of one version),
//! `version/disk.rs` (the file), `store.rs` (which versions are on the disk), `recall.rs` (which
//! version runs after a start).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::control::{Event, Receipt, Soundness};
use crate::journal::Entry;
use crate::plugin::ModuleHash;
use crate::plugin::module::folder::MAX_PLUGINS;
use crate::state::Folder;
use crate::supervisor::Supervisor;

mod disk;
mod one;

use disk::{FILE, read};
use one::End;
pub(super) use one::Version;

/// The first words of the reason why a version is bad after a trap. The text of the trap follows.
const TRAPPED: &str = "it trapped: ";

/// The end reason of a version that left the scan without an order for its plugin, for example in a
/// cold restart.
const STOPPED: &str = "it was stopped";

/// The end reason of a version whose plugin was put on hold.
const HELD: &str = "the plugin was held";

/// The largest number of recorded versions of one plugin. For example, five stored versions, five
/// bad versions and six other versions fit.
const MAX_VERSIONS: usize = 16;

/// The largest number of plugins, including removed plugins. If the list is full, the plugin whose
/// last start is the oldest is dropped.
const MAX_NAMES: usize = 2 * MAX_PLUGINS;

/// The records of the versions of all plugins.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Versions {
    /// The data that are written to the file in the state directory.
    sum: Sum,
    /// The folder of the file; `None` if there is no state directory or the file must not be
    /// written.
    folder: Option<Arc<Folder>>,
    /// The path of the file, if the daemon must not write the file, because it could neither read
    /// nor rename the file at the start.
    left: Option<PathBuf>,
    /// The newest write, running or finished. At most one write runs at a time.
    writing: Option<JoinHandle<()>>,
    /// The time when the newest write began, and the value of `changes` at that time.
    written: (Duration, u64),
    /// Whether the newest write has failed. The thread of the write sets the flag, and the daemon's
    /// loop reads it.
    has_failed: Arc<AtomicBool>,
    /// Whether the disk has not answered the newest write within the time limit.
    is_stalled: bool,
    /// Whether the last check found a problem with the file or its disk.
    had_trouble: bool,
    /// The number of changes of the records since the start.
    pub(in crate::daemon) changes: u64,
}

/// The content of the file in the state directory.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    /// The number of the newest receipt that the record includes.
    seq: u64,
    /// The versions of each plugin, sorted by the time of their last start.
    plugins: BTreeMap<String, Vec<Version>>,
    /// For each plugin, the reason of the order that takes its program out of the scan, as text.
    /// The entry is removed when a version of the plugin starts. The entry of a hold is also
    /// removed when the hold ends.
    #[serde(default)]
    leaving: BTreeMap<String, String>,
    /// For each plugin, the version that ran when the daemon ended. If no version ran then, the
    /// version that ran last, if it was in quarantine. The value is the hash with all 64
    /// hexadecimal digits. The entry remains over several starts, until a version of the plugin
    /// runs or the plugin's file is removed. At a start of the daemon, the entry is removed if
    /// `leaving` has the plugin.
    #[serde(default)]
    ran: BTreeMap<String, String>,
}

impl Versions {
    /// Reads the record from the file in this folder, and adds the receipts that are newer than the
    /// record in the file.
    pub(in crate::daemon) fn load(
        folder: Option<Arc<Folder>>,
        receipts: &[Entry<Receipt>],
    ) -> Self {
        let file = folder.as_ref().map(|folder| folder.path().join(FILE));
        let (sum, folder) = folder.map(read).unwrap_or_default();
        let left = file.filter(|_| folder.is_none());
        let mut all = Self { sum, folder, left, ..Self::default() };
        for Entry { seq, time, what } in receipts {
            if *seq > all.sum.seq {
                all.count(what, time, None);
            }
        }
        let Sum { plugins, leaving, ran, .. } = &mut all.sum;
        for (name, versions) in plugins {
            let last = versions.iter().rfind(|version| !version.first.is_empty());
            // A version is also treated as running at the end if it trapped and waited for its
            // restart, or if it stopped without an order for its plugin, as in a cold restart.
            let waits = |end: &End| end.why.starts_with(TRAPPED) || end.why == STOPPED;
            let last = last
                .filter(|last| last.end.as_ref().is_none_or(waits) || last.quarantine.is_some());
            ran.extend(last.map(|last| (name.clone(), last.hash.clone())));
            for version in versions.iter_mut().filter(|version| version.end.is_none()) {
                version.end("", None, || "the daemon ended".into());
            }
        }
        ran.retain(|name, _| !leaving.contains_key(name));
        all
    }

    /// Reports the versions in quarantine to a new supervisor.
    pub(in crate::daemon) fn recall(&self, supervisor: &mut Supervisor) {
        for (name, version) in self.all() {
            let hash = ModuleHash::from_hex(&version.hash);
            if let (Some(hash), Some(why)) = (hash, &version.quarantine) {
                supervisor.recall(name, hash, why.clone());
            }
        }
    }

    /// Returns all known versions, each with the name of its plugin.
    fn all(&self) -> impl Iterator<Item = (&str, &Version)> {
        let plugins = self.sum.plugins.iter();
        plugins.flat_map(|(name, versions)| versions.iter().map(|version| (&**name, version)))
    }

    /// Returns the known versions of this plugin, in the order of their last starts, oldest first.
    pub(super) fn of(&self, name: &str) -> &[Version] {
        self.sum.plugins.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the record of this version, if the record exists.
    pub(super) fn find(&self, name: &str, hash: ModuleHash) -> Option<&Version> {
        let digits = format!("{hash:#}");
        self.of(name).iter().find(|version| version.hash == digits)
    }

    /// Returns the quality of a stored version, for a rollback. A stored version that has no
    /// record, or whose record says unproven, is treated as good, because only versions that passed
    /// probation are stored.
    pub(in crate::daemon) fn soundness(&self, name: &str, hash: ModuleHash) -> Soundness {
        match self.find(name, hash).map(Version::soundness) {
            None | Some(Soundness::Unproven) => Soundness::Good,
            Some(known) => known,
        }
    }

    /// Returns the version that ran under this name when the daemon ended. If no version ran then,
    /// returns the version that ran last, if it was in quarantine. `None` if there is no such
    /// version, or if since the start a version of the plugin has run or the plugin's file was
    /// removed.
    pub(in crate::daemon) fn ran(&self, name: &str) -> Option<ModuleHash> {
        self.sum.ran.get(name).and_then(|digits| ModuleHash::from_hex(digits))
    }

    /// Returns the names of the plugins with an entry in `Sum::ran`.
    pub(in crate::daemon) fn have_run(&self) -> impl Iterator<Item = &str> {
        self.sum.ran.keys().map(String::as_str)
    }

    /// For each plugin for which `is_there` is false, forgets which version ran before the start.
    /// Returns the names of these plugins.
    pub(in crate::daemon) fn forget_what_ran(
        &mut self,
        is_there: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let gone: Vec<_> = self.sum.ran.keys().filter(|name| !is_there(name)).cloned().collect();
        self.sum.ran.retain(|name, _| !gone.contains(name));
        self.changes += u64::from(!gone.is_empty());
        gone
    }

    /// Ends the quarantine of this version, because the operator wants to run it again.
    pub(in crate::daemon) fn forgive(&mut self, name: &str, hash: ModuleHash) {
        let version = self.version(name, &format!("{hash:#}"));
        (version.quarantine, version.is_forgiven) = (None, true);
        self.changes += 1;
    }

    /// Adds outputs to the list of outputs that this version owns. The caller has checked that the
    /// version has passed its probation.
    pub(in crate::daemon) fn owns(&mut self, name: &str, hash: ModuleHash, outputs: Vec<String>) {
        let is_news = self.version(name, &format!("{hash:#}")).owns(outputs);
        self.changes += u64::from(is_news);
    }

    /// Records that this version has passed its probation and owns these outputs. `is_lost` is true
    /// for an output that the version may write and that no other plugin owns. If the last good
    /// version owned a lost output and this version does not own it, this version is in doubt until
    /// it has run for a day. Returns the quality of this version.
    pub(in crate::daemon) fn proved(
        &mut self,
        name: &str,
        hash: ModuleHash,
        outputs: Vec<String>,
        is_lost: impl Fn(&str) -> bool,
        now: Duration,
    ) -> Soundness {
        let digits = format!("{hash:#}");
        let is_good = |version: &&Version| version.soundness() == Soundness::Good;
        let others = self.of(name).iter().filter(|version| version.hash != digits);
        let before = others.rev().find(is_good).map_or(&[][..], |before| &before.outputs);
        let own = self.find(name, hash).map_or(&[][..], |own| &own.outputs);
        let is_own = |output: &String| outputs.contains(output) || own.contains(output);
        let is_missing = |output: &&String| !is_own(output) && is_lost(output);
        let lost: Vec<String> = before.iter().filter(is_missing).cloned().collect();
        let version = self.version(name, &digits);
        let is_news = version.prove(outputs, &lost, now);
        let soundness = version.soundness();
        self.changes += u64::from(is_news);
        soundness
    }

    /// Adds a receipt to the record, with the present time.
    pub(in crate::daemon) fn on_receipt(&mut self, receipt: &Receipt, now: Duration) {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        self.count(receipt, &time, Some(now));
    }

    /// Adds a receipt to the record; `time` is the time of the receipt. `now` is the monotonic
    /// time, or `None` for a receipt from before this start.
    fn count(&mut self, receipt: &Receipt, time: &str, now: Option<Duration>) {
        let Receipt { plugin: Some(name), hash, old_hash, event, .. } = receipt else { return };
        match (event, hash) {
            (Event::Started { .. } | Event::Swapped { .. }, Some(hash)) => {
                if let Some(old) = old_hash.as_ref().filter(|old| *old != hash) {
                    let why = || format!("{} took over", short(hash));
                    self.version(name, old).end(time, now, why);
                }
                self.begin(name, hash, time, now);
            }
            (Event::Restarted { .. }, Some(hash)) => self.begin(name, hash, time, now),
            (Event::Trapped { trap, .. }, Some(hash)) => {
                let version = self.version(name, hash);
                version.end(time, now, || format!("{TRAPPED}{trap}"));
                version.turns_bad(format!("{TRAPPED}{trap}"));
            }
            (Event::Quarantined { reason }, Some(hash)) => {
                self.quarantine(name, hash, reason.clone(), (time, now));
            }
            // The version that trapped must not run again, so a rollback puts it in quarantine.
            (Event::Rollback, Some(hash)) => {
                if let Some(old) = old_hash {
                    let trap = self.version(name, old).bad.clone();
                    let trap = trap.as_deref().and_then(|bad| bad.strip_prefix(TRAPPED));
                    let why = format!("trapped on probation: {}", trap.unwrap_or("unknown"));
                    self.quarantine(name, old, why, (time, now));
                }
                self.begin(name, hash, time, now);
            }
            (Event::Released { forgives, .. }, _) => self.release(name, *forgives),
            (Event::Held { .. }, _) => self.leaves(name, HELD),
            (Event::Removed, _) => {
                self.sum.ran.remove(name);
                self.sum.leaving.remove(name);
                self.leaves(name, "its file was removed");
            }
            (Event::Stopped, Some(hash)) => {
                let why = self.sum.leaving.get(name).cloned();
                let version = self.version(name, hash);
                if why.is_some() {
                    // After a trap, the version waited for its restart. The order has ended this
                    // wait. So the order replaces the trap as the reason of the end.
                    version.end.take_if(|end| end.why.starts_with(TRAPPED));
                }
                version.end(time, now, || why.unwrap_or_else(|| STOPPED.into()));
            }
            _ => return,
        }
        self.changes += 1;
    }

    /// Records the release of a plugin. If `forgives` is true, all versions of the plugin may run
    /// again. If `forgives` is false, the release only ends a hold.
    fn release(&mut self, name: &str, forgives: bool) {
        for version in self.sum.plugins.get_mut(name).into_iter().flatten() {
            if forgives {
                version.quarantine = None;
                version.is_forgiven = true;
            }
            // A version that ended because of the hold may run again.
            if let Some(end) = version.end.as_mut().filter(|end| end.why == HELD) {
                end.why = STOPPED.into();
            }
        }
        self.sum.leaving.retain(|of, why| of != name || why != HELD);
    }

    /// Records the order that ends the running version of a plugin. If an earlier order is
    /// recorded, the earlier order remains.
    fn leaves(&mut self, name: &str, why: &str) {
        if self.sum.plugins.contains_key(name) {
            self.sum.leaving.entry(name.to_owned()).or_insert_with(|| why.to_owned());
        }
    }

    /// Adds a start of this version. The version moves to the end of its plugin's list. The
    /// function also removes the entries of the plugin in `leaving` and `ran`.
    fn begin(&mut self, name: &str, hash: &str, time: &str, now: Option<Duration>) {
        self.version(name, hash).begin(time, now);
        let versions = self.sum.plugins.get_mut(name).expect("the plugin has a version");
        let at = versions.iter().position(|version| version.hash == hash);
        let at = at.expect("the version is in the list");
        versions[at..].rotate_left(1);
        self.sum.leaving.remove(name);
        self.sum.ran.remove(name);
    }

    /// Records that this version is in quarantine: the version has ended and is bad.
    fn quarantine(
        &mut self,
        name: &str,
        hash: &str,
        why: String,
        (time, now): (&str, Option<Duration>),
    ) {
        let version = self.version(name, hash);
        version.end(time, now, || why.clone());
        version.turns_bad(why.clone());
        version.quarantine.get_or_insert(why);
    }

    /// Returns the record of this version, and creates it if it does not exist. If there is no room
    /// for a new record, the record of another version is dropped, or all records of another
    /// plugin.
    fn version(&mut self, name: &str, hash: &str) -> &mut Version {
        if !self.sum.plugins.contains_key(name) && self.sum.plugins.len() == MAX_NAMES {
            let last = |versions: &Vec<Version>| versions.last().map(|last| last.last.clone());
            let oldest = self.sum.plugins.iter().min_by_key(|(_, versions)| last(versions));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.sum.plugins.remove(&oldest);
                self.sum.leaving.remove(&oldest);
                self.sum.ran.remove(&oldest);
            }
        }
        let versions = self.sum.plugins.entry(name.to_owned()).or_default();
        let at = versions.iter().position(|version| version.hash == hash).unwrap_or_else(|| {
            if versions.len() == MAX_VERSIONS {
                // The first choice is a version that has not passed probation, because it is not
                // stored on the disk. Of these, one in quarantine is the last choice: after the
                // drop, the next start does not know the quarantine and could run the version. If
                // all versions have passed probation, the version with the oldest last start is
                // dropped.
                let first = |is_spare: fn(&Version) -> bool| versions.iter().position(is_spare);
                let spare = first(|version| !version.is_proven && version.quarantine.is_none());
                let spare = spare.or_else(|| first(|version| !version.is_proven));
                versions.remove(spare.unwrap_or(0));
            }
            versions.push(Version::new(hash));
            versions.len() - 1
        });
        &mut versions[at]
    }
}

/// Returns the first 16 digits of a hash, for messages.
pub(in crate::daemon) fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::disk::{SAVE_AGAIN, SAVE_EVERY};
    use super::one::DAY;
    use super::*;
    use crate::control::{By, SwapView};
    use crate::plugin::Trap;
    use crate::supervisor::RestartPolicy;

    impl Versions {
        /// Waits for the end of the running write.
        pub(in super::super) async fn written_down(&mut self) {
            self.writing.take().expect("a write is running").await.unwrap();
        }
    }

    fn hash(text: &str) -> ModuleHash {
        ModuleHash::of(text.as_bytes())
    }

    fn hex(text: &str) -> Option<String> {
        Some(format!("{:#}", hash(text)))
    }

    /// Returns receipts of the plugin `tank`, numbered from 1.
    fn receipts(all: &[(&str, &str, Event)]) -> Vec<Entry<Receipt>> {
        let some = |text: &str| if text.is_empty() { None } else { hex(text) };
        let entry = |(n, (new, old, event)): (usize, &(&str, &str, Event))| Entry {
            seq: n as u64 + 1,
            time: format!("2026-01-01T00:00:{n:02}Z"),
            what: Receipt {
                plugin: Some("tank".into()),
                cycle: 1,
                hash: some(new),
                old_hash: some(old),
                event: event.clone(),
            },
        };
        all.iter().enumerate().map(entry).collect()
    }

    fn swapped() -> Event {
        Event::Swapped { swap: SwapView::default(), shadow: None }
    }

    fn started() -> Event {
        Event::Started { swap: SwapView::default() }
    }

    fn trapped() -> Event {
        let trap = Trap { kind: "unreachable".into(), function: None, offset: None, cycle: 7 };
        Event::Trapped { trap, count: 1 }
    }

    fn quarantined() -> Event {
        Event::Quarantined { reason: "5 traps".into() }
    }

    fn released() -> Event {
        Event::Released { by: By::Operator, forgives: true, who: None }
    }

    /// Returns how the versions a, b and c ended, and why they are in quarantine.
    fn ends(versions: &Versions) -> Vec<(String, String)> {
        let all = ["a", "b", "c"].into_iter().filter_map(|text| versions.find("tank", hash(text)));
        let end = |version: &Version| {
            let end = version.end.as_ref().map(|end| end.why.clone());
            (end.unwrap_or_default(), version.quarantine.clone().unwrap_or_default())
        };
        all.map(end).collect()
    }

    #[test]
    fn the_receipts_say_what_became_of_a_version() {
        let check = |all: &[(&str, &str, Event)], expected: &[(&str, &str)]| {
            let found = ends(&Versions::load(None, &receipts(all)));
            let expected: Vec<_> =
                expected.iter().map(|(end, why)| (end.to_string(), why.to_string())).collect();
            assert_eq!(found, expected, "{all:?}");
        };
        let (b, trap) = (format!("{} took over", hash("b")), "it trapped: unreachable, cycle 7");
        check(&[("a", "", started())], &[("the daemon ended", "")]);
        check(
            &[("a", "", started()), ("b", "a", swapped())],
            &[(&b, ""), ("the daemon ended", "")],
        );
        check(
            &[
                ("a", "", started()),
                ("b", "a", swapped()),
                ("b", "b", trapped()),
                ("a", "b", Event::Rollback),
            ],
            &[("the daemon ended", ""), (trap, "trapped on probation: unreachable, cycle 7")],
        );
        check(
            &[
                ("a", "", started()),
                ("a", "a", trapped()),
                ("a", "a", quarantined()),
                ("a", "a", Event::Stopped),
            ],
            &[(trap, "5 traps")],
        );
        check(&[("a", "a", quarantined()), ("a", "a", released())], &[("5 traps", "")]);
        let held = Event::Held { by: By::Operator, who: None };
        check(
            &[("a", "", started()), ("a", "a", held), ("a", "a", Event::Stopped)],
            &[("the plugin was held", "")],
        );
        check(
            &[("a", "", started()), ("a", "a", Event::Removed), ("a", "a", Event::Stopped)],
            &[("its file was removed", "")],
        );
    }

    #[test]
    fn the_last_word_about_a_quarantine_counts() {
        let all = receipts(&[
            ("a", "", quarantined()),
            ("a", "", released()),
            ("b", "", quarantined()),
            ("b", "", Event::Quarantined { reason: "from before".into() }),
        ]);
        let mut supervisor = Supervisor::new(RestartPolicy::default());
        Versions::load(None, &all).recall(&mut supervisor);
        assert_eq!(supervisor.quarantined("tank"), [(hash("b"), "5 traps".to_owned())]);
        assert_eq!(supervisor.quarantined("pump"), []);
    }

    /// A defect of the past: the configuration held and released a plugin, and a version in
    /// quarantine ran again.
    #[test]
    fn the_end_of_a_hold_is_no_other_chance() {
        let end = Event::Released { by: By::Configuration, forgives: false, who: None };
        let mut versions =
            Versions::load(None, &receipts(&[("a", "", started()), ("a", "a", quarantined())]));
        versions.on_receipt(&receipts(&[("a", "a", end)])[0].what, Duration::ZERO);
        assert_eq!(ends(&versions), [("5 traps".to_owned(), "5 traps".to_owned())]);
        versions.on_receipt(&receipts(&[("a", "a", released())])[0].what, Duration::ZERO);
        assert_eq!(ends(&versions), [("5 traps".to_owned(), String::new())]);
    }

    /// A defect of the past: outputs remained safe after a start, although a good version was
    /// stored. The file was bad, and the version that ran before had ended in quarantine.
    #[test]
    fn what_ran_may_have_ended_in_quarantine() {
        let held = || Event::Held { by: By::Operator, who: None };
        let check = |more: &[(&str, &str, Event)], expected: Option<&str>| {
            let start = [("a", "", started()), ("b", "a", swapped()), ("b", "b", quarantined())];
            let all = [&start[..], more].concat();
            let found = Versions::load(None, &receipts(&all)).ran("tank");
            assert_eq!(found, expected.map(hash), "{more:?}");
        };
        check(&[], Some("b"));
        check(&[("b", "b", Event::Stopped)], Some("b"));
        check(&[("a", "", started())], Some("a"));
        check(&[("b", "b", released())], None);
        // After an order that removes the plugin, no version is treated as the version that ran.
        check(&[("b", "b", Event::Stopped), ("b", "b", Event::Removed)], None);
        check(&[("b", "b", Event::Stopped), ("b", "b", held())], None);
        check(&[("b", "b", Event::Removed), ("b", "b", Event::Stopped)], None);
        // A removal remains in effect after a hold, after the end of a hold, and after the end of a
        // quarantine.
        let let_go = || Event::Released { by: By::Operator, forgives: false, who: None };
        let gone = [("b", "b", held()), ("b", "b", Event::Removed)];
        check(&[&gone[..], &[("b", "b", let_go())]].concat(), None);
        check(&[("b", "b", Event::Removed), ("b", "b", held()), ("b", "b", let_go())], None);
        check(&[("b", "b", Event::Removed), ("b", "b", released())], None);
        check(&[("b", "b", held()), ("b", "b", let_go())], Some("b"));
        let again = [("a", "", started()), ("a", "a", held()), ("a", "a", Event::Stopped)];
        check(&again, None);
        check(&[&again[..], &[("a", "a", let_go())]].concat(), Some("a"));
        check(&[("b", "b", Event::Removed), ("a", "", started())], Some("a"));
        // The version was leaving the scan for a cold restart.
        check(&[("a", "", started()), ("a", "a", Event::Stopped)], Some("a"));
    }

    /// A defect of the past: a daemon in recovery, or a daemon that is killed at once, does not run
    /// the version that ran before. The next daemon had no record of this version. If the file was
    /// bad, no version ran.
    #[tokio::test]
    async fn what_ran_is_known_until_something_has_run() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        // Simulates one daemon with these receipts, from its start to its end. Returns the version
        // that ran before its start, and the version that is recorded for the next daemon.
        let life = async |all: &[(&str, &str, Event)]| {
            let mut versions = Versions::load(Some(Arc::clone(&folder)), &[]);
            let before = versions.ran("tank");
            receipts(all).iter().for_each(|entry| versions.on_receipt(&entry.what, Duration::ZERO));
            versions.save_last(None, Duration::ZERO).await;
            (before, versions.ran("tank"))
        };
        let (a, b) = (Some(hash("a")), Some(hash("b")));
        assert_eq!(life(&[("a", "", started())]).await, (None, None));
        assert_eq!(life(&[]).await, (a, a));
        assert_eq!(life(&[]).await, (a, a));
        // Receipts that are added at the start come after the content of the file.
        let load =
            |all: &[_]| Versions::load(Some(Arc::clone(&folder)), &receipts(all)).ran("tank");
        assert_eq!(load(&[]), a);
        assert_eq!(load(&[("b", "", started()), ("b", "b", Event::Stopped)]), b);
        let held = Event::Held { by: By::Operator, who: None };
        life(&[("", "", held)]).await;
        assert_eq!(life(&[]).await.0, None, "the hold has priority over the version that ran");
        assert_eq!(life(&[("a", "", started())]).await.0, None);
        assert_eq!(life(&[]).await, (a, a));
        assert_eq!(life(&[("b", "", started())]).await, (a, None), "another version runs");
        assert_eq!(life(&[]).await, (b, b));
        assert_eq!(life(&[("", "", Event::Removed)]).await, (b, None));
    }

    /// A defect of the past: a version trapped, and then an order removed or held it. The next
    /// start treated this version as the version that ran.
    #[test]
    fn what_an_order_ends_while_it_waits_does_not_run_after_a_start() {
        let held = Event::Held { by: By::Operator, who: None };
        let ran = |order: &[(&str, &str, Event)]| {
            let waits = [("a", "", started()), ("a", "a", trapped())];
            Versions::load(None, &receipts(&[&waits, order].concat())).ran("tank")
        };
        assert_eq!(ran(&[]), Some(hash("a")));
        for order in [held, Event::Removed] {
            assert_eq!(ran(&[("a", "a", order), ("a", "a", Event::Stopped)]), None);
        }
    }

    /// When the daemon looks for missing files, a file may still be copied. Then the daemon may not
    /// have its name yet.
    #[test]
    fn what_ran_is_forgotten_where_its_file_is_gone() {
        let mut versions = Versions::load(None, &receipts(&[("a", "", started())]));
        assert_eq!(versions.forget_what_ran(|name| name == "tank"), [""; 0]);
        assert_eq!((versions.ran("tank"), versions.changes), (Some(hash("a")), 1));
        assert_eq!(versions.forget_what_ran(|_| false), ["tank"]);
        assert_eq!((versions.ran("tank"), versions.changes), (None, 2));
    }

    /// A defect of the past: after two orderly runs of some seconds, the version was treated as a
    /// version that had never run.
    #[tokio::test]
    async fn the_time_that_it_has_run_is_written_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        for life in 1..=2 {
            let mut versions = Versions::load(Some(Arc::clone(&folder)), &[]);
            let now = Duration::from_secs(50);
            versions.on_receipt(&receipts(&[("a", "", started())])[0].what, now);
            versions.save(None, now);
            versions.save_last(None, now + Duration::from_secs(7)).await;
            let loaded = Versions::load(Some(Arc::clone(&folder)), &[]);
            let found = loaded.find("tank", hash("a")).unwrap();
            assert_eq!(found.ran, Duration::from_secs(7 * life));
        }
    }

    #[test]
    fn who_trapped_is_good_again_when_the_operator_says_so_and_it_proves_itself() {
        let mut versions = Versions::load(None, &receipts(&[("a", "", started())]));
        let prove = |versions: &mut Versions| {
            versions.proved("tank", hash("a"), vec![], |_| true, Duration::ZERO)
        };
        let unproven = versions.find("tank", hash("a")).unwrap().soundness();
        assert_eq!(unproven, Soundness::Unproven);
        assert_eq!(prove(&mut versions), Soundness::Good);
        let both = receipts(&[("a", "a", trapped()), ("a", "a", released())]);
        let (trap, release) = (&both[0], &both[1]);
        versions.on_receipt(&trap.what, Duration::ZERO);
        assert_eq!(
            prove(&mut versions),
            Soundness::Bad,
            "a further instance does not make the version good"
        );
        versions.on_receipt(&release.what, Duration::ZERO);
        assert_eq!(versions.soundness("tank", hash("a")), Soundness::Bad);
        assert_eq!(prove(&mut versions), Soundness::Good);
        versions.on_receipt(&trap.what, Duration::ZERO);
        assert_eq!(prove(&mut versions), Soundness::Bad, "a second trap after the release");
        assert_eq!(versions.soundness("tank", hash("never seen")), Soundness::Good);
    }

    #[test]
    fn who_loses_an_output_is_in_doubt_until_it_has_run_for_a_day() {
        let mut versions = Versions::default();
        let start = Duration::from_secs(100);
        let two = || vec!["lamp".to_owned(), "pump".to_owned()];
        let mut prove = |text: &str, outputs: Vec<String>, lost: bool, now| {
            let receipt = &receipts(&[(text, "", started())])[0].what;
            versions.on_receipt(receipt, start);
            versions.proved("tank", hash(text), outputs, |_| lost, now)
        };
        assert_eq!(prove("a", two(), true, start), Soundness::Good, "the first has lost nothing");
        assert_eq!(prove("b", vec![], true, start), Soundness::Doubtful);
        assert_eq!(prove("c", vec!["lamp".into()], true, start), Soundness::Doubtful);
        assert_eq!(prove("b", two(), true, start), Soundness::Good, "b writes the outputs late");
        assert_eq!(
            prove("c", vec!["lamp".into()], false, start),
            Soundness::Good,
            "another plugin owns the output now"
        );
        assert_eq!(prove("a", two(), true, start), Soundness::Good);
        assert_eq!(prove("d", vec![], true, start), Soundness::Doubtful);
        assert_eq!(prove("d", vec![], true, start + DAY), Soundness::Good);
    }

    /// A defect of the past: a good version wrote its lamp output only on demand, after its
    /// probation. A later version that never wrote the lamp output was also treated as good.
    #[test]
    fn outputs_that_come_after_the_proof_count() {
        let mut versions = Versions::default();
        let lamp = || vec!["lamp".to_owned()];
        let prove = |versions: &mut Versions, text: &str, outputs| {
            versions.on_receipt(&receipts(&[(text, "", started())])[0].what, Duration::ZERO);
            versions.proved("tank", hash(text), outputs, |_| true, Duration::ZERO)
        };
        assert_eq!(prove(&mut versions, "a", vec![]), Soundness::Good);
        let changes = versions.changes;
        versions.owns("tank", hash("a"), lamp());
        assert_eq!(versions.changes, changes + 1);
        versions.owns("tank", hash("a"), lamp());
        assert_eq!(versions.changes, changes + 1, "the output is already recorded");
        assert_eq!(prove(&mut versions, "a", vec![]), Soundness::Good, "a new instance of it");
        assert_eq!(prove(&mut versions, "b", vec![]), Soundness::Doubtful);
        assert_eq!(prove(&mut versions, "b", lamp()), Soundness::Good);
        assert_eq!(
            prove(&mut versions, "b", vec![]),
            Soundness::Good,
            "b has written the output before"
        );
    }

    #[tokio::test]
    async fn they_are_written_and_the_receipts_since_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let folder = || Some(Arc::clone(&folder));
        let second = Duration::from_secs(1);
        let mut versions = Versions::load(folder(), &[]);
        let all = receipts(&[("a", "", started()), ("b", "a", swapped()), ("b", "b", trapped())]);
        for (n, entry) in all[..2].iter().enumerate() {
            versions.on_receipt(&entry.what, second * n as u32);
        }
        versions.proved("tank", hash("b"), vec!["lamp".into()], |_| true, second);
        versions.save(Some(2), 9 * second);
        versions.written_down().await;
        versions.save(Some(2), 10 * second);
        assert!(versions.writing.is_none(), "nothing has changed");
        drop(versions);
        let loaded = Versions::load(folder(), &all);
        let [a, b] = ["a", "b"].map(|text| loaded.find("tank", hash(text)).unwrap().clone());
        assert_eq!((a.ran, b.ran), (second, 8 * second));
        assert_eq!((a.soundness(), b.soundness()), (Soundness::Unproven, Soundness::Bad));
        assert_eq!(b.outputs, ["lamp"]);
        assert_eq!(loaded.ran("tank"), Some(hash("b")), "b waited for its restart");
        // A damaged file does not prevent the start. With a damaged file, only the receipts are
        // used.
        for bad in ["", "[]", "{\"seq\":1}"] {
            std::fs::write(dir.path().join(FILE), bad).unwrap();
            let loaded = Versions::load(folder(), &all[..2]);
            assert_eq!(loaded.ran("tank"), Some(hash("b")), "{bad:?}");
        }
    }

    /// A defect of the past: the disk was full at the moment of a quarantine. After a crash within
    /// the hour, the quarantine was lost.
    #[tokio::test]
    async fn what_the_disk_did_not_take_is_written_soon() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let in_the_way = dir.path().join(format!("{FILE}.tmp"));
        std::fs::create_dir(&in_the_way).unwrap();
        let mut versions = Versions::load(Some(folder), &[]);
        versions.on_receipt(&receipts(&[("a", "", started())])[0].what, Duration::ZERO);
        versions.save(Some(1), Duration::ZERO);
        versions.written_down().await;
        let trouble = versions.trouble().expect("the write has failed");
        assert!(trouble.ends_with("versions.json cannot be written"), "{trouble}");
        std::fs::remove_dir(in_the_way).unwrap();
        for (at, is_written) in [(SAVE_AGAIN / 2, false), (SAVE_AGAIN, true), (SAVE_EVERY, false)] {
            versions.save(Some(1), at);
            assert_eq!(versions.writing.is_some(), is_written, "after {at:?}");
            if is_written {
                versions.written_down().await;
            }
        }
        assert!(dir.path().join(FILE).exists());
        assert_eq!(versions.trouble(), None);
    }

    /// A defect of the past: the next write replaced a damaged file, and versions that were bad
    /// before were treated as good.
    #[tokio::test]
    async fn a_damaged_file_is_set_aside_and_what_cannot_be_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let file = |name: &str| std::fs::read(dir.path().join(name)).unwrap_or_default();
        let aside = format!("{FILE}.damaged");
        std::fs::write(dir.path().join(FILE), "damaged").unwrap();
        let live = async || {
            let mut versions = Versions::load(Some(Arc::clone(&folder)), &[]);
            versions.on_receipt(&receipts(&[("a", "", started())])[0].what, Duration::ZERO);
            versions.save(Some(1), Duration::from_secs(9));
            if let Some(writing) = versions.writing.take() {
                writing.await.unwrap();
            }
            versions.trouble()
        };
        assert_eq!(live().await, None);
        assert_eq!(file(&aside), b"damaged");
        assert!(file(FILE).starts_with(b"{"), "a new one begins");
        // A directory exists at the target path, so the file cannot be moved to that path.
        std::fs::write(dir.path().join(FILE), "damaged").unwrap();
        std::fs::remove_file(dir.path().join(&aside)).unwrap();
        std::fs::create_dir(dir.path().join(&aside)).unwrap();
        let trouble = live().await.expect("no write is possible in this life");
        assert!(trouble.contains("does not write it"), "{trouble}");
        assert_eq!(file(FILE), b"damaged");
    }

    /// A defect of the past: a series of new versions displaced the record of the version in
    /// quarantine, and its file ran again.
    #[test]
    fn what_is_in_quarantine_is_remembered_longest() {
        let mut versions = Versions::default();
        let mut on_receipt = |text: &str, event| {
            versions.on_receipt(&receipts(&[(text, "", event)])[0].what, Duration::ZERO);
            (versions.of("tank").len(), versions.find("tank", hash("bad")).is_some())
        };
        on_receipt("bad", started());
        on_receipt("bad", quarantined());
        for n in 0..3 * MAX_VERSIONS {
            assert!(on_receipt(&n.to_string(), started()).1, "after {n} others");
        }
        // If all versions are in quarantine, the oldest is dropped first.
        let last = (0..MAX_VERSIONS).map(|n| on_receipt(&format!("bad{n}"), quarantined())).last();
        assert_eq!(last, Some((MAX_VERSIONS, false)));
    }

    /// The file has the number of the last receipt that it includes. The operator's release of one
    /// version has no receipt. So if an old trap were added a second time, it would cancel this
    /// release.
    #[tokio::test]
    async fn a_receipt_counts_once_over_a_start_and_the_next_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let load = |receipts: &[_]| Versions::load(Some(Arc::clone(&folder)), receipts);
        let trap = || ("a", "a", trapped());
        let all = receipts(&[("a", "", started()), trap(), trap()]);
        let mut versions = load(&[]);
        all[..2].iter().for_each(|entry| versions.on_receipt(&entry.what, Duration::ZERO));
        versions.forgive("tank", hash("a"));
        versions.proved("tank", hash("a"), vec![], |_| true, Duration::ZERO);
        versions.save(Some(2), Duration::ZERO);
        versions.written_down().await;
        let soundness = |count| load(&all[..count]).soundness("tank", hash("a"));
        assert_eq!(soundness(2), Soundness::Good);
        assert_eq!(soundness(3), Soundness::Bad);
        // If the history was deleted, there are no receipts to add, and the record remains
        // unchanged.
        assert_eq!(soundness(0), Soundness::Good);
    }

    #[test]
    fn there_are_limits() {
        let mut versions = Versions::default();
        let mut start = |name: &str, version: usize, is_good: bool| {
            let text = version.to_string();
            let Receipt { cycle, old_hash, event, hash: digits, .. } =
                receipts(&[(&text, "", started())]).remove(0).what;
            let plugin = Some(name.to_owned());
            let receipt = Receipt { plugin, cycle, old_hash, event, hash: digits };
            versions.on_receipt(&receipt, Duration::ZERO);
            if is_good {
                versions.proved(name, hash(&text), vec![], |_| true, Duration::ZERO);
            }
            (versions.of(name).len(), versions.find(name, hash("0")).is_some())
        };
        start("tank", 0, true);
        let many = (1..100).map(|n| start("tank", n, false)).max();
        assert_eq!(many, Some((MAX_VERSIONS, true)), "the good version remains");
        assert_eq!(start("tank", 100, false), (MAX_VERSIONS, true));
        for n in 0..2 * MAX_NAMES {
            start(&format!("p{n}"), 0, true);
        }
        assert_eq!(versions.sum.plugins.len(), MAX_NAMES);
    }
}
