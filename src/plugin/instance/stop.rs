//! Time limits for guests: the timekeeper, a thread that sets the stop flag of a guest whose call
//! has used up its budget.
//!
//! The daemon inserts checks of a stop flag into the code of every guest (`module/flag.rs`). The
//! [`Timekeeper`] sets the flag when a call has used up its CPU time, and the next check then
//! traps. The scan starts the time limit of a call with four memory writes, so a poll needs no
//! system call. If the guest returns after the flag was set but before the next check, the call
//! fails too (`wasm/call.rs`). The text of the trap is made in `trap.rs`.
//!
//! ```text
//! scan        arm: start, budget, number -> call of the guest -> disarm
//! timekeeper       sleeps until the budget may be used up, checks the CPU clock,
//!                  asks the thread, sets the stop flag -> the guest traps
//! ```
//!
//! The stop flag is the instance's global `stop`. The global also counts the calls: each new call
//! writes the next positive number, and a negative number means stop. The timekeeper replaces the
//! number only if the global has the same number as at the start of its check. If the timekeeper is
//! too late, the global has the number of the next call, and the next call is not stopped.
//!
//! The thread's CPU clock alone is not enough to stop a call, because this clock also counts time
//! that the kernel uses for other work. When the CPU clock shows that the budget is used up, the
//! timekeeper begins an inquiry (`stop/inquiry.rs`). In the inquiry, the timekeeper sends questions
//! to the thread as signals (`stop/proof.rs`). The timekeeper stops the call only if the answers
//! prove that the guest used the time.
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
use crate::thread::named;

mod inquiry;
mod proof;

/// Time value that means "never": the timekeeper sleeps until another thread wakes it.
const NEVER_NS: u64 = u64::MAX;

/// Shortest sleep of the timekeeper while a call has remaining CPU time, in nanoseconds. Without
/// this minimum, the timekeeper would check without pause if a thread is preempted at the very end
/// of its budget. A thread that waits for the timekeeper sleeps for the same time between two
/// checks.
const SHORTEST_SLEEP_NS: u64 = 20_000;

/// Largest number of new budget slots in the queue to the timekeeper's thread. The number is large
/// enough, because only a few instances are prepared at the same time. Each preparation wakes the
/// timekeeper, which then empties the queue.
const MAX_ARRIVALS: usize = 64;

/// Longest sleep of the timekeeper. Other threads wake the timekeeper when necessary. If a thread
/// fails to do this, the timekeeper still wakes after this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The address of the `stop` global of one instance.
///
/// The thread that makes the instance writes the address; the thread that calls the instance reads
/// the address and passes it to the timekeeper.
#[derive(Debug, Default)]
pub(super) struct StopCell(AtomicPtr<AtomicI32>);

impl StopCell {
    /// Stores the address of a global of the instance. wasmer calls this for each global in order.
    /// The global `stop` is the last global, so its address remains.
    pub(super) fn take(&self, place: NonNull<VMGlobalDefinition>) {
        // The cast is valid, because the field `val` of the global is a union that has its i32 at
        // its start. The union is aligned to 16 bytes.
        self.0.store(place.as_ptr().cast(), Ordering::Relaxed);
    }

    /// Whether the timekeeper has stopped the most recent call.
    pub(super) fn is_stopped(&self) -> bool {
        self.cell().is_some_and(|cell| cell.load(Ordering::Relaxed) < 0)
    }

    /// Whether `value` is the number of the most recent call. The sign bit, which means stop, is
    /// not compared.
    pub(super) fn is_call(&self, value: i32) -> bool {
        let number = |value| value & i32::MAX;
        self.cell().is_some_and(|cell| number(cell.load(Ordering::Relaxed)) == number(value))
    }

    fn cell(&self) -> Option<&AtomicI32> {
        // SAFETY: the address points to a global inside the VMContext of the instance that owns
        // this value. `wasm::call::Body` has both the instance's store and this value, and drops
        // the store first. So the global exists during every access here, and does not move. The
        // global is aligned to 16 bytes. The guest's code reads the global while host threads write
        // it. Each access is one aligned 32-bit word, and an atomic access compiles to the same
        // instruction here.
        unsafe { self.0.load(Ordering::Relaxed).as_ref() }
    }
}

/// The data about one thread that runs guests, shared with the timekeeper. The watched thread
/// writes the fields and the timekeeper reads them, unless the doc of a field states something
/// different.
#[derive(Debug)]
struct Watched {
    /// The address of the stop flag of the running call; null between calls.
    cell: AtomicPtr<AtomicI32>,
    /// The time when the running call began.
    started_ns: AtomicU64,
    /// The CPU time that the running call may use.
    allowed_ns: AtomicU64,
    /// Wall time at one instant before the call. `marked_cpu_ns` is the CPU time of the thread at
    /// the same instant.
    marked_ns: AtomicU64,
    marked_cpu_ns: AtomicU64,
    /// The watched thread has promised that it begins no call before this time.
    idle_until_ns: AtomicU64,
    /// The watched thread has promised that no call has a shorter budget than this time.
    shortest_ns: AtomicU64,
    /// The time when the timekeeper last stopped a call of this thread. The timekeeper writes this
    /// field and the watched thread reads it.
    stopped_ns: AtomicU64,
    witness: Witness,
    cpu_clock: ClockId,
}

