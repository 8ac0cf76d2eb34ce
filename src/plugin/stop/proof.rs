//! Proof that a call which seems late really ran its own code all the time.
//!
//! The CPU clock alone proves nothing. The kernel charges a thread also for interrupts that it
//! handles meanwhile, for the work of bringing back pages of this program that it had thrown out,
//! and on a virtual machine for time in which the host did the same to the machine's own memory:
//! 1.6 ms for a poll of 30 us were seen, and healthy programs were stopped for it. So the
//! timekeeper asks a late call's thread, by a signal whose handler does little but read clocks. It
//! runs when the thread's own code does. CPU time from one answer to the next counts as the call's
//! own if it is short, if the thread had the CPU for most of that time, and if there was no wait
//! for a page on the disk. A thread that is sent off again and again pays for every switch and gets
//! nothing done. A page that is new takes no wait and little time: it is the guest's own, in which
//! it may use up all of its memory. One that comes back from a quick disk takes no wait either, but
//! 40 to 190 us of CPU time (seen), so a stretch with few pages in it is none of the guest's.
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

use super::{now_ns, thread_cpu_ns};

/// From one question to the next.
pub(super) const SLICE_NS: u64 = 20_000;

/// A call that ran so long since its last break, after the CPU clock said that its time was over,
/// is late. A healthy one that was charged too much and has less than this left to run ends before.
const ENOUGH_NS: u64 = 250_000;

/// More CPU time than this from one answer to the next tells of a break; shorter breaks pass for
/// running. On a quiet machine an answer comes every 47 us (the median of 3 000).
const LONGEST_STRETCH_NS: u64 = 150_000;

/// The most CPU time that a page of the guest's own takes, on average of a stretch, with what it
/// does to the page: one byte in 6 ns.
const DEAREST_PAGE_NS: u64 = 25_000;

/// Answers that prove it even if no time between them counts: a call that waits at every turn must
/// end too. A healthy one touches fewer pages of this program.
const ENOUGH_ANSWERS: u32 = 64;

/// The question. Nobody else in the process uses it, and a stray one is ignored by default.
const QUESTION: Signal = Signal::SIGURG;

/// What one thread has answered so far. Its handler writes; a timekeeper reads, and begins anew.
#[derive(Debug)]
struct Answers {
    /// To questions about the call in question.
    count: AtomicU32,
    /// How long the thread has run since the last break, as far as that counts.
    steady_ns: AtomicU64,
    /// When the last answer was given, by [`now_ns`].
    given_ns: AtomicU64,
    /// CPU time that the thread had used until then.
    used_ns: AtomicU64,
    /// How often it had waited until then.
    waits: AtomicI64,
    /// How many pages it had been given without a wait.
    pages: AtomicI64,
}

/// What a thread has met with until now.
#[derive(Debug, Clone, Copy, Default)]
struct Met {
    /// Waits, for the disk or for anybody.
    waits: i64,
    /// Pages that it was given without a wait.
    pages: i64,
}

/// By thread. Two threads that share a place only prove too much or too little for each other: as
/// good as no proof at all, or late.
static ANSWERS: [Answers; 64] = [const { Answers::none() }; 64];

impl Answers {
    const fn none() -> Self {
        Self {
            count: AtomicU32::new(0),
            steady_ns: AtomicU64::new(0),
            given_ns: AtomicU64::new(0),
            used_ns: AtomicU64::new(0),
            waits: AtomicI64::new(0),
            pages: AtomicI64::new(0),
        }
    }

