//! The store of versions that have passed their probation, for a rollback or a fall-back.
//!
//! A rollback by the operator is in `keep/back.rs`, what people are told about versions in
//! `keep/list.rs`. What a kept version is worth when there is too little room is in
//! `keep/worth.rs`. Where versions lie is in `plugin/module/versions.rs`, their record in
//! `version.rs`, and which one runs where the file is no good in `recall.rs`. A version that traps
//! on probation is rolled back by the scan itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Plugins;
use super::loader::Module;
use crate::clock::{Clock, MonotonicClock};
use crate::config::Config;
use crate::control::{Code, Failure, Soundness};
use crate::daemon::link::ScanLink;
use crate::logged::OnChange;
use crate::patience::{PATIENCE, no_answer};
use crate::plugin::ModuleHash;
use crate::plugin::module::folder::MAX_PLUGINS;
use crate::plugin::module::versions::{Listing, Versions};
use crate::process::grant::Grant;
use crate::process::image::{Direction, PointId};
use crate::process::seat::Seat;
use crate::scan::Snapshot;

mod back;
mod choose;
mod list;
mod worth;

use worth::{Worth, rank, worth};

/// Room for news of the disk that was not taken yet: one for each plugin that passes its probation.
const MAX_NEWS: usize = MAX_PLUGINS;

/// The largest number of versions on their way to the disk, each with its bytes and a waiting
/// thread. A plant of a hundred plugins that all pass their probation at one time takes a second.
/// When a disk gives no answer, further versions are not kept.
const MAX_KEEPING: usize = MAX_PLUGINS;

/// The versions on the disk, by plugin, newest first.
type Listed = BTreeMap<String, Vec<ModuleHash>>;

/// The kept versions, as far as they are known without asking the disk.
#[derive(Debug)]
pub(in crate::daemon) struct Store {
    /// The versions on the disk; `None` without a state directory.
    pub(in crate::daemon) versions: Option<Versions>,
    /// The newest list of them; `None` until the disk was listed or had its time to answer.
    pub(in crate::daemon) listed: Option<Listed>,
    news: Receiver<News>,
    /// The sender of `news`, for the threads that wait for the disk.
    sender: SyncSender<News>,
    /// Held by the thread that uses the disk.
    turn: Arc<Mutex<()>>,
    /// Whether the supervisor does not know the newest list yet.
    pub(in crate::daemon) is_stale: bool,
    /// The change count of `version.rs` that the supervisor knows.
    pub(in crate::daemon) offered: u64,
    /// Plugins whose version the disk did not take, and when that is tried again.
    missed: BTreeMap<String, Duration>,
    /// Plugins whose versions cannot be read, and why.
    unread: BTreeMap<String, String>,
    /// Why no list can be made at all.
    unlisted: OnChange<Option<String>>,
    /// When a list was asked for that has not come yet.
    asked: Option<Duration>,
    /// When the disk is listed again, because the last list was not complete.
    list_at: Option<Duration>,
    /// The owner of each output at the last look.
    owners: Vec<Option<Seat>>,
}

/// How soon a version that the disk did not take is tried again. A disk that was full in the second
/// in which a version passed its probation must not leave it without a fall-back for months. A line
/// an hour fills no log.
const KEEP_AGAIN: Duration = Duration::from_secs(3600);

/// How soon a version is tried again that passed its probation while the kept ones were not known.
const KNOW_AGAIN: Duration = Duration::from_secs(1);

/// How soon versions that could not be listed are listed again. The operator may have repaired the
/// folder, and until then a plugin may be without a fall-back.
const LIST_AGAIN: Duration = Duration::from_secs(60);

/// What a thread has found on the disk.
#[derive(Debug)]
enum News {
    /// The list of all kept versions.
    All(io::Result<Listing>),
    /// The list of this plugin, which has changed.
    Of(String, Vec<ModuleHash>),
    /// The list of this plugin has changed and cannot be read; the reason is the second text.
    Unread(String, String),
    /// The disk did not take the version of this plugin.
    Missed(String),
}

impl Store {
    /// The store of the versions in this folder, which is listed in the background.
    pub(in crate::daemon) fn new(versions: Option<Versions>) -> Self {
        let (sender, news) = sync_channel(MAX_NEWS);
        let listed = versions.is_none().then(Listed::new);
        let mut store = Self {
            versions,
            listed,
            news,
            sender,
            turn: Arc::default(),
            is_stale: true,
            offered: 0,
            missed: BTreeMap::new(),
            unread: BTreeMap::new(),
            unlisted: OnChange::default(),
            asked: None,
            list_at: None,
            owners: Vec::new(),
        };
        store.list();
        store
    }

