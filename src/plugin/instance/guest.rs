//! The host's data about one instance: the guest's rights, staged outputs, rate limit of the log,
//! and refused calls.
//!
//! A guest writes outputs into its own scratch (staging buffer). After a good call,
//! [`Guest::commit`] copies the scratch into the output image. After a failed call,
//! [`Guest::discard`] clears the scratch, so a failed call changes no output value. During a call
//! of the guest, the functions here allocate no memory.
//!
//! The rights are in `rights.rs`, the scratch is in `process/scratch.rs`, and refused calls are in
//! `guest/refuse.rs`. The functions of the contract (`abi.rs`) call the functions here.

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
use crate::text::FixedText;
use refuse::Refused;

/// The reason why a guest ended itself. There is one variant for each host function that ends a
/// guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExitReason {
    /// The guest called `proc_exit` with this code.
    Exit(i32),
    /// The guest called `env.abort` with this message.
    Abort(String),
}

/// The host's data about one instance.
#[derive(Debug)]
pub(in crate::plugin) struct Guest {
    /// The world: process image, variables and log. The world is moved here at the beginning of a
    /// call into the guest, and moved back at the end.
    pub(super) world: Lent<World>,
    pub(super) phase: Phase,
    pub(super) seat: Seat,
    /// The reason why the guest ended itself; `None` if the guest has not ended itself in this
    /// call.
    pub(super) exit_reason: Option<ExitReason>,
    /// The random number generator for the guest. Its seed is made from the plugin's name, so that
    /// a run can be repeated with the same numbers.
    pub(super) random: fastrand::Rng,
    /// The beginning of a log line that the guest has written with `fd_write`. The text is stored
    /// here until the guest writes the end of the line.
    pub(super) printed: FixedText<MAX_LOG_BYTES>,
    /// The log level of the text in `printed`. The file descriptor of the last `fd_write`
    /// determines this level.
    pub(super) printed_level: Level,
    pub(super) scratch: Scratch,
    /// The state that `save` writes and `restore` reads.
    pub(super) state: State,
    /// For each variable id, whether the variable is in the list that [`Guest::trace_variables`]
    /// begins. The list exists only until the call of [`Guest::take_written`].
    wrote: Option<Vec<bool>>,
    rights: Rights,
    /// The identity under which this guest creates variables. Only a limited number of variables
    /// can be created under one identity.
    maker: Maker,
    pace: Pace,
    /// The counts of this guest's refused calls.
    refused: Refused,
}

impl Guest {
    /// Makes the host's data for the program on `seat`, with the rights from `settings`. `seed` is
    /// made from the plugin's name.
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
            printed: FixedText::default(),
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

    /// Replaces the rights. If an output is no longer granted, the guest's claim on the output
    /// ends, and a later grant does not renew the claim. The scan decides what happens to the value
    /// of an output that the program has owned.
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
            // No staged bytes are lost, because the scratch is always empty between two calls.
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

    /// Whether a call of [`Guest::claim`] for this output would succeed.
    pub(super) fn may_claim(&mut self, id: PointId) -> bool {
        let seat = self.seat;
        let owner = self.world.owners[id.index()];
        let granted = self.rights.outputs.as_ref().is_none_or(|outputs| outputs[id.index()]);
        granted && owner.is_none_or(|owner| owner == seat)
    }

    /// Makes the program the owner of an output point, if the output is granted and has no other
    /// owner. Otherwise the call is counted as refused. Returns whether the program owns the
    /// output.
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

    /// Whether this instance has claimed the output `id` by a write.
    pub(super) fn has_claimed(&self, id: PointId) -> bool {
        self.rights.claimed.get(id.index()).is_some_and(|claimed| *claimed)
    }

    /// Returns the outputs that this instance has claimed by a write.
    pub(super) fn claimed(&self) -> Vec<PointId> {
        let claimed = self.rights.claimed.iter().zip(0u16..).filter(|(claimed, _)| **claimed);
        claimed.map(|(_, id)| PointId(id)).collect()
    }

