//! Time limits for guests: the timekeeper, a thread that sets the stop flag in their code.
//!
//! The code of a guest checks its flag again and again (`module/flag.rs`). The [`Timekeeper`] sets
//! the flag when a call has used up its CPU time. A call is armed by four plain stores, so a poll
//! costs no system call. A call that returns by itself after it was stopped has failed too
//! (`wasm/call.rs`). What the trap says is decided in `trap.rs`.
//!
//! The global `stop` counts the calls. Each arming writes a new positive number, and the timekeeper
//! replaces only the number that it saw. So a stop that comes too late meets another number, and
//! does nothing.
//!
//! The CPU clock alone does not stop a call. When it says that the time is over, the timekeeper
//! begins an inquiry (`stop/inquiry.rs`), in which it asks the thread (`stop/proof.rs`).
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

/// The time of a slot without an armed call, in nanoseconds: the timekeeper sleeps until it is
/// woken.
const NEVER_NS: u64 = u64::MAX;

/// The shortest sleep while CPU time is left, in nanoseconds. Without it, a thread that is
/// preempted at the very end of its budget would make the timekeeper spin.
const SHORTEST_SLEEP_NS: u64 = 20_000;

/// Most new budget slots that the timekeeper has not taken in yet. A few preparations run at once,
/// and each wakes the timekeeper.
const MAX_ARRIVALS: usize = 64;

/// The longest sleep of the timekeeper. It is woken when needed; this limits the effect of a
/// mistake.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The address of the `stop` global of one instance.
///
/// The thread that makes the instance writes it; the thread that runs the instance reads it.
#[derive(Debug, Default)]
pub(super) struct StopCell(AtomicPtr<AtomicI32>);

impl StopCell {
    /// Takes the address of one of the instance's own globals. The last one is `stop`.
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
        // SAFETY: the address is that of a global inside the VMContext of the instance that owns
        // this value. `wasm::call::Body` keeps the two together and drops the store first, so the
        // global lives and does not move. It is aligned to 16 bytes. The guest's code reads it
        // while host threads write it, one aligned 32-bit word at a time, which is what an atomic
        // access compiles to here.
        unsafe { self.0.load(Ordering::Relaxed).as_ref() }
    }
}

/// What the timekeeper knows about one thread that runs guests. That thread writes and the
/// timekeeper reads, unless a field says otherwise.
#[derive(Debug)]
struct Watched {
    /// The flag of the running call; null between calls.
    cell: AtomicPtr<AtomicI32>,
    /// When that call began.
    started_ns: AtomicU64,
    /// The CPU time that the call may take.
    allowed_ns: AtomicU64,
    /// Wall time and CPU time of the thread at one instant before the call.
    marked_ns: AtomicU64,
    marked_cpu_ns: AtomicU64,
    /// No call is armed before this moment.
    idle_until_ns: AtomicU64,
    /// No call has a shorter budget than this.
    shortest_ns: AtomicU64,
    /// The time when the timekeeper last ended a call. The timekeeper writes it and the thread
    /// reads it.
    stopped_ns: AtomicU64,
    witness: Witness,
    cpu_clock: ClockId,
}

impl Watched {
    /// Ends the call if it has used up its time. Returns when the timekeeper must look again.
    fn look(&self, now_ns: u64, inquiry: &mut Inquiry) -> u64 {
        let shortest = self.shortest_ns.load(Ordering::Relaxed);
        // SAFETY: the instance of a running call is alive. The instance of a call that has ended
        // since then is alive too: it is dropped only after `Timekeeper::release`, which waits for
        // the end of this look.
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
            // A machine that wakes the timekeeper 17 us late turns stretches of 25 us into 42 us
            // (seen). So the timekeeper stays awake while the thread runs at the same time on
            // another CPU.
            let is_beside = clock_ns(self.cpu_clock) > cpu_ns;
            return self::now_ns() + if is_beside { 0 } else { pause_ns };
        }
        self.stopped_ns.store(self::now_ns(), Ordering::Relaxed);
        let stopped = call | i32::MIN;
        let _ = cell.compare_exchange(call, stopped, Ordering::Relaxed, Ordering::Relaxed);
        now_ns.saturating_add(shortest)
    }

    /// The CPU time that the call was charged, if its thread was charged `cpu_ns` so far.
    ///
    /// The time between the mark and the start is subtracted as if the thread had never been
    /// preempted there. So the result can be too small, and is never too large.
    fn used_ns(&self, started_ns: u64, cpu_ns: u64) -> u64 {
        let before_start = started_ns.saturating_sub(self.marked_ns.load(Ordering::Relaxed));
        let since_mark = cpu_ns.saturating_sub(self.marked_cpu_ns.load(Ordering::Relaxed));
        since_mark.saturating_sub(before_start)
    }
}

