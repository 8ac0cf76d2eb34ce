//! The inquiry: proves that the guest's own code used the CPU time of a late call.
//!
//! The thread's CPU clock alone proves nothing, because this clock also counts work that is not the
//! guest's. The kernel adds the time of interrupts and signals to the running thread. The kernel
//! also adds the time to load pages of the daemon's code that were removed from memory. On a
//! virtual machine, the clock also counts time in which the hypervisor loaded memory or ran other
//! machines. In a test, the clock counted 62 ms for a poll of 3 us, and the timekeeper stopped
//! healthy programs because of such errors. So the timekeeper first sends questions to the call's
//! thread (`stop/proof.rs`), and stops the call only if the answers prove that the call is late.
//!
//! ```text
//! guest's thread:  | handler |   guest's code   | handler |   guest's code   | handler |
//!                    answer  |<--- stretch ---->  answer  |<--- stretch ---->  answer
//! timekeeper:                          question ^                  question ^
//! ```
//!
//! A stretch is the time from the end of one answer to the next question. The timekeeper treats the
//! CPU time of stretches as the guest's own time. A stretch includes neither the time of the signal
//! handler, nor of the signal's delivery, nor of the timekeeper. The timekeeper asks the next
//! question only after the thread has used [`STRETCH_NS`] of CPU time for the guest. So the guest
//! makes progress even if its thread is asked many times.
//!
//! The timekeeper counts a stretch only if the answer arrived soon after the question. An answer is
//! late, for example, if the machine was halted, if the thread was preempted, or if the kernel
//! loaded a page from the disk. Loading a page takes 40 to 190 us. Often the kernel does not count
//! this as a wait of the thread. The first use of a new page of the guest's memory takes a few
//! microseconds, and does not make the answer late. If the thread got a stray signal during a
//! stretch, the timekeeper does not count the stretch. For each preemption in a stretch, the
//! timekeeper counts a little less time, because task switches are no work of the guest.

use super::proof::{Answer, Witness};

/// CPU time of the thread from an answer to the next question, in nanoseconds. Measured on an idle
/// machine, the question arrives 7 us after this time has passed. The answer arrives 3 us after the
/// question if both threads use the same CPU. On different CPUs, the answer arrives 13 us after the
/// question (medians of 4 000 questions).
const STRETCH_NS: u64 = 25_000;

/// The timekeeper counts a stretch only if the CPU time of the stretch and of the wait for the
/// answer is less than this limit. On an idle machine the median is 46 us. A longer stretch may
/// hide a halt of the machine (the shortest measured halt took 45 us), or the timekeeper itself
/// may have been late: beside a thread that wakes every 250 us, one stretch in five takes 65 to 90
/// us.
const LONGEST_STRETCH_NS: u64 = 60_000;

/// A stretch and a wait for the answer that took at least this CPU time show that the machine was
/// halted. The sum of the counted time then begins at 0 again, because halts come in groups: the
/// stretches before may hide shorter halts.
const HALT_NS: u64 = 100_000;

/// CPU time that the kernel adds to the thread's CPU clock in a stretch with a preemption, in
/// nanoseconds: this time once, and [`PREEMPTION_NS`] for each preemption. The timekeeper does not
/// count this time. If the timekeeper and the thread share a CPU, each stretch has a preemption. In
/// a virtual machine, 12 to 18 us of such a stretch of 44 us were not the guest's (medians of five
/// runs of 5 000 stretches), and in one stretch of ten 14 to 20 us. Of stretches with two
/// preemptions, 19 to 25 us were not the guest's (medians).
const PREEMPTED_NS: u64 = 10_000;

/// CPU time that the kernel uses for one preemption of the thread, in nanoseconds;
/// [`PREEMPTED_NS`] has the measurements.
const PREEMPTION_NS: u64 = 8_000;

/// Largest CPU time for one new page of the guest's memory, as an average over a stretch, in
/// nanoseconds. The time includes the guest's own work on the page: storing it byte by byte takes
/// 10 us. If the pages in a stretch take more time than this limit, they are probably pages of the
/// daemon's code from the disk. The timekeeper then does not count the stretch.
const DEAREST_PAGE_NS: u64 = 25_000;

