//! The thread of a shadow run: polls the new version, compares its outputs, measures its CPU time,
//! and decides whether the new version may take over.
//!
//! The polled instance never takes the seat in the scan and is dropped after the run. The instance
//! has its own world. Before each poll, the thread copies the running version's values from a frame
//! into this world. The thread copies the outputs only before the first poll. It never overwrites
//! variables that only the new version has. After a poll, the thread compares outputs bit for bit:
//! all outputs that the seat owns, and outputs without an owner that the new version has written.
//! The frames come from `shadow.rs`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::super::{Refusal, Trap};
use super::report::{Difference, MAX_DIFFERENCES, ShadowReport};
use super::{Feed, Frame, Frames, feed};
use crate::clock::{Clock, MonotonicClock};
use crate::plugin::instance::program::{Prepared, Saved, refused_hand_over};
use crate::plugin::instance::stop::{BudgetSlot, Timekeeper, now_ns, thread_cpu_ns};
use crate::plugin::trace::record::PostMortem;
use crate::process::image::{Direction, Point, PointId, Safe};
use crate::process::lent::Lent;
use crate::process::variable::Variable;
use crate::process::world::World;

/// A run ends if it gets no frame for this time plus twenty times the time between two polls. A run
/// also ends after this time plus four times the planned duration of all its polls. `PATIENCE` is
/// long, because the scan of a daemon that starts with many plugins carries out orders only after
/// some seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shortest and longest pause of the thread between two checks for a new frame. Within these
/// limits, the pause is a quarter of the time from poll to poll.
const PAUSE: [Duration; 2] = [Duration::from_micros(100), Duration::from_millis(5)];

/// A new version during its shadow run.
#[derive(Debug)]
pub struct Shadow {
    prepared: Prepared,
    /// The world of the instance.
    world: Lent<World>,
    report: ShadowReport,
    /// CPU time of each poll, in nanoseconds.
    times_ns: Vec<u64>,
    /// Number of the running version's poll in the last frame; 0 before the first frame.
    seen: u64,
    /// Whether an output differed in the last compared cycle.
    differs: bool,
    /// Variables that only the new version has, with their values.
    own: Vec<(String, Variable)>,
}

/// The result of a shadow run.
#[derive(Debug)]
pub struct ShadowOutcome {
    /// The report of the run.
    pub report: ShadowReport,
    /// `Ok` if the version may take over; otherwise the refusal with its reason.
    pub result: Result<(), Refusal>,
    /// Whether the version is refused only because polls were skipped. In this case another shadow
    /// run may still prove that the outputs are equal.
    pub is_unproved: bool,
    /// The post-mortem data of the instance, if the instance trapped.
    pub post_mortem: Option<Box<PostMortem>>,
}

impl ShadowOutcome {
    /// Makes the result of a shadow run that could not begin.
    pub fn refused(refusal: Refusal, post_mortem: Option<Box<PostMortem>>) -> Self {
        Self {
            report: ShadowReport::default(),
            result: Err(refusal),
            is_unproved: false,
            post_mortem,
        }
    }
}

impl Shadow {
    /// Makes a shadow run. The instance in `prepared` is used only for this run. `world` is a copy
    /// of the world in which the version would run after a swap.
    pub fn new(prepared: Prepared, world: Box<World>) -> Self {
        Self {
            prepared,
            world: Lent::new(world),
            report: ShadowReport::default(),
            times_ns: Vec::new(),
            seen: 0,
            differs: false,
            own: Vec::new(),
        }
    }

    /// Makes the two parts of the frame queues: one part for the scan, and one part for this run.
    pub fn feed(&self) -> (Feed, Frames) {
        let program = &self.prepared.program;
        let (mut feed, frames) = feed(&program.name, program.seat, program.hash, &self.world);
        feed.takes_state = program.hands_over();
        (feed, frames)
    }