impl Watched {
    /// Checks the running call of this thread, and stops the call if it has used up its CPU time.
    /// Returns the time when the timekeeper must check this thread again.
    fn check(&self, now_ns: u64, inquiry: &mut Inquiry) -> u64 {
        let shortest = self.shortest_ns.load(Ordering::Relaxed);
        // SAFETY: the instance of a running call exists. If the call ends during this check, its
        // instance exists until the end of the check. `Timekeeper::release` delays the drop of the
        // instance until this end.
        let Some(cell) = (unsafe { self.cell.load(Ordering::Acquire).as_ref() }) else {
            let earliest = now_ns.max(self.idle_until_ns.load(Ordering::Relaxed));
            return earliest.saturating_add(shortest);
        };
        // The timekeeper loads the call's number first and the call's times second, because the
        // watched thread stores the times first and the number second.
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
        if let Finding::CheckIn(pause_ns) = inquiry.check(&self.witness, started, cpu_ns) {
            // If the thread runs on another CPU at this moment, the timekeeper does not sleep. In a
            // test, a sleep ended 17 us late, so one stretch of the inquiry took 42 us instead of
            // 25 us.
            let is_beside = clock_ns(self.cpu_clock) > cpu_ns;
            return self::now_ns() + if is_beside { 0 } else { pause_ns };
        }
        self.stopped_ns.store(self::now_ns(), Ordering::Relaxed);
        let stopped = call | i32::MIN;
        let _ = cell.compare_exchange(call, stopped, Ordering::Relaxed, Ordering::Relaxed);
        now_ns.saturating_add(shortest)
    }

    /// Returns the CPU time of the call. `cpu_ns` is the present CPU time of the call's thread.
    ///
    /// The function subtracts the wall time between the mark and the start of the call. This wall
    /// time can be longer than the CPU time, because the thread may have been preempted. So the
    /// result can be too small, and is never too large.
    fn used_ns(&self, started_ns: u64, cpu_ns: u64) -> u64 {
        let before_start = started_ns.saturating_sub(self.marked_ns.load(Ordering::Relaxed));
        let since_mark = cpu_ns.saturating_sub(self.marked_cpu_ns.load(Ordering::Relaxed));
        since_mark.saturating_sub(before_start)
    }
}

/// The budget slot of one thread. Through the slot, the thread reports to the timekeeper when a
/// call begins and how long the call's budget is. A thread makes its own slot, and only this thread
/// uses the slot.
#[derive(Debug)]
pub struct BudgetSlot(Arc<Watched>);

impl BudgetSlot {
    /// Stores the wall time and the thread's CPU time. The scan calls this function before the
    /// polls of a cycle and before a `save`, and not for each poll, because reading the CPU clock
    /// is a system call.
    pub fn mark(&self) {
        // The wall clock is read before the CPU clock. CPU time that the thread uses between the
        // two readings is then not added to the call's time.
        self.0.marked_ns.store(now_ns(), Ordering::Relaxed);
        self.0.marked_cpu_ns.store(clock_ns(self.0.cpu_clock), Ordering::Relaxed);
    }

    /// Promises that this thread begins no call before `moment`, so that the timekeeper may sleep.
    pub fn idle_until(&self, moment: Duration) {
        self.0.idle_until_ns.store(nanos(moment), Ordering::Relaxed);
    }

    /// Promises that no call of this thread will have a shorter budget than `budget`.
    pub fn shortest(&self, budget: Duration) {
        self.0.shortest_ns.store(nanos(budget), Ordering::Relaxed);
    }

    /// Returns when the timekeeper last stopped a call of this thread, as a time of the clock
    /// [`now_ns`]; 0 if the timekeeper never stopped a call of this thread.
    pub fn stopped_ns(&self) -> u64 {
        self.0.stopped_ns.load(Ordering::Relaxed)
    }

    /// Starts the time limit of a call into the instance of `cell`. The limit begins at
    /// `started_ns`, a time of the clock [`now_ns`].
    pub(super) fn arm(&self, cell: &StopCell, started_ns: u64, budget: Duration) {
        self.0.started_ns.store(started_ns, Ordering::Relaxed);
        self.0.allowed_ns.store(nanos(budget), Ordering::Relaxed);
        if let Some(cell) = cell.cell() {
            let call = (cell.load(Ordering::Relaxed) & i32::MAX).wrapping_add(1) & i32::MAX;
            cell.store(call, Ordering::Release);
            self.0.cell.store(ptr::from_ref(cell).cast_mut(), Ordering::Release);
        }
    }

    /// Ends the time limit, because the call has returned.
    pub(super) fn disarm(&self) {
        self.0.cell.store(ptr::null_mut(), Ordering::Release);
    }
}

