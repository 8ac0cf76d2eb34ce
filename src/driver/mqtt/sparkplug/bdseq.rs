//! The bdSeq numbers of Sparkplug. The NDEATH and each NBIRTH of one connection have the same
//! number.
//!
//! A host may receive the NDEATH of an old connection after the NBIRTH of a newer one. The number
//! shows the host that this NDEATH does not belong to the newer connection. Therefore 256
//! consecutive connections of a node have 256 different numbers. After a reload of the
//! configuration, a new [`Node`](super::Node) connects while the broker may still know the
//! connection of the old `Node`. So the count belongs to the process and not to the `Node`.
//!
//! The count is not stored on the disk. The specification says that the first connection after a
//! start has the number 0.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The maximum number of nodes in the map: four times the maximum number of devices. Only many
/// reloads with new names can fill the map. If the map is full, the node with the first name in
/// alphabetical order is removed from the map. The number of this node then starts at 0 again.
const MAX_NODES: usize = 4 * crate::driver::MAX_DEVICES;

/// The next number of each node of this process, by group and node name. Only the threads of MQTT
/// devices use the map, and each thread uses it at most once for each connection.
static NEXT: Mutex<BTreeMap<(String, String), u8>> = Mutex::new(BTreeMap::new());

/// Returns the number of the next connection of a node, and increases the count.
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
