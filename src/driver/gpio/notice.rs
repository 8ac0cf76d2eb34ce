//! What the log is told of lines in trouble: a chip with a loose contact must not fill it.
//!
//! ```text
//!   quiet --trouble: told at once--> told --no trouble for CALM: told--> quiet
//!                                    | ^ other trouble: told, but once in CALM at most
//!                                    `-'
//! ```
//! Pure: it is given the time. The status shows each line as it is now.

use std::time::{Duration, Instant};

/// Lines are there for good, as far as the log is concerned, when nothing has happened for so long.
/// That is three attempts to get them.
const CALM: Duration = Duration::from_secs(10);

/// What was logged.
#[derive(Debug, Default)]
pub(super) struct Notice {
    /// What was told last, and when, until that is over.
    told: Option<(String, Instant)>,
    /// When there was trouble last.
    troubled_at: Option<Instant>,
}

/// What is to be logged.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    Trouble(String),
    Over,
}

impl Notice {
    /// Hears of the trouble that there is `now`; says whether the log is to be told.
    pub(super) fn hear(&mut self, trouble: Option<String>, now: Instant) -> Option<News> {
        let is_past = |at: Instant| now.duration_since(at) >= CALM;
        let Some(trouble) = trouble else {
            self.told.take_if(|_| self.troubled_at.is_none_or(is_past))?;
            return Some(News::Over);
        };
        self.troubled_at = Some(now);
        let is_told = |(told, at): &(String, Instant)| *told == trouble || !is_past(*at);
        if self.told.as_ref().is_some_and(is_told) {
            return None;
        }
        self.told = Some((trouble.clone(), now));
        Some(News::Trouble(trouble))
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
        // The last trouble was then, so it is over ten seconds later.
        check(20_001, None, None);
        check(20_002, None, Some("over"));
        check(20_003, None, None);
        check(20_004, Some("b"), Some("b"));
        // One that stays is told once.
        check(3_600_000, Some("b"), None);
    }
}
