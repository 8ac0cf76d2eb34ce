//! Counters of lost log lines: lines that no process read, and lines that could not be written. The
//! daemon logs the counters as soon as the log works again.
//!
//! `log.rs` counts the lines. This file only decides when a counter is logged. The difficulty is
//! that the log line about lost lines may be lost too.

use std::time::Duration;

use tokio::time::Instant;

/// The time between two attempts to log the number of lost lines. An attempt may fail, because the
/// log may still have no reader.
const UNREAD_PAUSE: Duration = Duration::from_secs(1);

/// The log lines that were dropped because no process was reading the log.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// The count of dropped lines at the last successful report. A dropped attempt to report is a
    /// dropped line too, so the count includes such attempts.
    known: u64,
    /// The number of attempts to report since the last successful report. The log has dropped all
    /// these attempts.
    attempts: u64,
    /// The time of the last attempt; `None` before the first.
    tried_at: Option<Instant>,
}

impl Unread {
    /// Logs the number of dropped lines, as soon as the log has a reader again. `dropped()` returns
    /// the number of dropped lines since the start. `log(n)` logs that n lines were lost. If
    /// `dropped()` returns a larger number after `log`, the new line was dropped too.
    pub(super) fn report(
        &mut self,
        now: Instant,
        dropped: impl Fn() -> u64,
        log: impl FnOnce(u64),
    ) {
        let is_quiet = self.tried_at.is_none_or(|at| now - at >= UNREAD_PAUSE);
        let before = dropped();
        let lost = before - self.known - self.attempts;
        if lost == 0 || !is_quiet {
            return;
        }
        self.tried_at = Some(now);
        log(lost);
        // The count has not changed during `log`, so the log has accepted the line and has a reader
        // again.
        if dropped() == before {
            (self.known, self.attempts) = (before, 0);
        } else {
            self.attempts += 1;
        }
    }
}

/// The log lines that could not be written to the log's output.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// The number of lost lines from the start to the last report that was written successfully.
    known: u64,
    /// The number of lost lines from the start to the newest report. The daemon does not know yet
    /// whether the line of this report was written.
    said: u64,
}

impl Unwritten {
    /// Logs the number of lost lines that are not reported yet. `all` is the number of lost lines
    /// since the start, or `None` while the output cannot be written. In that case the function
    /// logs nothing, because each attempt would be one more lost line. `log(n)` logs that n lines
    /// were lost.
    pub(super) fn report(&mut self, all: Option<u64>, log: impl FnOnce(u64)) {
        let Some(all) = all else { return };
        if self.said == all {
            self.known = all;
        } else if all > self.known {
            log(all - self.known);
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
        let log = |lost| match is_read.get() {
            true => said.set(Some(lost)),
            false => dropped.set(dropped.get() + 1),
        };
        let mut unread = Unread::default();
        let mut now = Instant::now();
        let mut report = || {
            now += UNREAD_PAUSE;
            unread.report(now, || dropped.get(), log);
            said.take()
        };
        assert_eq!(report(), None, "no line is lost");
        dropped.set(100);
        assert_eq!(report(), None);
        assert_eq!((report(), dropped.get()), (None, 102), "two attempts were lost too");
        is_read.set(true);
        assert_eq!(report(), Some(100));
        assert_eq!(report(), None, "the number is logged once");
        dropped.set(105);
        assert_eq!(report(), Some(3));
    }

    #[test]
    fn lines_that_could_not_be_written_are_said_once() {
        let mut unwritten = Unwritten::default();
        let mut report = |all| {
            let mut said = None;
            unwritten.report(all, |lines| said = Some(lines));
            said
        };
        assert_eq!([Some(0), None, Some(3)].map(&mut report), [None, None, Some(3)]);
        assert_eq!([Some(3), None, Some(5)].map(&mut report), [None, None, Some(2)]);
        // The line that reported the first three lost lines was lost too.
        assert_eq!([None, Some(6), Some(6), Some(6)].map(report), [None, Some(3), None, None]);
    }
}
