//! The record of one version of one plugin: plain data, and the steps that a version takes.
//!
//! `version.rs` decides which receipt leads to which step; `version/disk.rs` writes the record to
//! the disk. The record does not say whether the version is kept on the disk: `keep.rs` knows that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::Soundness;
use crate::text::counted;

/// The running time after which a version that does not own an output is no longer in doubt. A
/// person who needs the output has noticed by then.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The record of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Version {
    /// The hash of the module: all 64 hexadecimal digits.
    pub(in super::super) hash: String,
    /// When the version first started, in UTC, RFC 3339; empty if it never started.
    pub(in super::super) first: String,
    /// When the version last started, in UTC, RFC 3339; empty if it never started.
    pub(super) last: String,
    /// The time that the version was in the scan, without the time since `began`.
    pub(super) ran: Duration,
    /// When and why the version left the scan; `None` while it is in the scan.
    pub(in super::super) end: Option<End>,
    /// Whether the version has passed its probation.
    pub(super) is_proven: bool,
    /// The outputs that the version has owned after its probation, in any of its instances.
    pub(super) outputs: Vec<String>,
    /// The outputs that a good version before owned and this version does not, as text; `None` if
    /// there are none.
    doubt: Option<String>,
    /// Why the version is bad; `None` if it is not bad.
    pub(super) bad: Option<String>,
    /// Why the version is in quarantine; `None` if it is not.
    pub(in super::super) quarantine: Option<String>,
    /// Whether the operator has let the version run again. If it then passes its probation, it is
    /// good.
    pub(super) is_forgiven: bool,
    /// Since when the version is in the scan, on the monotonic clock; `None` while it is not.
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
    /// A version that has never run.
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

    /// Whether the version is good enough for a rollback.
    pub(in super::super) fn soundness(&self) -> Soundness {
        match (&self.bad, &self.doubt) {
            (Some(_), _) => Soundness::Bad,
            _ if !self.is_proven => Soundness::Unproven,
            (None, Some(_)) => Soundness::Doubtful,
            (None, None) => Soundness::Good,
        }
    }

    /// Why the version is not good; `None` if it is good or unproven.
    pub(in super::super) fn why(&self) -> Option<&str> {
        self.quarantine.as_deref().or(self.bad.as_deref()).or(self.doubt.as_deref())
    }

    /// How long the version was in the scan, up to `now` on the monotonic clock.
    pub(in super::super) fn ran(&self, now: Duration) -> Duration {
        self.ran + self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began))
    }

    /// A copy of the record in which the time up to `now` is counted.
    pub(super) fn so_far(&self, now: Duration) -> Self {
        Self { ran: self.ran(now), ..self.clone() }
    }

    /// Notes the start of an instance. A restart does not interrupt the running time.
    pub(super) fn begin(&mut self, at: &str, now: Option<Duration>) {
        if self.first.is_empty() {
            at.clone_into(&mut self.first);
        }
        at.clone_into(&mut self.last);
        self.end = None;
        self.began = self.began.or(now);
    }

    /// Notes the end of the version. If it is noted twice, the first reason stays.
    pub(super) fn end(&mut self, at: &str, now: Option<Duration>, why: impl FnOnce() -> String) {
        self.ran = now.map_or(self.ran, |now| self.ran(now));
        self.began = None;
        self.end.get_or_insert_with(|| End { at: at.to_owned(), why: why() });
    }

    /// Notes that the version has passed its probation, owns `outputs` and has lost the outputs in
    /// `lost`. Returns whether the record has changed.
    pub(super) fn prove(&mut self, outputs: Vec<String>, lost: &[String], now: Duration) -> bool {
        let before = self.clone();
        // Traps before the first proof do not count any more, and neither do traps that the
        // operator has forgiven.
        if !self.is_proven || self.is_forgiven {
            self.bad = None;
        }
        self.doubt = lost_words(lost).filter(|_| self.ran(now) < DAY);
        self.owns(outputs);
        (self.is_proven, self.is_forgiven) = (true, false);
        *self != before
    }

    /// Adds these outputs to the owned ones; returns whether one of them is new.
    pub(super) fn owns(&mut self, mut outputs: Vec<String>) -> bool {
        outputs.retain(|output| !self.outputs.contains(output));
        let is_news = !outputs.is_empty();
        self.outputs.append(&mut outputs);
        is_news
    }

    /// Notes that the version is bad; the first reason stays. An earlier pardon does not count any
    /// more.
    pub(super) fn turns_bad(&mut self, why: String) {
        self.bad.get_or_insert(why);
        self.is_forgiven = false;
    }
}

/// The outputs that the version does not write any more, as text: the first one, and the number of
/// others.
fn lost_words(lost: &[String]) -> Option<String> {
    match lost {
        [] => None,
        [one] => Some(format!("it does not write {one}, which a good version before it did")),
        [first, rest @ ..] => {
            let others = counted(rest.len(), "other");
            let text = "which a good version before it did";
            Some(format!("it does not write {first} and {others}, {text}"))
        }
    }
}
