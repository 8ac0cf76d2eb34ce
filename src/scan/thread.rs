//! The thread that runs the scan: its priority, its clock, and its reaction to a panic.
//!
//! If the system refuses a real-time option of the configuration, the thread logs a warning, and
//! the scan runs without that option. `pacer.rs` computes when the next cycle begins, and
//! `failure.rs` makes the outputs safe after a panic.
//!
//! ```text
//! start ──▶ real-time options ──▶ cycles, until the drop of `Running` ──▶ devices leave
//!                                    └─ panic ──▶ outputs safe ──▶ message ──▶ exit 70
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
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
use crate::thread::named;

/// The exit code of the process after a panic of the scan, or if the scan runs no cycles any more.
/// In sysexits.h, this code means "internal software error".
pub const EXIT_PANIC: i32 = 70;

/// Time limit, after a panic of the scan, for the devices to confirm their safe outputs. The limit
/// is short, because the process restarts only after this time, and then writes the outputs again.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Time limit for the end of the scan's thread in the drop of [`Running`]. In this time the thread
/// ends its cycle and drops its devices. All devices finish at the same time, each within 1.5 s.
const LEAVING: Duration = Duration::from_secs(2);

/// The settings of the scan's timing and of its thread: the section `[scan]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The time from one cycle to the next.
    pub period: Duration,
    /// The `SCHED_FIFO` priority of the scan, 1 to 98. The timekeeper gets this priority plus 1.
    /// `None` means no real-time priority.
    pub priority: Option<u8>,
    /// The numbers of the CPUs that the scan may use. An empty list means all CPUs.
    pub cpus: Vec<u32>,
    /// Whether all memory of the process is locked in RAM, so that the system never swaps it to
    /// disk.
    pub lock_memory: bool,
    /// The longest time that an idle CPU may take to wake up. A CPU saves power in an idle state,
    /// and each cycle is later by the time that the CPU needs to leave this state. `None` leaves
    /// the limit to the system.
    pub wake_latency: Option<Duration>,
    /// If no cycle begins for this time, each device makes its outputs safe without the scan.
    pub stall: Duration,
    /// If no cycle begins for this time, the process ends with [`EXIT_PANIC`].
    pub stall_exit: Duration,
}

/// The parts from which the new thread makes the scan.
pub struct ScanParts {
    /// The process image, the variables and the forces before the first cycle.
    pub world: Box<World>,
    /// All devices.
    pub devices: Vec<Box<dyn Driver>>,
    /// The scan's ends of the queues.
    pub ends: Ends,
}

/// A handle to the thread of a running scan. The drop of the handle ends the thread after the
/// current cycle, and waits for the end of the thread for `LEAVING` at most. The drop does not make
/// outputs safe; [`super::Order::Halt`] does.
#[derive(Debug)]
pub struct Running {
    /// A request to end the thread after its current cycle. The drop sets this flag, the scan's
    /// thread reads it.
    end: Arc<AtomicBool>,
    /// The scan's thread. The field is `None` after [`Running::give_up`] or during the drop.
    thread: Option<JoinHandle<()>>,
}

/// Starts the timekeeper: the thread that stops a call into a plugin if the call exceeds its
/// budget. Its priority is above the priority of the scan, because an endless poll would otherwise
/// keep the timekeeper from the CPU. If the scan has no real-time priority, the timekeeper requests
/// the lowest real-time priority. The timekeeper then need not wait until the time slice of the
/// scan's thread ends.
///
/// # Errors
/// Returns an error if the system refuses to start a thread.
pub fn timekeeper(settings: &Settings) -> io::Result<Arc<Timekeeper>> {
    let priority = settings.priority;
    let raise = move || match priority {
        Some(priority) => warn_refused("the timekeeper", prioritise(priority + 1)),
        // The configuration does not request this priority, so a refusal causes no warning.
        None => drop(prioritise(1)),
    };
    Timekeeper::start(raise).map(Arc::new)
}

