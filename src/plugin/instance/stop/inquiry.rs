//! The inquiry: proves that a call which seems late really ran its own code.
//!
//! The CPU clock alone proves nothing. The kernel also charges a thread for interrupts and signals
//! that it handles meanwhile. The kernel charges the thread for bringing back pages of the daemon's
//! code that it had thrown out. On a virtual machine the kernel also charges time in which the
//! hypervisor brought back the machine's memory, or ran something else. In a test, a poll of 3 us
//! was charged 62 ms, and the host stopped healthy programs for such a charge. So the timekeeper
//! asks a late call's thread (`stop/proof.rs`).
//!
//! A stretch is the time from the end of one answer to the next question, and the CPU time of
//! stretches counts as the call's own. A stretch does not contain the time of the handler, of the
//! signal's delivery and of the timekeeper. The timekeeper asks the next question only after the
//! thread has had [`STRETCH_NS`] of CPU time for the guest. So the guest goes on, however often its
//! thread is asked.
//!
//! A stretch counts only if its answer came soon after the question. The answer is late if the
//! machine stood still, or if the thread was preempted. The answer is also late if a page came back
//! from the disk, which takes 40 to 190 us, often without a wait. A fresh page of the guest's
//! memory takes a few microseconds, and does not make the answer late. A stretch in which a stray
//! signal came does not count.

use super::proof::{Answer, Witness};

/// The thread's own CPU time from an answer to the next question, in nanoseconds. On a quiet
/// machine the timekeeper asks 7 us after this time. The answer comes 3 us after the question from
/// the same CPU, and 13 us from another (medians of 4 000).
const STRETCH_NS: u64 = 25_000;

/// A stretch counts if it takes less CPU time than this up to its answer. On a quiet machine that
/// time is 46 us (the median; on a busy one, one of a hundred takes 64 us). A longer stretch shows
/// that the machine stood still; stand-stills of 45 to 390 us were seen. After a longer stretch,
/// the time counted so far is dropped.
const LONGEST_STRETCH_NS: u64 = 60_000;

/// The most CPU time that one page of the guest's memory takes, on average over a stretch. This
/// time includes the guest's work on the page: one byte in 6 ns. A stretch with more expensive
/// pages does not count, because its pages are those of the daemon's own code, back from the disk.
const DEAREST_PAGE_NS: i64 = 25_000;

/// A stretch counts if it takes less wall time than this. If timekeeper and thread share a CPU, it
/// takes 64 us, and 103 us in one case of ten.
const LONGEST_WALL_NS: u64 = 200_000;

/// A call is late if its stretches that count have so much CPU time together. A healthy call that
/// was charged too much ends earlier if it needs less than this time. Seven stretches make up this
/// time.
const ENOUGH_NS: u64 = 200_000;

/// A call is also late if all its stretches together have so much CPU time. This limit stops a call
/// that waits in every stretch, and a call whose timekeeper seldom gets the CPU because it has no
/// real-time priority.
const ENOUGH_IN_ALL_NS: u64 = 10_000_000;

/// The most CPU time that one stretch adds to the sum for [`ENOUGH_IN_ALL_NS`], however long the
/// machine stood still. So the sum is reached only after 40 stand-stills in one call. A healthy
/// poll does less work than 40 stretches. A healthy poll also touches fewer than 100 pages of the
/// daemon's code, and 100 pages at 100 us each would take the same time.
const MOST_OF_A_STRETCH_NS: u64 = 250_000;

/// The shortest sleep of the timekeeper between two looks at a late call. If the timekeeper and the
/// thread share a CPU, the sleep must leave the thread time to go on, because the timer and the
/// task switches take 10 us. With half of this sleep the thread got 13 of 32 us, and with this
/// sleep 21 of 42 us (the timekeeper's own turns are included).
const SHORTEST_PAUSE_NS: u64 = 20_000;

/// The evidence about one call: the CPU time that its answers prove.
#[derive(Debug, Default)]
struct Evidence {
    last: Option<Answer>,
    /// CPU time of the stretches that count, since the last stretch in which the thread waited or
    /// that took too long.
    steady_ns: u64,
    /// CPU time of all stretches, each up to [`MOST_OF_A_STRETCH_NS`].
    total_ns: u64,
}

