//! Random settings for a program of the simulation, as an operator could request them.
//!
//! The settings contain the swap policy, the order, the permissions and the budgets. `house.rs`
//! decides when the operator requests new settings.

use std::sync::Arc;
use std::time::Duration;

use camshaft::plugin::{RollbackState, Settings, SwapPolicy};
use camshaft::process::grant::{Grant, VariableGrant, VariableNames};
use camshaft::process::image::{Direction, PointId};
use camshaft::process::overlay::Force;
use camshaft::scan::Order;

use super::guest::MIX;
use super::house::{House, NAMES};
use super::model;
use super::plant::{BACK, LAMP, NOISE, OUT, RAMP};

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
            variables: self.any_variables(),
            hold: false,
            requires: self.any_requirements(),
            requires_timeout: Duration::from_millis([0, 0, 50, 500][self.random.usize(..4)]),
        }
    }

    /// An operator forces an output, or ends a force, or all of them.
    pub fn force_something(&mut self) {
        self.ticket += 1;
        let (ticket, now) = (self.ticket, self.rig.now);
        let point = PointId(self.random.u16(OUT..OUT + 8));
        match self.random.u32(..8) {
            0 => {
                self.note("unforce", "all");
                let order = Order::Unforce { ticket, point: None };
                self.order(order, model::Order::Unforce { ticket, point: None });
            }
            1..3 => {
                self.note("unforce", format_args!("{point:?}"));
                let point = Some(point);
                let order = Order::Unforce { ticket, point };
                self.order(order, model::Order::Unforce { ticket, point });
            }
            _ => {
                let last = PointId(OUT + 8);
                // Seldom one that is not there.
                let point = if self.one_in(20) { last } else { point };
                let mut raw = [1; 8];
                if let Some(point) = self.rig.points.get(point) {
                    raw[point.kind.size() as usize..].fill(0);
                }
                let lasting = Duration::from_millis(self.random.u64(..3000));
                let until = (!self.one_in(4)).then_some(now + lasting);
                self.note("force", format_args!("{point:?} until {until:?}"));
                let force = Force { point, raw, until };
                let copy = model::Order::Force { ticket, point, raw, until };
                self.order(Order::Force { ticket, force }, copy);
            }
        }
    }

    /// Mostly everything; otherwise what its own books take, and perhaps a little more.
    fn any_variables(&mut self) -> VariableGrant {
        let mut some: Vec<_> = MIX.into_iter().filter(|_| self.random.bool()).collect();
        some.extend(self.random.bool().then_some("boot*"));
        match self.random.u32(..4) {
            0 => VariableGrant::AllBut(Arc::new(VariableNames::new(some))),
            1 => {
                let books = ["chain", "fold*", "back*", "count*", "tally*"];
                let names = books.into_iter().chain(some);
                VariableGrant::Only(Arc::new(VariableNames::new(names)))
            }
            _ => VariableGrant::default(),
        }
    }

    /// Mostly nothing; otherwise one or two inputs of devices that fail now and then.
    fn any_requirements(&mut self) -> Vec<PointId> {
        let inputs = [PointId(0), BACK, LAMP, RAMP, NOISE];
        let count = [0, 0, 0, 1, 2][self.random.usize(..5)];
        (0..count).map(|_| inputs[self.random.usize(..inputs.len())]).collect()
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
