//! Slots: the limit for the number of calls that may wait for one thing at the same time. The thing
//! is, for example, the file of a point, or the resolver's answer for one host name.
//!
//! A call that does not return cannot be ended, so its thread waits for ever. A driver that gives
//! up such a call starts another one later. Without a limit, the number of waiting threads would
//! grow with each attempt. Therefore each call has a slot, and its thread frees the slot when the
//! call has returned. Each thing has its own slots, so a thing that never answers takes no slots
//! from the others.
//!
//! The threads may outlive their device. Therefore the slots are a static of the process, and a
//! device that a reload starts again finds the slots of its earlier threads still taken.
//!
//! This file makes no calls; `file/spot.rs` and `tcp.rs` do. `disk.rs` limits the plans of devices.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// The slots of all things of one kind.
#[derive(Debug)]
pub(super) struct Slots {
    /// The number of slots that each thing has.
    most: usize,
    /// For each thing that is used now, by its name: one permit for each free slot. Each thread
    /// that asks for slots changes this map.
    free: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Slots {
    /// Makes slots: `most` for each thing.
    pub(super) const fn new(most: usize) -> Self {
        Self { most, free: Mutex::new(BTreeMap::new()) }
    }

    /// Returns the slots of the thing with this name. The caller takes one permit for each call. If
    /// no caller has the slots any more and all of them are free, they are removed.
    pub(super) fn of(&self, name: &str) -> Arc<Semaphore> {
        // A panic never leaves the map half changed. Therefore the map is still valid after a panic
        // of another thread, and the poison flag of the mutex is ignored.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // A permit contains a clone of the `Arc`, so a taken slot keeps its entry in the map.
        free.retain(|_, slots| Arc::strong_count(slots) > 1);
        let slots = free.entry(name.to_owned());
        Arc::clone(slots.or_insert_with(|| Arc::new(Semaphore::new(self.most))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_stay_taken_until_the_call_returns() {
        let slots = Slots::new(2);
        let take = |name: &str| slots.of(name).try_acquire_owned().ok();
        let (first, second) = (take("fan"), take("fan"));
        assert!(first.is_some() && second.is_some());
        assert!(take("fan").is_none(), "both slots are taken");
        assert!(take("pump").is_some(), "another thing has slots of its own");
        drop(first);
        assert!(take("fan").is_some());
        drop(second);
        slots.of("pump");
        let kept = slots.free.lock().unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["pump"], "what is unused is removed");
    }
}
