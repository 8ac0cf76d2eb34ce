//! Questions to a thread whose call seems late: the timekeeper sends a signal, and the signal's
//! handler answers with the thread's clocks.
//!
//! A question has a number and is answered once. A signal of the same kind that is no question is a
//! stray signal: the handler answers nothing and only counts it. The kernel does not queue two
//! signals of this kind. If a stray signal has taken the place of a question, the question is lost,
//! and the timekeeper asks it again.
//!
//! The signal stops no call and causes no trap. What the answers prove is decided in
//! `stop/inquiry.rs`. The code that then stops the call is in `stop.rs`.
//!
//! ```text
//!   timekeeper                              thread that runs a guest
//!   asked = number, signal ───────────────▶ handler: clocks and counters
//!   reads the answer       ◀─────────────── answered = number
//! ```

#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::gettid;

use super::{now_ns, thread_cpu_ns};

/// The signal of a question. The process uses it for nothing else, and by default it is ignored.
const QUESTION: Signal = Signal::SIGURG;

/// The number of the last question in the whole process; 0 means that there was none. Every
/// timekeeper counts it up. The number need not be secret, because a question is answered only
/// once, and only after it was asked.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

/// One answer: the thread's clocks when its handler began and ended, and the thread's counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer {
    pub(super) began_ns: u64,
    pub(super) began_cpu_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) ended_cpu_ns: u64,
    /// How often the thread had waited until the answer, for the disk or for anything else.
    pub(super) waits: i64,
    /// How many pages the kernel had given to the thread until the answer, without a wait.
    pub(super) pages: i64,
    /// How many stray signals the thread had got until the answer.
    pub(super) strays: u64,
}

/// The place where one thread answers. Its handler writes all fields but the first, and the
/// timekeeper reads them.
///
/// Two threads never share a place: a thread has its own place from its first slot to its end.
/// After the thread's end, another thread may take the place over. An old answer in the place does
/// no harm, because question numbers are unique.
#[derive(Debug, Default)]
struct Answers {
    /// The number of the open question, if `answered` has another number. A timekeeper writes it,
    /// and the handler reads it. A thread runs one call at a time, so only one timekeeper asks.
    asked: AtomicU64,
    /// The number of the question that was answered last. The handler writes it after the fields
    /// below, which stay unchanged from then until the next question.
    answered: AtomicU64,
    began_ns: AtomicU64,
    began_cpu_ns: AtomicU64,
    ended_ns: AtomicU64,
    ended_cpu_ns: AtomicU64,
    waits: AtomicI64,
    pages: AtomicI64,
    strays: AtomicU64,
    strays_then: AtomicU64,
}

/// The places of threads that have ended. A thread takes a place from this list for its first slot,
/// and puts it back when the thread ends. So the list has at most as many places as there were
/// threads with slots at one time.
static FREE: Mutex<Vec<&Answers>> = Mutex::new(Vec::new());

thread_local! {
    /// The calling thread's place, for its handler. The handler only reads memory here, because the
    /// variable has no destructor and a constant as its first value.
    static OWN: Cell<Option<&'static Answers>> = const { Cell::new(None) };
    /// Gives the place back when the thread ends.
    static LEASE: OnceCell<Lease> = const { OnceCell::new() };
}

