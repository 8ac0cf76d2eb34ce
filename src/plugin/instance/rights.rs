//! The rights of a guest: the inputs that it may read, and the outputs and variables that it may
//! write.
//!
//! The rights come from the configuration: [`Settings`] has grants (`process/grant.rs`). This file
//! converts the grants to lists with one entry per point, so that a check during a call is only an
//! array access. The lists are made between calls, so that a call allocates no memory for them.
//!
//! `guest.rs` does the checks. `process/world.rs` has the present owner of each output.

use crate::plugin::Settings;
use crate::process::grant::{Grant, VariableGrant};
use crate::process::image::{Direction, Points};

/// The rights of a guest, and the outputs that it has claimed. In the lists of granted points or
/// bytes, `None` means that all are granted.
#[derive(Debug)]
pub(super) struct Rights {
    /// For each point id, whether the guest may read the point as an input.
    pub(super) inputs: Option<Vec<bool>>,
    /// For each byte of the input image, whether the guest may read the byte.
    pub(super) readable: Option<Vec<bool>>,
    /// For each point id, whether the guest may claim the point as an output.
    pub(super) outputs: Option<Vec<bool>>,
    pub(super) variables: VariableGrant,
    /// For each point id, whether the guest has claimed the point as an output.
    pub(super) claimed: Vec<bool>,
}

impl Rights {
    /// Makes the rights from `settings`. No output is claimed yet.
    pub(super) fn new(settings: &Settings, points: &Points) -> Self {
        let list = |grant: &Grant| match grant {
            Grant::All => None,
            Grant::Only(ids) => {
                let mut granted = vec![false; points.ids()];
                // The points may have changed after the grant was made, so ids of removed points
                // are skipped.
                let there = ids.iter().filter(|id| points.get(**id).is_some());
                there.for_each(|id| granted[id.index()] = true);
                Some(granted)
            }
        };
        let inputs = list(&settings.inputs);
        // A byte is readable only if all points in this byte are granted. Several bools share one
        // byte, so a guest that reads the byte sees all of them.
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