    /// Polls the new version once for each frame, up to the configured number of polls. The run
    /// ends earlier if no more frames arrive, if frames arrive too slowly, if the caller has
    /// dropped the value to which `wanted` points, if `save`, `restore` or a poll trapped, or if a
    /// poll was skipped although equal outputs are required. The function blocks its thread.
    pub fn run(
        mut self,
        mut frames: Frames,
        keeper: &Arc<Timekeeper>,
        wanted: &Weak<()>,
    ) -> ShadowOutcome {
        let slot = keeper.slot();
        slot.shortest(self.prepared.program.shortest_budget());
        keeper.wake();
        let polls = u64::from(self.prepared.program.settings.swap.shadow);
        let turn = self.turn();
        let expected = turn.saturating_mul(u32::try_from(polls).unwrap_or(u32::MAX));
        let end = expected.saturating_mul(4).saturating_add(PATIENCE);
        let started = Instant::now();
        while self.report.polls < polls {
            let next = match started.elapsed() < end {
                true => self.next(&mut frames, &slot, wanted),
                false => Err("the scan is too slow"),
            };
            let mut frame = match next {
                Ok(frame) => frame,
                Err(why) => {
                    self.report.cut_short = Some(why.into());
                    break;
                }
            };
            if let Err(refusal) = self.step(&mut frame, &slot) {
                return self.refused(refusal);
            }
            if self.report.polls == polls {
                self.compare_silence(&frame);
            }
            if self.is_unproved() {
                self.report.cut_short = Some("the machine is too busy".into());
                break;
            }
            // The ring has room for all frames that exist.
            let _ = frames.free.push(frame);
        }
        self.report.p99_ns = p99(&mut self.times_ns);
        let done = self.report.polls;
        if done < polls && frames.is_outdated.load(Ordering::Relaxed) {
            let reason = format!("the points have changed after {done} polls of its shadow run");
            return self.refused(Refusal::new(reason, AGAIN).by_accident());
        }
        let result = self.judge();
        let is_unproved = self.is_unproved() && self.report.differing == 0;
        ShadowOutcome { report: self.report, result, is_unproved, post_mortem: None }
    }

    /// Returns the time from one poll to the next.
    fn turn(&self) -> Duration {
        self.world.period.saturating_mul(self.prepared.program.settings.every)
    }

