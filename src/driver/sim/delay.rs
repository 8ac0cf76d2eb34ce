//! A delay line: a ring of frames that releases each frame after a delay. A frame is the bytes of
//! all inputs or outputs at one time.
//!
//! The ring has a fixed number of slots and allocates its memory once, for any delay and any
//! period. If frames are sent too fast for the number of slots, several frames share a slot. In a
//! shared slot, the newest frame replaces the older frames. A frame leaves the ring at the first
//! call of `arrived` after its whole delay has passed. A pulse that is shorter than a slot (a 64th
//! of the delay) may be lost. `wire.rs` decides which values are delayed.

use std::time::Duration;

/// The number of parts into which a delay is divided. With a period of 10 ms and a delay of at most
/// 640 ms, no two frames share a slot.
const PARTS: u32 = 64;

/// The number of slots in the ring. A frame stays in the ring for the delay, and at most one slot
/// is opened in each part of the delay. Two more slots are needed for the parts at both ends.
const SLOTS: usize = PARTS as usize + 2;

/// The frames that are on their way.
#[derive(Debug)]
pub(super) struct Delay {
    slots: Vec<Slot>,
    /// The index of the slot that has the oldest frame.
    first: usize,
    /// The number of frames on their way.
    len: usize,
    /// Whether a frame has arrived after the last `clear`.
    has_delivered: bool,
}

/// A slot for one frame.
#[derive(Debug, Clone)]
struct Slot {
    /// The time at which the first frame was stored in the slot.
    opened: Duration,
    /// The time at which the newest frame was stored in the slot.
    sent: Duration,
    frame: Box<[u8]>,
}

impl Delay {
    /// Makes an empty delay line for frames of `frame_bytes` bytes.
    pub(super) fn new(frame_bytes: usize) -> Self {
        let frame = vec![0; frame_bytes].into_boxed_slice();
        let slot = Slot { opened: Duration::ZERO, sent: Duration::ZERO, frame };
        Self { slots: vec![slot; SLOTS], first: 0, len: 0, has_delivered: false }
    }

    /// Drops the frames that are on their way.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.has_delivered = false;
    }

    /// Whether a frame has arrived after the last `clear`.
    pub(super) fn has_delivered(&self) -> bool {
        self.has_delivered
    }

    /// Stores `frame`. The function `arrived` returns the frame after `delay`.
    pub(super) fn send(&mut self, now: Duration, delay: Duration, frame: &[u8]) {
        let newest = (self.first + self.len.saturating_sub(1)) % SLOTS;
        let is_open = self.len > 0 && now - self.slots[newest].opened.min(now) < delay / PARTS;
        let slot = if is_open || self.len == SLOTS {
            &mut self.slots[newest]
        } else {
            let next = (self.first + self.len) % SLOTS;
            self.len += 1;
            self.slots[next].opened = now;
            &mut self.slots[next]
        };
        slot.sent = now;
        slot.frame.copy_from_slice(frame);
    }

    /// Returns the newest frame that has arrived after the last call, and the time at which it was
    /// sent. Returns `None` if no frame has arrived.
    pub(super) fn arrived(&mut self, now: Duration, delay: Duration) -> Option<(Duration, &[u8])> {
        let mut newest = None;
        while self.len > 0 && self.slots[self.first].sent.saturating_add(delay) <= now {
            newest = Some(self.first);
            self.first = (self.first + 1) % SLOTS;
            self.len -= 1;
        }
        self.has_delivered |= newest.is_some();
        newest.map(|index| (self.slots[index].sent, &*self.slots[index].frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends the number of the cycle once in `period_ms`, for 10 s. Checks that each frame is late
    /// by the delay plus at most one part and one period. Checks that the last frame is not lost.
    fn check(period_ms: u64, delay_ms: u64) {
        let mut line = Delay::new(8);
        let delay = Duration::from_millis(delay_ms);
        let allowed = delay + delay / PARTS + Duration::from_millis(period_ms);
        let mut shown = Duration::ZERO;
        for cycle in 0..10_000 / period_ms {
            let now = Duration::from_millis(cycle * period_ms);
            line.send(now, delay, &cycle.to_le_bytes());
            if let Some((sent, frame)) = line.arrived(now, delay) {
                let cycle = u64::from_le_bytes(frame.try_into().unwrap());
                assert_eq!(sent, Duration::from_millis(cycle * period_ms), "the time of its frame");
                assert!(sent > shown || cycle == 0, "in order");
                assert!(now - sent >= delay, "not early");
                shown = sent;
            }
            assert!(now - shown <= allowed, "{period_ms}/{delay_ms} ms: {:?} late", now - shown);
        }
        let last = Duration::from_millis((10_000 / period_ms - 1) * period_ms);
        let end = line.arrived(last + delay, delay).map(|(sent, _)| sent);
        assert_eq!(end.unwrap_or(shown), last, "{period_ms}/{delay_ms} ms");
    }

    #[test]
    fn frames_are_late_by_the_delay() {
        for period_ms in [1, 7, 10, 1000] {
            for delay_ms in [0, 1, 5, 200, 3000, 9000] {
                check(period_ms, delay_ms);
            }
        }
    }

    #[test]
    fn nothing_is_lost_or_panics_when_time_stands_or_falls_back() {
        let mut line = Delay::new(1);
        let second = Duration::from_secs(1);
        for byte in 0..200 {
            line.send(Duration::from_secs(10) - second * u32::from(byte % 3), second, &[byte]);
        }
        assert_eq!(line.arrived(Duration::MAX, second).map(|(_, frame)| frame[0]), Some(199));
        assert!(line.arrived(Duration::MAX, second).is_none());
    }

    #[test]
    fn a_line_that_nobody_empties_is_bounded_and_ends_with_the_newest() {
        for delay in [Duration::ZERO, Duration::from_secs(1)] {
            let mut line = Delay::new(1);
            for byte in 0..200 {
                line.send(Duration::from_secs(byte.into()), delay, &[byte]);
                assert!(line.len <= SLOTS);
            }
            assert_eq!(line.arrived(Duration::MAX, delay).map(|(_, frame)| frame[0]), Some(199));
        }
    }
}