    /// Lists what lies on the disk, in the background.
    fn list(&mut self) {
        let Some(versions) = self.versions.clone() else { return };
        self.asked = Some(MonotonicClock.now());
        let (sender, turn) = (self.sender.clone(), Arc::clone(&self.turn));
        tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            // The receiver is gone only when the daemon stops.
            let _ = sender.send(News::All(versions.all()));
        });
    }

    /// Lists again what could not be listed, if it is time for that.
    fn list_again(&mut self, now: Duration) {
        if self.list_at.take_if(|at| now >= *at).is_some() {
            self.list();
        }
    }

    /// Takes in what the threads have found, and notes a list that has not come in time.
    fn collect(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Missed(name) => {
                    self.missed.insert(name, MonotonicClock.now() + KEEP_AGAIN);
                }
                News::All(Ok(Listing { kept, unread })) => {
                    self.asked = None;
                    if self.unlisted.changes_to(None) {
                        tracing::info!("the versions that are kept are known again");
                    }
                    let is_news =
                        |(name, why): &(&String, &String)| self.unread.get(*name) != Some(*why);
                    for (name, why) in unread.iter().filter(is_news) {
                        tracing::error!(
                            plugin = name,
                            why,
                            "{name}: its kept versions cannot be read: {why}; it cannot go back to \
                             one of them"
                        );
                    }
                    self.list_at = (!unread.is_empty()).then(|| MonotonicClock.now() + LIST_AGAIN);
                    (self.listed, self.unread, self.is_stale) = (Some(kept), unread, true);
                }
                News::Unread(name, why) => {
                    self.unread.insert(name, why);
                    self.list_at = Some(MonotonicClock.now() + LIST_AGAIN);
                }
                News::Of(name, list) => {
                    self.unread.remove(&name);
                    self.listed.get_or_insert_default().insert(name, list);
                    self.is_stale = true;
                }
                News::All(Err(error)) => {
                    self.asked = None;
                    self.list_at = Some(MonotonicClock.now() + LIST_AGAIN);
                    self.is_not_listed(&error);
                }
            }
        }
        // An answer may have waited while this process stood still.
        self.look_for_lateness();
    }

    /// Says that the disk has not listed what is kept within [`PATIENCE`].
    fn look_for_lateness(&mut self) {
        let is_late = |at: &mut Duration| MonotonicClock.now() >= *at + PATIENCE;
        if self.asked.take_if(is_late).is_some() {
            self.is_not_listed(&no_answer(PATIENCE));
        }
    }

    fn is_not_listed(&mut self, error: &io::Error) {
        self.listed.get_or_insert_default();
        self.is_stale = true;
        if self.unlisted.changes_to(Some(error.to_string())) {
            tracing::error!(
                %error,
                "the versions that are kept cannot be listed: {error}; nothing can be gone back to"
            );
        }
    }

    /// The kept versions of this plugin, newest first.
    pub(in crate::daemon) fn of(&self, name: &str) -> &[ModuleHash] {
        self.listed.as_ref().and_then(|listed| listed.get(name)).map_or(&[], Vec::as_slice)
    }

    /// Checks that the kept versions are known, or that the disk has had its time to list them.
    ///
    /// # Errors
    /// The disk has not listed them yet.
    fn is_known(&self) -> Result<(), Failure> {
        let message = "the disk has not said yet which versions are kept; try again";
        self.listed.as_ref().map(|_| ()).ok_or_else(|| Failure::new(Code::Busy, message))
    }

    /// Why the kept versions of this plugin are not known; `None` if they are.
    pub(in crate::daemon) fn doubt(&self, name: &str) -> Option<String> {
        let why = self.unread.get(name).or(self.unlisted.last().as_ref())?;
        Some(format!("its kept versions cannot be read: {why}"))
    }

    /// Whether the disk did not take the version of this plugin, and it is time to try again.
    fn is_due(&self, name: &str, now: Duration) -> bool {
        self.missed.get(name).is_some_and(|again| now >= *again)
    }

    /// Keeps these bytes, whose soundness is `found`, unless the kept ones are worth more.
    fn keep(&mut self, name: Arc<str>, module: Arc<[u8]>, found: Soundness, worth: Arc<Worth>) {
        let Some(versions) = self.versions.clone() else { return };
        self.missed.remove(&*name);
        let (sender, turn) = (self.sender.clone(), Arc::clone(&self.turn));
        if Arc::strong_count(&turn) > MAX_KEEPING {
            tracing::warn!(
                plugin = &*name,
                "{name}: this version is not kept for a rollback: {MAX_KEEPING} others wait for \
                 the disk"
            );
            self.missed.insert(name.to_string(), MonotonicClock.now() + KEEP_AGAIN);
            return;
        }
        tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let hash = ModuleHash::of(&module);
            let rank = |of: &str, kept| match of == &*name && kept == hash {
                true => Some(rank(Some(found))),
                false => worth.get(of).map(|worth| rank(worth.get(&kept).copied())),
            };
            // Below, the receiver is gone only when the daemon stops.
            match versions.keep(&name, &module, rank) {
                Ok(Some(changed)) => {
                    for name in changed {
                        let _ = sender.send(match versions.list(&name) {
                            Ok(list) => News::Of(name, list),
                            Err(error) => News::Unread(name, error.to_string()),
                        });
                    }
                }
                Ok(None) => tracing::warn!(
                    plugin = &*name,
                    "{name}: version {hash} is not kept for a rollback: there is no room beside \
                     better ones and those of other plugins"
                ),
                Err(error) => {
                    tracing::warn!(
                        plugin = &*name,
                        %error,
                        "{name}: version {hash} is not kept for a rollback: {error}; it is tried \
                         again in an hour"
                    );
                    let _ = sender.send(News::Missed(name.to_string()));
                }
            }
        });
    }
}

