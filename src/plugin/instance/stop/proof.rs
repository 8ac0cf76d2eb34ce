//! Questions to a thread whose call seems late. The timekeeper sends a signal to the thread, and
//! the signal handler answers with the readings of the thread's clocks.
//!
//! Each question has a number and is answered once. A signal of the same kind without a valid
//! question number is a stray signal, and the handler only counts it. The kernel does not queue two
//! signals of this kind. If a stray signal is pending when a question is sent, the question is
//! lost, and the timekeeper sends the question again.
//!
//! The signal does not stop the call and does not cause a trap. `stop/inquiry.rs` decides whether
//! the answers prove that the call is late. If they prove it, `stop.rs` stops the call.
//!
//! ```text
//!   timekeeper                              thread that runs a guest
//!   asked = number, signal ───────────────▶ handler: clocks and counters
//!   reads the answer       ◀─────────────── answered = number
//! ```

#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::gettid;

use super::{now_ns, thread_cpu_ns};

/// The signal that carries a question. The daemon uses this signal for no other purpose. While the
/// daemon has no handler for this signal, the kernel ignores it.
const QUESTION: Signal = Signal::SIGURG;

/// The number of the last question in the whole process; 0 before the first question. Every
/// timekeeper increments this number. The number is not a secret. A forged question has no effect,
/// because the handler answers a question only once, and only after the timekeeper has sent it.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

/// One answer: the wall time and the CPU time of the thread when its handler began and ended, and
/// the thread's counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer {
    pub(super) began_ns: u64,
    pub(super) began_cpu_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) ended_cpu_ns: u64,
    /// How often the thread has waited, for example for the disk, from the thread's start to the
    /// answer.
    pub(super) waits: u64,
    /// How often another thread took the CPU from the thread, from the thread's start to the
    /// answer.
    pub(super) preemptions: u64,
    /// Number of pages that the kernel mapped for the thread without a wait, from the thread's
    /// start to the answer.
    pub(super) pages: u64,
    /// Number of stray signals that the thread got before the answer.
    pub(super) strays: u64,
}

/// The memory in which one thread answers questions. The thread's signal handler writes all fields
/// except `asked`. The timekeeper writes `asked` and reads all fields.
///
/// Each thread has its own `Answers` from its first budget slot to its end. After the thread's end,
/// another thread may reuse the memory. An old answer in reused memory does no harm, because the
/// numbers of questions are unique.
#[derive(Debug, Default)]
struct Answers {
    /// The number of the last question. The question is unanswered while `answered` has a different
    /// number. A timekeeper writes this field, and the handler reads it. Only one timekeeper asks a
    /// thread, because a thread runs only one call at a time.
    asked: AtomicU64,
    /// The number of the last answered question. The handler writes this field last, after the
    /// fields below. From then until the next question, the fields below do not change, except
    /// `strays`.
    answered: AtomicU64,
    began_ns: AtomicU64,
    began_cpu_ns: AtomicU64,
    ended_ns: AtomicU64,
    ended_cpu_ns: AtomicU64,
    waits: AtomicU64,
    preemptions: AtomicU64,
    pages: AtomicU64,
    strays: AtomicU64,
    strays_then: AtomicU64,
}

/// Free `Answers` from threads that have ended. A thread takes an `Answers` from this list for its
/// first budget slot, and returns it when the thread ends. If the list is empty, the thread
/// allocates a new `Answers`. So the process allocates at most as many as the largest number of
/// threads that had slots at the same time.
static FREE: Mutex<Vec<&Answers>> = Mutex::new(Vec::new());

thread_local! {
    /// The `Answers` of the calling thread, for its signal handler. The variable has a constant
    /// first value and no destructor. So an access from the handler only reads memory.
    static OWN: Cell<Option<&'static Answers>> = const { Cell::new(None) };
    /// Returns the `Answers` to the list `FREE` when the thread ends.
    static LEASE: OnceCell<Lease> = const { OnceCell::new() };
}