    fn next(
        &self,
        frames: &mut Frames,
        slot: &BudgetSlot,
        wanted: &Weak<()>,
    ) -> Result<Box<Frame>, &'static str> {
        let turn = self.turn();
        let pause = (turn / 4).clamp(PAUSE[0], PAUSE[1]);
        let patience = turn.saturating_mul(20).saturating_add(PATIENCE);
        let started = Instant::now();
        loop {
            // The loop first checks for the end of the feed, and then takes a frame. So frames that
            // were sent before the end are not lost.
            let is_over = frames.filled.is_abandoned();
            match frames.filled.pop() {
                Ok(frame) => return Ok(frame),
                Err(_) if is_over => return Err("the running version has ended"),
                Err(_) if wanted.strong_count() == 0 => {
                    return Err("the caller no longer waits for the run");
                }
                Err(_) if started.elapsed() > patience => return Err("the scan sent no data"),
                Err(_) => {}
            }
            slot.idle_until(MonotonicClock.now() + pause);
            thread::sleep(pause);
        }
    }

    /// Runs one poll on one frame.
    fn step(&mut self, frame: &mut Frame, slot: &BudgetSlot) -> Result<(), Refusal> {
        let is_first = self.seen == 0;
        if !is_first {
            self.report.dropped += frame.poll.saturating_sub(self.seen + 1);
        }
        self.seen = frame.poll;
        self.enter(frame, is_first);
        slot.mark();
        if is_first {
            self.take_over(frame.state.take(), slot)?;
        }
        let cpu_ns = thread_cpu_ns();
        let result = self.prepared.program.poll(&mut self.world, slot, now_ns());
        self.times_ns.push(thread_cpu_ns().saturating_sub(cpu_ns));
        let own = self.world.variables.iter().skip(frame.variables.len());
        self.own = own.map(|(name, value)| (name.to_owned(), value)).collect();
        result.map_err(|trap| trapped(self.report.polls + 1, &trap))?;
        self.report.polls += 1;
        // After a skipped poll the outputs are not compared. A program with internal state may then
        // write different outputs, although the program has no fault.
        if self.report.dropped == 0 {
            self.report.compared += 1;
            self.compare(frame);
        }
        Ok(())
    }

    /// Gives the world the values that the running version had before the poll of `frame`. The
    /// outputs are copied only if `is_first` is set. Variables that only the new version has
    /// remain.
    fn enter(&mut self, frame: &Frame, is_first: bool) {
        let world = &mut *self.world;
        (world.cycle, world.now) = (frame.cycle, frame.now);
        world.inputs.clone_from(&frame.inputs);
        world.driven.copy_from_slice(&frame.driven);
        world.owners.copy_from_slice(&frame.owners);
        let seat = self.prepared.program.seat;
        world.overlay.lacks(seat, frame.is_degraded.then_some(frame.now));
        if is_first {
            world.outputs.copy_from_slice(&frame.committed);
        }
        world.variables.copy_from(&frame.variables);
        for (name, value) in self.own.drain(..) {
            if world.variables.read(&name).is_none() {
                // If the table of variables is full, the new version loses this variable, as it
                // would after a swap.
                let _ = world.variables.write(&name, value);
            }
        }
        world.variables.commit();
    }

    /// Does the same steps as a swap: first writes the variables from the new version's `init`,
    /// then restores the saved state of the running version.
    fn take_over(&mut self, state: Option<Saved>, slot: &BudgetSlot) -> Result<(), Refusal> {
        self.prepared.bring_variables(&mut self.world.variables);
        let mut result = Ok(());
        match state {
            None => {}
            Some(Err(trap)) => {
                result = Err(refused_hand_over("`save` of the running version", &trap))
            }
            Some(Ok(state)) => {
                self.report.state_bytes = Some(state.len() as u64);
                let restored = self.prepared.program.restore(state, &mut self.world, slot);
                result = restored.map_err(|trap| refused_hand_over("its `restore`", &trap));
            }
        }
        self.world.variables.commit();
        result
    }

    /// Compares the outputs after a poll and adds different outputs to the report.
    fn compare(&mut self, frame: &Frame) {
        let world = &*self.world;
        let program = &mut self.prepared.program;
        let (seat, claimed) = (program.seat, program.claimed());
        let mut differs = false;
        for (id, point) in world.points.iter().filter(is_output) {
            let is_meant = match frame.owners[id.index()] {
                Some(owner) => owner == seat,
                None => claimed.contains(&id),
            };
            if is_meant && !is_same(point, &frame.outputs, &world.outputs) {
                differs = true;
                note(&mut self.report, frame, point, point.read(&world.outputs).to_string());
            }
        }
        self.report.differing += u64::from(differs);
        self.differs = differs;
    }

    /// Adds to the report outputs that the seat owns and the new version has never written. After
    /// the new version's probation, such an output would get its safe value. So the function
    /// reports a difference if the output's present value is not the safe value. The function skips
    /// outputs with the safe setting `hold`. It counts this difference in the last compared cycle,
    /// so that the report never has more different cycles than compared cycles.
    fn compare_silence(&mut self, frame: &Frame) {
        let world = &*self.world;
        let program = &mut self.prepared.program;
        let (seat, claimed) = (program.seat, program.claimed());
        let mut outputs = frame.outputs.clone();
        let mut differs = false;
        for (id, point) in world.points.iter().filter(is_output) {
            let Safe::Value(safe) = point.safe else { continue };
            if frame.owners[id.index()] != Some(seat) || claimed.contains(&id) {
                continue;
            }
            point.write(&mut outputs, safe).expect("the configuration check tried each safe value");
            if !is_same(point, &frame.outputs, &outputs) {
                differs = true;
                note(
                    &mut self.report,
                    frame,
                    point,
                    format!("never written (the output would get its safe value {safe})"),
                );
            }
        }
        self.report.differing += u64::from(differs && !self.differs);
    }

    /// Whether equal outputs are required but polls were skipped, so that the run can no longer
    /// prove the equality.
    fn is_unproved(&self) -> bool {
        self.prepared.program.settings.swap.require_equal && self.report.dropped > 0
    }

    /// Decides whether the version may take over. The CPU time is not checked after a run that
    /// ended early, because such a run has measured too few polls.
    fn judge(&self) -> Result<(), Refusal> {
        let settings = &self.prepared.program.settings;
        let (report, policy) = (&self.report, &settings.swap);
        let most = settings.poll_budget.mul_f64(policy.admit_ratio);
        let p99 = Duration::from_nanos(report.p99_ns);
        if report.cut_short.is_none() && p99 > most {
            let (budget, ratio) = (settings.poll_budget, policy.admit_ratio);
            let reason = format!(
                "in its shadow run the p99 time of {} polls was {p99:.1?}, more than {ratio} times \
                 the poll budget of {budget:?}",
                report.polls
            );
            let remedy =
                "make the plugin faster, or increase poll_budget or plugins.swap.admit_ratio";
            return Err(Refusal::new(reason, remedy));
        }
        if !policy.require_equal {
            return Ok(());
        }
        let remedy = "plugins.swap.require_equal requires equal outputs; correct the plugin, or \
                      set the key to false";
        if let Some(first) = report.differences.first() {
            let (n, of) = (report.differing, report.compared);
            let reason = format!("in its shadow run outputs differ in {n} of {of} cycles: {first}");
            return Err(Refusal::new(reason, remedy));
        }
        if self.is_unproved() {
            let reason = format!(
                "in its shadow run {} skipped, so equal outputs are not proved; the machine \
                 was too busy",
                match report.dropped {
                    1 => "1 poll was".to_owned(),
                    n => format!("{n} polls were"),
                }
            );
            return Err(Refusal::new(reason, AGAIN).by_accident());
        }
        Ok(())
    }

    fn refused(mut self, refusal: Refusal) -> ShadowOutcome {
        self.report.p99_ns = p99(&mut self.times_ns);
        let post_mortem = self.prepared.program.post_mortem().map(Box::new);
        ShadowOutcome { report: self.report, result: Err(refusal), is_unproved: false, post_mortem }
    }
}