impl Plugins {
    /// Keeps versions that have passed their probation, and tells the supervisor which are kept.
    pub(in crate::daemon) fn keep_the_good(&mut self, config: &Config, link: &mut ScanLink) {
        self.store.collect();
        self.store.missed.retain(|name, _| self.supervisor.plugin(name).is_some());
        let (news, now) = (link.news(), MonotonicClock.now());
        self.store.list_again(now);
        let has_new_owners = self.store.owners != news.owners;
        self.store.owners.clone_from(&news.owners);
        // Computed at most once for a look: many versions may pass their probation at one time.
        let mut known = None;
        let all = self.roster.seats.programs(news);
        for (name, fact) in all.filter(|(_, fact)| fact.is_proven && fact.trap.is_none()) {
            let view = self.supervisor.plugin(name);
            let Some(running) = view.and_then(|view| view.running) else { continue };
            let Some(entry) = self.roster.entries.get_mut(name) else { continue };
            // Each instance is kept once, and again in an hour if the disk did not take it:
            // otherwise a full disk would be tried at every look. Only an instance in doubt may
            // still turn out to be good.
            let is_missed = self.store.is_due(name, now);
            let is_done = entry
                .kept
                .is_some_and(|(kept, is_doubtful)| kept == fact.generation && !is_doubtful);
            if running.generation != fact.generation {
                continue;
            }
            if is_done && !is_missed {
                if has_new_owners {
                    let outputs = owned(news, fact.seat);
                    self.record.versions.owns(name, running.hash, outputs);
                }
                continue;
            }
            let (outputs, settings) = (owned(news, fact.seat), config.settings(name));
            let is_lost = |output: &str| is_lost(output, news, fact.seat, &settings.outputs);
            let versions = &mut self.record.versions;
            let found = versions.proved(name, running.hash, outputs, is_lost, now);
            let state = (fact.generation, found == Soundness::Doubtful);
            if entry.kept.replace(state) == Some(state) && !is_missed {
                continue;
            }
            if self.store.listed.is_none() || self.store.doubt(name).is_some() {
                // It is not known what is kept, nor what is worth less than this version.
                self.store.missed.insert(name.to_string(), now + KNOW_AGAIN);
                continue;
            }
            let bytes = self.roster.modules.get(&running.hash).and_then(Module::bytes);
            // The bytes of a running version are at hand.
            let Some(bytes) = bytes else { continue };
            let worth = || {
                // Where some files are overlooked, all plugins have been seen.
                let none = self.folder.overlooked().map(|_| Arc::default());
                let files = self.folder.watch.names().or(none);
                Arc::new(worth(&self.store, &self.supervisor, files.as_deref(), versions))
            };
            let worth = Arc::clone(known.get_or_insert_with(worth));
            self.store.keep(Arc::clone(name), bytes, found, worth);
        }
        self.offer_kept(config);
        self.record.save(now);
    }
}

/// The names of the outputs that belong to this seat.
fn owned(news: &Snapshot, seat: Seat) -> Vec<String> {
    let points = news.points.iter();
    let owned = points.filter(|(id, _)| news.owners[id.index()] == Some(seat));
    owned.map(|(_, point)| point.name.clone()).collect()
}

