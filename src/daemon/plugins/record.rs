//! The record: the receipts of the events of each plugin. The journal stores the receipts.
//!
//! ```text
//!   scan: takeovers, traps ──────────┐
//!   supervisor: events ──────────────┼──▶ Record ──▶ journal (only some receipts of a streak)
//!   operators, files: orders ────────┘       └─────▶ Versions (all receipts)
//! ```
//! A program may trap every half minute for a month. Such a series of equal events is a *streak*.
//! The receipts of these traps must not displace all other receipts from the journal, so the
//! journal stores only some receipts of a long streak. Next: `control/receipt.rs` (a receipt),
//! `journal.rs`, `line.rs` (log lines).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::line::took_over;
use super::rate::{LineStore, Lines};
use super::roster;
use super::version::Versions;
use crate::clock::{Clock, MonotonicClock};
use crate::control::{By, Event, Ordered, Receipt, SwapView, Who};
use crate::journal::{Entry, Journal};
use crate::plugin::shadow::ShadowReport;
use crate::plugin::{Generation, ModuleHash, Refusal, Trap};
use crate::scan::ProgramFact;
use crate::state::Folder;
use crate::supervisor::Note;
use crate::text::counted;

/// The journal stores the receipts of the first events of a streak, up to this number, and later
/// only those of events 8, 16, 32 and so on: about 20 of a million. The number equals the default
/// number of traps that lead to quarantine.
const TOLD_IN_FULL: u64 = 5;

/// The limit of history lines for orders to hold, to release and to restart one plugin. An operator
/// enters fewer orders per day, but a script can send more.
const ORDERS: Lines = Lines { full: 100, refill: Duration::from_secs(600) };

/// The limit of history lines for refusals of all plugins together.
const REFUSALS: Lines = Lines { full: 300, refill: Duration::from_secs(120) };

/// The journal, and for each plugin the data that are computed from its receipts.
#[derive(Debug)]
pub(in crate::daemon) struct Record {
    /// The receipts, on the disk or in memory.
    journal: Journal<Receipt>,
    /// The record of each version, computed from all its receipts.
    pub(in crate::daemon) versions: Versions,
    /// The data that are computed from the receipts, for each plugin by name.
    plugins: HashMap<String, PluginHistory>,
    /// The remaining history lines for refusals of all plugins.
    refusals: LineStore,
    /// The cycle of the newest snapshot that `settle_swaps` has used.
    pub(in crate::daemon) cycle: u64,
}

/// The data that are computed from the receipts of one plugin.
#[derive(Debug, Default)]
struct PluginHistory {
    /// The version in the scan, even if it has trapped.
    runs: Option<ModuleHash>,
    /// Whether the newest instance of `runs` has trapped.
    is_down: bool,
    /// The two newest instances whose traps are counted. After a rollback, the snapshot shows the
    /// traps of two instances, so both must be stored.
    counted: [Generation; 2],
    /// The number of traps since a start of another version, a hold, a release or a restart order.
    traps: u64,
    /// The hash of the last refused version, if known, and the number of its refusals in a row.
    refused: Option<(Option<ModuleHash>, u64)>,
    /// The remaining history lines for orders to hold, to release and to restart the plugin.
    orders: LineStore,
    /// The report of the last shadow run, until its version takes over or is refused.
    tried: Option<(ModuleHash, ShadowReport)>,
}

impl PluginHistory {
    /// Removes and returns the report of this version's shadow run, if the report exists.
    fn shadow_of(&mut self, hash: ModuleHash) -> Option<ShadowReport> {
        self.tried.take_if(|(tried, _)| *tried == hash).map(|(_, report)| report)
    }
}

impl Record {
    /// Returns a record with this journal. `folder` is the folder for the file of [`Versions`].
    pub(in crate::daemon) fn new(journal: Journal<Receipt>, folder: Option<Arc<Folder>>) -> Self {
        let versions = Versions::load(folder, &journal.newest(usize::MAX, |_| true));
        let (plugins, refusals) = (HashMap::new(), LineStore::default());
        Self { journal, versions, plugins, refusals, cycle: 0 }
    }

