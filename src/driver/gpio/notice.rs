//! What is logged about lines in trouble. A chip with a loose contact must not fill the log.
//!
//! ```text
//!   quiet --trouble: logged at once--> logged --no trouble for CALM: logged--> quiet
//!                                       | ^ other trouble: logged, but once in CALM at most
//!                                       `-'
//! ```
//! This file is pure: the caller gives it the time. The status shows each line as it is now.

use std::time::{Duration, Instant};

use crate::logged::OnChange;

/// How long nothing must happen before the log counts all lines as working. That is the time of
/// three attempts to get them.
const CALM: Duration = Duration::from_secs(10);

/// What was logged about the lines of one device.
#[derive(Debug, Default)]
pub(super) struct Notice {
    /// The trouble that was logged last; `None` once it is over.
    logged: OnChange<Option<String>>,
    /// When there was trouble last.
    troubled_at: Option<Instant>,
}

/// A message for the log.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// There is this trouble.
    Trouble(String),
    /// The trouble is over.
    Over,
}

impl Notice {
    /// Takes the trouble that there is `now`. Returns the message to log, if there is one.
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
        // The last trouble was at the step before, so it is over ten seconds later.
        check(20_001, None, None);
        check(20_002, None, Some("over"));
        check(20_003, None, None);
        check(20_004, Some("b"), Some("b"));
        // A trouble that stays is logged once.
        check(3_600_000, Some("b"), None);
    }
}