/// The budget slot of one thread. Through it the thread tells the timekeeper when a call begins and
/// what its budget is. It is made on that thread and used only there.
#[derive(Debug)]
pub struct BudgetSlot(Arc<Watched>);

impl BudgetSlot {
    /// Notes the thread's CPU time. This is done once a cycle, because it is a system call.
    pub fn mark(&self) {
        // In this order: CPU time that passes between the two does not count for the call.
        self.0.marked_ns.store(now_ns(), Ordering::Relaxed);
        self.0.marked_cpu_ns.store(clock_ns(self.0.cpu_clock), Ordering::Relaxed);
    }

    /// Promises that no call is armed before `moment`, so that the timekeeper may sleep.
    pub fn idle_until(&self, moment: Duration) {
        self.0.idle_until_ns.store(nanos(moment), Ordering::Relaxed);
    }

    /// Promises that no call will have a shorter budget than `budget`.
    pub fn shortest(&self, budget: Duration) {
        self.0.shortest_ns.store(nanos(budget), Ordering::Relaxed);
    }

    /// The time when the timekeeper last ended a call of this thread, by [`now_ns`]; 0 if it never
    /// did.
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

    /// Notes that the call has ended.
    pub(super) fn disarm(&self) {
        self.0.cell.store(ptr::null_mut(), Ordering::Release);
    }
}

/// The thread that ends calls. Dropping this value ends the thread.
///
/// The thread waits for no other thread. A thread that it waited for might itself wait for a CPU on
/// which a runaway of higher priority runs.
#[derive(Debug)]
pub struct Timekeeper {
    /// New slots on their way to the thread. The threads that add them take turns; the timekeeper's
    /// thread only reads.
    arrivals: Mutex<rtrb::Producer<Weak<Watched>>>,
    /// What both sides look at; its fields say who writes them.
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the timekeeper's thread shares with other threads.
#[derive(Debug, Default)]
struct Shared {
    /// Counts up at the beginning and at the end of each look, so it is odd during a look. The
    /// timekeeper writes it; [`Timekeeper::release`] reads it.
    looks: AtomicU64,
    /// Whether the timekeeper was dropped. The thread that drops it writes, the timekeeper's thread
    /// reads.
    ended: AtomicBool,
}

impl Timekeeper {
    /// Starts the thread. `on_start` runs on it first. It is the place to raise the thread's
    /// priority above that of the watched threads, which could starve it otherwise.
    ///
    /// # Errors
    /// When the system cannot make the thread, or refuses the signal handler.
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

    /// Makes the budget slot of the calling thread.
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

    /// Waits until the timekeeper no longer holds the address of a flag whose call has ended. An
    /// instance is dropped only after this. It must not be dropped on the scan's thread, because
    /// this waits for the end of a look.
    pub(super) fn release(&self) {
        // This works together with the fence in `keep`. If the count is even here, the next look
        // comes after the call was disarmed, and sees that.
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
            // The thread cannot panic; if it did, there is nothing left to end.
            let _ = thread.join();
        }
    }
}

/// The work of the timekeeper's thread.
fn keep(shared: &Shared, mut arrived: rtrb::Consumer<Weak<Watched>>) {
    // 1 ns instead of the usual 50 us, so that a stop comes on time. Without it, stops are only
    // later.
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
        // Even a sleep of no length takes 18 us.
        if !pause.is_zero() {
            thread::park_timeout(pause.min(LONGEST_SLEEP));
        }
    }
}

/// The machine's monotonic clock, in nanoseconds. Budgets are real time even if the scan's clock is
/// simulated.
pub fn now_ns() -> u64 {
    nanos(MonotonicClock.now())
}

/// CPU time that the calling thread has used, in nanoseconds. This is a system call.
pub(in crate::plugin) fn thread_cpu_ns() -> u64 {
    clock_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: ClockId) -> u64 {
    // A thread that has ended has no clock; it runs no call either.
    clock_gettime(clock).map_or(0, |time| nanos(time.into()))
}

/// The CPU clock of the calling thread, in a form that other threads can read. Linux packs the
/// thread id and the kind of clock into the number (`MAKE_THREAD_CPUCLOCK` in the kernel's
/// posix-timers.h).
fn own_cpu_clock() -> ClockId {
    const PER_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    ClockId::from_raw((!gettid().as_raw() << 3) | PER_THREAD | SCHEDULED)
}