    /// Writes the record of versions if it has changed or its interval is over. Checks whether the
    /// disk of the journal answers.
    pub(in crate::daemon) fn save(&mut self, now: Duration) {
        self.journal.check_lateness();
        self.versions.save(self.journal.last_seq(), now);
    }

    /// Writes the record of versions at the end of the daemon. The wait for the disk is limited.
    pub(in crate::daemon) async fn save_last(&mut self) {
        self.versions.save_last(self.journal.last_seq(), MonotonicClock.now()).await;
    }

    /// Returns the newest receipts about this name of a plugin, point, variable or device. `None`
    /// returns the receipts of all names.
    pub(in crate::daemon) fn newest(
        &self,
        limit: usize,
        name: Option<&str>,
    ) -> Vec<Entry<Receipt>> {
        let is_about = |receipt: &Receipt, name: &str| {
            let target = match &receipt.event {
                Event::Ordered(ordered) => ordered.target.as_deref(),
                _ => None,
            };
            [receipt.plugin.as_deref(), target].contains(&Some(name))
        };
        self.journal.newest(limit, |receipt| name.is_none_or(|name| is_about(receipt, name)))
    }

    /// Reason why receipts or the record of versions can be lost; `None` if the disk has them.
    pub(in crate::daemon) fn trouble(&self) -> Option<String> {
        let versions = || Some(format!("record of versions: {}", self.versions.trouble()?));
        self.journal.trouble().or_else(versions)
    }

    /// Stores the report of this version's shadow run.
    pub(in crate::daemon) fn tried(&mut self, name: &str, hash: ModuleHash, report: ShadowReport) {
        self.history(name).tried = Some((hash, report));
    }

    /// Records the scan's facts about a plugin: which version has taken the seat, and which version
    /// has trapped. `missed` is the number of cycles that the scan has missed since its start.
    pub(super) fn settle(
        &mut self,
        name: &str,
        entry: &mut roster::Entry,
        fact: &ProgramFact,
        missed: u64,
    ) {
        // An older version that was rolled back is recorded before the version on the seat.
        let is_older = |rolled_back: &&ProgramFact| rolled_back.generation < fact.generation;
        if let Some(older) = fact.rolled_back.as_deref().filter(is_older) {
            self.settle(name, entry, older, missed);
        }
        // A newer version that was rolled back is recorded after the version on the seat.
        let rolled_back = fact.rolled_back.as_deref().filter(|rolled_back| !is_older(rolled_back));
        for fact in [Some(fact), rolled_back].into_iter().flatten() {
            if let Some(done) = entry.arrived(fact.generation) {
                let swap = done.shown(fact, missed);
                entry.last_swap = Some(swap);
                took_over(name, swap, fact.since_cycle);
                self.took_over(name, fact.hash, swap, fact.since_cycle);
            }
        }
        entry.forget_ordered(rolled_back.unwrap_or(fact).generation);
        for fact in [rolled_back, Some(fact)].into_iter().flatten() {
            if let Some(trap) = &fact.trap {
                self.trapped(name, fact.generation, fact.hash, trap);
            }
        }
    }

    /// Records that an instance of this version has taken its seat in the cycle `cycle`.
    pub(in crate::daemon) fn took_over(
        &mut self,
        name: &str,
        hash: ModuleHash,
        swap: SwapView,
        cycle: u64,
    ) {
        let history = self.history(name);
        let before = history.runs.replace(hash);
        (history.refused, history.is_down) = (None, false);
        let event = match before {
            None => Event::Started { swap },
            Some(before) if before == hash => Event::Restarted { swap },
            Some(_) => Event::Swapped { swap, shadow: history.shadow_of(hash) },
        };
        if before != Some(hash) {
            history.traps = 0;
        }
        let now = MonotonicClock.now();
        let is_told = match before == Some(hash) {
            false => true,
            // No trap was counted before this restart, so an operator has ordered it.
            true if history.traps == 0 => history.orders.take(ORDERS, now),
            true => is_told(history.traps),
        };
        self.add_some(is_told, name, cycle, (Some(hash), before), event);
    }

