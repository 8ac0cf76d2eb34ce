//! Proof that a call which seems late really ran its own code all the time.
//!
//! The CPU clock alone proves nothing. The kernel charges a thread also for interrupts that it
//! handles meanwhile, on a virtual machine for time in which the host ran something else, and for
//! the work of bringing back pages of this program that it had thrown out: 1.6 ms for a poll of
//! 30 us were seen, and healthy programs were stopped for it. So the timekeeper asks a late call's
//! thread, by a signal whose handler does nothing but count. It runs when the thread's own code
//! does, and an answer that comes after a wait for a page on the disk is told apart. A page that is
//! new or only has to be mapped again takes no wait: it is the guest's own time, in which it may
//! use up all of its memory.
//!
//! The signal stops nothing and traps nothing. What is proved here, and what follows, is for
//! `stop.rs` to say.
#![allow(unsafe_code)]

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::gettid;

/// From one question to the next.
pub(super) const SLICE_NS: u64 = 20_000;

/// So many answers in a row, each in a slice of its own, leave a call at least 0.1 ms beyond its
/// budget: more than a healthy one needs to finish, however often it was interrupted.
const ENOUGH: u32 = 5;

/// Answers that prove it even if there was a wait before each: a call that waits at every turn must
/// end too. A healthy one touches fewer pages of this program.
const ENOUGH_AT_LEAST: u32 = 64;

/// The question. Nobody else in the process uses it, and a stray one is ignored by default.
const QUESTION: Signal = Signal::SIGURG;

/// What one thread has answered so far. Its handler counts, timekeepers read and begin a new row.
#[derive(Debug)]
struct Answers {
    all: AtomicU32,
    /// The newest ones in a row between which it had not waited for a page.
    steady: AtomicU32,
    /// How often it had waited until the last answer.
    waits: AtomicI64,
}

/// By thread. Two threads that share a place only prove too much or too little for each other: as
/// good as no proof at all, or late.
static ANSWERS: [Answers; 64] = [const {
    Answers { all: AtomicU32::new(0), steady: AtomicU32::new(0), waits: AtomicI64::new(0) }
}; 64];

impl Answers {
    fn of(thread: i32) -> &'static Self {
        &ANSWERS[thread.cast_unsigned() as usize % ANSWERS.len()]
    }
}

/// The handler: async-signal-safe, because two looks at the thread and a few stores are all.
extern "C" fn answer(_: i32) {
    let answers = Answers::of(gettid().as_raw());
    // A fault counts when it is over, and may be interrupted before; that it waited counts then.
    let waits = getrusage(UsageWho::RUSAGE_THREAD)
        .map_or(0, |usage| usage.major_page_faults() + usage.voluntary_context_switches());
    if answers.waits.swap(waits, Ordering::Relaxed) == waits {
        answers.steady.fetch_add(1, Ordering::Relaxed);
    } else {
        answers.steady.store(0, Ordering::Relaxed);
    }
    answers.all.fetch_add(1, Ordering::Relaxed);
}

/// Has questions answered from now on.
///
/// # Errors
/// When the system refuses a handler.
pub(super) fn listen() -> io::Result<()> {
    static ONCE: OnceLock<Result<(), Errno>> = OnceLock::new();
    let listen = || {
        // On the thread's signal stack, which wasmer gives it: a guest's own may be nearly full.
        let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
        let action = SigAction::new(SigHandler::Handler(answer), flags, SigSet::empty());
        // SAFETY: the handler is async-signal-safe, see there.
        unsafe { sigaction(QUESTION, &action) }.map(drop)
    };
    Ok((*ONCE.get_or_init(listen))?)
}

/// The timekeeper's notes about the calls of one thread.
#[derive(Debug)]
pub(super) struct Inquiry {
    thread: i32,
    /// When the call in question started.
    call_ns: AtomicU64,
    /// How many answers there were when it was first asked about.
    all: AtomicU32,
}

impl Inquiry {
    /// About the calling thread.
    pub(super) fn about_this_thread() -> Self {
        Self {
            thread: gettid().as_raw(),
            call_ns: AtomicU64::new(u64::MAX),
            all: AtomicU32::new(0),
        }
    }

    /// Whether it is proved by now that the call from `started_ns` ran its own code for some time
    /// since the first question about it; asks once more. For the timekeeper alone, and not twice
    /// in a slice.
    pub(super) fn is_proved(&self, started_ns: u64) -> bool {
        let answers = Answers::of(self.thread);
        let all = answers.all.load(Ordering::Relaxed);
        if self.call_ns.swap(started_ns, Ordering::Relaxed) != started_ns {
            self.all.store(all, Ordering::Relaxed);
            answers.steady.store(0, Ordering::Relaxed);
        }
        self.ask();
        answers.steady.load(Ordering::Relaxed) >= ENOUGH
            || all.wrapping_sub(self.all.load(Ordering::Relaxed)) >= ENOUGH_AT_LEAST
    }

    /// Asks the thread, which may have ended.
    fn ask(&self) {
        let (process, signal) = (std::process::id(), QUESTION as i32);
        // SAFETY: a system call with three numbers, which touches no memory of ours.
        let _ = unsafe { libc::syscall(libc::SYS_tgkill, process, self.thread, signal) };
    }
}
