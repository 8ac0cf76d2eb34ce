//! The store of versions that have passed their probation. The daemon stores these versions on the
//! disk, so that it can run one of them if the present version is bad.
//!
//! ```text
//!   probation passed ──▶ store() ──▶ a thread ──▶ the disk
//!   listed, missed, unread ◀── collect() ◀── News ───┘
//! ```
//! Separate threads use the disk, one thread at a time, so the daemon's loop never waits for the
//! disk. `plugin/module/versions.rs` writes versions to the disk; `version.rs` records whether each
//! version is good. Next: `store/back.rs` (a rollback by an operator), `store/choose.rs` (which
//! version the rollback uses), `store/list.rs` (the list for the operator), `store/worth.rs` (which
//! version is deleted first), `recall.rs` (which version runs if the file is bad). If a version
//! traps on probation, the scan makes the rollback at once, without this store.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Plugins;
use super::bytes::Module;
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

/// The number of messages from the threads that can wait in the queue: one for each plugin.
const MAX_NEWS: usize = MAX_PLUGINS;

/// The largest number of versions that wait for the disk, each with its bytes and a thread. If a
/// hundred plugins pass probation together, the disk needs about a second for their versions. If
/// the disk does not answer, further versions are not stored.
const MAX_KEEPING: usize = MAX_PLUGINS;

/// The versions on the disk, for each plugin, newest first.
type Listed = BTreeMap<String, Vec<ModuleHash>>;

/// The stored versions, as the daemon knows them without access to the disk.
#[derive(Debug)]
pub(in crate::daemon) struct Store {
    /// The folder of the versions on the disk; `None` without a state directory.
    pub(in crate::daemon) versions: Option<Versions>,
    /// The newest list of versions; `None` until the disk has answered or its time limit has
    /// passed.
    pub(in crate::daemon) listed: Option<Listed>,
    /// The results of the threads. The threads send them, and the daemon's loop receives them.
    news: Receiver<News>,
    /// The sender of `news`. Each thread gets a copy.
    sender: SyncSender<News>,
    /// The lock of the disk. Only the thread with the lock uses the disk.
    turn: Arc<Mutex<()>>,
    /// Whether the supervisor may have an older list of versions than this store.
    pub(in crate::daemon) is_stale: bool,
    /// The value of `changes` in `version.rs` when the supervisor last got a list.
    pub(in crate::daemon) offered: u64,
    /// Plugins whose version could not be stored, with the time of the next attempt.
    missed: BTreeMap<String, Duration>,
    /// Plugins whose versions cannot be read, with the reason.
    unread: BTreeMap<String, String>,
    /// The reason why the stored versions cannot be listed, as last logged; `None` if they can be
    /// listed.
    unlisted: OnChange<Option<String>>,
    /// The time of the list request that the disk has not answered yet; `None` if there is none.
    asked: Option<Duration>,
    /// The time of the next list request, if the last list failed or was not complete.
    list_at: Option<Duration>,
    /// The owner of each output in the last snapshot that was checked, by point.
    owners: Vec<Option<Seat>>,
}

/// The pause after a failed attempt to store a version. Without another attempt, a disk that was
/// full for one second would leave the plugin without a stored version for months. With this pause,
/// a repeated failure causes at most one log line for each plugin in an hour.
const KEEP_AGAIN: Duration = Duration::from_secs(3600);

/// The pause before the next attempt to store a version, if the list of stored versions was not
/// known at the first attempt.
const KNOW_AGAIN: Duration = Duration::from_secs(1);

/// The pause after a failed list request, before the next request. The operator may repair the
/// folder in this time. Until the disk has listed the folder, no rollback by an operator to these
/// versions is possible.
const LIST_AGAIN: Duration = Duration::from_secs(60);

/// The message of a thread that has used the disk.
#[derive(Debug)]
enum News {
    /// The list of all stored versions.
    All(io::Result<Listing>),
    /// The name of a plugin and the new list of its versions, after a change.
    Of(String, Vec<ModuleHash>),
    /// The name of a plugin whose changed list cannot be read, and the reason.
    Unread(String, String),
    /// The name of a plugin whose version could not be stored.
    Missed(String),
}

impl Store {
    /// Returns the store for the versions in this folder. A thread lists the versions later.
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

