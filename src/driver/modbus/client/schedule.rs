//! The choice of the next job on a bus: writes before reads, the job that has waited longest first,
//! units in turn.
//!
//! There is no queue. Each possible job says since when it is due, and one is chosen. A job that
//! waits too long misses its period, without any further effect. Reads begin so that they end just
//! before the scan reads its inputs. This file knows no wire and reads no clock; `serve.rs` does
//! the jobs.

use std::time::Duration;

/// The maximum number of writes in a row while a read is due. A controller that only writes would
/// be blind.
const WRITE_BURST: u8 = 4;

/// A job that can be done on a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// Write this output.
    Write(usize),
    /// Toggle the heartbeat, which shows the unit that the scan moves.
    Beat,
    /// Make this read.
    Read(usize),
    /// Ask this unit whether it is present.
    Probe(usize),
}

/// A job, its unit, and the time from which it is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) unit: usize,
    pub(super) job: Job,
}

/// The choice of the next job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This job, now.
    Now(Job),
    /// No job until then.
    At(Duration),
}

/// The choices up to now, as far as they matter for the next one.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// The number of writes in a row.
    burst: u8,
    /// The number of reads that were chosen.
    turn: u64,
    /// The last turn of each unit, by its index.
    turns: Vec<u64>,
}

impl Schedule {
    /// A schedule for this many units.
    pub(super) fn new(units: usize) -> Self {
        Self { turns: vec![0; units], ..Self::default() }
    }

    /// Chooses among all jobs that are or will be due. `writes` and `reads` have at most one entry
    /// for each job.
    pub(super) fn next(
        &mut self,
        now: Duration,
        writes: impl Iterator<Item = Due>,
        reads: impl Iterator<Item = Due>,
    ) -> Next {
        let write = writes.min_by_key(|due| due.at);
        let read = reads.min_by_key(|due| (due.at, self.turns[due.unit]));
        let is_due = |due: &Due| due.at <= now;
        let (due_write, due_read) = (write.filter(is_due), read.filter(is_due));
        if let Some(write) = due_write
            && (self.burst < WRITE_BURST || due_read.is_none())
        {
            self.burst = self.burst.saturating_add(1);
            return Next::Now(write.job);
        }
        self.burst = 0;
        if let Some(read) = due_read {
            self.turn += 1;
            self.turns[read.unit] = self.turn;
            return Next::Now(read.job);
        }
        let soonest = write.iter().chain(&read).map(|due| due.at).min();
        Next::At(soonest.unwrap_or(Duration::MAX))
    }
}

/// The next time of a job that was due at `due`, in the same rhythm, and the number of times that
/// have passed unused. These are dropped.
pub(super) fn again(due: Duration, period: Duration, now: Duration) -> (Duration, u32) {
    let late = now.saturating_sub(due);
    let missed = (late.as_nanos() / period.as_nanos().max(1)).min(u128::from(u32::MAX)) as u32;
    (due + period * missed + period, missed)
}

/// A read begins earlier than its duration before the cycle by this time, so that its values are
/// there when the cycle begins. The timers of tokio count milliseconds, and threads must be woken.
const HASTE: Duration = Duration::from_micros(1500);

/// The scan's cycles, as far as a bus needs them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cycles {
    /// The time of any cycle.
    pub(super) one: Duration,
    /// The time from one cycle to the next.
    pub(super) every: Duration,
}

