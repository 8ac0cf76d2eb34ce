//! What an operator of the simulation may wish of a program: its settings, at random.
//!
//! Who asks for them, and when, is in `house.rs`.

use std::sync::Arc;
use std::time::Duration;

use camshaft::image::{Direction, PointId};
use camshaft::plugin::{Grant, RollbackState, Settings, SwapPolicy};

use super::house::{House, NAMES};
use super::plant::{BACK, LAMP, RAMP};

/// For a poll, and for a hand-over. Some thousand times what either takes: a virtual machine's
/// kernel counts the time that its host takes from it as the thread's own, and a call stopped for
/// that is not what is tested here.
const BUDGET: Duration = Duration::from_millis(50);

impl House {
    pub fn any_settings(&mut self, name: &str) -> Settings {
        let own = NAMES.iter().position(|other| *other == name).expect("one of ours");
        let sensors = [BACK, LAMP, RAMP].into_iter().filter(|_| self.random.bool());
        let inputs = [PointId(own as u16)].into_iter().chain(sensors).collect();
        let outputs = match self.random.u32(..4) {
            0 => Grant::All,
            _ => {
                let points = Arc::clone(&self.rig.points);
                let outputs = points.iter().filter(|(_, point)| point.direction == Direction::Out);
                let outputs = outputs.map(|(id, _)| id);
                Grant::Only(outputs.filter(|_| self.random.bool()).collect())
            }
        };
        Settings {
            swap: self.any_policy(),
            order: self.random.u32(..4),
            every: [1, 1, 1, 1, 2, 3, 7][self.random.usize(..7)],
            poll_budget: BUDGET,
            inputs: Grant::Only(inputs),
            outputs,
            hold: false,
            ..Settings::default()
        }
    }

    /// From no probation at all to one that ends in no quiet time.
    fn any_policy(&mut self) -> SwapPolicy {
        let probation_ms = [0, 0, 20, 100, 500, 2_000, 60_000][self.random.usize(..7)];
        let rollback_state = match self.random.bool() {
            true => RollbackState::Current,
            false => RollbackState::Snapshot,
        };
        SwapPolicy {
            budget: BUDGET,
            probation: Duration::from_millis(probation_ms),
            polls: [0, 0, 1, 2, 10, 50][self.random.usize(..6)],
            rollback_state,
            ..SwapPolicy::default()
        }
    }
}
