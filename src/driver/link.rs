//! The scan's side of a device that another thread serves: to the scan, a slow driver looks fast.
//!
//! ```text
//!   scan thread                       thread of this device
//!   Link::read   <--- News (triple buffer) ---  Side::publish   <-- wire
//!   Link::write  ---- Wants (triple buffer) --> Side::wanted    --> wire
//!                ---- a bell, if they differ -> Side::changed
//! ```
//! A driver for a wire implements [`Serve`] and gets a thread with an async runtime of its own. A
//! wire that hangs stops only that thread. The scan only copies and never waits. A value of which
//! the scan has no news for too long is stale, whatever the reason. If the scan is silent for too
//! long, the outputs become safe: `watchdog.rs`. `link/thread.rs` is the thread, and `link/side.rs`
//! is what it works with. Times on both sides are those of [`MonotonicClock`].

mod side;
mod thread;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{pipe2, write};
use tokio::sync::Notify;

use super::watchdog::Watchdog;
use super::{Command, Delivery, Driver, Fault, Monitor};
use crate::clock::{Clock, MonotonicClock};
use crate::latest::{self, Reader, Writer};
use crate::patience;
use crate::process::image::{Direction, Freshness, Inputs, PointId, Points, Quality, Raw, Safe};

pub(super) use side::Side;
use thread::LEAVE_TIME;

/// When a thread that waits in a call is given up: half a second after the end of [`LEAVE_TIME`].
const GIVEN_UP: Duration = LEAVE_TIME.saturating_add(Duration::from_millis(500));

/// How old the last acknowledgement of an output may be while it changes all the time: longer than
/// a round trip on any healthy bus.
const LATELY: Duration = Duration::from_secs(1);

/// The code that serves a device on its wire.
pub(super) trait Serve: Send + 'static {
    /// Serves until it is dropped in the middle. If it returns or panics, it is called again after
    /// a second. The device is at fault until then.
    fn serve(&mut self, side: &mut Side) -> impl Future<Output = ()>;
}

/// What the device's thread knows about the device.
#[derive(Debug, Clone)]
struct News {
    fault: Option<Fault>,
    /// In the order of [`Link::inputs`].
    inputs: Vec<Reading>,
    /// What the device is known to have, in the order of [`Link::outputs`].
    confirmed: Vec<Option<Raw>>,
}

/// What is known about one input.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// The value when it was good last.
    raw: Raw,
    quality: Quality,
    /// When it was good last; `None` if never.
    good_at: Option<Duration>,
    /// When the value becomes worthless; `None` if never. Some commands are valid for a time only.
    ends_at: Option<Duration>,
}

/// The outputs that the scan wants, in the order of [`Link::outputs`].
#[derive(Debug, Clone)]
struct Wants(Vec<Raw>);

/// What is known about one output.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// The value that the device had at the last look, if that was known.
    has: Option<Raw>,
    /// Whether the device is not known to have the wanted value.
    is_missing: bool,
    /// When the device took a value of this output last.
    taken_at: Option<Duration>,
}

/// The state that the scan's side and the thread share.
#[derive(Debug)]
struct Shared {
    /// The signs of life of the scan, which writes them, and the number of outputs that are not
    /// confirmed, which the thread writes. Each reads what the other writes.
    watchdog: Arc<Watchdog>,
    /// How often other outputs were wanted, or a stall ended. The scan writes, after `wants`; the
    /// thread reads.
    turn: AtomicU64,
    /// The turn up to which the thread has counted the missing outputs. The thread writes, and
    /// reads while it leaves.
    heard: AtomicU64,
    /// Whether the device is to leave. The scan writes, or the thread that drops the link; the
    /// device's thread reads.
    ended: AtomicBool,
    /// Wakes the thread once `ended` is set.
    end: Notify,
    /// Whether the work has ended and has not started again. The thread writes, the scan reads.
    is_down: AtomicBool,
}

/// The scan's side of a link.
#[derive(Debug)]
pub(super) struct Link {
    points: Arc<Points>,
    inputs: Vec<(PointId, Freshness)>,
    outputs: Vec<PointId>,
    /// What the device's thread knows. That thread writes it.
    news: Reader<News>,
    /// What the scan wants. The device's thread reads it.
    wants: Writer<Wants>,
    /// The outputs that were passed on last.
    wanted: Vec<Raw>,
    /// The state of each output, in the order of `outputs`, and when it was compared last.
    standings: Vec<Standing>,
    compared_at: Duration,
    /// The end of a pipe that wakes the thread. A byte goes in when outputs differ; it never waits.
    bell: OwnedFd,
    shared: Arc<Shared>,
    /// What the status shows. The device's thread writes it; the scan only hands it out.
    monitor: Monitor,
    thread: Option<JoinHandle<()>>,
    /// When the thread is given up; set by the order to leave.
    given_up_at: Option<Duration>,
}