/// The ownership of a thread's `Answers`. Dropping this value returns the `Answers` to the free
/// list.
struct Lease(&'static Answers);

impl Drop for Lease {
    fn drop(&mut self) {
        OWN.set(None);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

impl Answers {
    /// Returns the `Answers` of the calling thread. The first call in a thread takes the `Answers`
    /// from the free list, or allocates them.
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

    /// Answers question `number`, if this question is not answered yet. If `number` is not the last
    /// question's number, counts a stray signal. The signal handler calls this function.
    fn hear(&self, number: Option<u64>) {
        let asked = self.asked.load(Ordering::Relaxed);
        if number != Some(asked) {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The question is answered already: the timekeeper sent it again before it saw the answer.
        // This happens with slow threads, for example under strace. The handler does not count the
        // repeated question as a stray signal. Otherwise the timekeeper would count no stretch of a
        // slow thread.
        if self.answered.load(Ordering::Relaxed) == asked {
            return;
        }
        self.began_ns.store(now_ns(), Ordering::Relaxed);
        self.began_cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
        let met = MetWith::now();
        self.waits.store(met.waits, Ordering::Relaxed);
        self.preemptions.store(met.preemptions, Ordering::Relaxed);
        self.pages.store(met.pages, Ordering::Relaxed);
        self.strays_then.store(self.strays.load(Ordering::Relaxed), Ordering::Relaxed);
        self.ended_ns.store(now_ns(), Ordering::Relaxed);
        self.ended_cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
        self.answered.store(asked, Ordering::Release);
    }

    /// Returns the answer to question `number`, if the thread has answered. The timekeeper calls
    /// this function.
    fn to(&self, number: u64) -> Option<Answer> {
        (self.answered.load(Ordering::Acquire) == number).then(|| Answer {
            began_ns: self.began_ns.load(Ordering::Relaxed),
            began_cpu_ns: self.began_cpu_ns.load(Ordering::Relaxed),
            ended_ns: self.ended_ns.load(Ordering::Relaxed),
            ended_cpu_ns: self.ended_cpu_ns.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            preemptions: self.preemptions.load(Ordering::Relaxed),
            pages: self.pages.load(Ordering::Relaxed),
            strays: self.strays_then.load(Ordering::Relaxed),
        })
    }
}

/// Blocks signals on the calling thread, so that the kernel delivers them to other threads of the
/// process. Three kinds stay unblocked: the question, faults of the thread's own code, and the
/// limit of CPU time (SIGXCPU). The reason: the CPU time of signal handlers is added to the guest's
/// time. In a test with many SIGUSR1, 125 us of work were measured as more than 250 us.
fn refuse_others() {
    use Signal::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU};
    let mut others = SigSet::all();
    for own in [QUESTION, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU] {
        others.remove(own);
    }
    others.thread_block().expect("the only error is an invalid operation on the mask");
}

/// Counters of a thread since its start; [`Answer`] says what each field counts.
#[derive(Default)]
struct MetWith {
    waits: u64,
    preemptions: u64,
    pages: u64,
}

impl MetWith {
    /// Reads the counters of the calling thread. The kernel counts a page fault at the end of the
    /// fault. If the signal interrupts a page fault, the wait of this fault is counted already.
    fn now() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return Self::default() };
        // A counter of the kernel is never negative.
        let waits = usage.major_page_faults() + usage.voluntary_context_switches();
        Self {
            waits: waits.cast_unsigned(),
            preemptions: usage.involuntary_context_switches().cast_unsigned(),
            pages: usage.minor_page_faults().cast_unsigned(),
        }
    }
}

/// Returns the number of the question that a signal carries; `None` if the signal is not a question
/// from this process.
fn number_of(info: &siginfo_t) -> Option<u64> {
    if info.si_code != libc::SI_QUEUE {
        return None;
    }
    // SAFETY: both fields are inside the siginfo_t, which the kernel has filled or zeroed
    // completely. All bytes that a sender can write there are a valid number and a valid pointer
    // value. This code does not access the memory at the pointer.
    let (process, value) = unsafe { (info.si_pid(), info.si_value()) };
    (process.cast_unsigned() == std::process::id()).then_some(value.sival_ptr.addr() as u64)
}

/// The signal handler. The handler is async-signal-safe: it locks no mutex and allocates no memory.
/// Its system calls only read clocks, counters and the process id. These calls do not fail, so the
/// handler does not change `errno`.
extern "C" fn answer(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: for a handler with SA_SIGINFO, the kernel passes a complete, aligned siginfo_t in the
    // handler's stack frame. No other code has this address, and the siginfo_t exists until the
    // handler returns.
    let number = unsafe { info.as_ref() }.and_then(number_of);
    if let Some(answers) = OWN.get() {
        answers.hear(number);
    }
}

/// Installs the signal handler that answers questions. Only the first call in the process installs
/// the handler.
///
/// # Errors
/// When the operating system refuses the handler.
pub(super) fn listen() -> io::Result<()> {
    static ONCE: OnceLock<Result<(), Errno>> = OnceLock::new();
    let listen = || {
        // SA_ONSTACK: the handler runs on the separate signal stack that wasmer makes for the
        // thread, because the guest's stack may be nearly full.
        let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK | SaFlags::SA_SIGINFO;
        let action = SigAction::new(SigHandler::SigAction(answer), flags, SigSet::empty());
        // SAFETY: the handler is async-signal-safe; the doc of `answer` has the reasons.
        unsafe { sigaction(QUESTION, &action) }.map(drop)
    };
    Ok((*ONCE.get_or_init(listen))?)
}

/// The memory layout of a `siginfo_t` with SI_QUEUE on 64-bit Linux (`_rt` in the kernel's
/// `siginfo.h`).
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

/// Sends question `number` to a thread of this process. If the thread has ended, the function does
/// nothing.
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
    // SAFETY: the kernel reads a siginfo_t at the address in the last argument. The value there has
    // the size of a siginfo_t (the assertion above checks this) and exists until the call returns.
    // The other arguments are numbers.
    let _ = unsafe { libc::syscall(call, process, thread, signal, &raw const question) };
}

