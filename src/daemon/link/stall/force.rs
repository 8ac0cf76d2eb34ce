//! The forced end of the process: a thread that kills the process if the main loop cannot end it.
//!
//! The cause of a stall may also block the main loop, or library code that runs at the exit.
//! Examples are a lock that is never released, and a disk that does not answer. For that reason the
//! daemon starts this thread early, and the thread allocates no memory and uses no lock. When the
//! process must end, the main loop has the time [`GRACE`] to end it. The thread kills the process
//! only after this time. If the thread kills the process, the exit code shows SIGKILL and not the
//! reason for the end. How the main loop ends the process is in `daemon/stall.rs` and
//! `daemon/stop.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::nanos;
use crate::scan::position::Position;
use crate::thread::named;

/// The time between two checks of the cycle count. This time is short compared with [`GRACE`].
/// Twenty checks per second cost almost no CPU time.
const LOOK: Duration = Duration::from_millis(50);

/// The time that the main loop has to end the process. To end the process because of a stall, the
/// loop waits at most 0.5 s until the devices have confirmed their safe outputs, 1 s for the record
/// of versions, and 1 s for the journal. [`GRACE`] is twice the sum of these times. At an orderly
/// stop, [`GRACE`] covers the work after the outputs are safe (`stop.rs`), plus one second.
const GRACE: Duration = Duration::from_secs(5);

/// The main loop's handle to the thread that kills the process.
#[derive(Debug, Default)]
pub(super) struct ForcedExit(Arc<Limits>);

/// The limits for the thread. The main loop writes the limits, and the thread reads the limits.
#[derive(Debug, Default)]
struct Limits {
    /// The duration of a stall after which the thread kills the process, in nanoseconds; 0 means no
    /// limit.
    stall_ns: AtomicU64,
    /// Whether the process is ending: 0 means no, any other number means yes.
    ending: AtomicU64,
}

impl ForcedExit {
    /// Starts the thread. If the system cannot start the thread, only the watchdog of systemd can
    /// end a process that hangs.
    pub(super) fn start(position: &Arc<Position>) -> Self {
        let limits = Arc::new(Limits::default());
        let (theirs, position) = (Arc::clone(&limits), Arc::clone(position));
        let watch = move || watch(&theirs, &position);
        if let Err(error) = named("exit").spawn(watch) {
            tracing::warn!(%error, "the thread that ends a stalled process cannot start ({error}); \
                                    only the watchdog of systemd can end a process that hangs");
        }
        Self(limits)
    }

    /// Sets the limit for a stall. The main loop ends the process after a stall of `stall_exit`.
    /// The thread kills the process [`GRACE`] later.
    pub(super) fn allow(&self, stall_exit: Duration) {
        self.0.stall_ns.store(nanos(stall_exit.saturating_add(GRACE)), Ordering::Relaxed);
    }

    /// Informs the thread that the main loop is ending the process.
    pub(super) fn begin(&self) {
        self.0.ending.store(1, Ordering::Relaxed);
    }

    /// Switches off the limit for a stall, because an orderly stop with its own deadline has begun.
    pub(super) fn disarm(&self) {
        self.0.stall_ns.store(0, Ordering::Relaxed);
    }
}

/// The loop of the thread: checks the cycle count until the process ends, and kills the process
/// when a limit has passed.
fn watch(limits: &Limits, position: &Position) {
    let (mut cycles, mut still, mut ending) = (0, Duration::ZERO, Duration::ZERO);
    loop {
        let before = Instant::now();
        sleep(LOOK);
        // If the pause was longer than planned, the whole process was stopped during the pause.
        // Then the loop counts at most twice the planned pause.
        let passed = before.elapsed().min(2 * LOOK);
        let now = position.cycles();
        still = if now == cycles { still + passed } else { Duration::ZERO };
        cycles = now;
        if limits.ending.load(Ordering::Relaxed) != 0 {
            ending += passed;
        }
        let most = Duration::from_nanos(limits.stall_ns.load(Ordering::Relaxed));
        let is_over = !most.is_zero() && cycles > 0 && still > most;
        if is_over || ending > GRACE {
            // This call cannot fail, because a process may always send a signal to itself.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}
