//! The thread that runs the scan: its priority, its clock, and its last act when it fails.
//!
//! Real-time options are wishes: where the system refuses one, a warning says so once and the scan
//! runs without it.

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
use crate::plugin::stop::Timekeeper;
use crate::plugin::world::World;

/// The process's exit code when the scan panics or stands: "internal software error" of sysexits.h.
pub const EXIT_PANIC: i32 = 70;

/// How long a scan that fails waits for its devices to take their safe outputs. The restart, which
/// waits for this, writes them again.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long whoever ends the scan waits for its thread: for the end of a cycle, and for devices
/// that leave, of which each has 1.5 s at the same time.
const LEAVING: Duration = Duration::from_secs(2);

/// How the scan is paced and scheduled: the `[scan]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Time from one cycle to the next.
    pub period: Duration,
    /// `SCHED_FIFO` priority, 1 to 98; the timekeeper gets one more.
    pub priority: Option<u8>,
    /// CPUs that the scan may run on; empty means all.
    pub cpus: Vec<u32>,
    /// Keep all memory of the process in RAM.
    pub lock_memory: bool,
    /// After how long without a cycle devices make their outputs safe by themselves.
    pub stall: Duration,
    /// After how long without a cycle the process ends.
    pub stall_exit: Duration,
}

/// What the scan takes with it onto its thread.
pub struct ScanParts {
    /// The world before the first cycle.
    pub world: Box<World>,
    /// All devices.
    pub devices: Vec<Box<dyn Driver>>,
    /// The scan's ends of the queues.
    pub ends: Ends,
}

/// A running scan. Dropping it ends the thread after the current cycle, without making anything
/// safe: that is what [`super::Order::Halt`] is for. It is waited for until `LEAVING`.
#[derive(Debug)]
pub struct Running {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the timekeeper, above the priority of the scan: a runaway poll would starve it otherwise.
/// Where the scan has no real-time priority the timekeeper still tries for the lowest one, so that
/// a stop need not wait for the time slice of the very thread that it is to stop.
///
/// # Errors
/// When the system has no thread to give.
pub fn timekeeper(settings: &Settings) -> io::Result<Arc<Timekeeper>> {
    let priority = settings.priority;
    let raise = move || match priority {
        Some(priority) => warn_refused("the timekeeper", prioritise(priority + 1)),
        // Nobody wished for it, so nobody is warned that it is refused.
        None => drop(prioritise(1)),
    };
    Timekeeper::start(raise).map(Arc::new)
}

/// Starts the scan.
///
/// # Errors
/// When the system has no thread to give.
pub fn start(settings: Settings, parts: ScanParts, keeper: Arc<Timekeeper>) -> io::Result<Running> {
    let end = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&end);
    failure::keep();
    let thread = std::thread::Builder::new().name(failure::THREAD.into()).spawn(move || {
        schedule(&settings);
        // From here on no crate writes to the log on this thread, which would wait for whoever
        // reads the log. What is to be told goes up in the snapshot and the queues.
        let _mute = tracing::dispatcher::set_default(&Dispatch::none());
        parts.ends.position.settle();
        let mut scan = Scan::new(parts.world, parts.devices, parts.ends, keeper);
        scan.supervise(settings.stall);
        let life = AssertUnwindSafe(|| run(&mut scan, settings.period, &MonotonicClock, &ended));
        if catch_unwind(life).is_err() {
            let end = MonotonicClock.now() + FAREWELL;
            // Devices have threads of their own, which need the CPU.
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

/// Runs cycles on the grid of `clock` until `ended`.
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
    /// Whether the thread still lives.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits no more for the thread, which goes on until the process ends.
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

/// Asks for what `[scan]` wishes, on the calling thread.
fn schedule(settings: &Settings) {
    // 1 ns instead of 50 us: a cycle is to begin on time.
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

fn prioritise(priority: u8) -> Result<(), String> {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = priority.try_into().map_err(|_| "a priority of 1 to 98".to_string())?;
    let priority = ThreadPriority::Crossplatform(priority);
    set_thread_priority_and_policy(thread_native_id(), priority, policy)
        .map_err(|error| format!("{error:?}"))
}

fn warn_refused(who: &str, wish: Result<(), String>) {
    if let Err(error) = wish {
        tracing::warn!(
            %error,
            "scan.priority: {who} runs without ({error}); it needs CAP_SYS_NICE or LimitRTPRIO"
        );
    }
}

fn refused(key: &str, error: &nix::errno::Errno, needs: &str) {
    tracing::warn!(
        %error,
        "scan.{key} is not granted ({error}) and the scan runs without; it needs {needs}"
    );
}