    /// Records that an instance of this version has trapped. Several calls may report the same
    /// trap, but only the first call records it.
    fn trapped(&mut self, name: &str, generation: Generation, hash: ModuleHash, trap: &Trap) {
        let history = self.history(name);
        if history.counted.contains(&generation) {
            return;
        }
        history.counted = [generation, history.counted[0]];
        history.traps += 1;
        history.is_down |= history.runs == Some(hash);
        let (count, hash) = (history.traps, Some(hash));
        let event = Event::Trapped { trap: trap.clone(), count };
        self.add_some(is_told(count), name, trap.cycle, (hash, hash), event);
    }

    /// Records that `file` is the crash report of a trap of this version.
    pub(in crate::daemon) fn reported(&mut self, name: &str, hash: ModuleHash, file: String) {
        self.add(name, self.cycle, Some(hash), None, Event::Reported { file });
    }

    /// Records that this version, or a file without a known hash, is refused.
    pub(in crate::daemon) fn refused(
        &mut self,
        name: &str,
        hash: Option<ModuleHash>,
        refusal: &Refusal,
    ) {
        self.turned_away(name, hash, refusal, None);
    }

    /// Records that this version, or a file without a known hash, is refused. If `who` is set, this
    /// user tried to deploy the version, and the daemon wrote no file.
    pub(in crate::daemon) fn turned_away(
        &mut self,
        name: &str,
        hash: Option<ModuleHash>,
        refusal: &Refusal,
        who: Option<Who>,
    ) {
        let history = self.history(name);
        let row = history.refused.filter(|(refused, _)| *refused == hash).map_or(0, |(_, n)| n);
        let count = row + 1;
        history.refused = Some((hash, count));
        let runs = history.runs.filter(|_| !history.is_down);
        let shadow = hash.and_then(|hash| history.shadow_of(hash));
        if is_told(count) && self.refusals.take(REFUSALS, MonotonicClock.now()) {
            let Refusal { reason, remedy, .. } = refusal.clone();
            let event = Event::Refused { reason, remedy, count, shadow, who };
            self.add(name, self.cycle, hash, runs, event);
        }
    }

    /// Records an event of the supervisor. `why` returns the reason why a module is in quarantine.
    pub(in crate::daemon) fn noted(
        &mut self,
        name: &str,
        note: &Note,
        why: impl Fn(ModuleHash) -> Option<String>,
    ) {
        match note {
            Note::Refused { hash, refusal } => self.refused(name, Some(*hash), refusal),
            Note::Quarantined { hash, traps } => {
                let traps = || format!("{} in a short time", counted(*traps, "trap"));
                self.quarantined(name, *hash, why(*hash).unwrap_or_else(traps));
            }
            Note::GivenUp { hash, why } => self.quarantined(name, *hash, why.clone()),
            Note::StillQuarantined { hash, why } => {
                self.quarantined(name, *hash, format!("it was in quarantine already: {why}"));
            }
            Note::StandsIn { of, hash } => {
                self.add(name, self.cycle, Some(*hash), *of, Event::StandsIn);
            }
            Note::RolledBack { from, to } => {
                let history = self.history(name);
                (history.runs, history.is_down) = (Some(*to), false);
                self.add(name, self.cycle, Some(*to), Some(*from), Event::Rollback);
            }
            Note::Stopped => {
                let runs = self.history(name).runs.take();
                self.add(name, self.cycle, runs, runs, Event::Stopped);
            }
            Note::Started(_)
            | Note::Restarting { .. }
            | Note::Retrying { .. }
            | Note::TriedInstead { .. } => {}
        }
    }

    /// Records that this version is in quarantine.
    pub(in crate::daemon) fn quarantined(&mut self, name: &str, hash: ModuleHash, reason: String) {
        let runs = self.history(name).runs;
        self.add(name, self.cycle, Some(hash), runs, Event::Quarantined { reason });
    }

    /// Records that the plugin is held.
    pub(in crate::daemon) fn held(&mut self, name: &str, by: By, who: Option<Who>) {
        self.switched(name, Event::Held { by, who });
    }

    /// Records that the plugin is released. `forgives` is true if the release ends the quarantine,
    /// and false if it ends a hold.
    pub(in crate::daemon) fn released(
        &mut self,
        name: &str,
        by: By,
        forgives: bool,
        who: Option<Who>,
    ) {
        self.switched(name, Event::Released { by, forgives, who });
    }

