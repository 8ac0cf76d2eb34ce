//! The forced end of the process: a thread that kills the process if the loop does not end it.
//!
//! What has stopped the scan may also stop the loop, or the code of libraries that runs at the
//! exit. Examples are a lock that is never released, and a disk that does not answer. For that
//! reason the daemon starts this thread at its own start, and the thread needs neither memory nor a
//! lock to kill the process. The thread kills later than the loop would end the process, and the
//! loop's exit code is lost. How the loop ends the process is in `daemon/stall.rs` and
//! `daemon/stop.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::nanos;
use crate::scan::position::Position;

/// The time between two looks at the cycles. It is short beside [`GRACE`], and twenty looks a
/// second cost nearly nothing.
const LOOK: Duration = Duration::from_millis(50);

/// The time that the loop has to end the process. When the scan stands, the loop needs half a
/// second for devices and two seconds for the journal; the limit is twice that. At an orderly stop,
/// [`GRACE`] covers the work after the safe outputs (`stop.rs`) and a second more.
const GRACE: Duration = Duration::from_secs(5);

/// The loop's end of the thread that kills the process when the loop does not end it.
#[derive(Debug, Default)]
pub(super) struct ForcedExit(Arc<Limits>);

/// The limits that the loop sets for the thread. The loop writes them, the thread reads them.
#[derive(Debug, Default)]
struct Limits {
    /// How long the scan may stand, in nanoseconds; 0 means without limit.
    stall_ns: AtomicU64,
    /// Whether the process is ending: 0 means no, any other number means yes.
    ending: AtomicU64,
}

impl ForcedExit {
    /// Starts the thread. If the system cannot start a thread, only systemd's watchdog can end a
    /// process that hangs.
    pub(super) fn start(position: &Arc<Position>) -> Self {
        let limits = Arc::new(Limits::default());
        let (theirs, position) = (Arc::clone(&limits), Arc::clone(position));
        let watch = move || watch(&theirs, &position);
        if let Err(error) = std::thread::Builder::new().name("exit".into()).spawn(watch) {
            tracing::warn!(%error, "the thread that ends a stalled process cannot start ({error})");
        }
        Self(limits)
    }

    /// Notes that the loop ends the process when the scan has stood for `stall_exit`. The thread
    /// kills the process [`GRACE`] later.
    pub(super) fn allow(&self, stall_exit: Duration) {
        self.0.stall_ns.store(nanos(stall_exit.saturating_add(GRACE)), Ordering::Relaxed);
    }

    /// Notes that the loop is ending the process.
    pub(super) fn begin(&self) {
        self.0.ending.store(1, Ordering::Relaxed);
    }

    /// Notes that the process ends in another way: the thread no longer looks whether the scan
    /// stands.
    pub(super) fn disarm(&self) {
        self.0.stall_ns.store(0, Ordering::Relaxed);
    }
}

/// The work of the thread: looks at the cycles for ever, and kills the process when a limit has
/// passed.
fn watch(limits: &Limits, position: &Position) {
    let (mut cycles, mut still, mut ending) = (0, Duration::ZERO, Duration::ZERO);
    loop {
        let before = Instant::now();
        sleep(LOOK);
        // If the pause was longer, the whole process was stopped.
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
            // This call never fails, because a process may always send a signal to itself.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}
