//! The record of one version of one plugin: plain data, and the functions that change them.
//!
//! `version.rs` decides which receipt changes which data; `version/disk.rs` writes the record to
//! the disk. `store.rs` decides and knows whether the version is stored on the disk; this record
//! does not show it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::Soundness;
use crate::text::counted;

/// After this running time, a missing output does not put the version in doubt any more. Within a
/// day, an operator who needs the output would notice that it is missing.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The record of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Version {
    /// The hash of the module: all 64 hexadecimal digits.
    pub(in super::super) hash: String,
    /// The time of the first start, in UTC, RFC 3339; empty if the version never started.
    pub(in super::super) first: String,
    /// The time of the last start, in UTC, RFC 3339; empty if the version never started.
    pub(super) last: String,
    /// The total time in the scan, without the time since `began`.
    pub(super) ran: Duration,
    /// The time and the reason of the newest end; `None` if no end is recorded since the last start
    /// of the version, or if neither a start nor an end is recorded.
    pub(in super::super) end: Option<End>,
    /// Whether the version has passed its probation.
    pub(super) is_proven: bool,
    /// The outputs that the version owned after its probation, in any of its instances.
    pub(super) outputs: Vec<String>,
    /// A text about the outputs that an earlier good version owned and this version does not own;
    /// `None` if there are no such outputs.
    doubt: Option<String>,
    /// Reason why the version is bad; `None` if the version is not bad.
    pub(super) bad: Option<String>,
    /// Reason why the version is in quarantine; `None` if it is not in quarantine.
    pub(in super::super) quarantine: Option<String>,
    /// Whether the operator has released the version. If a released version passes its probation,
    /// the version is not bad any more. The flag is cleared by this probation, and by a trap or a
    /// quarantine.
    pub(super) is_forgiven: bool,
    /// The time when the version entered the scan, on the monotonic clock. The field is `None`
    /// while the version is not in the scan.
    #[serde(skip)]
    began: Option<Duration>,
}

/// The end of a version's time in the scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct End {
    /// The time of the end in UTC, RFC 3339; empty if it is not known.
    pub(in super::super) at: String,
    /// The reason of the end, as text.
    pub(in super::super) why: String,
}

impl Version {
    /// Returns the record of a version that has never run.
    pub(super) fn new(hash: &str) -> Self {
        Self {
            hash: hash.to_owned(),
            first: String::new(),
            last: String::new(),
            ran: Duration::ZERO,
            end: None,
            is_proven: false,
            outputs: Vec::new(),
            doubt: None,
            bad: None,
            quarantine: None,
            is_forgiven: false,
            began: None,
        }
    }

    /// Returns the quality of the version: good, doubtful, unproven or bad.
    pub(in super::super) fn soundness(&self) -> Soundness {
        match (&self.bad, &self.doubt) {
            (Some(_), _) => Soundness::Bad,
            _ if !self.is_proven => Soundness::Unproven,
            (None, Some(_)) => Soundness::Doubtful,
            (None, None) => Soundness::Good,
        }
    }

    /// Returns the reason why the version is not good; `None` if the version is good or unproven.
    pub(in super::super) fn why(&self) -> Option<&str> {
        self.quarantine.as_deref().or(self.bad.as_deref()).or(self.doubt.as_deref())
    }

    /// Returns the total time in the scan, up to `now` on the monotonic clock.
    pub(in super::super) fn ran(&self, now: Duration) -> Duration {
        self.ran + self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began))
    }

    /// Returns a copy of the record with the running time up to `now`.
    pub(super) fn so_far(&self, now: Duration) -> Self {
        Self { ran: self.ran(now), ..self.clone() }
    }

    /// Records the start of an instance. If the version is in the scan at this time, its running
    /// time continues.
    pub(super) fn begin(&mut self, at: &str, now: Option<Duration>) {
        if self.first.is_empty() {
            at.clone_into(&mut self.first);
        }
        at.clone_into(&mut self.last);
        self.end = None;
        self.began = self.began.or(now);
    }

    /// Records the end of the version. If the end is already recorded, the first reason remains.
    pub(super) fn end(&mut self, at: &str, now: Option<Duration>, why: impl FnOnce() -> String) {
        self.ran = now.map_or(self.ran, |now| self.ran(now));
        self.began = None;
        self.end.get_or_insert_with(|| End { at: at.to_owned(), why: why() });
    }

    /// Records that the version has passed its probation and owns `outputs`. `lost` are the outputs
    /// that an earlier good version owned and that no plugin owns now. Returns whether the record
    /// has changed.
    pub(super) fn prove(&mut self, outputs: Vec<String>, lost: &[String], now: Duration) -> bool {
        let before = self.clone();
        // An earlier trap has no effect any more in two cases: the version passes its probation for
        // the first time, or the operator has released the version after the trap.
        if !self.is_proven || self.is_forgiven {
            self.bad = None;
        }
        self.doubt = lost_words(lost).filter(|_| self.ran(now) < DAY);
        self.owns(outputs);
        (self.is_proven, self.is_forgiven) = (true, false);
        *self != before
    }

    /// Adds outputs to the owned outputs; returns whether one of them is new.
    pub(super) fn owns(&mut self, mut outputs: Vec<String>) -> bool {
        outputs.retain(|output| !self.outputs.contains(output));
        let is_news = !outputs.is_empty();
        self.outputs.append(&mut outputs);
        is_news
    }

    /// Records that the version is bad. If a reason is already recorded, the first reason remains.
    /// An earlier release by the operator has no effect any more.
    pub(super) fn turns_bad(&mut self, why: String) {
        self.bad.get_or_insert(why);
        self.is_forgiven = false;
    }
}

/// Returns a text about the outputs that an earlier good version wrote and this version does not
/// write: the first output, and the number of the others; `None` if there are no such outputs.
fn lost_words(lost: &[String]) -> Option<String> {
    match lost {
        [] => None,
        [one] => Some(format!("it does not write {one}, but an earlier good version did")),
        [first, rest @ ..] => {
            let others = counted(rest.len(), "other");
            let text = "but an earlier good version did";
            Some(format!("it does not write {first} and {others}, {text}"))
        }
    }
}
