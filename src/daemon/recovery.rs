//! Recovery: the scan runs, every output is safe, and no plugin is run until an operator says so.
//!
//! It is begun by `run --no-plugins`, or by [`MOST_ENDS`] abnormal ends within [`WINDOW_S`]. An end
//! is abnormal when the daemon did not get to say that it was orderly: a watchdog, a panic, a scan
//! that stood, a kill by anybody, or a power cut. These cannot be told apart from in here, and a
//! supply that fails three times in ten minutes is no better reason to move a machine. A start that
//! is refused counts as orderly: nothing of it ran.
//!
//! Plugins that may not run are *parked*: held, but not by the operator, so that they can be let
//! go together. A cold restart (`reset.rs`) parks them as well.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Daemon;
use super::answer::answer_later;
use crate::control::{By, Code, Failure, Reply, Response};
use crate::state::{self, Folder};

/// So many abnormal ends lead to recovery: one is bad luck and two are a coincidence.
const MOST_ENDS: usize = 3;

/// Within this time, in seconds. A daemon that lives longer than this between two crashes controls
/// its machine most of the time, and a machine that stands still would be worse.
const WINDOW_S: u64 = 600;

/// In the state directory.
const FILE: &str = "starts.json";

/// The file has about a hundred; what is longer is not ours.
const MAX_FILE_BYTES: u64 = 4096;

/// What is kept from one start to the next.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Set at the start and cleared at an orderly end.
    running: bool,
    /// When starts found that the end before was abnormal: seconds since 1970. [`MOST_ENDS`] at
    /// most, oldest first.
    abnormal_ends: Vec<u64>,
    /// Set until an operator says `camshaft recover`, over any number of starts.
    recovery: bool,
}

impl Record {
    /// A start at this time of day. A clock that was set back counts no end twice: what lies far
    /// away on either side is forgotten.
    fn start(&mut self, now_s: u64) {
        if self.running {
            self.abnormal_ends.push(now_s);
        }
        self.running = true;
        self.abnormal_ends.retain(|end| now_s.abs_diff(*end) <= WINDOW_S);
        let surplus = self.abnormal_ends.len().saturating_sub(MOST_ENDS);
        self.abnormal_ends.drain(..surplus);
        self.recovery |= self.abnormal_ends.len() >= MOST_ENDS;
    }
}

fn load(folder: &Folder) -> Record {
    let path = folder.path().join(FILE);
    let text = match state::read(&path, MAX_FILE_BYTES) {
        Ok(None) => return Record::default(),
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    text.unwrap_or_else(|error| {
        let file = path.display();
        tracing::warn!(%file, error, "{file} is no record of starts ({error}); a new one begins");
        Record::default()
    })
}

fn store(folder: &Folder, record: &Record) -> std::io::Result<()> {
    let text = serde_json::to_vec(record).expect("a record is plain");
    folder.replace(FILE, &text)
}

/// Whether plugins may run, and who is parked meanwhile.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    folder: Option<Arc<Folder>>,
    /// Why they may not.
    reason: Option<String>,
    /// Held, but not by the operator.
    parked: BTreeSet<String>,
}

/// Records a start, and decides whether it is one for recovery.
pub(super) fn begin(folder: Option<&Arc<Folder>>, no_plugins: bool) -> Recovery {
    let mut reason = no_plugins.then(|| "started with --no-plugins".to_owned());
    if let Some(folder) = folder {
        let mut record = load(folder);
        let (was_running, was_in_recovery) = (record.running, record.recovery);
        // A clock before 1970 is no clock; then all ends are at the same time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        record.start(now.as_secs());
        let ends = record.abnormal_ends.len();
        if was_running {
            tracing::warn!(
                ends,
                "the last end was abnormal (watchdog, panic, stall, kill or power cut): {ends} \
                 within {} min, {MOST_ENDS} lead to recovery",
                WINDOW_S / 60
            );
        }
        if record.recovery {
            let why = match was_in_recovery {
                true => "nobody has ended the recovery from before this start".to_owned(),
                false => format!("{ends} abnormal ends within {} min", WINDOW_S / 60),
            };
            reason = Some(why);
        }
        if let Err(error) = store(folder, &record) {
            tracing::warn!(%error, "this start cannot be recorded ({error}), nor counted its end");
        }
    }
    if let Some(reason) = &reason {
        tracing::error!(
            reason,
            "RECOVERY: no plugin is run and outputs are safe ({reason}); `camshaft plugins` lists \
             what waits, `camshaft hold NAME` keeps one out, `camshaft recover` lets the others run"
        );
    }
    Recovery { folder: folder.cloned(), reason, parked: BTreeSet::new() }
}

/// Records an orderly end.
pub(super) fn end(folder: Option<&Arc<Folder>>) {
    let Some(folder) = folder else { return };
    let record = Record { running: false, ..load(folder) };
    if let Err(error) = store(folder, &record) {
        tracing::warn!(%error, "this end cannot be recorded ({error}) and will count as abnormal");
    }
}