impl Evidence {
    /// Takes in an answer. The thread had used `asked_cpu_ns` of CPU time when it was asked.
    fn take(&mut self, asked_cpu_ns: u64, answer: Answer) {
        let Some(last) = self.last.replace(answer) else { return };
        let own = asked_cpu_ns.saturating_sub(last.ended_cpu_ns);
        let used = answer.began_cpu_ns.saturating_sub(last.ended_cpu_ns);
        let passed = answer.began_ns.saturating_sub(last.ended_ns);
        if answer.strays != last.strays {
            return;
        }
        self.total_ns += own.min(MOST_OF_A_STRETCH_NS);
        let pages = answer.pages.saturating_sub(last.pages);
        let is_dear = pages > 0 && used > pages.saturating_mul(DEAREST_PAGE_NS).unsigned_abs();
        if answer.waits != last.waits || used >= LONGEST_STRETCH_NS {
            self.steady_ns = 0;
        } else if passed < LONGEST_WALL_NS && !is_dear {
            self.steady_ns += own;
        }
    }

    /// Whether the call is late.
    fn is_proof(&self) -> bool {
        self.steady_ns >= ENOUGH_NS || self.total_ns >= ENOUGH_IN_ALL_NS
    }
}

/// A question that was asked.
#[derive(Debug, Clone, Copy)]
struct Question {
    number: u64,
    /// CPU time that the thread had used when the timekeeper first asked the question.
    cpu_ns: u64,
    /// CPU time that the thread had used when the timekeeper last asked the question.
    again_cpu_ns: u64,
}

/// The inquiry about one call of a thread: the open question and the evidence so far. Only the
/// timekeeper's thread uses it.
#[derive(Debug)]
pub(super) struct Inquiry {
    /// The time when the call started.
    call_ns: u64,
    open: Option<Question>,
    evidence: Evidence,
}

/// The result of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The call has run its own code long enough.
    Late,
    /// The answers do not prove the call late yet. The timekeeper looks again after so many
    /// nanoseconds.
    LookIn(u64),
}

impl Default for Inquiry {
    fn default() -> Self {
        Self { call_ns: u64::MAX, open: None, evidence: Evidence::default() }
    }
}

