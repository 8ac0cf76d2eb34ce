//! The thread that runs the scan: its priority, its clock, and its reaction to a panic.
//!
//! Real-time options are requests: if the system refuses one, the log has one warning, and the scan
//! runs without that option. `pacer.rs` says when the next cycle begins; `failure.rs` makes the
//! outputs safe after a panic.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::unistd::Pid;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tracing::Dispatch;

use super::pacer::Pacer;
use super::stats::What;
use super::{Ends, Scan, failure};
use crate::clock::{Clock, MonotonicClock, nanos};
use crate::driver::Driver;
use crate::patience;
use crate::plugin::instance::stop::Timekeeper;
use crate::process::world::World;

/// The process's exit code when the scan panics or stands: "internal software error" of sysexits.h.
pub const EXIT_PANIC: i32 = 70;

/// How long a scan that panicked waits until its devices have taken their safe outputs. The restart
/// of the process waits for this too, and the restarted process writes the outputs again.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// How long the drop of [`Running`] waits for the scan's thread: for the end of a cycle, and for
/// the devices, which leave. All devices leave at the same time, and each of them has 1.5 s.
const LEAVING: Duration = Duration::from_secs(2);

/// How the scan is paced and scheduled: the section `[scan]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The time from one cycle to the next.
    pub period: Duration,
    /// The `SCHED_FIFO` priority, 1 to 98. The timekeeper gets a priority higher by one. `None`
    /// means no real-time priority.
    pub priority: Option<u8>,
    /// The CPUs that the scan may run on. An empty list means all CPUs.
    pub cpus: Vec<u32>,
    /// Whether to keep all memory of the process in RAM.
    pub lock_memory: bool,
    /// The time without a cycle after which devices make their outputs safe by themselves.
    pub stall: Duration,
    /// The time without a cycle after which the process ends.
    pub stall_exit: Duration,
}

/// The parts that the scan takes onto its thread.
pub struct ScanParts {
    /// The world before the first cycle.
    pub world: Box<World>,
    /// All devices.
    pub devices: Vec<Box<dyn Driver>>,
    /// The scan's ends of the queues.
    pub ends: Ends,
}

/// A running scan. The drop ends the thread after the current cycle and waits for the end of the
/// thread, for `LEAVING` at most. The drop makes no output safe; [`super::Order::Halt`] does.
#[derive(Debug)]
pub struct Running {
    /// A request to end the thread after its current cycle. The dropping thread writes it, the
    /// scan's thread reads it.
    end: Arc<AtomicBool>,
    /// The scan's thread. `None` after a drop has waited for it, or after [`Running::give_up`].
    thread: Option<JoinHandle<()>>,
}

/// Starts the timekeeper with a priority above the scan's, because otherwise a runaway poll would
/// keep the timekeeper from the CPU. If the scan has no real-time priority, the timekeeper still
/// asks for the lowest one. With it the timekeeper need not wait for the time slice of the thread
/// that it must stop.
///
/// # Errors
/// The system refuses to start a thread.
pub fn timekeeper(settings: &Settings) -> io::Result<Arc<Timekeeper>> {
    let priority = settings.priority;
    let raise = move || match priority {
        Some(priority) => warn_refused("the timekeeper", prioritise(priority + 1)),
        // The configuration does not ask for this priority, so a refusal gives no warning.
        None => drop(prioritise(1)),
    };
    Timekeeper::start(raise).map(Arc::new)
}