/// Smallest CPU time for one page of the daemon's code, as an average over a stretch, in
/// nanoseconds. In a virtual machine, the kernel takes 10 us to map a page that is still in the
/// page cache. A guest that fills its memory takes 2.5 us for a page.
const CHEAPEST_CODE_PAGE_NS: u64 = 5_000;

/// Number of pages above which the pages of one call are new pages of the guest's memory, even if
/// each of them takes as much CPU time as a page of the daemon's code. Up to this number, the
/// timekeeper counts no stretch with such pages. In a test that removed the code of the process
/// from memory again and again, a healthy poll of 3 us needed 15 such pages after its budget.
const MOST_CODE_PAGES: u64 = 32;

/// The timekeeper counts a stretch only if the wall time of the stretch and of the wait for the
/// answer is less than this limit. If the timekeeper and the thread share a CPU, a stretch usually
/// takes 64 us; one stretch in ten takes 103 us.
const LONGEST_WALL_NS: u64 = 200_000;

/// A call is late if the sum of the CPU time of its counted stretches reaches this limit. Eight
/// stretches usually reach this limit. A healthy call may seem late because of an error of the CPU
/// clock. If this healthy call needs less time than the limit, it ends before the timekeeper stops
/// it.
const ENOUGH_NS: u64 = 200_000;

/// A call is also late if the sum of the CPU time of all its stretches reaches this limit. This sum
/// leaves out only the stretches with a stray signal. This second limit stops a call that waits in
/// every stretch. It also stops a call if the timekeeper has no real-time priority and seldom gets
/// the CPU.
const ENOUGH_IN_ALL_NS: u64 = 10_000_000;

/// Largest CPU time that one stretch adds to the sum for [`ENOUGH_IN_ALL_NS`], even if the machine
/// was halted for longer. So at least 40 halts in one call are needed to reach the sum. A healthy
/// poll ends in less time than 40 stretches. The sum would also be reached if the kernel loaded 100
/// pages of the daemon's code in 100 us each, but a healthy poll uses fewer pages.
const MOST_OF_A_STRETCH_NS: u64 = 250_000;

/// Shortest sleep of the timekeeper between two checks of a late call, in nanoseconds. If the
/// timekeeper and the thread share a CPU, the thread can run only while the timekeeper sleeps. The
/// timer and the task switches take 10 us of this time.
const SHORTEST_PAUSE_NS: u64 = 20_000;

/// Sleep of the timekeeper after a question, in nanoseconds. After this sleep the thread has
/// answered, and has usually run long enough for the next question. So a stretch has one preemption
/// instead of two, and the thread runs for 30 us of 44 us instead of 22 us.
const QUESTION_PAUSE_NS: u64 = 45_000;

/// The evidence about one call: the CPU time that the answers of its thread prove.
#[derive(Debug, Default)]
struct Evidence {
    last: Option<Answer>,
    /// CPU time of the counted stretches. A stretch with a halt of the machine, or in which the
    /// thread waited, resets this sum to 0.
    steady_ns: u64,
    /// CPU time of all stretches without a stray signal. Each stretch adds at most
    /// [`MOST_OF_A_STRETCH_NS`].
    total_ns: u64,
    /// Number of pages that took as much CPU time as pages of the daemon's code do.
    code_pages: u64,
}

impl Evidence {
    /// Adds the stretch that ended with this answer. `asked_cpu_ns` is the CPU time of the thread
    /// when the question was sent.
    fn take(&mut self, asked_cpu_ns: u64, answer: Answer) {
        let Some(last) = self.last.replace(answer) else { return };
        let own = asked_cpu_ns.saturating_sub(last.ended_cpu_ns);
        let used = answer.began_cpu_ns.saturating_sub(last.ended_cpu_ns);
        let passed = answer.began_ns.saturating_sub(last.ended_ns);
        if answer.strays != last.strays {
            return;
        }
        self.total_ns += own.min(MOST_OF_A_STRETCH_NS);
        let is_code = self.take_pages(used, answer.pages.saturating_sub(last.pages));
        if answer.waits != last.waits || used >= HALT_NS {
            self.steady_ns = 0;
        } else if used < LONGEST_STRETCH_NS && passed < LONGEST_WALL_NS && !is_code {
            let preemptions = answer.preemptions.saturating_sub(last.preemptions);
            self.steady_ns += own.saturating_sub(kernel_ns(preemptions));
        }
    }