/// Text of the remedy if the run was not completed and found no fault in the version.
const AGAIN: &str = "the cause is not the module; deploy the module again for another shadow run";

fn trapped(poll: u64, trap: &Trap) -> Refusal {
    let reason = format!("it trapped in poll {poll} of its shadow run: {trap}");
    Refusal::new(reason, "correct the plugin")
}

fn is_output((_, point): &(PointId, &Point)) -> bool {
    point.direction == Direction::Out
}

/// Whether the bits of a point are equal in both output images.
fn is_same(point: &Point, one: &[u8], other: &[u8]) -> bool {
    point.bytes().all(|at| (one[at] ^ other[at]) & point.mask() == 0)
}

fn note(report: &mut ShadowReport, frame: &Frame, point: &Point, shadow: String) {
    if report.differences.len() < MAX_DIFFERENCES {
        let running = point.read(&frame.outputs).to_string();
        let (point, cycle) = (point.name.clone(), frame.cycle);
        report.differences.push(Difference { point, cycle, running, shadow });
    }
}

/// Returns the 99th percentile of `times`; 0 if `times` is empty.
fn p99(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    let rank = (times.len() * 99).div_ceil(100);
    rank.checked_sub(1).map_or(0, |index| times[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p99_leaves_one_in_a_hundred_out() {
        let check =
            |n: u64, expected| assert_eq!(p99(&mut (1..=n).rev().collect::<Vec<_>>()), expected);
        check(0, 0);
        check(1, 1);
        check(99, 99);
        check(100, 99);
        check(1000, 990);
    }
}
