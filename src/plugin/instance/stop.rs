//! Time limits for guests: the timekeeper, a thread that sets the stop flag in their code.
//!
//! The code of a guest checks its stop flag again and again (`module/flag.rs`). The [`Timekeeper`]
//! sets the flag when a call has used up its CPU time. The scan arms a call by four plain stores,
//! so a poll costs no system call. A call that returns by itself after the flag was set has failed
//! too (`wasm/call.rs`). The text of the trap is made in `trap.rs`.
//!
//! The stop flag is the instance's global `stop`, which also counts the calls. Each arming writes a
//! new positive number, and the timekeeper replaces only the number that it saw. So if the
//! timekeeper is too late, the global has another number by then, and the next call is not stopped.
//!
//! The CPU clock alone does not stop a call, because it also counts time that is not the guest's.
//! When the CPU clock says that the time is over, the timekeeper begins an inquiry
//! (`stop/inquiry.rs`), in which it asks the thread (`stop/proof.rs`).
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

/// The next look at a slot without an armed call: the timekeeper sleeps until it is woken.
const NEVER_NS: u64 = u64::MAX;

/// The shortest sleep while CPU time is left, in nanoseconds. Without this minimum, the timekeeper
/// would spin if the thread is preempted at the very end of its budget.
const SHORTEST_SLEEP_NS: u64 = 20_000;

/// Most new budget slots that the timekeeper has not taken in yet. A few preparations run at once,
/// and each wakes the timekeeper.
const MAX_ARRIVALS: usize = 64;

/// The longest sleep of the timekeeper. Other threads wake the timekeeper when needed; this limit
/// bounds the damage if one of them fails to do so.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The address of the `stop` global of one instance.
///
/// The thread that makes the instance writes it; the thread that runs the instance reads it.
#[derive(Debug, Default)]
pub(super) struct StopCell(AtomicPtr<AtomicI32>);

impl StopCell {
    /// Takes the address of one of the instance's own globals. The last one is `stop`.
    pub(super) fn take(&self, place: NonNull<VMGlobalDefinition>) {
        // `val` is a union whose i32 is at its start, and the union is aligned to 16 bytes.
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

/// The timekeeper's data about one thread that runs guests. The watched thread writes and the
/// timekeeper reads, unless a field says otherwise.
#[derive(Debug)]
struct Watched {
    /// The flag of the running call; null between calls.
    cell: AtomicPtr<AtomicI32>,
    /// When the running call began.
    started_ns: AtomicU64,
    /// The CPU time that the call may take.
    allowed_ns: AtomicU64,
    /// Wall time and CPU time of the thread at one instant before the call.
    marked_ns: AtomicU64,
    marked_cpu_ns: AtomicU64,
    /// The thread has promised that it arms no call before this moment.
    idle_until_ns: AtomicU64,
    /// The thread has promised that no call has a shorter budget than this.
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
        // The timekeeper loads the number of the call first and its times afterwards, because the
        // thread stores them in the opposite order.
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
            // If the machine wakes the timekeeper 17 us late, a stretch takes 42 us instead of 25
            // us (this was measured). So the timekeeper stays awake while the thread runs at the
            // same time on another CPU.
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

/// The budget slot of one thread. By the slot, the thread tells the timekeeper when a call begins
/// and how long its budget is. The slot is made on its thread and used only on that thread.
#[derive(Debug)]
pub struct BudgetSlot(Arc<Watched>);

impl BudgetSlot {
    /// Notes the thread's CPU time. The scan does this once a cycle and not for each call, because
    /// it is a system call.
    pub fn mark(&self) {
        // The wall clock is read before the CPU clock, so that CPU time that passes between the two
        // does not count for the call.
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
    /// ended one.
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
/// The timekeeper's thread waits for no other thread. Otherwise a runaway guest of higher priority
/// could keep the CPU from that other thread, and so keep the timekeeper from ending the runaway's
/// call.
#[derive(Debug)]
pub struct Timekeeper {
    /// New slots on their way to the thread. The threads that add them take turns; the timekeeper's
    /// thread only reads.
    arrivals: Mutex<rtrb::Producer<Weak<Watched>>>,
    /// The data that the timekeeper's thread shares with other threads. Each field says who writes
    /// it.
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The data that the timekeeper's thread shares with other threads.
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
    /// Starts the thread. `on_start` runs first on this thread. `on_start` can raise the thread's
    /// priority above that of the watched threads, which could otherwise keep the CPU from the
    /// timekeeper.
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
    /// instance is dropped only after this wait. An instance must not be dropped on the scan's
    /// thread, because the wait lasts until the end of the timekeeper's look.
    pub(super) fn release(&self) {
        // This fence works together with the fence in `keep`. If the count is even here, the next
        // look begins after the call was disarmed, and finds no armed call.
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
            // The timekeeper's thread cannot panic. If it did, there would be no thread to end.
            let _ = thread.join();
        }
    }
}

/// The work of the timekeeper's thread.
fn keep(shared: &Shared, mut arrived: rtrb::Consumer<Weak<Watched>>) {
    // The timer slack is 1 ns instead of the usual 50 us, so that a stop comes on time. If the
    // system refuses this, stops only come later.
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
        // The timekeeper does not sleep for a zero pause, because even such a sleep takes 18 us.
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
    // A thread that has ended has no CPU clock. The result 0 does no harm, because such a thread
    // runs no call.
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