/// Whether the output exists, is granted to the program on this seat, and belongs to no other seat.
fn is_lost(output: &str, news: &Snapshot, seat: Seat, grant: &Grant) -> bool {
    let is_output = |id: &PointId| news.points[*id].direction == Direction::Out;
    news.points.find(output).filter(is_output).is_some_and(|id| {
        grant.allows(id) && news.owners[id.index()].is_none_or(|owner| owner == seat)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::time::Instant;

    use super::*;

    async fn soon(store: &mut Store, is_so: impl Fn(&Store) -> bool) {
        let started = Instant::now();
        while !is_so(store) {
            assert!(started.elapsed() < Duration::from_secs(60), "{store:?}");
            store.collect();
            tokio::task::yield_now().await;
        }
    }

    /// The disk was full in the second in which a version passed its probation, and it was never
    /// kept.
    #[tokio::test]
    async fn what_the_disk_did_not_take_is_kept_later() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("versions");
        fs::write(&place, "in the way").unwrap();
        let mut store = Store::new(Some(Versions::new(place.clone())));
        let bytes: Arc<[u8]> = Arc::from(&b"bytes"[..]);
        store.keep("tank".into(), Arc::clone(&bytes), Soundness::Good, Arc::default());
        soon(&mut store, |store| store.missed.contains_key("tank")).await;
        let now = MonotonicClock.now();
        assert!(!store.is_due("tank", now) && store.is_due("tank", now + KEEP_AGAIN));
        assert!(!store.is_due("pump", now + KEEP_AGAIN));
        fs::remove_file(&place).unwrap();
        store.keep("tank".into(), bytes, Soundness::Good, Arc::default());
        soon(&mut store, |store| !store.of("tank").is_empty()).await;
        assert_eq!(store.of("tank"), [ModuleHash::of(b"bytes")]);
        assert!(!store.is_due("tank", now + 2 * KEEP_AGAIN));
    }

    /// A disk that gave no answer at the start was treated for ever as one that has yet to answer.
    #[tokio::test]
    async fn a_list_that_does_not_come_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(Some(Versions::new(dir.path().into())));
        soon(&mut store, |store| store.listed.is_some()).await;
        let turn = Arc::clone(&store.turn);
        let hangs = turn.lock().unwrap();
        store.listed = None;
        store.list();
        store.collect();
        let failure = store.is_known().unwrap_err();
        assert_eq!((failure.code, store.doubt("tank")), (Code::Busy, None));
        store.asked = store.asked.map(|at| at.saturating_sub(PATIENCE));
        store.collect();
        assert!(store.is_known().is_ok());
        assert!(store.doubt("tank").unwrap().contains("no answer for 5s"));
        drop(hangs);
        soon(&mut store, |store| store.doubt("tank").is_none()).await;
    }

    /// A folder that was repaired while the daemon ran still counted as unreadable, and the
    /// operator read that no version is kept.
    #[tokio::test]
    async fn what_cannot_be_listed_is_said_and_listed_later() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("versions");
        let mut store = Store::new(Some(Versions::new(place.clone())));
        soon(&mut store, |store| store.listed.is_some()).await;
        assert_eq!((store.doubt("tank"), store.list_at), (None, None), "none is there yet");
        fs::write(&place, "in the way").unwrap();
        store.list();
        soon(&mut store, |store| store.list_at.is_some()).await;
        let why = store.doubt("tank").expect("nobody knows what is kept");
        assert!(why.contains("cannot be read"), "{why}");
        let now = MonotonicClock.now();
        store.list_again(now);
        assert!(store.list_at.is_some(), "it is not time yet");
        fs::remove_file(&place).unwrap();
        store.list_again(now + 2 * LIST_AGAIN);
        soon(&mut store, |store| store.doubt("tank").is_none()).await;
        assert_eq!(store.list_at, None);
    }

    /// A version in doubt counted as good as long as it was not kept, and pushed out a good one.
    #[tokio::test]
    async fn what_is_in_doubt_pushes_out_nothing_that_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(Some(Versions::new(dir.path().into())));
        let mut known = HashMap::new();
        let mut keep = |store: &mut Store, bytes: u8, found| {
            let module: Arc<[u8]> = Arc::from([bytes]);
            let worth = Arc::new(Worth::from([("tank".to_owned(), known.clone())]));
            known.insert(ModuleHash::of(&module), found);
            store.keep("tank".into(), module, found, worth);
        };
        for (n, bytes) in (1..=5).enumerate() {
            keep(&mut store, bytes, Soundness::Good);
            soon(&mut store, |store| store.of("tank").len() == n + 1).await;
        }
        let good = store.of("tank").to_vec();
        keep(&mut store, 6, Soundness::Doubtful);
        soon(&mut store, |store| Arc::strong_count(&store.turn) == 1).await;
        store.collect();
        assert_eq!(store.of("tank"), good);
        keep(&mut store, 7, Soundness::Good);
        let newest = ModuleHash::of(&[7]);
        soon(&mut store, |store| store.of("tank").first() == Some(&newest)).await;
        assert_eq!(store.of("tank")[1..], good[..4]);
    }
}
