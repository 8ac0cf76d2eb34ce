//! The choice of the next job on a bus. A due write comes before a due read, except after
//! [`WRITE_BURST`] consecutive writes. Among the due writes, and among the due reads, the job that
//! has waited longest comes first. If two reads became due at the same time, their units take
//! turns. In these rules, the heartbeat counts as a write, and a probe counts as a read.
//!
//! There is no queue of jobs. Before each job, `serve.rs` lists all possible jobs, each with the
//! time from which it is due. This file then chooses one job of the list. If a read or the
//! heartbeat waits longer than its period, the missed period is skipped. Missed periods of reads
//! are counted. If the period of a read is a multiple of the cycle time, the read begins at a time
//! at which it can end just before the scan reads its inputs. This file sends nothing and reads no
//! clock; `exchange.rs` does the chosen job.

use std::time::Duration;

/// The maximum number of consecutive writes while a read is due. Without this limit, a controller
/// with many writes would get no new input values.
const WRITE_BURST: u8 = 4;

/// A job that can be done on a bus. The number is the index of an output, a read or a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// Write the output with this index.
    Write(usize),
    /// Toggle the heartbeat, which shows the unit that the scan runs.
    Beat,
    /// Make the read with this index.
    Read(usize),
    /// Ask the unit with this index whether it is present.
    Probe(usize),
}

/// A possible job, with its unit and the time from which the job is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) unit: usize,
    pub(super) job: Job,
}

/// The result of the choice: one job, or a time to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Do this job now.
    Now(Job),
    /// No job is due before this time.
    At(Duration),
}

/// The earlier choices, as far as they influence the next choice.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// The number of consecutive writes up to now.
    burst: u8,
    /// The number of reads and probes that were chosen up to now.
    turn: u64,
    /// For each unit, the value of `turn` when the unit was read or probed last. The units have the
    /// same order as in the list of units.
    turns: Vec<u64>,
}

impl Schedule {
    /// Makes a schedule for this number of units.
    pub(super) fn new(units: usize) -> Self {
        Self { turns: vec![0; units], ..Self::default() }
    }

    /// Chooses the next job. `writes` lists the outputs and the heartbeat; `reads` lists the reads
    /// and the probes. Both lists contain all possible jobs, even the jobs that become due later.
    /// Each job is in the lists at most once.
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

/// Returns the next time of a job that was due at `due`, and the number of periods that were
/// missed. The next time is a whole number of periods after `due`. The job is not repeated for the
/// missed periods.
pub(super) fn again(due: Duration, period: Duration, now: Duration) -> (Duration, u32) {
    let late = now.saturating_sub(due);
    let missed = (late.as_nanos() / period.as_nanos().max(1)).min(u128::from(u32::MAX)) as u32;
    (due + period * missed + period, missed)
}

/// The safety margin between the end of a read and the next cycle of the scan. Because of this
/// margin, the values are ready when the cycle begins. The margin covers the timers of tokio, which
/// have a resolution of 1 ms, and the time that a thread needs to wake up.
const HASTE: Duration = Duration::from_micros(1500);

/// The moments at which the cycles of the scan begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cycles {
    /// The start time of one cycle. Any cycle can be used, because the other cycles follow from
    /// `every`.
    pub(super) one: Duration,
    /// The time from one cycle to the next.
    pub(super) every: Duration,
}

impl Cycles {
    /// Returns the time to begin a read that takes `time`. Without this function, the read would
    /// begin at `due` and then once in every `period`. A read that begins at the returned time ends
    /// just before a cycle, so that programs get fresh values. If the period is not a multiple of
    /// the cycle time, the function returns `due`.
    pub(super) fn ahead(self, due: Duration, period: Duration, time: Duration) -> Duration {
        let every = self.every.as_nanos();
        if !period.as_nanos().is_multiple_of(every) {
            return due;
        }
        // `end` is the end of the read plus the margin. `into` is the time from the last cycle
        // before `end` to `end`.
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
        /// Checks when a read begins. The cycles are at 1000 ms and then every 10 ms; the read
        /// takes 500 us.
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
