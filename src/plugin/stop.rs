//! Time limits for guests: the timekeeper that raises the stop flag in their code.
//!
//! The code of a guest looks at its flag at every turn (`flag.rs`). [`Timekeeper`] is a thread that
//! raises it when a call has used up its CPU time. A call is armed by four plain stores, so a poll
//! costs no system call. A call that returns after it was stopped has failed all the same; what a
//! trap means is decided in `wasm.rs`.
//!
//! `stop` counts the calls: every arming writes a fresh positive number, and the timekeeper only
//! ever exchanges the number that it saw. A stop that comes too late therefore meets another number
//! and does nothing.
//!
//! The CPU clock alone does not stop a call: when it says that the time is over, the timekeeper
//! begins an inquiry (`stop/inquiry.rs`), for which it asks the thread (`stop/proof.rs`).
#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;
use wasmer::sys::vm::VMGlobalDefinition;

use self::inquiry::{Finding, Inquiry};
use self::proof::Witness;
use crate::clock::{Clock, MonotonicClock, nanos};

mod inquiry;
mod proof;

/// A call that is not armed has this much time: the timekeeper then sleeps until it is woken.
const NEVER_NS: u64 = u64::MAX;

/// When CPU time is still missing, the timekeeper sleeps at least this long before it looks again;
/// otherwise a thread that is preempted at the very end of its budget would make it spin.
const SHORTEST_SLEEP_NS: u64 = 20_000;

/// Budget slots that the timekeeper has not noticed yet: a few preparations go on at once, and
/// each wakes it.
const MAX_ARRIVALS: usize = 64;

/// The longest sleep of the timekeeper; it would be woken anyway, this bounds a mistake.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Where one instance keeps its `stop` global.
///
/// Filled in while the instance is being created; read by whichever thread runs it.
#[derive(Debug, Default)]
pub(super) struct StopCell(AtomicPtr<AtomicI32>);

impl StopCell {
    /// Takes the place of one of the instance's own globals. The last one is `stop`.
    pub(super) fn take(&self, place: NonNull<VMGlobalDefinition>) {
        // `val` is a union that starts with its i32, at an alignment of 16.
        self.0.store(place.as_ptr().cast(), Ordering::Relaxed);
    }

    /// Whether the timekeeper has ended the call that was armed last.
    pub(super) fn is_stopped(&self) -> bool {
        self.cell().is_some_and(|cell| cell.load(Ordering::Relaxed) < 0)
    }

    /// Whether `stop` had this value in the call that was armed last.
    pub(super) fn is_call(&self, value: i32) -> bool {
        let number = |value| value & i32::MAX;
        self.cell().is_some_and(|cell| number(cell.load(Ordering::Relaxed)) == number(value))
    }

    fn cell(&self) -> Option<&AtomicI32> {
        // SAFETY: the place is a global inside the VMContext of the instance that owns this value
        // (`wasm::Instance` keeps the two together and drops this one last), so it lives and does
        // not move. It is aligned to 16 bytes. The guest's code reads it while others write it, one
        // aligned 32-bit word at a time, which is what an atomic access compiles to here.
        unsafe { self.0.load(Ordering::Relaxed).as_ref() }
    }
}

/// What the timekeeper knows about one thread that runs guests. That thread writes and the
/// timekeeper reads, unless a field says otherwise.
#[derive(Debug)]
struct Watched {
    /// The flag of the call that is running; null between calls.
    cell: AtomicPtr<AtomicI32>,
    started_ns: AtomicU64,
    allowed_ns: AtomicU64,
    /// Wall time and CPU time of the thread at one instant before the call.
    marked_ns: AtomicU64,
    marked_cpu_ns: AtomicU64,
    /// No call is armed before this moment.
    idle_until_ns: AtomicU64,
    /// No call is allowed less than this.
    shortest_ns: AtomicU64,
    /// When the timekeeper last ended a call; the timekeeper writes this one.
    stopped_ns: AtomicU64,
    witness: Witness,
    cpu_clock: ClockId,
}