impl Link {
    /// Starts the thread that serves the points of device number `device`. `freshness` holds for
    /// inputs that have no limits of their own.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor to give.
    pub(super) fn start(
        points: &Arc<Points>,
        device: usize,
        freshness: Freshness,
        worker: impl Serve,
    ) -> io::Result<Self> {
        Self::start_with(points, device, |_| freshness, worker)
    }

    /// Starts the thread as [`Link::start`] does, with a freshness for each input.
    ///
    /// # Errors
    /// The errors of [`Link::start`].
    pub(super) fn start_with(
        points: &Arc<Points>,
        device: usize,
        freshness: impl Fn(PointId) -> Freshness,
        worker: impl Serve,
    ) -> io::Result<Self> {
        let ours = |direction| {
            let ours = points.iter().filter(move |(_, point)| point.device == device);
            ours.filter(move |(_, point)| point.direction == direction).map(|(id, _)| id)
        };
        let limits = |id: PointId| {
            let usual = freshness(id);
            points[id].freshness.or(usual.stale_after, usual.bad_after)
        };
        let inputs: Vec<_> = ours(Direction::In).map(|id| (id, limits(id))).collect();
        let outputs: Vec<_> = ours(Direction::Out).collect();
        let unread =
            Reading { raw: [0; 8], quality: Quality::Waiting, good_at: None, ends_at: None };
        let (confirmed, reading) = (vec![None; outputs.len()], vec![unread; inputs.len()]);
        let first = News { fault: None, inputs: reading, confirmed };
        let (told, news) = latest::latest(&first);
        let wanted = vec![[0; 8]; outputs.len()];
        let (wants, wishes) = latest::latest(&Wants(wanted.clone()));
        let (heard, bell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let safe = outputs.iter().filter(|id| points[**id].safe != Safe::Hold).count();
        let watchdog = Arc::new(Watchdog::new(outputs.len(), safe));
        let monitor = Monitor::new(&watchdog);
        let shared = Arc::new(Shared {
            watchdog,
            turn: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            end: Notify::new(),
            is_down: AtomicBool::new(false),
        });
        let ids = [inputs.iter().map(|(id, _)| *id).collect(), outputs.clone()];
        let side = Side::new(points, ids, first, (told, wishes, heard), &shared, &monitor);
        let name = points.devices().get(device).cloned().unwrap_or_default();
        let thread = thread::start(name, side, worker, Arc::clone(&shared), bell.try_clone()?)?;
        Ok(Self {
            points: Arc::clone(points),
            standings: vec![Standing { is_missing: true, ..Standing::default() }; outputs.len()],
            compared_at: Duration::ZERO,
            inputs,
            outputs,
            news,
            wants,
            wanted,
            bell,
            shared,
            monitor,
            thread: Some(thread),
            given_up_at: None,
        })
    }

    fn compare(&mut self, now: Duration) {
        let news = self.news.read();
        self.compared_at = now;
        for ((standing, wanted), &has) in
            self.standings.iter_mut().zip(&self.wanted).zip(&news.confirmed)
        {
            standing.is_missing = has != Some(*wanted);
            if has.is_some() && (has != standing.has || !standing.is_missing) {
                standing.taken_at = Some(now);
            }
            standing.has = has;
        }
    }
}

impl Driver for Link {
    fn read(&mut self, now: Duration, inputs: &mut Inputs) -> Result<(), Fault> {
        let is_down = self.shared.is_down.load(Ordering::Relaxed);
        let news = self.news.read();
        for ((id, freshness), reading) in self.inputs.iter().zip(&news.inputs) {
            let mut quality = reading.quality;
            if let Some(good_at) = reading.good_at {
                self.points[*id].put_raw(&mut inputs.bytes, &reading.raw);
                inputs.good_at[id.index()] = good_at;
                quality = freshness.judge(quality, now.saturating_sub(good_at));
            }
            if is_down || reading.ends_at.is_some_and(|ends_at| now >= ends_at) {
                quality = quality.max(Quality::NoComm);
            }
            inputs.quality[id.index()] = quality;
        }
        match news.fault {
            _ if is_down => Err(Fault::Disconnected),
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    fn write(&mut self, now: Duration, outputs: &[u8]) -> Result<(), Fault> {
        if self.shared.watchdog.is_overtaken(now) {
            self.compare(now);
            return Ok(());
        }
        let mut differs = self.shared.watchdog.beats() == 0;
        for (id, wanted) in self.outputs.iter().zip(&mut self.wanted) {
            let raw = self.points[*id].raw(outputs);
            differs |= raw != *wanted;
            *wanted = raw;
        }
        if differs {
            self.wants.publish(|wants| wants.0.copy_from_slice(&self.wanted));
            self.shared.turn.fetch_add(1, Ordering::Release);
        }
        // The beat comes last: a thread that sees the first beat then finds the wanted outputs.
        let was_safe = self.shared.watchdog.beat(now);
        if was_safe {
            // The wanted outputs are those from before the stall. In it, the safe ones were wanted.
            self.shared.turn.fetch_add(1, Ordering::Release);
        }
        if differs || was_safe {
            ring(&self.bell);
        }
        self.compare(now);
        Ok(())
    }

    fn pace(&mut self, period: Duration) {
        self.shared.watchdog.pace(period);
    }

    fn supervise(&mut self, stall: Duration) {
        self.shared.watchdog.limit(stall);
    }

    fn command(&mut self, _: Duration, _: &Command) -> Result<(), &'static str> {
        Err("only simulated devices take commands; `camshaft force` gives a point of a real one \
             another value")
    }

    fn is_confirmed(&self) -> bool {
        !self.standings.iter().any(|standing| standing.is_missing)
    }

    fn delivery(&self, output: PointId) -> Delivery {
        // The outputs are in the order of their ids.
        let Ok(at) = self.outputs.binary_search(&output) else { return Delivery::Confirmed };
        let Standing { is_missing, taken_at, .. } = self.standings[at];
        let is_late = |taken_at| self.compared_at.saturating_sub(taken_at) > LATELY;
        match taken_at {
            _ if !is_missing => Delivery::Confirmed,
            Some(taken_at) if !is_late(taken_at) => Delivery::UnderWay,
            _ => Delivery::Unconfirmed,
        }
    }

    fn leave(&mut self) {
        // No more cycles come, and that is no stall.
        self.shared.watchdog.limit(Duration::ZERO);
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.end.notify_one();
        self.given_up_at.get_or_insert_with(|| MonotonicClock.now() + GIVEN_UP);
    }

    fn finish(&mut self) -> Vec<PointId> {
        self.leave();
        if let Some(thread) = self.thread.take() {
            let end = self.given_up_at.unwrap_or_default();
            patience::join(thread, end.saturating_sub(MonotonicClock.now()));
        }
        self.compare(MonotonicClock.now());
        let outputs = self.outputs.iter().zip(&self.standings);
        outputs.filter(|(_, standing)| standing.is_missing).map(|(id, _)| *id).collect()
    }

    fn monitor(&self) -> Option<Monitor> {
        Some(self.monitor.clone())
    }
}

impl Drop for Link {
    /// Waits until [`GIVEN_UP`] for the thread, which brings the last outputs to the device.
    fn drop(&mut self) {
        self.finish();
    }
}

/// Wakes the thread. It fails only when the pipe is full, and then a wake-up is due already.
fn ring(bell: &OwnedFd) {
    let _ = write(bell, &[1]);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A driver that waits in a call, as for a chip on a bus that is stuck.
    struct Stuck(Receiver<()>);

    impl Serve for Stuck {
        async fn serve(&mut self, _: &mut Side) {
            let _ = self.0.recv();
        }
    }

    #[test]
    fn a_thread_that_waits_in_a_call_is_given_up() {
        let (hold, held) = channel();
        let points = Arc::new(Points::new(Vec::new(), 0, 0));
        let mut link = Link::start(&points, 0, Freshness::default(), Stuck(held)).unwrap();
        let started = MonotonicClock.now();
        link.finish();
        assert!(MonotonicClock.now() - started < 2 * GIVEN_UP);
        drop(link);
        assert!(MonotonicClock.now() - started < 2 * GIVEN_UP, "it is not waited for twice");
        drop(hold);
    }
}
