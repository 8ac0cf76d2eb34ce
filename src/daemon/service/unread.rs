//! Counts of log lines that had no reader or could not be written. The counts are logged as soon as
//! the log works again.
//!
//! `log.rs` counts the lines. This file only decides when to log a count, because a line about lost
//! lines may be lost itself.

use std::time::Duration;

use tokio::time::Instant;

/// The time between two attempts to log lost lines, because such a line may find no reader either.
const UNREAD_PAUSE: Duration = Duration::from_secs(1);

/// The log lines that were dropped because the log had no reader.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// The number of dropped lines that the log has been told about. Earlier attempts that were
    /// dropped count too.
    known: u64,
    /// The number of attempts since then that were dropped too.
    attempts: u64,
    /// The time of the last attempt.
    tried_at: Option<Instant>,
}

impl Unread {
    /// Logs how many lines were dropped, as soon as the log has a reader again. `dropped()` gives
    /// the number of dropped lines since the start; `say` logs a number of lines. If `dropped()`
    /// rises during `say`, the line itself found no reader.
    pub(super) fn tell(&mut self, now: Instant, dropped: impl Fn() -> u64, say: impl FnOnce(u64)) {
        let is_quiet = self.tried_at.is_none_or(|at| now - at >= UNREAD_PAUSE);
        let before = dropped();
        let lost = before - self.known - self.attempts;
        if lost == 0 || !is_quiet {
            return;
        }
        self.tried_at = Some(now);
        say(lost);
        // If the count has not risen, the log has taken the line, so it has a reader.
        if dropped() == before {
            (self.known, self.attempts) = (before, 0);
        } else {
            self.attempts += 1;
        }
    }
}

/// The log lines that could not be written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// The number of lost lines for which a log line is known to be written.
    known: u64,
    /// The number of lost lines in the newest log line. It is not known yet whether this line was
    /// written.
    said: u64,
}

impl Unwritten {
    /// Logs how many lost lines were not logged yet. `all` is the number of lost lines since the
    /// start; it is `None` while lines cannot be written. `say` logs a number of lines. While `all`
    /// is `None`, nothing is logged, because each attempt would be one more line that cannot be
    /// written.
    pub(super) fn tell(&mut self, all: Option<u64>, say: impl FnOnce(u64)) {
        let Some(all) = all else { return };
        if self.said == all {
            self.known = all;
        } else if all > self.known {
            say(all - self.known);
            self.said = all;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn lines_that_nobody_read_are_said_when_somebody_reads_again() {
        let (dropped, is_read) = (Cell::new(0), Cell::new(false));
        let said = Cell::new(None);
        let say = |lost| match is_read.get() {
            true => said.set(Some(lost)),
            false => dropped.set(dropped.get() + 1),
        };
        let mut unread = Unread::default();
        let mut now = Instant::now();
        let mut tell = || {
            now += UNREAD_PAUSE;
            unread.tell(now, || dropped.get(), say);
            said.take()
        };
        assert_eq!(tell(), None, "none is lost");
        dropped.set(100);
        assert_eq!(tell(), None);
        assert_eq!((tell(), dropped.get()), (None, 102), "two attempts were lost too");
        is_read.set(true);
        assert_eq!(tell(), Some(100));
        assert_eq!(tell(), None, "it is said once");
        dropped.set(105);
        assert_eq!(tell(), Some(3));
    }

    #[test]
    fn lines_that_could_not_be_written_are_said_once() {
        let mut unwritten = Unwritten::default();
        let mut tell = |all| {
            let mut said = None;
            unwritten.tell(all, |lines| said = Some(lines));
            said
        };
        assert_eq!([Some(0), None, Some(3)].map(&mut tell), [None, None, Some(3)]);
        assert_eq!([Some(3), None, Some(5)].map(&mut tell), [None, None, Some(2)]);
        // The line that told of the first three lost lines was lost as well.
        assert_eq!([None, Some(6), Some(6), Some(6)].map(tell), [None, Some(3), None, None]);
    }
}
