//! Places for each of many things of one kind, such as the files of devices, or the names of hosts.
//!
//! Each thing has places of its own, so a thing that never answers takes no places from the others.
//! The thread of a call may outlive the part of the daemon that made the call. Therefore a map of
//! places is a static of the process, and a device that a reload starts again finds the places of
//! its earlier calls still taken.
//!
//! This file limits the calls for one thing; `places.rs` counts them. It makes no calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Places;

/// The places of all things of one kind. Each thread that makes such calls changes this map.
#[derive(Debug)]
pub struct PlacesByKey<K> {
    /// The number of places of each thing.
    most: usize,
    /// The places of the things that are used now.
    used: Mutex<BTreeMap<K, Places>>,
}

impl<K: Ord> PlacesByKey<K> {
    /// Makes an empty map. Each thing will have `most` places.
    pub const fn new(most: usize) -> Self {
        Self { most, used: Mutex::new(BTreeMap::new()) }
    }

    /// Returns the places of the thing with this key.
    pub fn of(&self, key: K) -> Places {
        self.used().entry(key).or_insert_with(|| Places::new(self.most)).clone()
    }

    /// Returns the places of the thing with this key, as [`PlacesByKey::of`] does. Returns `None`
    /// if the places of at least `limit` other things are used.
    pub fn of_up_to(&self, limit: usize, key: K) -> Option<Places> {
        let mut used = self.used();
        if used.len() >= limit && !used.contains_key(&key) {
            return None;
        }
        Some(used.entry(key).or_insert_with(|| Places::new(self.most)).clone())
    }

    /// Returns the map without the things that no call and no caller uses any more.
    fn used(&self) -> MutexGuard<'_, BTreeMap<K, Places>> {
        // A panic never leaves the map half changed. Therefore the map is still valid after a panic
        // of another thread, and the poison flag of the mutex is ignored.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, places| !places.are_idle());
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_taken_until_the_call_returns() {
        let places = PlacesByKey::new(2);
        let take = |name: &'static str| places.of(name).try_take();
        let (first, second) = (take("fan"), take("fan"));
        assert!(first.is_some() && second.is_some());
        assert!(take("fan").is_none(), "both places are taken");
        assert!(take("pump").is_some(), "another thing has places of its own");
        drop(first);
        assert!(take("fan").is_some());
        drop(second);
        places.of("pump");
        let kept = places.used.lock().unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), [&"pump"], "what is unused is removed");
    }
}