    /// Records an order with its result; returns the receipt of the order.
    pub(in crate::daemon) fn ordered(
        &mut self,
        plugin: Option<String>,
        hash: Option<ModuleHash>,
        old_hash: Option<ModuleHash>,
        ordered: Ordered,
    ) -> Receipt {
        let (hash, old_hash) = (digits(hash), digits(old_hash));
        let event = Event::Ordered(ordered);
        let receipt = Receipt { plugin, cycle: self.cycle, hash, old_hash, event };
        self.journal.add(receipt.clone());
        receipt
    }

    /// Records a hold or a release. The journal gets equal orders in a row one time, and at most
    /// the orders that [`ORDERS`] allows, because a script may repeat an order every minute.
    fn switched(&mut self, name: &str, event: Event) {
        self.afresh(name);
        let runs = self.history(name).runs;
        let is_meant = |receipt: &Receipt| {
            // Between equal orders, a stop (an order to hold causes it) and a crash report are
            // ignored.
            let is_aside = matches!(receipt.event, Event::Stopped | Event::Reported { .. });
            receipt.plugin.as_deref() == Some(name) && !is_aside
        };
        let last = self.journal.newest(1, is_meant).pop();
        // The record of versions gets every order, even if the journal does not.
        let is_told = last.is_none_or(|last| last.what.event != event)
            && self.history(name).orders.take(ORDERS, MonotonicClock.now());
        self.add_some(is_told, name, self.cycle, (runs, runs), event);
    }

    /// Sets the counts of traps and refusals to zero, after a hold, release or restart order.
    pub(in crate::daemon) fn afresh(&mut self, name: &str) {
        let history = self.history(name);
        (history.traps, history.refused) = (0, None);
    }

    /// Records that the plugin's file was removed.
    pub(in crate::daemon) fn removed(&mut self, name: &str) {
        let runs = self.history(name).runs;
        self.add(name, self.cycle, runs, runs, Event::Removed);
    }

    /// Drops the history data of plugins that the supervisor has dropped, but not the receipts.
    pub(in crate::daemon) fn forget(&mut self, is_known: impl Fn(&str) -> bool) {
        self.plugins.retain(|name, _| is_known(name));
    }

    /// Returns the [`PluginHistory`] of this plugin. Creates an empty one if none exists.
    fn history(&mut self, name: &str) -> &mut PluginHistory {
        self.plugins.entry(name.to_owned()).or_default()
    }

    /// Adds a receipt to the record of its version and to the journal.
    fn add(
        &mut self,
        name: &str,
        cycle: u64,
        hash: Option<ModuleHash>,
        old_hash: Option<ModuleHash>,
        event: Event,
    ) {
        self.add_some(true, name, cycle, (hash, old_hash), event);
    }

    /// Adds a receipt to the record of its version. If `is_told` is true, also adds the receipt to
    /// the journal. `is_told` is false for most events of a long streak or series of orders.
    fn add_some(
        &mut self,
        is_told: bool,
        name: &str,
        cycle: u64,
        (hash, old_hash): (Option<ModuleHash>, Option<ModuleHash>),
        event: Event,
    ) {
        let (hash, old_hash) = (digits(hash), digits(old_hash));
        let receipt = Receipt { plugin: Some(name.to_owned()), cycle, hash, old_hash, event };
        self.versions.on_receipt(&receipt, MonotonicClock.now());
        if is_told {
            self.journal.add(receipt);
        }
    }
}

/// Returns all 64 hexadecimal digits of a hash.
fn digits(hash: Option<ModuleHash>) -> Option<String> {
    hash.map(|hash| format!("{hash:#}"))
}

