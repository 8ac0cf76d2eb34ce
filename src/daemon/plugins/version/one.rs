//! The record of one version of one plugin.
//!
//! It is plain data with the steps that a version takes. Which receipt means which step is in
//! `version.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::Soundness;
use crate::text::counted;

/// The running time after which a version without an output is not doubted any more: a person who
/// needs that output has noticed by then.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The record of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Version {
    /// All 64 hexadecimal digits.
    pub(in super::super) hash: String,
    /// When it first started, in UTC, RFC 3339; empty if it never did. `last` is its newest start.
    pub(in super::super) first: String,
    /// When it last started, in UTC, RFC 3339; empty if it never did.
    pub(super) last: String,
    /// The time in the scan, without the time since `began`.
    pub(super) ran: Duration,
    /// When and why it left the scan; `None` while it is there.
    pub(in super::super) end: Option<End>,
    /// Whether it has passed its probation.
    pub(super) is_proven: bool,
    /// The outputs that it has owned after its probation, in any of its instances.
    pub(super) outputs: Vec<String>,
    /// Which outputs it does not own though a good version before it did; `None` if there are none.
    doubt: Option<String>,
    /// Why it is bad; `None` if it is not.
    pub(super) bad: Option<String>,
    /// Why it is in quarantine; `None` if it is not.
    pub(in super::super) quarantine: Option<String>,
    /// Whether the operator has let it run again. It is good when it then passes its probation.
    pub(super) is_forgiven: bool,
    /// Since when it is in the scan, on the monotonic clock; `None` while it is not there.
    #[serde(skip)]
    began: Option<Duration>,
}

/// The end of a version's time in the scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct End {
    /// The time in UTC, RFC 3339; empty if it is not known.
    pub(in super::super) at: String,
    /// Why it ended, in words.
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

    /// Whether it is good enough for a rollback.
    pub(in super::super) fn soundness(&self) -> Soundness {
        match (&self.bad, &self.doubt) {
            (Some(_), _) => Soundness::Bad,
            _ if !self.is_proven => Soundness::Unproven,
            (None, Some(_)) => Soundness::Doubtful,
            (None, None) => Soundness::Good,
        }
    }

    /// Why it is not good.
    pub(in super::super) fn why(&self) -> Option<&str> {
        self.quarantine.as_deref().or(self.bad.as_deref()).or(self.doubt.as_deref())
    }

    /// How long it was in the scan, up to this moment of the monotonic clock.
    pub(in super::super) fn ran(&self, now: Duration) -> Duration {
        self.ran + self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began))
    }

    /// A copy of the record with the time up to this moment counted.
    pub(super) fn so_far(&self, now: Duration) -> Self {
        Self { ran: self.ran(now), ..self.clone() }
    }

    /// Notes a start of an instance. A restart does not interrupt the running time.
    pub(super) fn begin(&mut self, at: &str, now: Option<Duration>) {
        if self.first.is_empty() {
            at.clone_into(&mut self.first);
        }
        at.clone_into(&mut self.last);
        self.end = None;
        self.began = self.began.or(now);
    }

    /// Notes its end; the first reason counts.
    pub(super) fn end(&mut self, at: &str, now: Option<Duration>, why: impl FnOnce() -> String) {
        self.ran = now.map_or(self.ran, |now| self.ran(now));
        self.began = None;
        self.end.get_or_insert_with(|| End { at: at.to_owned(), why: why() });
    }

    /// Notes that it has passed its probation, owns these outputs and has lost those. Returns
    /// whether the record has changed.
    pub(super) fn prove(&mut self, outputs: Vec<String>, lost: &[String], now: Duration) -> bool {
        let before = self.clone();
        // What it did before it was good for the first time does not count any more. Neither does
        // what the operator has forgiven.
        if !self.is_proven || self.is_forgiven {
            self.bad = None;
        }
        self.doubt = lost_words(lost).filter(|_| self.ran(now) < DAY);
        self.owns(outputs);
        (self.is_proven, self.is_forgiven) = (true, false);
        *self != before
    }

    /// Adds these outputs to those that it owns; returns whether one of them is new.
    pub(super) fn owns(&mut self, mut outputs: Vec<String>) -> bool {
        outputs.retain(|output| !self.outputs.contains(output));
        let is_news = !outputs.is_empty();
        self.outputs.append(&mut outputs);
        is_news
    }

    /// Notes that it is bad; the first reason stays. An earlier pardon is used up.
    pub(super) fn turns_bad(&mut self, why: String) {
        self.bad.get_or_insert(why);
        self.is_forgiven = false;
    }
}

/// Names in words the outputs that it does not write any more: the first, and how many others.
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
