//! Places: how many calls on files of one purpose may wait at the same time.
//!
//! Only an answer ends a call that hangs, and the call keeps its place until the answer comes.
//! Files of another purpose may be on another disk, so each purpose has places of its own. Because
//! of that, calls that hang on one disk take no place of calls to a sound disk. If calls that hang
//! have all places of a purpose, a further call is refused at once. The calls themselves are made
//! in `../patience.rs`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::{LOOK, PATIENCE, late};

/// The places of one purpose.
#[derive(Debug, Clone)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    free: Semaphore,
    calls: Mutex<Calls>,
}

/// The calls that are under way. The callers and the threads of the calls both write this list.
#[derive(Debug, Default)]
struct Calls {
    /// When each call began, by its number.
    begun: BTreeMap<u64, Instant>,
    /// Number of the newest call.
    last: u64,
}

/// The place of one call. The call's thread keeps the place until the call has its answer.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
}

impl Places {
    /// Places for `most` calls.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, free: Semaphore::new(most), calls: Mutex::default() }))
    }

    /// Whether no call is under way and the caller has the only handle of these places.
    pub fn are_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Waits for a free place until `end`. Returns an error at once if the calls in all places
    /// hang.
    pub(super) fn take(&self, end: Instant) -> io::Result<Place> {
        loop {
            if let Ok(permit) = self.0.free.try_acquire() {
                permit.forget();
                return Ok(self.place());
            }
            if self.hang() || Instant::now() >= end {
                return Err(self.taken());
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits for a free place. Returns an error at once if the calls in all places hang.
    pub(super) async fn wait(&self) -> io::Result<Place> {
        if self.hang() {
            return Err(self.taken());
        }
        self.0.free.acquire().await.map_err(io::Error::other)?.forget();
        Ok(self.place())
    }

    /// Makes the place of a call that begins now. The caller has taken the permit for it.
    fn place(&self) -> Place {
        let mut calls = self.calls();
        calls.last += 1;
        let number = calls.last;
        calls.begun.insert(number, Instant::now());
        Place { places: self.clone(), number }
    }

    /// Whether all places are taken by calls that have had no answer for [`PATIENCE`].
    fn hang(&self) -> bool {
        let calls = self.calls();
        let begun = &mut calls.begun.values();
        calls.begun.len() == self.0.most && begun.all(|begun| begun.elapsed() >= PATIENCE)
    }

    /// The error of a call that gets no place.
    fn taken(&self) -> io::Error {
        let (calls, wait) = match self.0.most {
            1 => ("call", "waits"),
            _ => ("calls", "wait"),
        };
        late(format!("{} earlier {calls} still {wait} for an answer", self.0.most))
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // No code panics while the list is half changed, so the list is good even after a panic.
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the calls that are under way older by `time`.
    #[cfg(test)]
    pub(super) fn age(&self, time: std::time::Duration) {
        let mut calls = self.calls();
        calls.begun.values_mut().for_each(|begun| *begun = begun.checked_sub(time).unwrap());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.calls().begun.remove(&self.number);
        self.places.0.free.add_permits(1);
    }
}
