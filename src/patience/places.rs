//! How many calls on files of one purpose may wait at one time.
//!
//! Nothing ends a call that hangs but its answer, and until then it keeps its place. Files of
//! another purpose may lie on another disk, so they have places of their own: what hangs takes none
//! of what is sound. Where all places of a purpose are taken by calls that hang, a further one is
//! refused at once. The calls are made in `patience.rs`.

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

/// The calls that are under way.
#[derive(Debug, Default)]
struct Calls {
    /// When each of them began, by its number.
    begun: BTreeMap<u64, Instant>,
    /// The number of the newest.
    last: u64,
}

/// The place of one call, which its thread keeps until it has its answer.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
}

impl Places {
    /// So many.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, free: Semaphore::new(most), calls: Mutex::default() }))
    }

    /// Whether no call is under way, and nobody else knows of these places.
    pub fn are_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// A place, as soon as one is free, up to `end`; an error at once if all calls that have one
    /// hang. This waits.
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

    /// A place, as soon as one is free; an error at once if all calls that have one hang.
    pub(super) async fn wait(&self) -> io::Result<Place> {
        if self.hang() {
            return Err(self.taken());
        }
        self.0.free.acquire().await.map_err(io::Error::other)?.forget();
        Ok(self.place())
    }

    fn place(&self) -> Place {
        let mut calls = self.calls();
        calls.last += 1;
        let number = calls.last;
        calls.begun.insert(number, Instant::now());
        Place { places: self.clone(), number }
    }

    /// Whether every place is taken by a call that has had no answer for [`PATIENCE`].
    fn hang(&self) -> bool {
        let calls = self.calls();
        let begun = &mut calls.begun.values();
        calls.begun.len() == self.0.most && begun.all(|begun| begun.elapsed() >= PATIENCE)
    }

    fn taken(&self) -> io::Error {
        let (calls, wait) = match self.0.most {
            1 => ("call", "waits"),
            _ => ("calls", "wait"),
        };
        late(format!("{} earlier {calls} still {wait} for an answer", self.0.most))
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // It is never left half changed, so a panic elsewhere does not spoil it.
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the calls that are under way so much older.
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
