//! What becomes of a request and its reply: every fate, how often it is met, and a seeded schedule
//! that deals them out.
//!
//! What a fate means for a connection is in `../proxy.rs`; here is what is up to chance.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::Wire;

/// What happens to a request and its reply, and how often in 10 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Nothing.
    Pass,
    /// It takes a while, but not too long.
    Delay,
    /// It comes when nobody waits for it any more.
    Late,
    /// It is done when nobody waits for it any more.
    Hold,
    /// The request never arrives.
    LoseRequest,
    /// The reply never arrives.
    LoseReply,
    /// The reply comes twice.
    Twice,
    /// The request comes twice, and so does an answer to each.
    AskTwice,
    /// The reply comes after the next one.
    Swap,
    /// Bits are wrong.
    Corrupt,
    /// The end of the reply is missing; over TCP nothing comes after that.
    Cut,
    /// The reply comes in pieces.
    Split,
    /// Bytes that mean nothing come before the reply.
    Noise,
    /// Exceptions 5 and 6.
    Busy,
    /// Exceptions 10 and 11.
    Gateway,
    /// Exception 4.
    Fail,
    /// Another unit answers.
    OtherUnit,
    /// The connection ends in place of the reply.
    Close,
    /// The connection ends after the reply.
    CloseAfter,
    /// The connection stays, and nothing comes over it any more.
    Deafen,
}

/// All but `Pass`.
const FATES: [(Fate, u32); 19] = [
    (Fate::Delay, 100),
    (Fate::Late, 60),
    (Fate::Hold, 20),
    (Fate::LoseRequest, 30),
    (Fate::LoseReply, 30),
    (Fate::Twice, 80),
    (Fate::AskTwice, 80),
    (Fate::Swap, 60),
    (Fate::Corrupt, 20),
    (Fate::Cut, 3),
    (Fate::Split, 60),
    (Fate::Noise, 20),
    (Fate::Busy, 60),
    (Fate::Gateway, 30),
    (Fate::Fail, 40),
    (Fate::OtherUnit, 20),
    (Fate::Close, 20),
    (Fate::CloseAfter, 30),
    (Fate::Deafen, 3),
];

/// In 100: connections that are taken and never answered.
const STILLBORN: u32 = 10;

/// Deals out fates by its seed.
pub(super) struct Schedule {
    wire: Wire,
    /// What the client waits for a reply.
    timeout: Duration,
    random: Mutex<fastrand::Rng>,
    is_calm: AtomicBool,
    /// How many of the next replies come late as well: devices are slow for a while.
    spell: AtomicU32,
    /// Whether the last late one was so late that the next request waits for it.
    is_behind: AtomicBool,
    fates: Mutex<HashMap<Fate, u64>>,
}

impl Schedule {
    /// One that is calm at first.
    pub(super) fn new(wire: Wire, timeout: Duration, seed: u64) -> Self {
        Self {
            wire,
            timeout,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            is_calm: AtomicBool::new(true),
            spell: AtomicU32::new(0),
            is_behind: AtomicBool::new(false),
            fates: Mutex::default(),
        }
    }

    /// Lets the weather be calm, or not.
    pub(super) fn calm(&self, is_calm: bool) {
        self.is_calm.store(is_calm, Ordering::Relaxed);
    }

    /// What has happened how often.
    pub(super) fn fates(&self) -> HashMap<Fate, u64> {
        self.fates.lock().unwrap().clone()
    }

    /// A number below `most`.
    pub(super) fn pick(&self, most: u32) -> u32 {
        self.random.lock().unwrap().u32(..most)
    }

    /// Whether a new connection is one that is never answered.
    pub(super) fn is_stillborn(&self) -> bool {
        let is_stillborn = self.pick(100) < STILLBORN && !self.is_calm.load(Ordering::Relaxed);
        if is_stillborn {
            self.count(Fate::Deafen);
        }
        is_stillborn
    }

    /// The fate of the next request.
    pub(super) fn fate(&self) -> Fate {
        if self.is_calm.load(Ordering::Relaxed) {
            return Fate::Pass;
        }
        let fate = match self.spell.load(Ordering::Relaxed) {
            0 => self.new_fate(),
            left => {
                self.spell.store(left - 1, Ordering::Relaxed);
                Fate::Late
            }
        };
        if fate == Fate::Late && self.pick(6) == 0 {
            self.spell.store(self.pick(6), Ordering::Relaxed);
        }
        self.count(fate);
        fate
    }

    fn new_fate(&self) -> Fate {
        let mut at = self.pick(10_000);
        for (fate, weight) in FATES {
            // Nobody on a serial line repeats what somebody else has said.
            if at < weight && (self.wire, fate) != (Wire::Rtu, Fate::AskTwice) {
                return fate;
            }
            at = at.saturating_sub(weight);
        }
        Fate::Pass
    }

    fn count(&self, fate: Fate) {
        *self.fates.lock().unwrap().entry(fate).or_default() += 1;
    }

    /// From `low` to `high` times as long as the client waits.
    pub(super) fn time(&self, low: f64, high: f64) -> Duration {
        let part = f64::from(self.pick(1001)) / 1000.0;
        self.timeout.mul_f64(low + (high - low) * part)
    }

    /// How much later than the client waits something comes. On a serial line nothing comes more
    /// than 3 waits after it was asked for, also what had to wait for another: nobody could tell.
    pub(super) fn lateness(&self) -> Duration {
        match (self.wire, self.pick(4)) {
            (Wire::Tcp, 0) => self.time(1.05, 30.0),
            (Wire::Tcp, _) => self.time(1.05, 4.0),
            (Wire::Rtu, _) if self.is_behind.swap(false, Ordering::Relaxed) => self.time(1.05, 1.9),
            (Wire::Rtu, _) => {
                let time = self.time(1.05, 2.8);
                // The client asks for something else after 2 waits.
                self.is_behind.store(time > self.timeout.mul_f64(1.9), Ordering::Relaxed);
                time
            }
        }
    }

    /// A frame without its end.
    pub(super) fn cut<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        &frame[..1 + self.pick(frame.len() as u32 - 1) as usize]
    }

    /// Flips one or two bits where that can be found out.
    pub(super) fn corrupt(&self, frame: &mut [u8]) {
        let is_read = self.wire == Wire::Tcp && matches!(frame.get(7), Some(1..=4));
        let most = if is_read { 9.min(frame.len()) } else { frame.len() };
        for _ in 0..=self.pick(2) {
            let at = self.pick(most as u32) as usize;
            frame[at] ^= 1 << self.pick(8);
        }
    }
}
