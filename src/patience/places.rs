//! Places: the limit for the number of calls on files that may wait at the same time.
//!
//! A call occupies one place until the answer arrives. So a call that hangs may occupy its place
//! for ever. Files for another purpose may be on another disk. Therefore each purpose has its own
//! places. Then calls that hang on one disk do not use the places for calls on a working disk. If
//! all places of a purpose are taken by hanging calls, a new call is refused at once. `patience.rs`
//! makes the calls.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::{LOOK, PATIENCE, late};

/// The places for one purpose, such as reading the plugin folder.
#[derive(Debug, Clone)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The number of places.
    most: usize,
    /// The permits: one for each free place.
    free: Semaphore,
    /// The calls in the places that are taken.
    calls: Mutex<Calls>,
}

/// The calls that have no answer yet. The callers and the threads of the calls change this list.
#[derive(Debug, Default)]
struct Calls {
    /// The time at which each call began, by the number of the call.
    begun: BTreeMap<u64, Instant>,
    /// The number that the newest call got. The next call gets the next number.
    last: u64,
}

/// The place of one call. The thread of the call drops this value when the work of the call has
/// ended, and the drop frees the place.
#[derive(Debug)]
pub struct CallSlot {
    places: Places,
    /// The number of the call in the list of calls.
    number: u64,
}

impl Places {
    /// Makes `most` places.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, free: Semaphore::new(most), calls: Mutex::default() }))
    }

    /// Whether no call has a place, and no other part of the daemon has a copy of this handle.
    pub fn are_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Takes a place if one is free now. The caller makes the call itself, and drops the slot when
    /// the call has ended.
    pub fn try_take(&self) -> Option<CallSlot> {
        self.0.free.try_acquire().ok()?.forget();
        Some(self.place())
    }

    /// Returns the number of free places.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.0.free.available_permits()
    }

    /// Waits for a free place until `end`. Returns an error if no place is free at `end`, or at
    /// once if the calls in all places hang. A call hangs if it has waited for [`PATIENCE`] or
    /// longer.
    pub(super) fn take(&self, end: Instant) -> io::Result<CallSlot> {
        loop {
            if let Some(slot) = self.try_take() {
                return Ok(slot);
            }
            if self.hang() || Instant::now() >= end {
                return Err(self.taken());
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits for a free place, without a time limit. If the calls in all places hang at the
    /// beginning of the wait, returns an error at once.
    pub(super) async fn wait(&self) -> io::Result<CallSlot> {
        if self.hang() {
            return Err(self.taken());
        }
        self.0.free.acquire().await.map_err(io::Error::other)?.forget();
        Ok(self.place())
    }

    /// Makes the place for a call that begins now. The caller of this function must take the permit
    /// for the place before.
    fn place(&self) -> CallSlot {
        let mut calls = self.calls();
        calls.last += 1;
        let number = calls.last;
        calls.begun.insert(number, Instant::now());
        CallSlot { places: self.clone(), number }
    }

    /// Whether all places are taken, and every call in them has waited for its answer for
    /// [`PATIENCE`] or longer.
    fn hang(&self) -> bool {
        let calls = self.calls();
        let begun = &mut calls.begun.values();
        calls.begun.len() == self.0.most && begun.all(|begun| begun.elapsed() >= PATIENCE)
    }

    /// Returns the error for a call that gets no place.
    fn taken(&self) -> io::Error {
        let (calls, wait) = match self.0.most {
            1 => ("call", "waits"),
            _ => ("calls", "wait"),
        };
        late(format!("{} earlier {calls} still {wait} for an answer", self.0.most))
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // The list is always valid, even after a panic: no code panics in the middle of a change.
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the recorded start of each call in the places back by `time`.
    #[cfg(test)]
    pub(super) fn age(&self, time: std::time::Duration) {
        let mut calls = self.calls();
        calls.begun.values_mut().for_each(|begun| *begun = begun.checked_sub(time).unwrap());
    }
}

impl Drop for CallSlot {
    fn drop(&mut self) {
        self.places.calls().begun.remove(&self.number);
        self.places.0.free.add_permits(1);
    }
}
