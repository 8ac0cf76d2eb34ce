//! A slow driver looks like a fast one: the scan's side of a device that is served elsewhere.
//!
//! ```text
//!   scan thread                       thread of this device
//!   Link::read   <--- News (triple buffer) ---  Side::publish   <-- wire
//!   Link::write  ---- Wants (triple buffer) --> Side::wanted    --> wire
//!                ---- a bell, if they differ -> Side::changed
//! ```
//! Whoever knows a wire implements [`Serve`] and gets a thread with an async runtime of its own, so
//! what hangs there hangs alone. The scan only copies: it waits for nobody, and what it has not
//! heard of for too long is stale, whatever the reason. The other way round a scan that is not
//! heard for too long leaves no output as it was: `watchdog.rs`. `link/side.rs` is the other end.
//! Times are those of [`MonotonicClock`] on both sides.

mod side;

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
use crate::image::{Direction, Freshness, Inputs, PointId, Points, Quality, Raw, Safe};
use crate::latest::{self, Reader, Writer};
use crate::patience;

pub(super) use side::Side;

/// How long a device that leaves has to take its last outputs: as long as an operator waits for a
/// reload without wondering.
const FAREWELL: Duration = Duration::from_secs(1);

/// From the order to leave until a thread is given up that waits in a call: half a second more.
const GIVEN_UP: Duration = Duration::from_millis(1500);

/// Enough for a TLS handshake, four times over. With `lock_memory` all of it is in RAM.
const STACK_BYTES: usize = 512 * 1024;

/// How long the last acknowledgement of an output may be ago while it changes all the time: longer
/// than a round trip on any healthy bus.
const LATELY: Duration = Duration::from_secs(1);

/// Between two attempts of a thread whose work has ended or panicked.
const AGAIN: Duration = Duration::from_secs(1);

/// What serves a device on its wire.
pub(super) trait Serve: Send + 'static {
    /// Serves until it is dropped in the middle. If it returns or panics it is called again after
    /// a second; meanwhile the device is at fault.
    fn serve(&mut self, side: &mut Side) -> impl Future<Output = ()>;
}

/// What the device's thread knows.
#[derive(Debug, Clone)]
struct News {
    fault: Option<Fault>,
    /// In the order of [`Link::inputs`].
    inputs: Vec<Reading>,
    /// What the device is known to have, in the order of [`Link::outputs`].
    confirmed: Vec<Option<Raw>>,
}

/// What is known of one input.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// As it was when it was good last.
    raw: Raw,
    quality: Quality,
    /// When it was good last; `None` if never.
    good_at: Option<Duration>,
    /// When it ends, if it does: a command that is worth something for a time.
    ends_at: Option<Duration>,
}

/// What the scan wants of the device: its outputs, in the order of [`Link::outputs`].
#[derive(Debug, Clone)]
struct Wants(Vec<Raw>);

/// What is known of one output.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// What the device had at the last look, if that was known.
    has: Option<Raw>,
    /// Whether that is not what is wanted.
    is_missing: bool,
    /// When the device took a value of it last.
    taken_at: Option<Duration>,
}

/// What both sides look at.
#[derive(Debug)]
struct Shared {
    /// Whether the scan moves, and of how many outputs the device is not known to have them.
    watchdog: Arc<Watchdog>,
    /// How often the scan has wanted something else than before. The scan writes, when that is to
    /// be seen.
    turn: AtomicU64,
    /// The turn of which the thread has counted what is missing. The thread writes.
    heard: AtomicU64,
    /// Set by whoever drops the link.
    ended: AtomicBool,
    end: Notify,
    /// Set by the thread when its work has ended, until it works again.
    is_down: AtomicBool,
}

/// The scan's side.
#[derive(Debug)]
pub(super) struct Link {
    points: Arc<Points>,
    inputs: Vec<(PointId, Freshness)>,
    outputs: Vec<PointId>,
    news: Reader<News>,
    wants: Writer<Wants>,
    /// What was passed on last.
    wanted: Vec<Raw>,
    /// How it is with each of the outputs, in their order, and when that was.
    standings: Vec<Standing>,
    compared_at: Duration,
    /// Rung when outputs differ: a byte into a pipe, which does not wait if that is full.
    bell: OwnedFd,
    shared: Arc<Shared>,
    monitor: Monitor,
    thread: Option<JoinHandle<()>>,
    /// Once it was told to leave.
    given_up_at: Option<Duration>,
}

impl Link {
    /// Starts the thread that serves the points of device number `device`. An input without limits
    /// of its own is as fresh as `freshness` says of it.
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

    /// The same with a freshness for each input.
    ///
    /// # Errors
    /// As [`Link::start`].
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
        let thread = start_thread(name, side, worker, Arc::clone(&shared), bell.try_clone()?)?;
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
        // Only now: whoever sees the first beat finds what is wanted.
        let was_safe = self.shared.watchdog.beat(now);
        if was_safe {
            // What is wanted is the same as before the stall, but not the same as in it.
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
        // They are in the order of their ids.
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
        // There are no more cycles, and that is no stall.
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

fn start_thread(
    name: String,
    mut side: Side,
    mut worker: impl Serve,
    shared: Arc<Shared>,
    bell: OwnedFd,
) -> io::Result<JoinHandle<()>> {
    let holds = side.holds();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    // Linux shows 15 bytes of the name.
    let thread = std::thread::Builder::new().name(format!("dev {name}")).stack_size(STACK_BYTES);
    thread.spawn(move || {
        while !shared.ended.load(Ordering::Relaxed) {
            let life = async {
                tokio::select! {
                    () = worker.serve(&mut side) => {}
                    () = farewell(&shared) => {}
                    () = shared.watchdog.watch(&holds, || ring(&bell)) => {}
                }
            };
            let panicked = catch_unwind(AssertUnwindSafe(|| runtime.block_on(life))).is_err();
            if shared.ended.load(Ordering::Relaxed) {
                break;
            }
            shared.is_down.store(true, Ordering::Relaxed);
            side.lose_all();
            let how = if panicked { "has panicked, which is a defect" } else { "has ended" };
            tracing::error!(device = name, "device {name}: its driver {how}; it begins anew");
            // Cut short by the end.
            runtime.block_on(async {
                let _ = tokio::time::timeout(AGAIN, shared.end.notified()).await;
            });
            shared.is_down.store(false, Ordering::Relaxed);
        }
        // What blocks there ends when it ends; nobody waits for it.
        runtime.shutdown_background();
    })
}

/// Wakes the thread. Fails only when the pipe is full, and then the bell rings already.
fn ring(bell: &OwnedFd) {
    let _ = write(bell, &[1]);
}

/// Returns when the link was dropped and the device has its last outputs, or will not have them.
async fn farewell(shared: &Shared) {
    shared.end.notified().await;
    let is_there = || {
        let is_heard = shared.heard.load(Ordering::Acquire) == shared.turn.load(Ordering::Acquire);
        is_heard && shared.watchdog.missing() == 0
    };
    let all_there = async {
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(FAREWELL, all_there).await;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Waits in a call, as for a chip on a bus that is stuck.
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
