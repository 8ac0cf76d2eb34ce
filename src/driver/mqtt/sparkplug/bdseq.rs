//! The bdSeq numbers, which join deaths to births.
//!
//! A late death must not be taken for that of a newer connection. Therefore each connection of a
//! node has another number than the 255 before it. This must hold longer than a
//! [`Node`](super::Node) lives: when a configuration is loaded again, the new node connects while
//! the broker still knows the old one. So the count belongs to the process. It is not stored on the
//! disk: the first connection after a start has 0, as the specification says.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The maximum number of nodes in the map: four times as many as a configuration can have devices,
/// so only many reloads with new names fill it. Then the first node by name is dropped, and its
/// number starts at 0 again.
const MAX_NODES: usize = 4 * crate::driver::MAX_DEVICES;

/// The next number of each node of this process, by group and name. Only the threads of devices use
/// it, once for each connection.
static NEXT: Mutex<BTreeMap<(String, String), u8>> = Mutex::new(BTreeMap::new());

/// The number of the next connection of a node.
pub(super) fn next(group: &str, node: &str) -> u8 {
    let mut all = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (group.to_owned(), node.to_owned());
    if all.len() >= MAX_NODES && !all.contains_key(&key) {
        all.pop_first();
    }
    let next = all.entry(key).or_default();
    let number = *next;
    *next = number.wrapping_add(1);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_counts_for_itself() {
        let of = |node| next("bdseq.rs", node);
        assert_eq!([of("a"), of("a"), of("b"), of("a")], [0, 1, 0, 2]);
        assert!((0..=255).all(|number| of("c") == number));
        assert_eq!(of("c"), 0, "the specification has 0 to 255");
    }
}