impl Recovery {
    /// Whether plugins may not run.
    pub(super) fn is_on(&self) -> bool {
        self.reason.is_some()
    }

    /// Why they may not.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The state directory, if it can be used.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(|folder| folder.path())
    }

    /// Whether this plugin is held, but not by the operator.
    pub(super) fn is_parked(&self, name: &str) -> bool {
        self.parked.contains(name)
    }

    /// The operator has decided about this plugin.
    pub(super) fn forget(&mut self, name: &str) {
        self.parked.remove(name);
    }
}

impl Daemon {
    /// A name that is seen for the first time is held if the configuration says so, or parked when
    /// nothing may run.
    pub(super) fn meet(&mut self, name: &str) {
        if self.supervisor.plugin(name).is_some() {
            return;
        }
        self.store.is_stale = true;
        if self.settings(name).hold {
            // What is no name, or one too many, is refused with the file.
            if self.supervisor.hold(name).is_ok() {
                self.record.held(name, By::Configuration);
            }
        } else if self.is_closed() {
            self.park(name);
        }
    }

    /// Whether plugins must wait.
    fn is_closed(&self) -> bool {
        self.recovery.is_on() || self.is_emptying()
    }

    /// A reload has changed whether the configuration holds a plugin that the supervisor knows.
    pub(super) fn hold_as_configured(&mut self, name: &str, hold: bool) {
        self.recovery.forget(name);
        match hold {
            true => self.record.held(name, By::Configuration),
            false => self.record.released(name, By::Configuration),
        }
        if !hold && self.is_closed() {
            return self.park(name);
        }
        let result = if hold { self.supervisor.hold(name) } else { self.supervisor.release(name) };
        result.expect("the name comes from the supervisor");
    }

    /// Holds a plugin until all are let go.
    pub(super) fn park(&mut self, name: &str) {
        // What cannot be held is no plugin, and is refused with its file.
        if self.supervisor.hold(name).is_ok() {
            self.recovery.parked.insert(name.to_owned());
        }
    }

    /// Lets all parked plugins run.
    pub(super) fn unpark(&mut self) {
        for name in std::mem::take(&mut self.recovery.parked) {
            self.supervisor.let_go(&name);
        }
    }

    /// Ends recovery: the operator has said so.
    pub(super) fn recover(&mut self, reply: oneshot::Sender<Reply>) {
        if self.recovery.reason.take().is_none() {
            let message = "there is no recovery to end; `camshaft plugins` says what runs and why";
            let _ = reply.send(Err(Failure::new(Code::Refused, message)));
            return;
        }
        tracing::warn!("recovery is ended by the operator; plugins start");
        if !self.is_emptying() {
            self.unpark();
        }
        let folder = self.recovery.folder.clone();
        answer_later(reply, move || {
            let Some(folder) = folder else { return Ok(Response::Done) };
            store(&folder, &Record { running: true, ..Record::default() }).map_err(|error| {
                let message = format!(
                    "plugins start, but this cannot be recorded, and the next start may be one \
                     for recovery again: {error}"
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

    #[test]
    fn three_abnormal_ends_within_ten_minutes_lead_to_recovery() {
        fn check(starts: &[(u64, bool)], expected: bool) {
            let mut record = Record::default();
            for (at, orderly_end) in starts {
                record.start(*at);
                assert!(record.running && record.abnormal_ends.len() <= MOST_ENDS);
                record.running = !orderly_end;
            }
            record.start(starts.last().map_or(0, |(at, _)| at + 1));
            assert_eq!(record.recovery, expected, "{starts:?}: {record:?}");
        }
        check(&[], false);
        check(&[(5000, false), (5010, false)], false);
        check(&[(5000, false), (5010, false), (5020, false)], true);
        check(&[(5000, false), (5010, true), (5020, false), (5030, false)], true);
        check(&[(5000, false), (5010, true), (5020, true), (5030, false)], false);
        // The first end is found at 5010, and the last start is at 5611.
        check(&[(5000, false), (5010, false), (5610, false)], false);
        check(&[(5000, false), (5010, false), (5609, false)], true);
        // Recovery stays, whatever comes after.
        check(&[(5000, false), (5010, false), (5020, false), (5030, true), (9999, true)], true);
        // The clock was set, in both directions.
        check(&[(9000, false), (9010, false), (100, false)], false);
        check(&[(100, false), (110, false), (9000, false)], false);
    }

    #[test]
    fn a_record_survives_and_a_bad_one_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(load(&folder), Record::default());
        let record =
            Record { running: true, abnormal_ends: vec![u64::MAX; MOST_ENDS], recovery: true };
        store(&folder, &record).unwrap();
        assert_eq!(load(&folder), record);
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() < MAX_FILE_BYTES);
        for bad in ["", "{}", "[]", "{\"running\":1}"] {
            std::fs::write(dir.path().join(FILE), bad).unwrap();
            assert_eq!(load(&folder), Record::default(), "{bad}");
        }
    }
}
