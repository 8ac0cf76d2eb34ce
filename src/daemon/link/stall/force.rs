//! The forced end of the process, for the case that the way to its end hangs as well.
//!
//! What has stopped the scan may stop the daemon's loop too, or the code of libraries at the exit:
//! a lock that stays closed, a disk. So a thread that was started before watches the cycles. It
//! needs neither memory nor a lock to end the process. It does so later than the loop would, and
//! without the loop's exit code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::nanos;
use crate::scan::position::Position;

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// How long the loop has for its way to the end when the scan stands: half a second for devices,
/// two seconds for the journal, and as much again. At an orderly stop it is the time for what
/// follows the safe outputs (`stop.rs`), and a second more.
const GRACE: Duration = Duration::from_secs(5);

/// Ends the process when the loop does not.
#[derive(Debug, Default)]
pub(super) struct ForcedExit(Arc<Limits>);

/// The limits that the loop sets. The loop writes, the thread reads.
#[derive(Debug, Default)]
struct Limits {
    /// How long the scan may stand, in nanoseconds; 0: without limit.
    stall_ns: AtomicU64,
    /// Not 0 as soon as the process is ending.
    ending: AtomicU64,
}

impl ForcedExit {
    /// Starts the thread. If none can be started, systemd's watchdog is left.
    pub(super) fn start(position: &Arc<Position>) -> Self {
        let limits = Arc::new(Limits::default());
        let (theirs, position) = (Arc::clone(&limits), Arc::clone(position));
        let watch = move || watch(&theirs, &position);
        if let Err(error) = std::thread::Builder::new().name("exit".into()).spawn(watch) {
            tracing::warn!(%error, "there is no thread to end the process by force ({error})");
        }
        Self(limits)
    }

    /// Notes that the loop ends the process when the scan has stood for `stall_exit`.
    pub(super) fn allow(&self, stall_exit: Duration) {
        self.0.stall_ns.store(nanos(stall_exit.saturating_add(GRACE)), Ordering::Relaxed);
    }

    /// Notes that the loop is ending the process.
    pub(super) fn begin(&self) {
        self.0.ending.store(1, Ordering::Relaxed);
    }

    /// Notes that the process ends in another way.
    pub(super) fn disarm(&self) {
        self.0.stall_ns.store(0, Ordering::Relaxed);
    }
}

/// The work of the thread: looks at the cycles for ever, and kills the process when a limit is
/// over.
fn watch(limits: &Limits, position: &Position) {
    let (mut cycles, mut still, mut ending) = (0, Duration::ZERO, Duration::ZERO);
    loop {
        let before = Instant::now();
        sleep(LOOK);
        // In a longer pause this process was stopped.
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
            // This never fails: a process may always send itself a signal.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}
