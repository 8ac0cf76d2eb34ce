//! The section `[scan]`: its ranges and defaults, some of which follow the period.
//!
//! The keys are read in `file.rs`. What the scan's thread makes of them is in `scan/thread.rs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration, show_number};
use super::file::ScanFile;
use super::problem::{Report, Said};
use super::word::Cpus;

/// The times of the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanTimes {
    /// The time from one cycle to the next.
    pub period: Duration,
    /// The time without a cycle after which devices make their outputs safe by themselves.
    pub stall: Duration,
    /// The time without a cycle after which the process ends.
    pub stall_exit: Duration,
}

/// The thread of the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanThread {
    /// The `SCHED_FIFO` priority, 1 to 98. `None`: no real-time priority.
    pub priority: Option<u8>,
    /// The CPUs that the scan may run on; empty: all.
    pub cpus: Vec<u32>,
    /// Whether to keep all memory of the process in RAM.
    pub lock_memory: bool,
}

/// Range of the period. Below 100 us the kernel's wake-up is most of a cycle. Above 1 s a scan
/// would be too slow for the watchdog, and for safe outputs within the stop deadline.
const PERIOD: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(1);

/// Default period: 10 ms is what most controllers use, and a hundred times the wake-up of an
/// ordinary kernel.
const DEFAULT_PERIOD: Duration = Duration::from_millis(10);

/// Default of `scan.stall` in cycles. A scan that has missed so many cycles stands: no swap or
/// reload takes longer, and no ordinary kernel leaves a thread waiting longer. [`STALL`] is the
/// least.
const STALL_CYCLES: u32 = 20;

/// The least default of `scan.stall`, because a short period does not make a kernel quicker.
const STALL: Duration = Duration::from_millis(100);

/// The least `scan.stall`, in cycles and as a time; the longer one counts. A single cycle may be
/// missed at any time, so fewer than three prove nothing. Below 10 ms the timers of a device's
/// thread are too coarse.
const LEAST_STALL: (u32, Duration) = (3, Duration::from_millis(10));

/// The most for `scan.stall`. Outputs that must stay as they are for longer have `hold_for`.
const MOST_STALL: Duration = Duration::from_secs(60);

/// Default of `scan.stall_exit`: longer than anything that ends by itself, shorter than an operator
/// takes to notice.
const STALL_EXIT: Duration = Duration::from_secs(2);

/// The most for `scan.stall_exit`: an hour to look for the reason by hand.
const MOST_STALL_EXIT: Duration = Duration::from_secs(3600);

/// Range of `scan.priority`. `SCHED_FIFO` ends at 99, which stays free for the timekeeper: its
/// priority must be above the scan's.
const PRIORITY: RangeInclusive<u32> = 1..=98;

/// Range of CPU numbers: `CPU_SETSIZE` of the C library is 1024.
const CPU: RangeInclusive<u32> = 0..=1023;

/// The settings of `[scan]`. Without a priority the scan has no real-time scheduling.
pub(super) fn scan(file: &ScanFile, report: &Report<'_>) -> (ScanTimes, ScanThread) {
    let mut cpus = match &file.cpu {
        None => Vec::new(),
        Some(Said { value: Cpus::One(cpu), .. }) => vec![*cpu],
        Some(Said { value: Cpus::Many(cpus), .. }) => cpus.clone(),
    };
    if let Some(said) = &file.cpu
        && (cpus.is_empty() || cpus.iter().any(|cpu| !CPU.contains(cpu)))
    {
        let right = format!("CPU numbers from {} to {}", CPU.start(), CPU.end());
        report.wrong_at(said, format!("{cpus:?}"), right);
    }
    cpus.sort_unstable();
    cpus.dedup();
    let given = file.priority.is_some();
    let period = ranged(&file.period, PERIOD, DEFAULT_PERIOD, show_duration, report);
    let (cycles, least) = LEAST_STALL;
    let (least, usual) = ((cycles * period).max(least), (STALL_CYCLES * period).max(STALL));
    let stall = ranged(&file.stall, least..=MOST_STALL, usual, show_duration, report);
    // The outputs must be safe and confirmed before the process that drives them ends.
    let exit = (2 * stall)..=MOST_STALL_EXIT;
    let usual = STALL_EXIT.max(2 * stall);
    let stall_exit = ranged(&file.stall_exit, exit, usual, show_duration, report);
    let thread = ScanThread {
        priority: given.then(|| ranged(&file.priority, PRIORITY, 1, show_number, report) as u8),
        cpus,
        lock_memory: file.lock_memory.as_ref().is_some_and(|said| said.value),
    };
    (ScanTimes { period, stall, stall_exit }, thread)
}