    /// Counts the pages that the kernel mapped in a stretch. Returns whether they are probably
    /// pages of the daemon's code. `used` is the CPU time of the stretch in nanoseconds.
    fn take_pages(&mut self, used: u64, pages: u64) -> bool {
        if pages == 0 || used <= pages.saturating_mul(CHEAPEST_CODE_PAGE_NS) {
            return false;
        }
        self.code_pages = self.code_pages.saturating_add(pages);
        self.code_pages <= MOST_CODE_PAGES || used > pages.saturating_mul(DEAREST_PAGE_NS)
    }

    /// Whether the evidence proves that the call is late.
    fn is_proof(&self) -> bool {
        self.steady_ns >= ENOUGH_NS || self.total_ns >= ENOUGH_IN_ALL_NS
    }
}

/// Returns the CPU time that the kernel adds to a stretch with so many preemptions, in nanoseconds.
fn kernel_ns(preemptions: u64) -> u64 {
    let each = preemptions.saturating_mul(PREEMPTION_NS);
    if preemptions == 0 { 0 } else { each.saturating_add(PREEMPTED_NS) }
}

/// A question that was sent to the thread.
#[derive(Debug, Clone, Copy)]
struct Question {
    number: u64,
    /// CPU time of the thread when the timekeeper sent the question for the first time.
    cpu_ns: u64,
    /// CPU time of the thread when the timekeeper sent the question for the last time.
    again_cpu_ns: u64,
}

/// The inquiry about one call of a thread: the unanswered question and the collected evidence. Only
/// the timekeeper's thread uses this value.
#[derive(Debug)]
pub(super) struct Inquiry {
    /// The time when the call started.
    call_ns: u64,
    open: Option<Question>,
    evidence: Evidence,
}

/// The result of a check of one call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The call is late: the guest's own code has run long enough to prove it.
    Late,
    /// The answers do not prove yet that the call is late. The timekeeper checks the call again
    /// after this number of nanoseconds.
    CheckIn(u64),
}

impl Default for Inquiry {
    fn default() -> Self {
        Self { call_ns: u64::MAX, open: None, evidence: Evidence::default() }
    }
}