/// The timekeeper's access to one thread that answers questions.
#[derive(Debug)]
pub(super) struct Witness {
    thread: i32,
    /// The `Answers` of this thread. The thread's signal handler writes the answers; the timekeeper
    /// writes `asked` and reads the answers.
    answers: &'static Answers,
}

impl Witness {
    /// Makes the value with which the timekeeper can ask the calling thread.
    pub(super) fn this_thread() -> Self {
        Self { thread: gettid().as_raw(), answers: Answers::of_this_thread() }
    }

    /// Sends a new question to the thread, and returns the question's number. Only the timekeeper
    /// calls this function.
    pub(super) fn ask(&self) -> u64 {
        let number = LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
        // Relaxed ordering is enough: the kernel delivers the signal under a lock, so the handler
        // sees this number.
        self.answers.asked.store(number, Ordering::Relaxed);
        send(self.thread, number);
        number
    }

    /// Sends question `number` again, because its signal may be lost.
    pub(super) fn ask_again(&self, number: u64) {
        send(self.thread, number);
    }

    /// Returns the answer to a question, if the thread has answered.
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
        let answer = witness.answer_to(number).expect("a thread gets its own signal at once");
        assert!(0 < answer.began_cpu_ns && answer.began_cpu_ns <= answer.ended_cpu_ns);
        assert!(answer.began_ns <= answer.ended_ns);

        let before = strays();
        witness.ask_again(number);
        assert_eq!(strays(), before, "a repeated question is no stray signal");
        witness.ask_again(number + 1);
        kill(Pid::from_raw(witness.thread), QUESTION).unwrap();
        assert_eq!(strays(), before + 2);
        let same = witness.answer_to(number).expect("the answer remains");
        assert_eq!((same.ended_cpu_ns, same.strays), (answer.ended_cpu_ns, answer.strays));
        let next = witness.ask();
        assert_eq!(witness.answer_to(next).expect("it answers").strays, before + 2);
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
        // 100 threads at the same time. An earlier version had a fixed limit of 64.
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