impl Inquiry {
    /// Looks at the call that started at `started_ns`, of a thread that has used `cpu_ns` so far.
    /// Asks the thread if it is time.
    pub(super) fn look(&mut self, witness: &Witness, started_ns: u64, cpu_ns: u64) -> Finding {
        if self.call_ns != started_ns {
            *self = Self { call_ns: started_ns, ..Self::default() };
        }
        if let Some(question) = &mut self.open {
            let Some(answer) = witness.answer_to(question.number) else {
                // If the thread has run since then without an answer, another signal of this kind
                // has taken the place of the question.
                if cpu_ns.saturating_sub(question.again_cpu_ns) >= STRETCH_NS {
                    question.again_cpu_ns = cpu_ns;
                    witness.ask_again(question.number);
                }
                return Finding::LookIn(STRETCH_NS);
            };
            self.evidence.take(question.cpu_ns, answer);
            self.open = None;
        }
        if self.evidence.is_proof() {
            return Finding::Late;
        }
        let own = self.evidence.last.map(|last| cpu_ns.saturating_sub(last.ended_cpu_ns));
        if let Some(rest) = own.and_then(|own| STRETCH_NS.checked_sub(own)).filter(|rest| *rest > 0)
        {
            return Finding::LookIn(rest.max(SHORTEST_PAUSE_NS));
        }
        let number = witness.ask();
        self.open = Some(Question { number, cpu_ns, again_cpu_ns: cpu_ns });
        Finding::LookIn(STRETCH_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One stretch and its answer.
    #[derive(Clone, Copy)]
    struct Stretch {
        /// CPU time until the question.
        own_us: u64,
        /// CPU time from the question to the answer.
        way_us: u64,
        /// Further wall time, in which the thread was preempted.
        off_us: u64,
        waits: i64,
        pages: i64,
        strays: u64,
    }

    /// A stretch on a quiet machine.
    const QUIET: Stretch =
        Stretch { own_us: 32, way_us: 13, off_us: 0, waits: 0, pages: 0, strays: 0 };

    /// The number of answers that prove a call late if the call goes on like this.
    fn answers_needed(mut next: impl FnMut(u32) -> Stretch) -> u32 {
        let mut evidence = Evidence::default();
        let mut last =
            Answer { ended_ns: 7_000_000_000, ended_cpu_ns: 1_000_000_000, ..Answer::default() };
        for n in 1..100_000 {
            let stretch = next(n);
            let asked_cpu_ns = last.ended_cpu_ns + stretch.own_us * 1000;
            let used_ns = (stretch.own_us + stretch.way_us) * 1000;
            let began_ns = last.ended_ns + used_ns + stretch.off_us * 1000;
            let began_cpu_ns = last.ended_cpu_ns + used_ns;
            last = Answer {
                began_ns,
                began_cpu_ns,
                // A handler that takes long proves nothing.
                ended_ns: began_ns + 47_000,
                ended_cpu_ns: began_cpu_ns + 47_000,
                waits: last.waits + stretch.waits,
                pages: last.pages + stretch.pages,
                strays: last.strays + stretch.strays,
            };
            evidence.take(asked_cpu_ns, last);
            if evidence.is_proof() {
                return n;
            }
        }
        u32::MAX
    }

    #[test]
    fn time_of_its_own_proves_it() {
        // The first answer only begins the first stretch.
        assert_eq!(answers_needed(|_| QUIET), 8);
        // Timekeeper and thread share a CPU.
        assert_eq!(answers_needed(|_| Stretch { way_us: 3, off_us: 68, ..QUIET }), 8);
        // Answers without any time prove nothing, however many there are.
        assert_eq!(answers_needed(|_| Stretch { own_us: 0, ..QUIET }), u32::MAX);
    }

    #[test]
    fn a_machine_that_stands_still_proves_nothing() {
        // Once, however long; then as many answers as before.
        let once = |n| Stretch { own_us: if n == 5 { 62_000 } else { 32 }, ..QUIET };
        assert_eq!(answers_needed(once), 12);
        // 30 times in one poll, before the question or after it.
        let still = |n: u32, stretch| if n <= 30 { stretch } else { QUIET };
        let before = Stretch { own_us: 62_000, ..QUIET };
        assert_eq!(answers_needed(|n| still(n, before)), 30 + 7);
        let after = Stretch { way_us: 62_000, ..QUIET };
        assert_eq!(answers_needed(|n| still(n, after)), 30 + 7);
        // Pages of the daemon's own code that come back without a wait.
        let page = |n| Stretch { way_us: 45 + u64::from(n % 8) * 12, ..QUIET };
        assert!(answers_needed(page) > 200);
    }

    #[test]
    fn a_thread_that_waits_or_is_sent_off_proves_little() {
        assert_eq!(answers_needed(|_| Stretch { waits: 1, ..QUIET }), 314);
        assert_eq!(answers_needed(|_| Stretch { off_us: 3_000, ..QUIET }), 314);
        // What a call has proved before it was preempted counts. What it has proved before it
        // waited does not.
        let off = |n| Stretch { off_us: if n % 2 == 0 { 3_000 } else { 0 }, ..QUIET };
        assert_eq!(answers_needed(off), 15);
        assert_eq!(answers_needed(|n| Stretch { waits: i64::from(n == 5), ..QUIET }), 12);
        // A timekeeper that gets the CPU once in a slice of 4 ms.
        assert_eq!(answers_needed(|_| Stretch { own_us: 4_000, ..QUIET }), 41);
    }

    #[test]
    fn pages_prove_little_unless_they_are_cheap() {
        // Pages of the program itself, from a fast disk; and pages of a guest that fills them.
        assert_eq!(answers_needed(|_| Stretch { pages: 1, ..QUIET }), 314);
        assert_eq!(answers_needed(|_| Stretch { pages: 2, ..QUIET }), 8);
        assert_eq!(answers_needed(|n| Stretch { pages: i64::from(n % 3 == 0), ..QUIET }), 11);
    }

    #[test]
    fn a_stretch_with_stray_signals_proves_nothing() {
        assert_eq!(answers_needed(|_| Stretch { strays: 1, ..QUIET }), u32::MAX);
        let some = |n| Stretch { strays: u64::from(n % 3 == 0), ..QUIET };
        assert_eq!(answers_needed(some), 11);
    }

    #[test]
    fn what_is_of_another_call_proves_nothing() {
        super::super::proof::listen().unwrap();
        let witness = Witness::this_thread();
        let mut inquiry = Inquiry { call_ns: 1, ..Inquiry::default() };
        inquiry.evidence.steady_ns = ENOUGH_NS;
        assert_eq!(inquiry.look(&witness, 2, 0), Finding::LookIn(STRETCH_NS));
        assert!(!inquiry.evidence.is_proof());
    }
}
