//! What one version of one plugin has come to.
//!
//! Plain data with the steps that it takes. Which receipt means which step is in `version.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::Soundness;
use crate::text::counted;

/// A version that has run for so long without an output is not doubted for it any more: whoever
/// needs that output has noticed by then.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// What one version has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Version {
    /// All 64 hexadecimal digits.
    pub(in super::super) hash: String,
    /// When it started first and last, in UTC: RFC 3339.
    pub(in super::super) first: String,
    pub(super) last: String,
    /// In the scan, without the time since `began`.
    pub(super) ran: Duration,
    /// When and why it left the scan; `None` while it is in it.
    pub(in super::super) end: Option<End>,
    /// It has survived its probation.
    pub(super) is_proven: bool,
    /// The outputs that it has owned since it had survived that, in any of its instances.
    pub(super) outputs: Vec<String>,
    /// Which outputs it does not own though a good version before it did.
    doubt: Option<String>,
    /// What it did to be bad.
    pub(super) bad: Option<String>,
    /// Why it is in quarantine.
    pub(in super::super) quarantine: Option<String>,
    /// The operator has let it run again; it is good when it proves itself.
    pub(super) is_forgiven: bool,
    /// On the monotonic clock, since when it is in the scan.
    #[serde(skip)]
    began: Option<Duration>,
}

/// The end of a version's time in the scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct End {
    /// In UTC: RFC 3339; empty if nobody knows.
    pub(in super::super) at: String,
    pub(in super::super) why: String,
}

impl Version {
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

    /// Whether it may be gone back to.
    pub(in super::super) fn soundness(&self) -> Soundness {
        match (&self.bad, &self.doubt) {
            (Some(_), _) => Soundness::Bad,
            _ if !self.is_proven => Soundness::Unproven,
            (None, Some(_)) => Soundness::Doubtful,
            (None, None) => Soundness::Good,
        }
    }

    /// What it did if it is not good.
    pub(in super::super) fn why(&self) -> Option<&str> {
        self.quarantine.as_deref().or(self.bad.as_deref()).or(self.doubt.as_deref())
    }

    /// How long it was in the scan, up to this moment of the monotonic clock.
    pub(in super::super) fn ran(&self, now: Duration) -> Duration {
        self.ran + self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began))
    }

    /// The same, with the time up to this moment counted.
    pub(super) fn so_far(&self, now: Duration) -> Self {
        Self { ran: self.ran(now), ..self.clone() }
    }

    pub(super) fn begin(&mut self, at: &str, now: Option<Duration>) {
        if self.first.is_empty() {
            at.clone_into(&mut self.first);
        }
        at.clone_into(&mut self.last);
        self.end = None;
        self.began = self.began.or(now);
    }

    /// What ended it first counts.
    pub(super) fn end(&mut self, at: &str, now: Option<Duration>, why: impl FnOnce() -> String) {
        self.ran = now.map_or(self.ran, |now| self.ran(now));
        self.began = None;
        self.end.get_or_insert_with(|| End { at: at.to_owned(), why: why() });
    }

    /// It has survived its probation, owns these outputs and has lost those. Whether that is news.
    pub(super) fn prove(&mut self, outputs: Vec<String>, lost: &[String], now: Duration) -> bool {
        let before = self.clone();
        // What it did before it was good for the first time counts no more, and nor does what the
        // operator has forgiven.
        if !self.is_proven || self.is_forgiven {
            self.bad = None;
        }
        self.doubt = lost_words(lost).filter(|_| self.ran(now) < DAY);
        self.owns(outputs);
        (self.is_proven, self.is_forgiven) = (true, false);
        *self != before
    }

    /// It owns these outputs as well. Whether that is news.
    pub(super) fn owns(&mut self, mut outputs: Vec<String>) -> bool {
        outputs.retain(|output| !self.outputs.contains(output));
        let is_news = !outputs.is_empty();
        self.outputs.append(&mut outputs);
        is_news
    }

    pub(super) fn turns_bad(&mut self, why: String) {
        self.bad.get_or_insert(why);
        self.is_forgiven = false;
    }
}

/// Says which outputs are not written any more: the first, and how many others.
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