/// The timekeeper: the handle to the thread that stops calls. Dropping this value ends the thread.
///
/// The timekeeper's thread waits for no other thread. Otherwise a guest in an endless loop could
/// keep that other thread off the CPU, if the guest's thread has the higher priority. The
/// timekeeper would then wait for ever and could not stop the guest.
#[derive(Debug)]
pub struct Timekeeper {
    /// Queue of new slots to the timekeeper's thread. A mutex allows only one thread at a time to
    /// add a slot. The timekeeper's thread reads the queue without a mutex.
    arrivals: Mutex<rtrb::Producer<Weak<Watched>>>,
    /// The data that the timekeeper's thread shares with the owner of this handle.
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The data that the timekeeper's thread shares with other threads.
#[derive(Debug, Default)]
struct Shared {
    /// Counter that is incremented at the beginning and at the end of each check, so its value is
    /// odd during a check. The timekeeper writes the counter; [`Timekeeper::release`] reads it.
    checks: AtomicU64,
    /// Whether the [`Timekeeper`] was dropped. The dropping thread writes this flag, the
    /// timekeeper's thread reads it.
    ended: AtomicBool,
}

impl Timekeeper {
    /// Starts the timekeeper's thread. The thread first runs `on_start`, in which the caller can
    /// raise the thread's priority above the priority of the watched threads. Without a higher
    /// priority, a watched thread could keep the timekeeper off the CPU.
    ///
    /// # Errors
    /// When the operating system cannot make the thread, or refuses the signal handler.
    pub fn start(on_start: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        proof::listen()?;
        let shared = Arc::new(Shared::default());
        let (arrivals, arrived) = rtrb::RingBuffer::new(MAX_ARRIVALS);
        let theirs = Arc::clone(&shared);
        let thread = named("timekeeper").spawn(move || {
            on_start();
            run(&theirs, arrived);
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

    /// Wakes the timekeeper's thread, so that it checks all slots immediately. A thread calls this
    /// after it has promised a shorter budget than before, or has begun a call without a promise.
    pub fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Waits until the timekeeper no longer uses the address of a stop flag whose call has ended.
    /// An instance is dropped only after this wait. The wait lasts until the end of the
    /// timekeeper's present check, so an instance must not be dropped on the scan's thread.
    pub(super) fn release(&self) {
        // This fence works together with the fence in `run`. If the counter is even here, the next
        // check begins after the call has ended, and finds no running call.
        fence(Ordering::SeqCst);
        let checks = self.shared.checks.load(Ordering::Relaxed);
        while checks % 2 == 1 && self.shared.checks.load(Ordering::Acquire) == checks {
            thread::sleep(Duration::from_nanos(SHORTEST_SLEEP_NS));
        }
    }
}

impl Drop for Timekeeper {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // The result of `join` is ignored: an error only means that the thread has panicked,
            // and then the thread has ended too.
            let _ = thread.join();
        }
    }
}

/// The loop of the timekeeper's thread: checks all slots, then sleeps until the time of the next
/// check.
fn run(shared: &Shared, mut arrived: rtrb::Consumer<Weak<Watched>>) {
    // The timer slack of this thread is set to 1 ns instead of the usual 50 us, so that the thread
    // wakes on time. If the operating system refuses this setting, calls are stopped a little
    // later.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut slots = Vec::with_capacity(MAX_ARRIVALS);
    while !shared.ended.load(Ordering::Relaxed) {
        slots.retain(|(slot, _): &(Weak<Watched>, Inquiry)| slot.strong_count() > 0);
        let arrivals = std::iter::from_fn(|| arrived.pop().ok());
        slots.extend(arrivals.map(|slot| (slot, Inquiry::default())));
        shared.checks.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let now = now_ns();
        let checks = slots
            .iter_mut()
            .filter_map(|(slot, inquiry)| slot.upgrade().map(|slot| slot.check(now, inquiry)));
        let next = checks.min().unwrap_or(NEVER_NS);
        shared.checks.fetch_add(1, Ordering::Release);
        let pause = Duration::from_nanos(next.saturating_sub(now_ns()));
        // For a pause of zero the thread does not call sleep, because even a sleep of zero takes 18
        // us.
        if !pause.is_zero() {
            thread::park_timeout(pause.min(LONGEST_SLEEP));
        }
    }
}

/// Returns the time of the machine's monotonic clock, in nanoseconds. Time limits always use this
/// clock, even if the scan uses a simulated clock.
pub fn now_ns() -> u64 {
    nanos(MonotonicClock.now())
}

/// Returns the CPU time that the calling thread has used, in nanoseconds. The function makes a
/// system call.
pub(in crate::plugin) fn thread_cpu_ns() -> u64 {
    clock_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: ClockId) -> u64 {
    // If the thread has ended, its CPU clock cannot be read. The result is then 0, which does no
    // harm, because an ended thread runs no call.
    clock_gettime(clock).map_or(0, |time| nanos(time.into()))
}

/// Returns the id of the calling thread's CPU clock. Other threads can read the clock with this id.
/// Linux builds the id from the thread id and the kind of clock (`MAKE_THREAD_CPUCLOCK` in the
/// kernel's posix-timers.h).
fn own_cpu_clock() -> ClockId {
    const PER_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    ClockId::from_raw((!gettid().as_raw() << 3) | PER_THREAD | SCHEDULED)
}
