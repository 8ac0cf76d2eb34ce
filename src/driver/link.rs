//! The scan's side of the link between the scan and a device. Each device has its own thread.
//! Therefore a slow device never delays the scan.
//!
//! ```text
//!   scan thread                       thread of this device
//!   Link::read   <--- News (triple buffer) ---  Side::publish   <-- wire
//!   Link::write  ---- Wants (triple buffer) --> Side::wanted    --> wire
//!                ---- bell, if Wants changes -> Side::changed
//! ```
//! A driver for a wire implements [`Serve`]. Each device gets its own thread with an async runtime.
//! If a wire hangs, only the thread of that device waits. The scan only copies values between the
//! image and the two buffers, so the scan never waits.
//!
//! The "bell" is a pipe. One byte in the pipe wakes the device's thread. The scan writes a byte at
//! its first write, when the wanted value of an output changes, and when a stall ends. The watchdog
//! writes a byte when it trips, and when the hold time of an output ends.
//!
//! Two time limits protect the values:
//! - If the device's thread publishes no new value of an input for too long, the input becomes
//!   stale and later bad. The scan makes this check, so the check works while the device's thread
//!   hangs.
//! - If the scan writes nothing for too long, the device's thread makes the outputs safe, see
//!   `watchdog.rs`.
//!
//! `link/thread.rs` starts and ends the thread. `link/side.rs` has the functions that a driver
//! calls on that thread. Both sides use the times of [`MonotonicClock`].

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

/// The longest time from the first call of `leave` or `finish` until `finish` stops waiting for the
/// device's thread: half a second longer than [`LEAVE_TIME`]. If the thread hangs in a system call,
/// `finish` returns after this time, although the thread has not ended.
const GIVEN_UP: Duration = LEAVE_TIME.saturating_add(Duration::from_millis(500));

/// The maximum age of the last acknowledgement of an output that changes all the time. If the age
/// is greater, the output counts as unconfirmed. This time is longer than a round trip on any
/// healthy bus.
const LATELY: Duration = Duration::from_secs(1);

/// The driver code that serves one device on its wire.
pub(super) trait Serve: Send + 'static {
    /// Serves the device in an endless loop. The device's thread drops the future to end the loop.
    /// If the function returns or panics, the thread calls it again after one second. Until then
    /// the scan sees the device as disconnected.
    fn serve(&mut self, side: &mut Side) -> impl Future<Output = ()>;
}

/// The data that the device's thread publishes to the scan.
#[derive(Debug, Clone)]
struct News {
    fault: Option<Fault>,
    /// The inputs, in the order of [`Link::inputs`].
    inputs: Vec<Reading>,
    /// The values that the device has acknowledged, in the order of [`Link::outputs`]. `None` if
    /// the value in the device is unknown.
    confirmed: Vec<Option<Raw>>,
}

/// The newest data about one input.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// The last finite value that the driver stored with `put`, `put_as` or `put_until` of
    /// [`Side`].
    raw: Raw,
    quality: Quality,
    /// The time at which the driver stored `raw`; `None` before the first value.
    good_at: Option<Duration>,
    /// The time at which the device last sent a value, also a value that is no measurement. The age
    /// limits apply to this time: a sensor that reports a failure for a long time is not silent.
    heard_at: Option<Duration>,
    /// The time at which the value expires; `None` if it does not expire. For example, an MQTT
    /// command is valid only for a limited time.
    ends_at: Option<Duration>,
}

/// The output values that the scan wants, in the order of [`Link::outputs`].
#[derive(Debug, Clone)]
struct Wants(Vec<Raw>);

/// The state of one output at the last comparison of wanted and acknowledged values.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// The value that the device had at the last comparison; `None` if that value was unknown.
    has: Option<Raw>,
    /// Whether the device has not acknowledged the value that the scan wants.
    is_missing: bool,
    /// The time of the last comparison at which the device had the wanted value, or a value that
    /// differed from `has` of the comparison before; `None` before the first one.
    taken_at: Option<Duration>,
}

/// The state that the scan's side and the device's thread share.
#[derive(Debug)]
struct Shared {
    /// The watchdog on the scan. The scan writes its signs of life into the watchdog. The device's
    /// thread reads these signs, and writes the time of a stall and the number of unconfirmed
    /// outputs.
    watchdog: Arc<Watchdog>,
    /// A counter of changes. The scan adds 1 at its first write, when the wanted value of an output
    /// changes, and when a stall ends. The scan increments the counter after it has written
    /// `wants`. The device's thread reads the counter.
    turn: AtomicU64,
    /// The value of `turn` when the device's thread last counted the missing outputs: the outputs
    /// whose wanted value the device has not acknowledged. Only the device's thread uses this
    /// field. If `heard` equals `turn`, that count is up to date.
    heard: AtomicU64,
    /// Whether the device's thread must finish its work and end. The thread that calls `leave` or
    /// `finish` on the link sets this field. The device's thread reads the field.
    ended: AtomicBool,
    /// Wakes the device's thread after `ended` was set.
    end: Notify,
    /// Whether the driver code has returned or panicked and does not run again yet. The device's
    /// thread writes this field; the scan reads it.
    is_down: AtomicBool,
}