impl Cycles {
    /// When to begin a read that is due at `due` in every `period` and takes `time`. It then ends
    /// just before a cycle, so that programs see fresh values. If the period is not a multiple of
    /// the cycle time, it begins at `due`.
    pub(super) fn ahead(self, due: Duration, period: Duration, time: Duration) -> Duration {
        let every = self.every.as_nanos();
        if !period.as_nanos().is_multiple_of(every) {
            return due;
        }
        // The distance from the last cycle to the end of the read, modulo the cycle time.
        let end = due + time + HASTE;
        let into = (end.as_nanos() % every + every - self.one.as_nanos() % every) % every;
        let nanos = |nanos: u128| Duration::from_nanos(nanos as u64);
        if into <= every / 2 { due.saturating_sub(nanos(into)) } else { due + nanos(every - into) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn dues(list: &[(u32, usize, Job)]) -> impl Iterator<Item = Due> {
        list.iter().map(|(at, unit, job)| Due { at: MS * *at, unit: *unit, job: *job })
    }

    #[test]
    fn whoever_waits_longest_is_next() {
        use Job::{Probe, Read, Write};
        fn check(now: u32, writes: &[(u32, usize, Job)], reads: &[(u32, usize, Job)], next: Next) {
            let chosen = Schedule::new(3).next(MS * now, dues(writes), dues(reads));
            assert_eq!(chosen, next, "at {now}: {writes:?} {reads:?}");
        }
        check(0, &[], &[], Next::At(Duration::MAX));
        check(5, &[], &[(7, 0, Read(0)), (6, 1, Read(1))], Next::At(6 * MS));
        check(5, &[(8, 0, Write(0))], &[(9, 0, Read(0))], Next::At(8 * MS));
        check(9, &[], &[(7, 0, Read(0)), (6, 1, Probe(1))], Next::Now(Probe(1)));
        check(9, &[(9, 0, Write(0))], &[(1, 0, Read(0))], Next::Now(Write(0)));
        check(9, &[(9, 0, Write(0)), (3, 0, Write(1))], &[], Next::Now(Write(1)));
    }

    #[test]
    fn units_take_turns_and_reads_are_not_starved() {
        let mut schedule = Schedule::new(3);
        let reads = [0, 1, 2].map(|unit| (0, unit, Job::Read(unit)));
        let mut turns = Vec::new();
        for _ in 0..6 {
            turns.push(schedule.next(MS, dues(&[]), dues(&reads)));
        }
        assert_eq!(turns[..3], [0, 1, 2].map(|unit| Next::Now(Job::Read(unit))));
        assert_eq!(turns[..3], turns[3..]);
        let mut schedule = Schedule::new(1);
        let mut jobs = String::new();
        for _ in 0..10 {
            let write = dues(&[(1, 0, Job::Write(0))]).collect::<Vec<_>>();
            let next = schedule.next(MS, write.into_iter(), dues(&[(1, 0, Job::Read(0))]));
            jobs.push(if next == Next::Now(Job::Read(0)) { 'r' } else { 'w' });
        }
        assert_eq!(jobs, "wwwwrwwwwr");
    }

    #[test]
    fn missed_periods_are_dropped() {
        fn check(due: u32, now: u32, expected: u32, missed: u32) {
            let next = again(MS * due, 100 * MS, MS * now);
            assert_eq!(next, (MS * expected, missed), "{due} at {now}");
        }
        check(0, 0, 100, 0);
        check(100, 130, 200, 0);
        check(100, 199, 200, 0);
        check(100, 200, 300, 1);
        check(100, 950, 1000, 8);
    }

    #[test]
    fn reads_end_just_before_a_cycle_where_that_can_be() {
        /// A cycle is at 1000 ms and every 10 ms from there; the read takes 500 us.
        fn check(due_us: u64, period_ms: u32, begins_us: u64) {
            let cycles = Cycles { one: 1000 * MS, every: 10 * MS };
            let due = Duration::from_micros(due_us);
            let begins = cycles.ahead(due, period_ms * MS, MS / 2);
            assert_eq!(begins, Duration::from_micros(begins_us), "{due_us}, {period_ms}");
        }
        for period in [10, 100, 1000] {
            check(998_000, period, 998_000);
            check(1_003_000, period, 998_000);
            check(1_003_001, period, 1_008_000);
            check(1_007_000, period, 1_008_000);
            check(1_009_000, period, 1_008_000);
            check(518_000, period, 518_000);
        }
        for period in [1, 5, 7, 15, 105] {
            check(1_003_000, period, 1_003_000);
        }
    }
}