/// A thread's right to its place.
struct Lease(&'static Answers);

impl Drop for Lease {
    fn drop(&mut self) {
        OWN.set(None);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

impl Answers {
    /// The place of the calling thread.
    fn of_this_thread() -> &'static Self {
        LEASE.with(|lease| {
            let lease = lease.get_or_init(|| {
                refuse_others();
                let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
                Lease(free.unwrap_or_else(|| Box::leak(Box::default())))
            });
            OWN.set(Some(lease.0));
            lease.0
        })
    }

    /// The handler's part: answers question `number`, if that question is open.
    fn hear(&self, number: Option<u64>) {
        let asked = self.asked.load(Ordering::Relaxed);
        if number != Some(asked) {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The question was asked again while the answer was under way, as happens under strace. The
        // repeated question does not count as a stray signal. Otherwise a thread whose answers take
        // long would never prove anything.
        if self.answered.load(Ordering::Relaxed) == asked {
            return;
        }
        self.began_ns.store(now_ns(), Ordering::Relaxed);
        self.began_cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
        let (waits, pages) = met_with();
        self.waits.store(waits, Ordering::Relaxed);
        self.pages.store(pages, Ordering::Relaxed);
        self.strays_then.store(self.strays.load(Ordering::Relaxed), Ordering::Relaxed);
        self.ended_ns.store(now_ns(), Ordering::Relaxed);
        self.ended_cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
        self.answered.store(asked, Ordering::Release);
    }

    /// The timekeeper's part: the answer to question `number`, if it is there.
    fn to(&self, number: u64) -> Option<Answer> {
        (self.answered.load(Ordering::Acquire) == number).then(|| Answer {
            began_ns: self.began_ns.load(Ordering::Relaxed),
            began_cpu_ns: self.began_cpu_ns.load(Ordering::Relaxed),
            ended_ns: self.ended_ns.load(Ordering::Relaxed),
            ended_cpu_ns: self.ended_cpu_ns.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            pages: self.pages.load(Ordering::Relaxed),
            strays: self.strays_then.load(Ordering::Relaxed),
        })
    }
}

/// Blocks all signals on the calling thread except three kinds: the question, the faults of the
/// thread's own code, and the end of its CPU time. Blocked signals go to other threads of the
/// process. The time of other handlers would count as the guest's time: while many SIGUSR1 came,
/// work of 125 us was measured as more than 250 us.
fn refuse_others() {
    use Signal::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU};
    let mut others = SigSet::all();
    for own in [QUESTION, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU] {
        others.remove(own);
    }
    others.thread_block().expect("the only error is an unknown way to change the mask");
}

/// How often the calling thread has waited, and how many pages it was given without a wait. The
/// kernel counts a page fault when the fault is over. If the signal interrupts a page fault before
/// its end, the kernel has counted the fault's wait already.
fn met_with() -> (i64, i64) {
    getrusage(UsageWho::RUSAGE_THREAD).map_or((0, 0), |usage| {
        let waits = usage.major_page_faults() + usage.voluntary_context_switches();
        (waits, usage.minor_page_faults())
    })
}

/// The number of the question in a signal; `None` if the signal is no question.
fn number_of(info: &siginfo_t) -> Option<u64> {
    if info.si_code != libc::SI_QUEUE {
        return None;
    }
    // SAFETY: both lie within the siginfo_t, which the kernel has filled or zeroed as a whole.
    // Whatever bytes a sender has put there, they are a number and a pointer; the pointer is not
    // followed.
    let (process, value) = unsafe { (info.si_pid(), info.si_value()) };
    (process.cast_unsigned() == std::process::id()).then_some(value.sival_ptr.addr() as u64)
}

/// The handler. The handler is async-signal-safe: it takes no lock and no memory. The handler calls
/// the system only for clocks, counters and the process's number. These calls do not fail, so they
/// do not change `errno`.
extern "C" fn answer(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a whole, aligned siginfo_t in the
    // handler's own frame. No other code knows its address, and it lives until the handler returns.
    let number = unsafe { info.as_ref() }.and_then(number_of);
    if let Some(answers) = OWN.get() {
        answers.hear(number);
    }
}

/// Installs the handler that answers questions.
///
/// # Errors
/// When the system refuses the handler.
pub(super) fn listen() -> io::Result<()> {
    static ONCE: OnceLock<Result<(), Errno>> = OnceLock::new();
    let listen = || {
        // The handler runs on the signal stack that wasmer gives to the thread, because a guest's
        // own stack may be nearly full.
        let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK | SaFlags::SA_SIGINFO;
        let action = SigAction::new(SigHandler::SigAction(answer), flags, SigSet::empty());
        // SAFETY: the handler is async-signal-safe, as its doc says.
        unsafe { sigaction(QUESTION, &action) }.map(drop)
    };
    Ok((*ONCE.get_or_init(listen))?)
}

/// A `siginfo_t` as 64-bit Linux lays it out for SI_QUEUE (`siginfo.h` of the kernel: `_rt`).
#[repr(C)]
struct Queued {
    signal: c_int,
    error: c_int,
    code: c_int,
    padding: c_int,
    process: u32,
    user: u32,
    value: u64,
    rest: [u64; 12],
}

const _: () = assert!(size_of::<Queued>() == size_of::<siginfo_t>());

/// Sends question `number` to a thread of this process. That thread may have ended.
fn send(thread: i32, number: u64) {
    let process = std::process::id();
    let signal = QUESTION as c_int;
    let code = libc::SI_QUEUE;
    let question = Queued {
        signal,
        error: 0,
        code,
        padding: 0,
        process,
        user: 0,
        value: number,
        rest: [0; 12],
    };
    let call = libc::SYS_rt_tgsigqueueinfo;
    // SAFETY: the kernel reads a siginfo_t from the last argument, which has its size (see the
    // assertion) and lives until the call is over; the others are numbers.
    let _ = unsafe { libc::syscall(call, process, thread, signal, &raw const question) };
}

/// A thread that can be asked.
#[derive(Debug)]
pub(super) struct Witness {
    thread: i32,
    /// The place of the asked thread. The thread's handler writes its answers there; the timekeeper
    /// asks and reads.
    answers: &'static Answers,
}

impl Witness {
    /// A witness for the calling thread.
    pub(super) fn this_thread() -> Self {
        Self { thread: gettid().as_raw(), answers: Answers::of_this_thread() }
    }

    /// Asks the thread, and returns the number of the question. Only the timekeeper calls this.
    pub(super) fn ask(&self) -> u64 {
        let number = LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
        // The handler sees this number, because the kernel delivers the signal under a lock.
        self.answers.asked.store(number, Ordering::Relaxed);
        send(self.thread, number);
        number
    }

    /// Asks the last question once more, in case it was lost.
    pub(super) fn ask_again(&self, number: u64) {
        send(self.thread, number);
    }

    /// The answer to a question, if it is there.
    pub(super) fn answer_to(&self, number: u64) -> Option<Answer> {
        self.answers.to(number)
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn a_question_is_answered_once_and_nothing_else_is() {
        listen().unwrap();
        let witness = Witness::this_thread();
        let strays = || witness.answers.strays.load(Ordering::Relaxed);
        let number = witness.ask();
        let answer = witness.answer_to(number).expect("a signal to oneself comes at once");
        assert!(0 < answer.began_cpu_ns && answer.began_cpu_ns <= answer.ended_cpu_ns);
        assert!(answer.began_ns <= answer.ended_ns);

        let before = strays();
        witness.ask_again(number);
        assert_eq!(strays(), before, "it was asked twice, that is all");
        witness.ask_again(number + 1);
        kill(Pid::from_raw(witness.thread), QUESTION).unwrap();
        assert_eq!(strays(), before + 2);
        let same = witness.answer_to(number).expect("it stays");
        assert_eq!((same.ended_cpu_ns, same.strays), (answer.ended_cpu_ns, answer.strays));
        let next = witness.ask();
        assert_eq!(witness.answer_to(next).expect("it comes").strays, before + 2);
        assert!(witness.answer_to(number).is_none());
    }

    #[test]
    fn a_thread_that_can_be_asked_takes_no_other_signals() {
        let masked = std::thread::spawn(|| {
            Witness::this_thread();
            SigSet::thread_get_mask().unwrap()
        });
        let masked = masked.join().unwrap();
        for other in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGUSR1] {
            assert!(masked.contains(other), "{other}");
        }
        for own in [QUESTION, Signal::SIGSEGV, Signal::SIGFPE, Signal::SIGILL, Signal::SIGBUS] {
            assert!(!masked.contains(own), "{own}");
        }
    }

    #[test]
    fn a_thread_has_a_place_of_its_own_until_it_ends() {
        let mine = Answers::of_this_thread();
        assert!(std::ptr::eq(mine, Witness::this_thread().answers));
        let place = || std::ptr::from_ref(Answers::of_this_thread()).addr();
        // More than the 64 places that there were once, all in use at the same time.
        let barrier = std::sync::Barrier::new(100);
        let mut places: Vec<_> = std::thread::scope(|scope| {
            let wait = || {
                let place = place();
                barrier.wait();
                place
            };
            let threads: Vec<_> = (0..100).map(|_| scope.spawn(wait)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        places.push(std::ptr::from_ref(mine).addr());
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 101);
    }
}