/// Starts the scan on a thread of its own.
///
/// # Errors
/// The system refuses to start a thread.
pub fn start(settings: Settings, parts: ScanParts, keeper: Arc<Timekeeper>) -> io::Result<Running> {
    let end = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&end);
    failure::keep();
    let thread = std::thread::Builder::new().name(failure::THREAD.into()).spawn(move || {
        schedule(&settings);
        // From here on no crate writes to the log on this thread, because a write could wait for
        // the reader of the log. Messages of the scan go into the snapshot and the queues.
        let _mute = tracing::dispatcher::set_default(&Dispatch::none());
        parts.ends.position.settle();
        let mut scan = Scan::new(parts.world, parts.devices, parts.ends, keeper);
        scan.supervise(settings.stall);
        let life = AssertUnwindSafe(|| run(&mut scan, settings.period, &MonotonicClock, &ended));
        if catch_unwind(life).is_err() {
            let end = MonotonicClock.now() + LEAVE_TIME;
            // The loop sleeps between calls, because devices have threads of their own, which need
            // the CPU.
            while !scan.abandon(MonotonicClock.now()) && MonotonicClock.now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            failure::write();
            crate::log::last_words();
            std::process::exit(EXIT_PANIC);
        }
        scan.leave_field();
    })?;
    Ok(Running { end, thread: Some(thread) })
}

/// Runs cycles on the grid of `clock` until `ended` is set.
pub fn run(scan: &mut Scan, period: Duration, clock: &impl Clock, ended: &AtomicBool) {
    let mut pacer = Pacer::new(clock.now(), period);
    while !ended.load(Ordering::Relaxed) {
        scan.slot().idle_until(pacer.deadline());
        clock.sleep_until(pacer.deadline());
        let now = clock.now();
        let late = now.saturating_sub(pacer.deadline());
        scan.cycle(now);
        let end = clock.now();
        pacer.set_period(scan.period());
        pacer.advance(end);
        scan.overruns = pacer.overruns();
        scan.missed = pacer.missed();
        scan.record(What::Lateness, nanos(late));
        scan.record(What::Work, nanos(end.saturating_sub(now)));
    }
}

impl Running {
    /// Whether the thread still runs.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Makes a later drop not wait for the thread. The thread then runs until the process ends.
    pub fn give_up(&mut self) {
        self.thread = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.end.store(true, Ordering::Relaxed);
            patience::join(thread, LEAVING);
        }
    }
}

/// Applies the real-time options of `[scan]` to the calling thread.
fn schedule(settings: &Settings) {
    // The slack of timers becomes 1 ns instead of 50 us, so that a cycle begins on time.
    let _ = nix::sys::prctl::set_timerslack(1);
    if settings.lock_memory
        && let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
    {
        refused("lock_memory", &error, "LimitMEMLOCK=infinity and CAP_IPC_LOCK");
    }
    if !settings.cpus.is_empty() {
        let mut set = CpuSet::new();
        let wanted = settings.cpus.iter().try_for_each(|&cpu| set.set(cpu as usize));
        if let Err(error) = wanted.and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
            refused("cpu", &error, "a CPU that exists and is allowed");
        }
    }
    if let Some(priority) = settings.priority {
        warn_refused("the scan", prioritise(priority));
    }
}

/// Gives the calling thread a `SCHED_FIFO` priority.
///
/// # Errors
/// The reason why the system refuses the priority, in words.
fn prioritise(priority: u8) -> Result<(), String> {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = priority.try_into().map_err(|_| "a priority of 1 to 98".to_string())?;
    let priority = ThreadPriority::Crossplatform(priority);
    set_thread_priority_and_policy(thread_native_id(), priority, policy)
        .map_err(|error| format!("{error:?}"))
}

/// Warns that a thread runs without the real-time priority that the configuration asks for.
fn warn_refused(who: &str, wish: Result<(), String>) {
    if let Err(error) = wish {
        tracing::warn!(
            %error,
            "scan.priority: {who} runs without ({error}); it needs CAP_SYS_NICE or LimitRTPRIO"
        );
    }
}

/// Warns that the system refuses a real-time option of the configuration, and says what the option
/// needs.
fn refused(key: &str, error: &nix::errno::Errno, needs: &str) {
    tracing::warn!(
        %error,
        "scan.{key} is not granted ({error}) and the scan runs without; it needs {needs}"
    );
}