    fn of(thread: i32) -> &'static Self {
        &ANSWERS[thread.cast_unsigned() as usize % ANSWERS.len()]
    }

    /// Takes one down: given at `now_ns`, by a thread that had used so much CPU time and met with
    /// so much.
    fn take(&self, now_ns: u64, used_ns: u64, met: Met) {
        let since =
            |last: &AtomicU64, now| u64::saturating_sub(now, last.swap(now, Ordering::Relaxed));
        let (passed, used) = (since(&self.given_ns, now_ns), since(&self.used_ns, used_ns));
        let waited = self.waits.swap(met.waits, Ordering::Relaxed) != met.waits;
        let pages = (met.pages - self.pages.swap(met.pages, Ordering::Relaxed)).unsigned_abs();
        let is_dear = pages > 0 && used > pages.saturating_mul(DEAREST_PAGE_NS);
        if waited || used > LONGEST_STRETCH_NS {
            self.steady_ns.store(0, Ordering::Relaxed);
        } else if used > passed / 2 && !is_dear {
            self.steady_ns.fetch_add(used, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets them, and when the last one was given: what was before is not of the next call.
    fn begin_anew(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.steady_ns.store(0, Ordering::Relaxed);
        self.given_ns.store(0, Ordering::Relaxed);
        self.used_ns.store(0, Ordering::Relaxed);
    }

    /// Whether they prove that the call is late.
    fn prove(&self) -> bool {
        self.steady_ns.load(Ordering::Relaxed) >= ENOUGH_NS
            || self.count.load(Ordering::Relaxed) >= ENOUGH_ANSWERS
    }
}

/// The handler: async-signal-safe, because three looks at the system and a few stores are all.
extern "C" fn answer(_: i32) {
    // A fault counts when it is over, and may be interrupted before; that it waited counts then.
    let met = getrusage(UsageWho::RUSAGE_THREAD).map_or_else(
        |_| Met::default(),
        |usage| Met {
            waits: usage.major_page_faults() + usage.voluntary_context_switches(),
            pages: usage.minor_page_faults(),
        },
    );
    Answers::of(gettid().as_raw()).take(now_ns(), thread_cpu_ns(), met);
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
}

impl Inquiry {
    /// About the calling thread.
    pub(super) fn about_this_thread() -> Self {
        Self { thread: gettid().as_raw(), call_ns: AtomicU64::new(u64::MAX) }
    }

    /// Whether it is proved by now that the call from `started_ns` ran its own code for some time
    /// since the first question about it; asks once more. For the timekeeper alone, and not twice
    /// in a slice.
    pub(super) fn is_proved(&self, started_ns: u64) -> bool {
        let answers = Answers::of(self.thread);
        if self.call_ns.swap(started_ns, Ordering::Relaxed) != started_ns {
            answers.begin_anew();
        }
        self.ask();
        answers.prove()
    }

    /// Asks the thread, which may have ended.
    fn ask(&self) {
        let (process, signal) = (std::process::id(), QUESTION as i32);
        // SAFETY: a system call with three numbers, which touches no memory of ours.
        let _ = unsafe { libc::syscall(libc::SYS_tgkill, process, self.thread, signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many answers it takes: each after so much CPU time, with or without a wait.
    fn answers_needed(mut next: impl FnMut(u32) -> (u64, bool)) -> u32 {
        answers_needed_of(|n| (0, 0, next(n)))
    }

    /// The same, with time besides in which the thread was sent off, and pages that it was given.
    fn answers_needed_of(mut next: impl FnMut(u32) -> (u64, i64, (u64, bool))) -> u32 {
        let answers = Answers::none();
        let (mut now_ns, mut used_ns, mut met) = (7_000_000_000, 1_000_000_000, Met::default());
        (1..)
            .find(|n| {
                let (off_ns, pages, (stretch_ns, waited)) = next(*n);
                now_ns += off_ns + stretch_ns;
                used_ns += stretch_ns;
                met = Met { waits: met.waits + i64::from(waited), pages: met.pages + pages };
                answers.take(now_ns, used_ns, met);
                answers.prove()
            })
            .expect("some number does")
    }

    #[test]
    fn answers_prove_only_as_long_as_there_is_no_break() {
        // The first one begins.
        assert_eq!(answers_needed(|_| (50_000, false)), 6);
        // Questions in a heap are no time.
        assert_eq!(answers_needed(|n| (if n % 2 == 0 { 0 } else { 50_000 }, false)), 11);
        // A machine that stands still again and again, and a thread that waits again and again.
        assert_eq!(answers_needed(|_| (360_000, false)), ENOUGH_ANSWERS);
        assert_eq!(answers_needed(|n| (50_000, n % 4 == 0)), ENOUGH_ANSWERS);
        // After one break they begin anew.
        assert_eq!(answers_needed(|n| (50_000, n == 5)), 10);
        assert_eq!(answers_needed(|n| (if n == 5 { 1_600_000 } else { 50_000 }, false)), 10);
    }

    #[test]
    fn a_thread_that_hardly_gets_the_cpu_proves_nothing() {
        assert_eq!(answers_needed_of(|_| (20_000, 0, (50_000, false))), 6);
        assert_eq!(answers_needed_of(|_| (60_000, 0, (50_000, false))), ENOUGH_ANSWERS);
        // What it had proved before is not forgotten.
        let off = |n| if n % 2 == 0 { 3_000_000 } else { 0 };
        assert_eq!(answers_needed_of(|n| (off(n), 0, (50_000, false))), 11);
    }

    #[test]
    fn pages_prove_nothing_unless_they_are_many() {
        // Those of the program itself, from a quick disk; and those of a guest that fills them.
        assert_eq!(answers_needed_of(|_| (0, 1, (100_000, false))), ENOUGH_ANSWERS);
        assert_eq!(answers_needed_of(|_| (0, 1, (45_000, false))), ENOUGH_ANSWERS);
        assert_eq!(answers_needed_of(|_| (0, 2, (50_000, false))), 6);
        assert_eq!(answers_needed_of(|_| (0, 40, (50_000, false))), 6);
        // One now and then is no matter.
        assert_eq!(answers_needed_of(|n| (0, i64::from(n % 5 == 4), (50_000, false))), 7);
    }

    #[test]
    fn what_is_of_another_call_proves_nothing() {
        let answers = Answers::none();
        let met = Met::default();
        (0..6).for_each(|n| answers.take(1_000_000 + n * 50_000, n * 50_000, met));
        assert!(answers.prove());
        answers.begin_anew();
        answers.take(1_300_000, 300_000, met);
        assert!(!answers.prove());
    }
}
