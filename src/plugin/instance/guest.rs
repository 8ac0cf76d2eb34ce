//! The host's state for one instance: its rights, its staged outputs, its log allowance.
//!
//! A guest writes into its own scratch. After a good poll, [`Guest::commit`] moves the scratch into
//! the world; after a failed poll, [`Guest::discard`] drops it. What the guest may use is in
//! `rights.rs`, the scratch is in `process/scratch.rs`, and refused calls are in `guest/refuse.rs`.
//! The functions of the contract, which call the functions here, are in `abi.rs`. No call of a
//! guest allocates in this file.

use std::ops::Range;
use std::sync::Arc;

mod refuse;

use super::pace::Pace;
use super::rights::Rights;
use super::state::State;
use crate::plugin::Settings;
use crate::process::call::Phase;
use crate::process::image::{Direction, PointId, Points};
use crate::process::lent::Lent;
use crate::process::line::{Level, Line, MAX_LOG_BYTES, Message};
use crate::process::refused::Why;
use crate::process::scratch::Scratch;
use crate::process::seat::Seat;
use crate::process::variable::{Denied, MAX_VARIABLES, Maker, Variable, Variables};
use crate::process::world::World;
use crate::text::Text;
use refuse::Refused;

/// Why a guest ended itself, as the host function that it called says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExitReason {
    /// The guest called `proc_exit` with this code.
    Exit(i32),
    /// The guest called `env.abort` with this message.
    Abort(String),
}

/// The host's side of one instance.
#[derive(Debug)]
pub(in crate::plugin) struct Guest {
    /// The world, which is here only during a call. The host functions need it only during a call.
    pub(super) world: Lent<World>,
    pub(super) phase: Phase,
    pub(super) seat: Seat,
    /// Why the guest ended itself, if it did in this call.
    pub(super) exit_reason: Option<ExitReason>,
    /// The source of random numbers. Its seed is made from the plugin's name, so that a run can be
    /// repeated.
    pub(super) random: fastrand::Rng,
    /// The part of a line that the guest has given to `fd_write` so far.
    pub(super) printed: Text<MAX_LOG_BYTES>,
    /// The level of the line in `printed`, by the descriptor that the guest wrote to.
    pub(super) printed_level: Level,
    pub(super) scratch: Scratch,
    /// The state that `save` writes and `restore` reads.
    pub(super) state: State,
    /// For each id, whether a poll has written the variable. The list exists only between
    /// [`Guest::trace_variables`] and [`Guest::take_written`].
    wrote: Option<Vec<bool>>,
    rights: Rights,
    /// The maker of the variables that this guest makes; they count against the maker's quota.
    maker: Maker,
    pace: Pace,
    /// The calls that were refused to this guest.
    refused: Refused,
}

impl Guest {
    /// A guest for the program on `seat`, with the rights of `settings`. `seed` is made from the
    /// program's name.
    pub(in crate::plugin) fn new(
        seat: Seat,
        seed: u64,
        settings: &Settings,
        points: &Points,
        log_lines_per_s: u32,
    ) -> Self {
        Self {
            world: Lent::nothing(),
            phase: Phase::Init,
            seat,
            exit_reason: None,
            random: fastrand::Rng::with_seed(seed),
            printed: Text::default(),
            printed_level: Level::Info,
            scratch: Scratch::new(points.image_bytes(Direction::Out)),
            state: State::default(),
            wrote: None,
            rights: Rights::new(settings, points),
            maker: Maker::program(seed),
            pace: Pace::new(log_lines_per_s),
            refused: Refused::new(points.ids()),
        }
    }

    /// Replaces the rights. The scan decides what happens to outputs that the program owns already.
    /// A claim on an output ends when the output is no longer granted. The claim does not come back
    /// if the output is granted again later.
    pub(super) fn entitle(&mut self, settings: &Settings, points: &Points) {
        let mut claimed = std::mem::take(&mut self.rights.claimed);
        claimed.resize(points.ids(), false);
        self.refused.take_points(points.ids());
        let rights = Rights::new(settings, points);
        if let Some(granted) = &rights.outputs {
            claimed.iter_mut().zip(granted).for_each(|(claimed, granted)| *claimed &= granted);
        }
        self.rights = Rights { claimed, ..rights };
        let output_bytes = points.image_bytes(Direction::Out);
        if self.scratch.len() != output_bytes {
            // The old scratch is empty, because no bytes are staged between two calls.
            self.scratch = Scratch::new(output_bytes);
        }
    }

    /// Whether the guest may read all of these bytes of the input image.
    pub(super) fn may_read(&self, bytes: Range<usize>) -> bool {
        self.rights.readable.as_ref().is_none_or(|readable| !readable[bytes].contains(&false))
    }

    /// Whether the guest may read this input point.
    pub(super) fn may_read_point(&self, id: PointId) -> bool {
        self.rights.inputs.as_ref().is_none_or(|inputs| inputs[id.index()])
    }

    /// Whether [`Guest::claim`] would succeed.
    pub(super) fn may_claim(&mut self, id: PointId) -> bool {
        let seat = self.seat;
        let owner = self.world.owners[id.index()];
        let granted = self.rights.outputs.as_ref().is_none_or(|outputs| outputs[id.index()]);
        granted && owner.is_none_or(|owner| owner == seat)
    }