    /// Starts a thread that lists the versions on the disk.
    fn list(&mut self) {
        let Some(versions) = self.versions.clone() else { return };
        self.asked = Some(MonotonicClock.now());
        let (sender, turn) = (self.sender.clone(), Arc::clone(&self.turn));
        tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            // The send fails only while the daemon stops, when the receiver is dropped.
            let _ = sender.send(News::All(versions.all()));
        });
    }

    /// Lists the versions on the disk again, if the pause is over.
    fn list_again(&mut self, now: Duration) {
        if self.list_at.take_if(|at| now >= *at).is_some() {
            self.list();
        }
    }

    /// Takes the results of the threads, and checks whether a list request is late.
    fn collect(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Missed(name) => {
                    self.missed.insert(name, MonotonicClock.now() + KEEP_AGAIN);
                }
                News::All(Ok(Listing { kept, unread })) => {
                    self.asked = None;
                    if self.unlisted.changes_to(None) {
                        tracing::info!("the stored versions can be listed again");
                    }
                    let is_news =
                        |(name, why): &(&String, &String)| self.unread.get(*name) != Some(*why);
                    for (name, why) in unread.iter().filter(is_news) {
                        tracing::error!(
                            plugin = name,
                            why,
                            "{name}: the stored versions of the plugin cannot be read: {why}; the \
                             plugin cannot be rolled back to these versions"
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
        // The check for a late list is the last step. If the process was suspended, the list may
        // already be in `news`.
        self.check_lateness();
    }

    /// If the disk has not answered the list request within [`PATIENCE`], records that the versions
    /// cannot be listed.
    fn check_lateness(&mut self) {
        let is_late = |at: &mut Duration| MonotonicClock.now() >= *at + PATIENCE;
        if self.asked.take_if(is_late).is_some() {
            self.is_not_listed(&no_answer(PATIENCE));
        }
    }

    /// Records that the versions cannot be listed, and logs a new reason. The last list remains
    /// valid. If there is no last list, an empty list is used.
    fn is_not_listed(&mut self, error: &io::Error) {
        self.listed.get_or_insert_default();
        self.is_stale = true;
        if self.unlisted.changes_to(Some(error.to_string())) {
            tracing::error!(
                %error,
                "the stored versions cannot be listed: {error}; no plugin can be rolled back"
            );
        }
    }

    /// Returns the stored versions of this plugin, newest first.
    pub(in crate::daemon) fn of(&self, name: &str) -> &[ModuleHash] {
        self.listed.as_ref().and_then(|listed| listed.get(name)).map_or(&[], Vec::as_slice)
    }

    /// Checks that the first list request was answered, or that its time limit has passed.
    ///
    /// # Errors
    /// If the disk has not listed the stored versions yet.
    fn is_known(&self) -> Result<(), Failure> {
        let message = "the disk has not listed the stored versions yet; try again";
        self.listed.as_ref().map(|_| ()).ok_or_else(|| Failure::new(Code::Busy, message))
    }

    /// Returns the reason why the stored versions of this plugin are not known; `None` if they are
    /// known.
    pub(in crate::daemon) fn doubt(&self, name: &str) -> Option<String> {
        let why = self.unread.get(name).or(self.unlisted.last().as_ref())?;
        Some(format!("the stored versions cannot be read: {why}"))
    }

    /// Whether a version of this plugin could not be stored before, and the pause is over now.
    fn is_due(&self, name: &str, now: Duration) -> bool {
        self.missed.get(name).is_some_and(|again| now >= *again)
    }

    /// Stores the bytes of a version on the disk, if there is space for it, or if other versions
    /// can be deleted for it (`plugin/module/versions.rs` decides this). Tries again later if
    /// [`MAX_KEEPING`] other versions wait for the disk, or if the write fails. `found` is the
    /// quality of this version; `worth` has the quality of all other versions.
    fn store(&mut self, name: Arc<str>, module: Arc<[u8]>, found: Soundness, worth: Arc<Worth>) {
        let Some(versions) = self.versions.clone() else { return };
        self.missed.remove(&*name);
        // One of the references is this store's own.
        if Arc::strong_count(&self.turn) > MAX_KEEPING {
            tracing::warn!(
                plugin = &*name,
                "{name}: the running version is not stored for a rollback: {MAX_KEEPING} other \
                 versions wait for the disk"
            );
            self.missed.insert(name.to_string(), MonotonicClock.now() + KEEP_AGAIN);
            return;
        }
        let (sender, turn) = (self.sender.clone(), Arc::clone(&self.turn));
        tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let hash = ModuleHash::of(&module);
            let rank = |of: &str, kept| match of == &*name && kept == hash {
                true => Some(rank(Some(found))),
                false => worth.get(of).map(|worth| rank(worth.get(&kept).copied())),
            };
            // The sends below fail only while the daemon stops, when the receiver is dropped.
            match versions.store(&name, &module, rank) {
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
                    "{name}: version {hash} is not stored for a rollback: the store is full of \
                     better versions of this plugin and of versions of other plugins"
                ),
                Err(error) => {
                    tracing::warn!(
                        plugin = &*name,
                        %error,
                        "{name}: version {hash} is not stored for a rollback: {error}; the daemon \
                         tries again in an hour"
                    );
                    let _ = sender.send(News::Missed(name.to_string()));
                }
            }
        });
    }
}