    /// Begins a list of the variables that the polls of this guest write. At the beginning, the
    /// list has the uncommitted variables, and the variables with an id in `earlier`.
    pub(super) fn trace_variables(&mut self, variables: &Variables, earlier: &[u16]) {
        let mut wrote = vec![false; MAX_VARIABLES];
        let earlier = earlier.iter().copied();
        variables.uncommitted().chain(earlier).for_each(|id| wrote[usize::from(id)] = true);
        self.wrote = Some(wrote);
    }

    /// Returns the ids of the variables in the list that [`Guest::trace_variables`] has begun, and
    /// ends the list.
    pub(super) fn take_written(&mut self) -> Vec<u16> {
        let wrote = self.wrote.take().unwrap_or_default();
        wrote.iter().zip(0u16..).filter(|(wrote, _)| **wrote).map(|(_, id)| id).collect()
    }

    /// Writes a variable, if the variable is granted to the guest. A variable that does not exist
    /// is created, unless the guest has created too many variables, or the number of all variables
    /// has reached its limit.
    ///
    /// # Errors
    /// The reason why the variable was not written. On an error, no variable has changed.
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

    /// Adds a log line about this program, without a rate limit.
    fn push(&mut self, message: Message) {
        let line = Line { seat: self.seat, cycle: self.world.cycle, message };
        self.world.log.push(line);
    }

    /// Logs a line of the guest. If the guest has exceeded the rate limit, the line is dropped and
    /// counted. If earlier lines were dropped, the function first logs their number.
    pub(super) fn log(&mut self, message: Message) {
        let now = self.world.now;
        if self.pace.allows(now) {
            self.report_dropped();
            self.push(message);
        }
    }

    /// Logs the incomplete line in `printed`, if it has text.
    pub(super) fn flush(&mut self) {
        if !self.printed.is_empty() {
            let level = self.printed_level;
            let text = std::mem::take(&mut self.printed);
            self.log(Message::Said { level, file: FixedText::default(), line: 0, text });
        }
    }

    /// Logs the number of dropped log lines, if lines were dropped after the last such report.
    fn report_dropped(&mut self) {
        if self.pace.dropped > 0 {
            let message = Message::Dropped(std::mem::take(&mut self.pace.dropped));
            self.push(message);
        }
    }

    /// Makes the written values of a good call valid. Outputs are copied into the output image.
    /// Variables are committed only after a poll; after any other call, the caller decides whether
    /// their values become valid.
    pub(super) fn commit(&mut self) {
        self.flush();
        if self.scratch.is_unfinished() {
            self.finish_numbers();
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
            self.report_dropped();
        }
    }

    /// Checks the staged bytes of numbers. Drops bytes that would give an output a value that is no
    /// finite number, or a value outside its range if `on_overflow` is `refuse`. With `clamp`,
    /// moves such a value into the range. The host does this work at the end of the poll, because a
    /// call may write only a part of a number.
    fn finish_numbers(&mut self) {
        let points = Arc::clone(&self.world.points);
        for (id, point) in points.checked_outputs(self.scratch.touched()) {
            let raw = point.raw_from(|at| self.scratch.over(at, &self.world.outputs));
            match point.confine(&raw) {
                Ok(confined) => {
                    if confined != raw {
                        let bytes = point.bytes().zip(confined);
                        bytes.for_each(|(at, byte)| self.scratch.stage(at, byte, 0xff));
                    }
                    self.end_misgiven(id);
                }
                Err(unfit) => {
                    point.bytes().for_each(|at| self.scratch.forget(at));
                    self.refuse_point(Why::of_number(unfit), id);
                }
            }
        }
    }

    /// Drops the outputs and all uncommitted writes to variables after a failed call. Log lines of
    /// the call are retained.
    pub(super) fn discard(&mut self) {
        self.flush();
        self.report_dropped();
        self.scratch.clear();
        self.world.variables.revert();
    }
}