    /// Takes ownership of an output point, if it is granted and free. Returns whether the program
    /// owns it.
    pub(super) fn claim(&mut self, id: PointId) -> bool {
        let seat = self.seat;
        let granted = self.rights.outputs.as_ref().is_none_or(|outputs| outputs[id.index()]);
        let owner = &mut self.world.owners[id.index()];
        let why = match *owner {
            _ if !granted => Why::NotGranted,
            Some(other) if other != seat => Why::Owned(other),
            before => {
                *owner = Some(seat);
                self.rights.claimed[id.index()] = true;
                if before.is_none() {
                    self.end_owned(id);
                }
                return true;
            }
        };
        self.refuse_point(why, id);
        false
    }

    /// Whether this instance has claimed that output.
    pub(super) fn has_claimed(&self, id: PointId) -> bool {
        self.rights.claimed.get(id.index()).is_some_and(|claimed| *claimed)
    }

    /// The outputs that this instance has claimed.
    pub(super) fn claimed(&self) -> Vec<PointId> {
        let claimed = self.rights.claimed.iter().zip(0u16..).filter(|(claimed, _)| **claimed);
        claimed.map(|(_, id)| PointId(id)).collect()
    }

    /// Begins to note which variables the polls of this guest write. The list starts with the
    /// variables that are not committed yet, and those with an id in `earlier`.
    pub(super) fn trace_variables(&mut self, variables: &Variables, earlier: &[u16]) {
        let mut wrote = vec![false; MAX_VARIABLES];
        let earlier = earlier.iter().copied();
        variables.uncommitted().chain(earlier).for_each(|id| wrote[usize::from(id)] = true);
        self.wrote = Some(wrote);
    }

    /// Ids of the variables that the polls have written since [`Guest::trace_variables`]. This call
    /// ends the noting.
    pub(super) fn take_written(&mut self) -> Vec<u16> {
        let wrote = self.wrote.take().unwrap_or_default();
        wrote.iter().zip(0u16..).filter(|(wrote, _)| **wrote).map(|(_, id)| id).collect()
    }

    /// Writes a variable, if that is granted to the guest and the guest has not made too many.
    ///
    /// # Errors
    /// The reason why the variable was not written; on an error nothing has changed.
    pub(super) fn write_variable(&mut self, name: &str, value: Variable) -> Result<(), Denied> {
        let maker = self.maker;
        let result = match self.rights.variables.allows(name) {
            true => self.world.variables.write_as(maker, name, value),
            false => Err(Denied::NotGranted),
        };
        if let Err(denied) = result {
            let why = match denied {
                Denied::NotGranted => Why::VariableNotGranted,
                Denied::Quota => Why::VariableQuota,
                Denied::Limit => Why::VariableLimit,
                Denied::OtherType(is) => Why::VariableType(is, value.kind()),
            };
            self.refuse(why, name);
        }
        result
    }

    /// Puts a line about this program into the log.
    fn push(&mut self, message: Message) {
        let line = Line { seat: self.seat, cycle: self.world.cycle, message };
        self.world.log.push(line);
    }

    /// Logs a line of the guest, unless the guest has logged too many.
    pub(super) fn say(&mut self, message: Message) {
        let now = self.world.now;
        if self.pace.allows(now) {
            self.tell_dropped();
            self.push(message);
        }
    }

    /// Logs the part of a line that has been printed so far, if any.
    pub(super) fn flush(&mut self) {
        if !self.printed.is_empty() {
            let level = self.printed_level;
            let text = std::mem::take(&mut self.printed);
            self.say(Message::Said { level, file: Text::default(), line: 0, text });
        }
    }

    /// Logs how many lines were dropped.
    fn tell_dropped(&mut self) {
        if self.pace.dropped > 0 {
            let message = Message::Dropped(std::mem::take(&mut self.pace.dropped));
            self.push(message);
        }
    }

    /// Makes valid what the guest wrote in a good call. Variables that the guest writes before its
    /// first poll stay provisional, because the code that prepares the instance reads them and
    /// decides about them.
    pub(super) fn commit(&mut self) {
        self.flush();
        if self.scratch.has_part() {
            self.drop_what_is_no_number();
        }
        let world = &mut *self.world;
        self.scratch.move_to(&mut world.outputs);
        if self.phase == Phase::Poll {
            if let Some(wrote) = &mut self.wrote {
                world.variables.uncommitted().for_each(|id| wrote[usize::from(id)] = true);
            }
            world.variables.commit_as(self.maker, world.now);
        }
        if self.pace.dropped > 0 && self.pace.has_allowance(world.now) {
            self.tell_dropped();
        }
    }

    /// Drops the bytes that would make a float output anything but a finite number. The single
    /// calls could not find this, because each of them has written only a part of the float.
    fn drop_what_is_no_number(&mut self) {
        let points = Arc::clone(&self.world.points);
        for (id, point) in points.float_outputs(self.scratch.touched()) {
            if !point.is_finite(&point.raw_from(|at| self.scratch.over(at, &self.world.outputs))) {
                point.bytes().for_each(|at| self.scratch.forget(at));
                self.refuse_point(Why::NotFinite, id);
            } else {
                self.end_misgiven(id);
            }
        }
    }

    /// Drops what the guest did in a call that failed.
    pub(super) fn discard(&mut self) {
        self.flush();
        self.tell_dropped();
        self.scratch.clear();
        self.world.variables.revert();
    }
}