impl Plugins {
    /// Stores the versions that have passed their probation, informs the supervisor about the
    /// stored versions, and writes the record of versions.
    pub(in crate::daemon) fn store_good_versions(&mut self, config: &Config, link: &mut ScanLink) {
        self.store.collect();
        self.store.missed.retain(|name, _| self.supervisor.plugin(name).is_some());
        let (news, now) = (link.news(), MonotonicClock.now());
        self.store.list_again(now);
        let has_new_owners = self.store.owners != news.owners;
        self.store.owners.clone_from(&news.owners);
        // The worth is computed at most one time per call, because many versions may pass their
        // probation together.
        let mut known = None;
        let all = self.roster.seats.programs(news);
        for (name, fact) in all.filter(|(_, fact)| fact.is_proven && fact.trap.is_none()) {
            let view = self.supervisor.plugin(name);
            let Some(running) = view.and_then(|view| view.running) else { continue };
            let Some(entry) = self.roster.entries.get_mut(name) else { continue };
            // Each instance is stored one time; otherwise each call would write to a full disk.
            // There are two exceptions: an attempt to store the version has failed and the pause is
            // over, or the version was in doubt at the first attempt and may be good now.
            let is_missed = self.store.is_due(name, now);
            let is_done = entry.is_kept(fact.generation);
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
                // The stored versions are not known, so no version can be selected for deletion.
                self.store.missed.insert(name.to_string(), now + KNOW_AGAIN);
                continue;
            }
            let bytes = self.roster.modules.get(&running.hash).and_then(Module::bytes);
            // The bytes of a running version are always in memory, so the `else` is not reached.
            let Some(bytes) = bytes else { continue };
            let worth = || {
                // If the folder has too many files, the watch returns no names. An empty set is
                // correct in this case, because the supervisor has an entry for each plugin whose
                // file was read.
                let none = self.folder.overlooked().map(|_| Arc::default());
                let files = self.folder.watch.names().or(none);
                Arc::new(worth(&self.store, &self.supervisor, files.as_deref(), versions))
            };
            let worth = Arc::clone(known.get_or_insert_with(worth));
            self.store.store(Arc::clone(name), bytes, found, worth);
        }
        self.offer_kept(config);
        self.record.save(now);
    }
}

/// Returns the names of the outputs that the program on this seat owns.
fn owned(news: &Snapshot, seat: Seat) -> Vec<String> {
    let points = news.points.iter();
    let owned = points.filter(|(id, _)| news.owners[id.index()] == Some(seat));
    owned.map(|(_, point)| point.name.clone()).collect()
}

/// Whether the output exists, the program on this seat may write it, and no program on another seat
/// owns it.
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

    /// A defect of the past: the disk was full when a version passed its probation, and the version
    /// was never stored.
    #[tokio::test]
    async fn what_the_disk_did_not_take_is_kept_later() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("versions");
        fs::write(&place, "in the way").unwrap();
        let mut store = Store::new(Some(Versions::new(place.clone())));
        let bytes: Arc<[u8]> = Arc::from(&b"bytes"[..]);
        store.store("tank".into(), Arc::clone(&bytes), Soundness::Good, Arc::default());
        soon(&mut store, |store| store.missed.contains_key("tank")).await;
        let now = MonotonicClock.now();
        assert!(!store.is_due("tank", now) && store.is_due("tank", now + KEEP_AGAIN));
        assert!(!store.is_due("pump", now + KEEP_AGAIN));
        fs::remove_file(&place).unwrap();
        store.store("tank".into(), bytes, Soundness::Good, Arc::default());
        soon(&mut store, |store| !store.of("tank").is_empty()).await;
        assert_eq!(store.of("tank"), [ModuleHash::of(b"bytes")]);
        assert!(!store.is_due("tank", now + 2 * KEEP_AGAIN));
    }

    /// A defect of the past: if a disk did not answer at the start, the daemon waited without end
    /// for the list of versions.
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

    /// A defect of the past: the operator repaired a folder while the daemon ran. The daemon still
    /// treated the folder as unreadable, and reported to the operator that no version is stored.
    #[tokio::test]
    async fn what_cannot_be_listed_is_said_and_listed_later() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("versions");
        let mut store = Store::new(Some(Versions::new(place.clone())));
        soon(&mut store, |store| store.listed.is_some()).await;
        assert_eq!((store.doubt("tank"), store.list_at), (None, None), "no folder exists yet");
        fs::write(&place, "in the way").unwrap();
        store.list();
        soon(&mut store, |store| store.list_at.is_some()).await;
        let why = store.doubt("tank").expect("the list of versions is not known");
        assert!(why.contains("cannot be read"), "{why}");
        let now = MonotonicClock.now();
        store.list_again(now);
        assert!(store.list_at.is_some(), "the next list request must wait");
        fs::remove_file(&place).unwrap();
        store.list_again(now + 2 * LIST_AGAIN);
        soon(&mut store, |store| store.doubt("tank").is_none()).await;
        assert_eq!(store.list_at, None);
    }

    /// A defect of the past: until a version in doubt was stored, the daemon treated it as good. So
    /// this version displaced a good version.
    #[tokio::test]
    async fn what_is_in_doubt_pushes_out_nothing_that_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(Some(Versions::new(dir.path().into())));
        let mut known = HashMap::new();
        let mut keep = |store: &mut Store, bytes: u8, found| {
            let module: Arc<[u8]> = Arc::from([bytes]);
            let worth = Arc::new(Worth::from([("tank".to_owned(), known.clone())]));
            known.insert(ModuleHash::of(&module), found);
            store.store("tank".into(), module, found, worth);
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
