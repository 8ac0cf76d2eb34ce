//! The log lines about faulty GPIO lines. A chip with a loose contact must not fill the log, so
//! this file limits the number of log lines.
//!
//! ```text
//!   quiet --trouble: logged at once--> logged --no trouble for CALM: logged--> quiet
//!                                       | ^ other trouble: logged, but once in CALM at most
//!                                       `-'
//! ```
//! This file reads no clock and writes no log. The caller passes the time in and writes the log
//! line that `hear` returns. The log may show a change up to ten seconds late; the status shows the
//! present state of each GPIO line.

use std::time::{Duration, Instant};

use crate::logged::OnChange;

/// The time without trouble after which the log reports that all lines work. If a line fails again
/// within this time, the log does not report that all lines work.
const CALM: Duration = Duration::from_secs(10);

/// The trouble that the log shows for the GPIO lines of one device.
#[derive(Debug, Default)]
pub(super) struct Notice {
    /// The trouble that was logged last; `None` after the log has reported that all lines work.
    logged: OnChange<Option<String>>,
    /// The time of the last call with trouble.
    troubled_at: Option<Instant>,
}

/// A message for the log.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// At least one GPIO line does not work. The text says how many lines do not work, and why the
    /// first of them does not work.
    Trouble(String),
    /// All lines work again.
    Over,
}

impl Notice {
    /// Records the trouble at the time `now`; `trouble` is `None` if all GPIO lines work. Returns
    /// the message to log, if there is one.
    pub(super) fn hear(&mut self, trouble: Option<String>, now: Instant) -> Option<News> {
        let is_past = |at: Instant| now.duration_since(at) >= CALM;
        let Some(trouble) = trouble else {
            let is_over = self.troubled_at.is_none_or(is_past) && self.logged.changes_to(None);
            return is_over.then_some(News::Over);
        };
        self.troubled_at = Some(now);
        let is_news = self.logged.changes_after(CALM, now, Some(trouble.clone()));
        is_news.then_some(News::Trouble(trouble))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_that_comes_and_goes_is_told_now_and_then() {
        let (mut notice, start) = (Notice::default(), Instant::now());
        let mut check = |ms: u64, trouble: Option<&str>, expected: Option<&str>| {
            let now = start + Duration::from_millis(ms);
            let news = notice.hear(trouble.map(str::to_owned), now);
            let told = news.map(|news| match news {
                News::Trouble(what) => what,
                News::Over => "over".to_owned(),
            });
            assert_eq!(told.as_deref(), expected, "{trouble:?} after {ms} ms");
        };
        check(0, None, None);
        check(1, Some("a"), Some("a"));
        check(2, Some("a"), None);
        check(3, Some("b"), None);
        check(4, None, None);
        check(5, Some("a"), None);
        check(10_000, Some("b"), None);
        check(10_001, Some("b"), Some("b"));
        check(10_002, Some("a"), None);
        // The last trouble was reported at 10.002 s, so the trouble is not over before 20.002 s.
        check(20_001, None, None);
        check(20_002, None, Some("over"));
        check(20_003, None, None);
        check(20_004, Some("b"), Some("b"));
        // A trouble that does not change is logged only once.
        check(3_600_000, Some("b"), None);
    }
}