impl Inquiry {
    /// Checks the call that began at `started_ns`. `cpu_ns` is the present CPU time of the call's
    /// thread. The function reads the answer to the last question, and sends the next question when
    /// the thread has run long enough.
    pub(super) fn check(&mut self, witness: &Witness, started_ns: u64, cpu_ns: u64) -> Finding {
        if self.call_ns != started_ns {
            *self = Self { call_ns: started_ns, ..Self::default() };
        }
        if let Some(question) = &mut self.open {
            let Some(answer) = witness.answer_to(question.number) else {
                // If the thread has run after the question without answering, the question was
                // lost: another signal of the same kind was already pending. So the question is
                // sent again.
                if cpu_ns.saturating_sub(question.again_cpu_ns) >= STRETCH_NS {
                    question.again_cpu_ns = cpu_ns;
                    witness.ask_again(question.number);
                }
                return Finding::CheckIn(STRETCH_NS);
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
            return Finding::CheckIn(rest.max(SHORTEST_PAUSE_NS));
        }
        let number = witness.ask();
        self.open = Some(Question { number, cpu_ns, again_cpu_ns: cpu_ns });
        Finding::CheckIn(QUESTION_PAUSE_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One stretch and its answer, for the tests.
    #[derive(Clone, Copy)]
    struct Stretch {
        /// CPU time from the previous answer to the question.
        own_us: u64,
        /// CPU time from the question to the answer.
        way_us: u64,
        /// Additional wall time, in which the thread was preempted.
        off_us: u64,
        waits: u64,
        preemptions: u64,
        pages: u64,
        strays: u64,
    }

    /// A stretch on an idle machine.
    const QUIET: Stretch = Stretch {
        own_us: 32,
        way_us: 13,
        off_us: 0,
        waits: 0,
        preemptions: 0,
        pages: 0,
        strays: 0,
    };

    /// A stretch while the timekeeper and the thread share a CPU.
    const SHARED: Stretch = Stretch { own_us: 44, way_us: 3, off_us: 18, preemptions: 1, ..QUIET };

    /// Returns the number of answers after which a call is proved late. `next` makes the stretches.
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
                // The time of the signal handler must not be added to the guest's time.
                ended_ns: began_ns + 47_000,
                ended_cpu_ns: began_cpu_ns + 47_000,
                waits: last.waits + stretch.waits,
                preemptions: last.preemptions + stretch.preemptions,
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
        // Seven stretches are needed, and the first answer only begins the first stretch.
        assert_eq!(answers_needed(|_| QUIET), 8);
        // The timekeeper and the thread share a CPU.
        assert_eq!(answers_needed(|_| SHARED), 9);
        // Answers after stretches without CPU time prove nothing.
        assert_eq!(answers_needed(|_| Stretch { own_us: 0, ..QUIET }), u32::MAX);
    }

    #[test]
    fn a_machine_that_stands_still_proves_nothing() {
        // One halt of 62 ms: seven stretches are needed again after the halt.
        let once = |n| Stretch { own_us: if n == 5 { 62_000 } else { 32 }, ..QUIET };
        assert_eq!(answers_needed(once), 12);
        // 30 halts in one poll, before the question or after it.
        let still = |n: u32, stretch| if n <= 30 { stretch } else { QUIET };
        let before = Stretch { own_us: 62_000, ..QUIET };
        assert_eq!(answers_needed(|n| still(n, before)), 30 + 7);
        let after = Stretch { way_us: 62_000, ..QUIET };
        assert_eq!(answers_needed(|n| still(n, after)), 30 + 7);
        // Pages of the daemon's code that the kernel loads without a recorded wait.
        let page = |n| Stretch { way_us: 45 + u64::from(n % 8) * 12, ..QUIET };
        assert!(answers_needed(page) > 200);
    }

    #[test]
    fn a_question_that_comes_late_proves_nothing_and_resets_nothing() {
        let late = |n| if n % 2 == 0 { QUIET } else { Stretch { own_us: 50, way_us: 14, ..QUIET } };
        // The stretches 2, 4 and so on to 14 are the seven that are needed.
        assert_eq!(answers_needed(late), 14);
    }

    #[test]
    fn a_thread_that_waits_or_is_sent_off_proves_little() {
        assert_eq!(answers_needed(|_| Stretch { waits: 1, ..QUIET }), 314);
        assert_eq!(answers_needed(|_| Stretch { off_us: 3_000, ..QUIET }), 314);
        // A preemption does not reset the counted time. A wait resets the counted time to 0.
        let off = |n| Stretch { off_us: if n % 2 == 0 { 3_000 } else { 0 }, ..QUIET };
        assert_eq!(answers_needed(off), 15);
        assert_eq!(answers_needed(|n| Stretch { waits: u64::from(n == 5), ..QUIET }), 12);
        // A timekeeper that gets the CPU only once in 4 ms.
        assert_eq!(answers_needed(|_| Stretch { own_us: 4_000, ..QUIET }), 41);
    }

    #[test]
    fn pages_prove_little_unless_they_are_cheap() {
        // Pages of the daemon's code from a fast disk; pages that may be from the page cache; new
        // pages of a guest that fills its memory.
        assert_eq!(answers_needed(|_| Stretch { pages: 1, ..QUIET }), 314);
        assert_eq!(answers_needed(|_| Stretch { pages: 3, ..QUIET }), 10 + 8);
        assert_eq!(answers_needed(|_| Stretch { pages: 3, ..SHARED }), 10 + 9);
        assert_eq!(answers_needed(|_| Stretch { pages: 16, ..QUIET }), 8);
        assert_eq!(answers_needed(|n| Stretch { pages: u64::from(n % 3 == 0), ..QUIET }), 11);
    }

    #[test]
    fn what_a_preemption_takes_is_not_counted() {
        assert_eq!(answers_needed(|_| Stretch { preemptions: 1, ..QUIET }), 16);
        assert_eq!(answers_needed(|_| Stretch { preemptions: 4, ..QUIET }), 314);
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
        assert_eq!(inquiry.check(&witness, 2, 0), Finding::CheckIn(QUESTION_PAUSE_NS));
        assert!(!inquiry.evidence.is_proof());
    }
}