impl Watched {
    /// Ends the call if it has used up its time; says when to look again.
    fn look(&self, now_ns: u64, inquiry: &mut Inquiry) -> u64 {
        let shortest = self.shortest_ns.load(Ordering::Relaxed);
        // SAFETY: a running call's instance is alive. One that has ended since is alive too: it is
        // dropped only after `Timekeeper::release`, which waits for the end of this look.
        let Some(cell) = (unsafe { self.cell.load(Ordering::Acquire).as_ref() }) else {
            let earliest = now_ns.max(self.idle_until_ns.load(Ordering::Relaxed));
            return earliest.saturating_add(shortest);
        };
        // First the number of the call, then its times: they were stored in the other order.
        let call = cell.load(Ordering::Acquire);
        let started = self.started_ns.load(Ordering::Relaxed);
        let allowed = self.allowed_ns.load(Ordering::Relaxed);
        if call < 0 {
            return now_ns.saturating_add(shortest);
        }
        if now_ns < started.saturating_add(allowed) {
            return started.saturating_add(allowed);
        }
        let cpu_ns = clock_ns(self.cpu_clock);
        let used = self.used_ns(started, cpu_ns);
        if used < allowed {
            return now_ns + (allowed - used).max(SHORTEST_SLEEP_NS);
        }
        if let Finding::LookIn(pause_ns) = inquiry.look(&self.witness, started, cpu_ns) {
            // A machine that wakes the timekeeper 17 us late makes stretches of 42 us out of 25
            // (seen), so it stays awake while the thread gets on beside it, on another CPU.
            let is_beside = clock_ns(self.cpu_clock) > cpu_ns;
            return self::now_ns() + if is_beside { 0 } else { pause_ns };
        }
        self.stopped_ns.store(self::now_ns(), Ordering::Relaxed);
        let stopped = call | i32::MIN;
        let _ = cell.compare_exchange(call, stopped, Ordering::Relaxed, Ordering::Relaxed);
        now_ns.saturating_add(shortest)
    }

    /// CPU time that the call was charged, of a thread that was charged `cpu_ns` by now.
    ///
    /// What the thread did between the mark and the start counts as if it had never been
    /// preempted, so the result can be too small and is never too large.
    fn used_ns(&self, started_ns: u64, cpu_ns: u64) -> u64 {
        let before_start = started_ns.saturating_sub(self.marked_ns.load(Ordering::Relaxed));
        let since_mark = cpu_ns.saturating_sub(self.marked_cpu_ns.load(Ordering::Relaxed));
        since_mark.saturating_sub(before_start)
    }
}

/// The budget slot of one thread: through it the thread tells the timekeeper when a call begins
/// and what its budget is. It is made on that thread and used only there.
#[derive(Debug)]
pub struct BudgetSlot(Arc<Watched>);

impl BudgetSlot {
    /// Notes the thread's CPU time: once a cycle, because it is a system call.
    pub fn mark(&self) {
        // In this order: CPU time that passes between the two then counts as none of the call's.
        self.0.marked_ns.store(now_ns(), Ordering::Relaxed);
        self.0.marked_cpu_ns.store(clock_ns(self.0.cpu_clock), Ordering::Relaxed);
    }

    /// Promises that nothing will be armed before `moment`, so that the timekeeper may sleep.
    pub fn idle_until(&self, moment: Duration) {
        self.0.idle_until_ns.store(nanos(moment), Ordering::Relaxed);
    }

    /// Promises that no call will be allowed less than `budget`.
    pub fn shortest(&self, budget: Duration) {
        self.0.shortest_ns.store(nanos(budget), Ordering::Relaxed);
    }

    /// When the timekeeper last ended a call of this thread, by [`now_ns`]; 0 if it never did.
    pub fn stopped_ns(&self) -> u64 {
        self.0.stopped_ns.load(Ordering::Relaxed)
    }

    /// Starts the time of a call into the instance of `cell`, at `started_ns` by [`now_ns`].
    pub(super) fn arm(&self, cell: &StopCell, started_ns: u64, budget: Duration) {
        self.0.started_ns.store(started_ns, Ordering::Relaxed);
        self.0.allowed_ns.store(nanos(budget), Ordering::Relaxed);
        if let Some(cell) = cell.cell() {
            let call = (cell.load(Ordering::Relaxed) & i32::MAX).wrapping_add(1) & i32::MAX;
            cell.store(call, Ordering::Release);
            self.0.cell.store(ptr::from_ref(cell).cast_mut(), Ordering::Release);
        }
    }

    /// The call has ended.
    pub(super) fn disarm(&self) {
        self.0.cell.store(ptr::null_mut(), Ordering::Release);
    }
}