/// Starts the scan on a new thread, and returns the handle to this thread.
///
/// # Errors
/// Returns an error if the system refuses to start a thread.
pub fn start(settings: Settings, parts: ScanParts, keeper: Arc<Timekeeper>) -> io::Result<Running> {
    let end = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&end);
    failure::store_panics();
    let thread = named(failure::THREAD).spawn(move || {
        let _awake = schedule(&settings);
        // From here on, no code on this thread can write to the log, because a write could wait for
        // the process that reads the log. The scan reports its events by the snapshot and the
        // queues.
        let _mute = tracing::dispatcher::set_default(&Dispatch::none());
        parts.ends.position.settle();
        let mut scan = Scan::new(parts.world, parts.devices, parts.ends, keeper);
        scan.supervise(settings.stall);
        let life = AssertUnwindSafe(|| run(&mut scan, settings.period, &MonotonicClock, &ended));
        if catch_unwind(life).is_err() {
            let end = MonotonicClock.now() + LEAVE_TIME;
            // The loop sleeps for 1 ms between two calls, because the threads of the devices need
            // the CPU to write the outputs.
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

/// Runs one cycle in each period until `ended` is set. `clock` is the source of the time, in tests
/// a simulated clock.
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
    /// Whether the thread of the scan still runs.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Detaches the thread: a later drop does not end it and does not wait for it. The thread then
    /// runs until the process ends.
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

/// Applies the real-time options of the section `[scan]` to the calling thread. The limit
/// `wake_latency` applies until the returned file is closed.
fn schedule(settings: &Settings) -> Option<File> {
    // The kernel may delay a wake-up by the timer slack. The call changes the slack from the
    // default of 50 us to 1 ns, so that a cycle begins on time.
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
    let needs = format!("write access to {WAKE_FILE}");
    limit_wake(Path::new(WAKE_FILE), settings.wake_latency?)
        .inspect_err(|error| refused("wake_latency", error, &needs))
        .ok()
}

/// The file of the kernel for the longest time that an idle CPU may take to wake up (`PM QoS
/// interface` in the kernel's documentation). A limit applies as long as its writer keeps the file
/// open.
const WAKE_FILE: &str = "/dev/cpu_dma_latency";

/// Writes the limit as the kernel expects it: microseconds, as a binary 32-bit number.
fn limit_wake(file: &Path, latency: Duration) -> io::Result<File> {
    let micros = i32::try_from(latency.as_micros()).unwrap_or(i32::MAX);
    let mut file = fs::OpenOptions::new().write(true).open(file)?;
    file.write_all(&micros.to_ne_bytes())?;
    Ok(file)
}

/// Sets the `SCHED_FIFO` priority of the calling thread.
///
/// # Errors
/// The error is a text with the reason why the system refuses the priority.
fn prioritise(priority: u8) -> Result<(), String> {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = priority.try_into().map_err(|_| "the priority is above 99".to_string())?;
    let priority = ThreadPriority::Crossplatform(priority);
    set_thread_priority_and_policy(thread_native_id(), priority, policy)
        .map_err(|error| format!("{error:?}"))
}

/// Logs a warning if a thread does not have the real-time priority that the configuration requests.
fn warn_refused(who: &str, wish: Result<(), String>) {
    if let Err(error) = wish {
        tracing::warn!(
            %error,
            "scan.priority: {who} runs without real-time priority ({error}); this priority needs \
             CAP_SYS_NICE or LimitRTPRIO"
        );
    }
}

/// Logs a warning that the system has refused a real-time option. The warning names what the option
/// needs.
fn refused(key: &str, error: &dyn std::error::Error, needs: &str) {
    tracing::warn!(
        %error,
        "the system refuses scan.{key} ({error}), so the scan runs without this option; the option \
         needs {needs}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_wake_up_is_written_in_microseconds_and_never_makes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cpu_dma_latency");
        let missing = limit_wake(&path, Duration::ZERO).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        fs::write(&path, "").unwrap();
        let file = limit_wake(&path, Duration::from_millis(2)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), 2000_i32.to_ne_bytes());
        drop(file);
    }
}