/// Whether the journal stores the receipt of event number `n` of a streak.
fn is_told(n: u64) -> bool {
    n <= TOLD_IN_FULL || n.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::super::roster::Roster;
    use super::*;
    use crate::control::Soundness;
    use crate::plugin::instance::program::Takeover;
    use crate::process::seat::Seat;

    fn hash(version: &str) -> ModuleHash {
        ModuleHash::of(version.as_bytes())
    }

    impl Record {
        async fn save_and_wait(&mut self) {
            self.save(Duration::from_secs(9));
            self.versions.written_down().await;
        }
    }

    fn record() -> Record {
        Record::new(Journal::in_memory("a test"), None)
    }

    /// A defect of the past: one daemon could not open the history, and the next daemon added the
    /// old receipts a second time. Because of an old release in the history, a quarantined version
    /// ran. A disk that did not answer had the same effect.
    #[tokio::test]
    async fn receipts_of_before_count_once_though_a_life_had_no_history() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let written = || Journal::open(dir.path()).unwrap();
        let life = |journal| Record::new(journal, Some(Arc::clone(&folder)));
        let mut first = life(written());
        first.took_over("x", hash("bad"), SwapView::default(), 0);
        first.quarantined("x", hash("bad"), "5 traps".into());
        first.released("x", By::Operator, true, None);
        first.save_and_wait().await;
        drop(first);
        let mut second = life(Journal::in_memory("it cannot be opened"));
        second.quarantined("x", hash("bad"), "5 traps".into());
        second.save_and_wait().await;
        let third = life(written());
        let found = third.versions.find("x", hash("bad")).unwrap();
        assert_eq!(found.quarantine.as_deref(), Some("5 traps"));
    }

    /// Returns the recorded events: the kind of each receipt, and the count of its streak if the
    /// receipt has a count.
    fn history(record: &Record) -> Vec<String> {
        let kind = |entry: Entry<Receipt>| match entry.what.event {
            Event::Started { .. } => "started".into(),
            Event::Swapped { .. } => "swapped".into(),
            Event::Restarted { .. } => "restarted".into(),
            Event::Refused { count, .. } => format!("refused {count}"),
            Event::Trapped { count, .. } => format!("trapped {count}"),
            Event::Quarantined { .. } => "quarantined".into(),
            Event::StandsIn => "stands_in".into(),
            Event::Held { .. } => "held".into(),
            Event::Released { .. } => "released".into(),
            Event::Removed => "removed".into(),
            Event::Stopped => "stopped".into(),
            Event::Rollback => "rollback".into(),
            Event::Reported { .. } => "reported".into(),
            Event::Ordered(_) => "ordered".into(),
        };
        record.newest(usize::MAX, None).into_iter().map(kind).collect()
    }

    fn trap(record: &mut Record, generation: u64) {
        let kind = "unreachable".into();
        let trap = Trap { kind, function: None, offset: None, cycle: generation };
        record.trapped("x", Generation(generation), hash("one"), &trap);
    }

    #[test]
    fn a_take_over_is_named_by_what_was_there() {
        let mut record = record();
        for version in ["one", "one", "two"] {
            record.took_over("x", hash(version), SwapView::default(), 7);
        }
        record.forget(|_| false);
        record.took_over("x", hash("two"), SwapView::default(), 9);
        assert_eq!(history(&record), ["started", "restarted", "swapped", "started"]);
        let receipt = &record.newest(2, Some("x"))[0].what;
        assert_eq!(receipt.hash, Some(format!("{:#}", hash("two"))));
        assert_eq!(receipt.old_hash, Some(format!("{:#}", hash("one"))));
        assert_eq!((receipt.plugin.as_deref(), receipt.cycle), (Some("x"), 7));
        assert_eq!(record.newest(9, Some("y")), []);
    }

    /// Returns the fact about the instance with this number. Its version has the name "v" with the
    /// same number.
    fn fact(number: u64) -> ProgramFact {
        ProgramFact {
            seat: Seat(0),
            generation: Generation(number),
            hash: hash(&format!("v{number}")),
            polls: 0,
            since_cycle: number,
            since: Duration::ZERO,
            degraded: false,
            memory_bytes: 0,
            trap: None,
            takeover: Takeover::default(),
            is_proven: false,
            standby: None,
            rolled_back: None,
        }
    }

    /// Records that the instance with this number was ordered into the scan.
    fn order(entry: &mut roster::Entry, number: u64) {
        let hash = hash(&format!("v{number}"));
        let (generation, times) = (Generation(number), SwapView::default());
        let what = roster::Ordered { hash, generation, times, at: Duration::ZERO, missed: 0 };
        entry.order(what, Arc::default());
    }

    /// A defect of the past: a version trapped in its first poll while the next version was already
    /// in the queue. The trap was counted for the good version that ran again. So this good version
    /// was never chosen later.
    #[test]
    fn who_trapped_is_blamed_though_another_was_ordered_meanwhile() {
        let (mut record, mut roster) = (record(), Roster::default());
        let entry = roster.enter("x").unwrap();
        let trap = Trap { kind: "unreachable".into(), function: None, offset: None, cycle: 7 };
        let rolled_back = ProgramFact { trap: Some(Arc::new(trap)), ..fact(2) };
        let back = ProgramFact { rolled_back: Some(Arc::new(rolled_back)), ..fact(1) };
        order(entry, 1);
        record.settle("x", entry, &fact(1), 0);
        order(entry, 2);
        order(entry, 3);
        record.settle("x", entry, &back, 0);
        record.settle("x", entry, &back, 0);
        record.noted("x", &Note::RolledBack { from: hash("v2"), to: hash("v1") }, |_| None);
        record.settle("x", entry, &fact(3), 0);
        assert_eq!(history(&record), ["started", "swapped", "trapped 1", "rollback", "swapped"]);
        let hashes = record.newest(usize::MAX, Some("x"));
        let hashes: Vec<_> = hashes.into_iter().map(|entry| entry.what.hash.unwrap()).collect();
        let expected = ["v1", "v2", "v2", "v1", "v3"].map(|version| format!("{:#}", hash(version)));
        assert_eq!(hashes, expected);
        let soundness = |version| record.versions.soundness("x", hash(version));
        assert_eq!((soundness("v1"), soundness("v2")), (Soundness::Good, Soundness::Bad));
        let why = record.versions.find("x", hash("v2")).unwrap().why();
        assert_eq!(why, Some("trapped on probation: unreachable, cycle 7"));
    }

    /// A defect of the past: the next version was already in the queue and took over in the next
    /// cycle. The trap of the previous version was not recorded, and its bytes ran again later.
    #[test]
    fn who_was_taken_back_is_blamed_though_the_next_one_took_over_at_once() {
        let (mut record, mut roster) = (record(), Roster::default());
        let entry = roster.enter("x").unwrap();
        order(entry, 1);
        record.settle("x", entry, &fact(1), 0);
        let trap = Trap { kind: "unreachable".into(), function: None, offset: None, cycle: 7 };
        let rolled_back = ProgramFact { trap: Some(Arc::new(trap)), ..fact(2) };
        order(entry, 2);
        order(entry, 3);
        let heir = ProgramFact { rolled_back: Some(Arc::new(rolled_back)), ..fact(3) };
        record.settle("x", entry, &heir, 0);
        record.settle("x", entry, &heir, 0);
        assert_eq!(history(&record), ["started", "swapped", "trapped 1", "swapped"]);
        assert_eq!(record.versions.soundness("x", hash("v2")), Soundness::Bad);
    }

    /// All events of the scan between two calls are recorded in the order in which they happened.
    #[test]
    fn take_overs_that_are_seen_together_have_receipts_in_their_order() {
        let (mut record, mut roster) = (record(), Roster::default());
        let entry = roster.enter("x").unwrap();
        for number in 1..=20 {
            order(entry, number);
        }
        let trap = Trap { kind: "unreachable".into(), function: None, offset: None, cycle: 7 };
        let rolled_back = ProgramFact { trap: Some(Arc::new(trap)), ..fact(15) };
        record.settle(
            "x",
            entry,
            &ProgramFact { rolled_back: Some(Arc::new(rolled_back)), ..fact(14) },
            0,
        );
        let is_waiting = |number: u64| entry.on_its_way(Generation(number)).is_some();
        assert!((1..=15).all(|number| !is_waiting(number)), "these swaps are dropped");
        assert!((16..=20).all(is_waiting));
        record.settle("x", entry, &fact(20), 0);
        assert_eq!(history(&record), ["started", "swapped", "trapped 1", "swapped"]);
        let hash = &record.newest(2, Some("x"))[0].what.hash;
        assert_eq!(hash.as_deref(), Some(&*format!("{:#}", super::tests::hash("v15"))));
    }

    #[test]
    fn a_crash_loop_does_not_flush_the_story_out() {
        let mut record = record();
        record.took_over("x", hash("one"), SwapView::default(), 0);
        for generation in 1..=1_000_000 {
            trap(&mut record, generation);
            trap(&mut record, generation); // seen again
            record.took_over("x", hash("one"), SwapView::default(), generation);
        }
        let told = history(&record);
        assert_eq!(told.len(), 1 + 2 * (5 + 17), "{told:?}");
        assert_eq!(told[..3], ["started", "trapped 1", "restarted"]);
        assert_eq!(told[10..13], ["restarted", "trapped 8", "restarted"]);
        // New bytes or a release begin a new count.
        record.took_over("x", hash("two"), SwapView::default(), 0);
        trap(&mut record, 1_000_001);
        record.afresh("x");
        trap(&mut record, 1_000_002);
        assert_eq!(history(&record)[told.len()..], ["swapped", "trapped 1", "trapped 1"]);
    }

    #[test]
    fn a_row_of_refusals_is_told_as_few() {
        let mut record = record();
        let refusal = Refusal::new("no room", "make some");
        (0..1000).for_each(|_| record.refused("x", Some(hash("one")), &refusal));
        assert_eq!(history(&record).len(), 5 + 7, "and 8, 16, ... 512");
        record.refused("x", Some(hash("two")), &refusal);
        record.refused("x", None, &refusal);
        assert_eq!(history(&record)[12..], ["refused 1", "refused 1"]);
    }

    /// A defect of the past: the history reported that a version continues, but this version was in
    /// quarantine.
    #[test]
    fn only_what_runs_goes_on_beside_a_refusal() {
        let mut record = record();
        let refusal = Refusal::new("no", "none");
        let goes_on = |record: &mut Record, version: &str| {
            record.refused("x", Some(hash(version)), &refusal);
            record.newest(1, Some("x"))[0].what.old_hash.clone()
        };
        assert_eq!(goes_on(&mut record, "a"), None, "at a start");
        record.took_over("x", hash("one"), SwapView::default(), 0);
        let one = digits(Some(hash("one")));
        assert_eq!(goes_on(&mut record, "b"), one);
        trap(&mut record, 1);
        assert_eq!(goes_on(&mut record, "c"), None, "the version has trapped");
        record.took_over("x", hash("one"), SwapView::default(), 0);
        assert_eq!(goes_on(&mut record, "d"), one);
    }

    #[test]
    fn the_same_order_again_is_no_news() {
        let mut record = record();
        record.held("x", By::Configuration, None);
        record.held("x", By::Operator, None);
        record.add("x", 7, None, None, Event::Stopped);
        record.held("x", By::Operator, None);
        record.held("y", By::Operator, None);
        record.released("x", By::Operator, false, None);
        record.released("x", By::Operator, false, None);
        assert_eq!(history(&record), ["held", "held", "stopped", "held", "released"]);
        record.released("x", By::Operator, true, None);
        assert_eq!(history(&record).len(), 6, "this release ends the quarantine");
    }

    /// A script holds and releases a plugin, restarts it, or deploys a refused module, without end.
    #[test]
    fn orders_without_end_do_not_flush_the_story_out() {
        let mut record = record();
        record.took_over("x", hash("one"), SwapView::default(), 0);
        let most = |lines: Lines| lines.full as usize + 1;
        for _ in 0..1000 {
            record.held("x", By::Operator, None);
            record.released("x", By::Operator, true, None);
            record.took_over("x", hash("one"), SwapView::default(), 0);
        }
        assert!(history(&record).len() <= 1 + most(ORDERS), "{}", history(&record).len());
        let refusal = Refusal::new("no module", "make one");
        for n in 0..1000 {
            let name = format!("p{}", n % 10);
            record.turned_away(&name, Some(hash(&n.to_string())), &refusal, None);
            record.forget(|name| name == "x");
        }
        assert!(history(&record).len() <= 1 + most(ORDERS) + most(REFUSALS));
        assert_eq!(history(&record)[0], "started");
    }
}