/// The thread that ends calls. Dropping it ends the thread.
///
/// Nothing that the thread does waits for another: whoever it waited for might wait in turn for a
/// CPU that a runaway of higher priority keeps.
#[derive(Debug)]
pub struct Timekeeper {
    /// New slots on their way to the thread. Those who bring them take turns; the thread only
    /// looks.
    arrivals: Mutex<rtrb::Producer<Weak<Watched>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the timekeeper's thread shares with the rest.
#[derive(Debug, Default)]
struct Shared {
    /// Counts up at the beginning and at the end of each look, so it is odd during one. The
    /// timekeeper writes.
    looks: AtomicU64,
    /// Set by whoever drops the timekeeper.
    ended: AtomicBool,
}

impl Timekeeper {
    /// Starts the thread. `on_start` runs on it first: the place to raise its priority above that
    /// of the threads that it watches, which could starve it otherwise.
    ///
    /// # Errors
    /// When the system has no thread to give, or no signal.
    pub fn start(on_start: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        proof::listen()?;
        let shared = Arc::new(Shared::default());
        let (arrivals, arrived) = rtrb::RingBuffer::new(MAX_ARRIVALS);
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("timekeeper".into()).spawn(move || {
            on_start();
            keep(&theirs, arrived);
        })?;
        Ok(Self { arrivals: Mutex::new(arrivals), shared, thread: Some(thread) })
    }

    /// The budget slot of the calling thread.
    pub fn slot(&self) -> BudgetSlot {
        let watched = Arc::new(Watched {
            cell: AtomicPtr::default(),
            started_ns: AtomicU64::new(0),
            allowed_ns: AtomicU64::new(0),
            marked_ns: AtomicU64::new(0),
            marked_cpu_ns: AtomicU64::new(0),
            idle_until_ns: AtomicU64::new(0),
            shortest_ns: AtomicU64::new(NEVER_NS),
            stopped_ns: AtomicU64::new(0),
            witness: Witness::this_thread(),
            cpu_clock: own_cpu_clock(),
        });
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arrival = Arc::downgrade(&watched);
        while let Err(rtrb::PushError::Full(back)) = arrivals.push(arrival) {
            arrival = back;
            self.wake();
            thread::sleep(Duration::from_nanos(SHORTEST_SLEEP_NS));
        }
        BudgetSlot(watched)
    }

    /// Makes the thread look at once: after a shorter budget was promised, or a call was armed
    /// without any promise.
    pub fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Returns when the timekeeper no longer holds the address of any flag that is not armed. An
    /// instance is dropped only after this, and never on the scan thread: it waits for the end of a
    /// look.
    pub(super) fn release(&self) {
        // Together with the fence in `keep`: if the count is even here, the next look comes after
        // the call was disarmed, and sees it so.
        fence(Ordering::SeqCst);
        let looks = self.shared.looks.load(Ordering::Relaxed);
        while looks % 2 == 1 && self.shared.looks.load(Ordering::Acquire) == looks {
            thread::sleep(Duration::from_nanos(SHORTEST_SLEEP_NS));
        }
    }
}

impl Drop for Timekeeper {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It has no way to panic; if it did, there is nothing left to end.
            let _ = thread.join();
        }
    }
}

/// The timekeeper's life.
fn keep(shared: &Shared, mut arrived: rtrb::Consumer<Weak<Watched>>) {
    // 1 ns instead of the usual 50 us: a stop is to come on time. Without it we are only later.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut slots = Vec::with_capacity(MAX_ARRIVALS);
    while !shared.ended.load(Ordering::Relaxed) {
        slots.retain(|(slot, _): &(Weak<Watched>, Inquiry)| slot.strong_count() > 0);
        let arrivals = std::iter::from_fn(|| arrived.pop().ok());
        slots.extend(arrivals.map(|slot| (slot, Inquiry::default())));
        shared.looks.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let now = now_ns();
        let looks = slots
            .iter_mut()
            .filter_map(|(slot, inquiry)| slot.upgrade().map(|slot| slot.look(now, inquiry)));
        let next = looks.min().unwrap_or(NEVER_NS);
        shared.looks.fetch_add(1, Ordering::Release);
        let pause = Duration::from_nanos(next.saturating_sub(now_ns()));
        // A sleep of no length takes 18 us.
        if !pause.is_zero() {
            thread::park_timeout(pause.min(LONGEST_SLEEP));
        }
    }
}

/// The machine's monotonic clock: budgets are real time even when the scan's clock is simulated.
pub fn now_ns() -> u64 {
    nanos(MonotonicClock.now())
}

/// CPU time that the calling thread has used: a system call.
pub(super) fn thread_cpu_ns() -> u64 {
    clock_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: ClockId) -> u64 {
    // A thread that is gone has no clock any more; it runs no call either.
    clock_gettime(clock).map_or(0, |time| nanos(time.into()))
}

/// The CPU clock of the calling thread, in a form that other threads can read: Linux packs the
/// thread id and the kind of clock into the number (`MAKE_THREAD_CPUCLOCK` in the kernel's
/// posix-timers.h).
fn own_cpu_clock() -> ClockId {
    const PER_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    ClockId::from_raw((!gettid().as_raw() << 3) | PER_THREAD | SCHEDULED)
}
