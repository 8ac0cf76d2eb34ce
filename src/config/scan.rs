//! The section `[scan]`: the period, the stall limits, and the settings of the scan thread.
//!
//! A scan stalls when no cycle has begun for some time. The keys `stall` and `stall_exit` set the
//! two limits:
//!
//! ```text
//! 0 ───────── scan.stall ──────────────── scan.stall_exit         time without a new cycle
//!             devices make outputs safe   the process ends, and systemd starts it again
//! ```
//!
//! This file checks the ranges and adds the defaults. Some ranges and defaults depend on the
//! period. `file.rs` reads the keys, and `scan/thread.rs` applies the settings to the scan thread.
//!
//! The section in a file; `period`, `stall` and `stall_exit` have their default values:
//!
//! ```toml
//! [scan]
//! period = "10ms"
//! priority = 50                 # default: no real-time priority
//! cpu = [2, 3]                  # default: all CPUs
//! lock_memory = true            # default: false
//! wake_latency = "0us"          # default: no limit
//! stall = "200ms"               # 20 cycles of 10 ms
//! stall_exit = "2s"
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{ranged, show_duration, show_number};
use super::file::ScanFile;
use super::problem::{ProblemReport, Said};
use super::word::Cpus;

/// The period and the stall limits of the scan. A reload can change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanTimes {
    /// Time from the start of one cycle to the start of the next cycle.
    pub period: Duration,
    /// Time without a cycle after which each device makes its outputs safe.
    pub stall: Duration,
    /// Time without a cycle after which the process ends.
    pub stall_exit: Duration,
}

/// The settings of the scan thread. A change needs a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanThread {
    /// The `SCHED_FIFO` priority, 1 to 98; `None` means no real-time priority.
    pub priority: Option<u8>,
    /// The CPUs on which the scan may run; an empty list means all CPUs.
    pub cpus: Vec<u32>,
    /// Whether all memory of the process is locked in RAM, so that no page is swapped out.
    pub lock_memory: bool,
    /// The longest time that an idle CPU of the machine may take to wake up; `None` leaves the
    /// limit to the system.
    pub wake_latency: Option<Duration>,
}

/// Range of `scan.period`. Below 100 us the wake-up of the kernel takes most of a cycle. Above 1 s
/// the scan would be too slow for the watchdog. And at a stop of the daemon, the outputs would not
/// become safe within the time limit.
const PERIOD: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(1);

/// Default of `scan.period`. Most controllers use 10 ms. This time is also about a hundred times
/// the wake-up time of an ordinary kernel.
const DEFAULT_PERIOD: Duration = Duration::from_millis(10);

/// Default of `scan.stall`, in cycles; [`STALL`] is the least default. A scan that missed 20 cycles
/// has stalled. A swap, a reload, and the delay of a thread by an ordinary kernel are all shorter.
const STALL_CYCLES: u32 = 20;

/// The least default of `scan.stall`. With a short period, 20 cycles would be too short, because
/// the delays of the kernel do not become shorter.
const STALL: Duration = Duration::from_millis(100);

/// The least value of `scan.stall`, in cycles and as a duration; the longer of the two applies. A
/// scan may miss one cycle at any time, so the limit is three cycles. Below 10 ms the timers of a
/// device's thread are too coarse.
const LEAST_STALL: (u32, Duration) = (3, Duration::from_millis(10));

/// The largest value of `scan.stall`. An output that must keep its value for longer can use
/// `hold_for`.
const MOST_STALL: Duration = Duration::from_secs(60);

/// Default of `scan.stall_exit`; the default is twice `stall` if that is longer. Delays that end
/// without an operator are shorter than 2 s. An operator needs longer than 2 s to notice a stall.
const STALL_EXIT: Duration = Duration::from_secs(2);

/// The largest value of `scan.stall_exit`. One hour is long enough for a person to examine the
/// stalled process.
const MOST_STALL_EXIT: Duration = Duration::from_secs(3600);

/// Range of `scan.priority`. `SCHED_FIFO` ends at 99. Priority 99 is reserved, because the
/// timekeeper thread needs a higher priority than the scan.
const PRIORITY: RangeInclusive<u32> = 1..=98;

/// Range of `scan.wake_latency`. With 0 the CPUs do not enter an idle state. A CPU leaves its
/// deepest idle state in less than 10 ms.
const WAKE_LATENCY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_millis(10);

/// Range of CPU numbers. `CPU_SETSIZE` of the C library is 1024.
const CPU: RangeInclusive<u32> = 0..=1023;

/// Returns the settings of `[scan]`. Without `scan.priority` the scan has no real-time scheduling.
pub(super) fn scan(file: &ScanFile, report: &ProblemReport<'_>) -> (ScanTimes, ScanThread) {
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
    let wake = || ranged(&file.wake_latency, WAKE_LATENCY, Duration::ZERO, show_duration, report);
    let period = ranged(&file.period, PERIOD, DEFAULT_PERIOD, show_duration, report);
    let (cycles, least) = LEAST_STALL;
    let (least, usual) = ((cycles * period).max(least), (STALL_CYCLES * period).max(STALL));
    let stall = ranged(&file.stall, least..=MOST_STALL, usual, show_duration, report);
    // The outputs must be safe and confirmed before the process ends. For this reason, the least
    // `stall_exit` is twice `stall`.
    let exit = (2 * stall)..=MOST_STALL_EXIT;
    let usual = STALL_EXIT.max(2 * stall);
    let stall_exit = ranged(&file.stall_exit, exit, usual, show_duration, report);
    let thread = ScanThread {
        priority: given.then(|| ranged(&file.priority, PRIORITY, 1, show_number, report) as u8),
        cpus,
        lock_memory: file.lock_memory.as_ref().is_some_and(|said| said.value),
        wake_latency: file.wake_latency.is_some().then(wake),
    };
    (ScanTimes { period, stall, stall_exit }, thread)
}
