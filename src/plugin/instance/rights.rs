//! The rights of a guest: the inputs that it may read, and the outputs and variables that it may
//! write.
//!
//! The rights follow from the configuration: [`Settings`] has the grants of `process/grant.rs`, and
//! this file makes lists of them that a call can look up. The checks themselves are in `guest.rs`.
//! The present owner of each output is in `process/world.rs`. Nothing in this file allocates in a
//! call of a guest.

use crate::plugin::Settings;
use crate::process::grant::{Grant, VariableGrant};
use crate::process::image::{Direction, Points};

/// The rights of a guest. For points, `None` means all of them.
#[derive(Debug)]
pub(super) struct Rights {
    /// For each point, whether the guest may read it as an input.
    pub(super) inputs: Option<Vec<bool>>,
    /// For each byte of the input image, whether the guest may read it.
    pub(super) readable: Option<Vec<bool>>,
    /// For each point, whether the guest may claim it as an output.
    pub(super) outputs: Option<Vec<bool>>,
    pub(super) variables: VariableGrant,
    /// For each point, whether the guest has claimed it as an output.
    pub(super) claimed: Vec<bool>,
}

impl Rights {
    /// The rights that `settings` give, with nothing claimed.
    pub(super) fn new(settings: &Settings, points: &Points) -> Self {
        let list = |grant: &Grant| match grant {
            Grant::All => None,
            Grant::Only(ids) => {
                let mut granted = vec![false; points.ids()];
                // A grant may be older than the points, and may name points that were removed.
                let there = ids.iter().filter(|id| points.get(**id).is_some());
                there.for_each(|id| granted[id.index()] = true);
                Some(granted)
            }
        };
        let inputs = list(&settings.inputs);
        // A byte is readable if every point on it is: reading a bool must not show its neighbours.
        let readable = inputs.as_ref().map(|granted| {
            let all = |byte| points.at(Direction::In, byte).iter().all(|id| granted[id.index()]);
            (0..points.image_bytes(Direction::In)).map(all).collect()
        });
        Self {
            inputs,
            readable,
            outputs: list(&settings.outputs),
            variables: settings.variables.clone(),
            claimed: vec![false; points.ids()],
        }
    }
}