/// The scan's side of a link to one device.
#[derive(Debug)]
pub(super) struct Link {
    points: Arc<Points>,
    inputs: Vec<(PointId, Freshness)>,
    outputs: Vec<PointId>,
    /// The data that the device's thread publishes.
    news: Reader<News>,
    /// The output values that the scan wants. The device's thread reads these values.
    wants: Writer<Wants>,
    /// A copy of the values that the scan put into `wants` last.
    wanted: Vec<Raw>,
    /// The delivery state of each output, in the order of `outputs`. `compared_at` is the time of
    /// the last comparison.
    standings: Vec<Standing>,
    compared_at: Duration,
    /// The write end of the bell, the pipe that wakes the device's thread. The scan writes into
    /// this end, and the watchdog into a clone of it. A write never waits, because the pipe is
    /// non-blocking.
    bell: OwnedFd,
    shared: Arc<Shared>,
    /// The parts of the device that the status shows. The device's thread writes the parts. The
    /// scan's side only returns a clone of this monitor.
    monitor: Monitor,
    thread: Option<JoinHandle<()>>,
    /// The time until which `finish` waits for the thread. `leave` sets this time.
    given_up_at: Option<Duration>,
}

impl Link {
    /// Starts the thread that serves the points of device number `device`. `freshness` has the
    /// default age limits. A default limit applies to each input whose configuration does not set
    /// this limit.
    ///
    /// # Errors
    /// When the operating system cannot create a thread or a file descriptor.
    pub(super) fn start(
        points: &Arc<Points>,
        device: usize,
        freshness: Freshness,
        worker: impl Serve,
    ) -> io::Result<Self> {
        Self::start_with(points, device, |_| freshness, worker)
    }

    /// Starts the thread as [`Link::start`] does. But here the caller passes a separate default
    /// freshness for each input.
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
        let unread = Reading {
            raw: [0; 8],
            quality: Quality::Waiting,
            good_at: None,
            heard_at: None,
            ends_at: None,
        };
        let (confirmed, reading) = (vec![None; outputs.len()], vec![unread; inputs.len()]);
        let first = News { fault: None, inputs: reading, confirmed };
        let (news_writer, news) = latest::latest(&first);
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
        let side = Side::new(points, ids, first, (news_writer, wishes, heard), &shared, &monitor);
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

    /// Compares the wanted outputs with the values that the device has acknowledged, and stores the
    /// result in `standings`.
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
            }
            if let Some(heard_at) = reading.heard_at {
                quality = freshness.judge(quality, now.saturating_sub(heard_at));
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
        // The beat comes after the wanted outputs. Therefore, when the device's thread sees the
        // first beat, it also finds the first wanted outputs.
        let was_safe = self.shared.watchdog.beat(now);
        if was_safe {
            // The wanted outputs are the same as before the stall, so `differs` is false. But the
            // device has the safe values now, so the thread must write the wanted values again.
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
        Err("only simulated devices accept this command; `camshaft force` sets a point of a real \
             device")
    }

    fn is_confirmed(&self) -> bool {
        !self.standings.iter().any(|standing| standing.is_missing)
    }

    fn delivery(&self, output: PointId) -> Delivery {
        // The outputs are sorted by their ids, so a binary search works.
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
        // The scan does not call `write` for this device any more. So the watchdog must detect no
        // stall, and its limit is removed here.
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
    /// Tells the thread to end, and waits until the thread has sent the last outputs and has ended.
    /// Waits at most [`GIVEN_UP`], counted from the first call of `leave`.
    fn drop(&mut self) {
        self.finish();
    }
}

/// Wakes the device's thread. The write fails if the pipe is full or if its read end is closed. A
/// full pipe wakes the thread, and a closed read end means that the thread has ended. So the error
/// is ignored.
fn ring(bell: &OwnedFd) {
    let _ = write(bell, &[1]);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A driver that blocks its thread in a call. A real example is a chip on a bus that is stuck.
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
        assert!(
            MonotonicClock.now() - started < 2 * GIVEN_UP,
            "only the first call waits for the thread"
        );
        drop(hold);
    }
}
