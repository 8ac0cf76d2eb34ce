//! The checks after every cycle of the simulation.
//!
//! First, the complete snapshot of the scan is compared with the model. Second, each invariant of
//! `src/lib.rs` is checked again with the snapshot alone, as far as this is possible. The second
//! check finds a mistake that the scan and the model have in common, and it names the broken
//! invariant.

use std::sync::Arc;
use std::time::Duration;

use camshaft::driver::{Fault, Injection};
use camshaft::plugin::Generation;
use camshaft::process::image::{Direction, PointKind, Points, Quality, Safe};
use camshaft::process::line::Message;
use camshaft::process::refused::{RefusedCall, Why};
use camshaft::process::seat::Seat;
use camshaft::process::variable::Variable;
use camshaft::scan::Snapshot;
use camshaft::scan::stats::{Sample, What};

use super::guest::{CHAIN, FOLD, MIX, TALLY, is_finite, is_granted, link};
use super::house::House;
use super::model::{Back, Model, Said, Seated};
use super::swaps::{assert_rollbacks_keep_outputs, int, is_rolled_back, replaced};
use crate::rig::PERIOD;

/// What was true after the last cycle.
pub struct Before {
    cycle: u64,
    pub points: Arc<Points>,
    pub outputs: Vec<u8>,
    pub owners: Vec<Option<Seat>>,
    /// Of each point, by id.
    pub quality: Vec<Quality>,
    /// Of each program in the news, trapped or not: its seat, itself and who stands by.
    pub programs: Vec<(Seat, Generation, Option<Generation>)>,
    /// Programs that lack an input which they require, so that their outputs are safe.
    pub degraded: Vec<Seat>,
    chain: i32,
    folds: Vec<Option<Variable>>,
    /// The variables that count polls.
    pub tallies: Vec<i32>,
}

impl Before {
    fn of(news: &Snapshot) -> Self {
        let programs = news.programs.iter();
        Self {
            cycle: news.cycle,
            points: Arc::clone(&news.points),
            outputs: news.outputs.clone(),
            owners: news.owners.clone(),
            quality: news.inputs.quality.clone(),
            programs: programs.map(|fact| (fact.seat, fact.generation, fact.standby)).collect(),
            degraded: news.programs.iter().filter(|fact| fact.degraded).map(|f| f.seat).collect(),
            chain: int(news, CHAIN),
            folds: FOLD.iter().map(|name| news.variables.read(name)).collect(),
            tallies: TALLY.iter().map(|name| int(news, name)).collect(),
        }
    }
}

/// One cycle of scan and model, and everything that must be true after it.
pub fn cycle(house: &mut House) {
    let before = Before::of(house.rig.handle.latest.read());
    if !house.is_quiet && house.one_in(50) {
        house.note("time skipped", "");
        house.rig.now += PERIOD * house.random.u32(1..6);
    }
    house.rig.now += PERIOD;
    let now = house.rig.now;
    house.rig.scan.cycle(now);
    let news = house.rig.handle.latest.read();
    house.model.cycle(now, &news.inputs);

    assert_eq!(news.cycle, before.cycle + 1, "cycles are counted one by one");
    assert_it_is_the_model(house, now);
    assert_samples(&mut house.rig.samples, &house.model.polled);
    let news = house.rig.handle.latest.read().clone();
    assert_owners(&news, &house.model);
    assert_nothing_became_0(&before, &news, &house.model);
    assert_losses_are_safe(&before, &news, &house.model);
    assert_one_change(&before, &news);
    assert_rollbacks_keep_outputs(&before, &news, &house.model);
    assert_polls(&before, &news, house);
    house.memory.compare(&before, &news, &house.model);
    assert_quality(&news, &house.model);
    assert_nobody_is_lost(house);
    count_events(&before, house);
}

/// The snapshot is what the shadow of the scan says.
fn assert_it_is_the_model(house: &mut House, now: Duration) {
    let House { rig, model, .. } = house;
    let news = rig.handle.latest.read();
    let traps = news.programs.iter().filter_map(|fact| fact.trap.as_ref());
    let expected = model.down.iter().filter_map(|program| program.trap);
    let same = traps.clone().map(|trap| (&*trap.kind, trap.cycle)).eq(expected.clone());
    let (traps, expected): (Vec<_>, Vec<_>) = (traps.collect(), expected.collect());
    assert!(same, "traps: {traps:?} instead of {expected:?}");
    assert_eq!(rig.scan.len(), model.seated.len(), "programs in the scan");
    let news = rig.handle.latest.read();
    let world = &model.world;
    assert_eq!((news.cycle, news.now, news.halted), (world.cycle, now, model.is_halted));
    assert!(Arc::ptr_eq(&news.points, &world.points), "points");
    assert_eq!(news.inputs, world.inputs, "inputs");
    assert_eq!(news.outputs, world.before, "outputs");
    assert_eq!(news.owners, world.owners, "owners");
    let differ = news.variables.iter().zip(&world.variables).find(|(is, ought)| is != *ought);
    assert_eq!(differ, None, "variables");
    assert_eq!(news.variables.len(), world.variables.len(), "variables");
    let programs = model.seated.iter().chain(&model.down);
    assert_eq!(news.programs.len(), programs.clone().count());
    for (fact, program) in news.programs.iter().zip(programs) {
        let found = (fact.seat, fact.generation, fact.polls, fact.since_cycle, fact.since);
        let (seat, generation) = (program.seat, program.generation);
        let wanted = (seat, generation, program.polls, program.since_cycle, program.since);
        assert_eq!(found, wanted, "{}", program.name);
        assert_eq!(fact.memory_bytes, 65_536);
        let trap = fact.trap.as_ref().map(|trap| (&*trap.kind, trap.cycle));
        assert_eq!(trap, program.trap, "{}", program.name);
        assert_eq!(Some(fact.takeover), program.takeover, "{}", program.name);
        let is_degraded = world.degraded(program.seat).is_some() && program.trap.is_none();
        assert_eq!(fact.degraded, is_degraded, "{}", program.name);
        assert_eq!(fact.is_proven, program.is_proven, "{}", program.name);
        let standby = program.standby.as_ref().map(|standby| standby.program.generation);
        assert_eq!(fact.standby, standby, "{}", program.name);
        let rolled_back = fact.rolled_back.as_ref().map(|rolled_back| {
            let trap = rolled_back.trap.as_ref().expect("it was taken back because it trapped");
            (rolled_back.generation, &*trap.kind, trap.cycle)
        });
        assert_eq!(rolled_back, program.rolled_back, "{}", program.name);
    }
    assert_eq!(news.devices.len(), model.devices.len(), "devices");
    for (fact, (device, fault)) in news.devices.iter().zip(&model.devices) {
        assert_eq!((fact.fault, fact.confirmed), (*fault, device.is_confirmed()));
    }
    assert_log(house);
}

/// The log says what the model says.
fn assert_log(house: &mut House) {
    let House { rig, model, full, .. } = house;
    let world = &model.world;
    let of = |seat: Seat| {
        let mut programs = model.seated.iter().chain(&model.down);
        programs.find(|program| program.seat == seat).map(|program| program.generation)
    };
    let mut lines = Vec::new();
    while let Ok(line) = rig.log.pop() {
        assert_eq!(line.cycle, world.cycle);
        let said = match line.message {
            Message::Said { text, .. } if text.as_str() == CHAIN => Said::Words,
            Message::Refused(call) => match refused(&call, &world.points) {
                Some(said) => said,
                // What else is refused has no words in the model.
                None => continue,
            },
            Message::OthersRefused { .. } => {
                full.extend(of(line.seat));
                continue;
            }
            other => panic!("nobody says {other:?}"),
        };
        lines.push((line.seat, said));
    }
    // Of whom more is refused than is told apart not all is said.
    let is_sure = |seat| of(seat).is_none_or(|generation| !full.contains(&generation));
    let expected = world
        .lines
        .iter()
        .filter(|line| line.1 == Said::Words || is_sure(line.0) || lines.contains(line));
    assert!(lines.iter().eq(expected), "log lines: {lines:?} instead of {:?}", world.lines);
}

/// What the model says of a call that was refused, if anything.
fn refused(call: &RefusedCall, points: &Points) -> Option<Said> {
    let name = call.name.as_str();
    let id = || points.find(name).expect("a point that is refused is there");
    match call.why {
        Why::NotGranted => Some(Said::NotGranted(id())),
        Why::Owned(owner) => Some(Said::Owned(id(), owner)),
        Why::NotFinite => Some(Said::NotFinite(id())),
        Why::VariableNotGranted => {
            let known = MIX.iter().find(|known| **known == name);
            Some(Said::VariableNotGranted(known.expect("nothing else is denied in a poll")))
        }
        _ => None,
    }
}

/// Every owner is in the scan, and the output is granted to it.
fn assert_owners(news: &Snapshot, model: &Model) {
    for (id, point) in model.world.points.iter() {
        let Some(owner) = news.owners[id.index()] else { continue };
        assert_eq!(point.direction, Direction::Out, "{}", point.name);
        let sits = news.programs.iter().any(|fact| fact.seat == owner && fact.trap.is_none());
        assert!(sits, "{} belongs to {owner:?}, who is not there", point.name);
        let owner = model.seated.iter().find(|program| program.seat == owner);
        let granted = owner.is_some_and(|owner| is_granted(&owner.settings.outputs, id));
        assert!(granted, "{} belongs to somebody without a grant", point.name);
    }
}

/// What nobody owns has its safe value or keeps what it had; no number becomes 0, and no float
/// something else than a number.
fn assert_nothing_became_0(before: &Before, news: &Snapshot, model: &Model) {
    for (id, point) in model.world.points.iter() {
        if point.direction == Direction::In {
            continue;
        }
        let value = point.read(&news.outputs);
        let is_float = matches!(point.kind, PointKind::F32 | PointKind::F64);
        assert!(!is_float || is_finite(&news.outputs[point.bytes()]), "{} is {value}", point.name);
        let is_new = before.points.get(id).is_none();
        if news.owners[id.index()].is_none() {
            let may_hold = !is_new && !point.hold_for.is_zero();
            let is_held = may_hold && point.read(&before.outputs) == value;
            let expected = match point.safe {
                Safe::Value(_) if is_held => value,
                Safe::Value(safe) => safe,
                Safe::Hold if is_new => continue,
                Safe::Hold => point.read(&before.outputs),
            };
            assert_eq!(value, expected, "{} is nobody's", point.name);
        }
        let is_0 = |image: &[u8]| {
            point.mask() == 0xff && image[point.bytes()] == [0; 8][..point.bytes().len()]
        };
        let was_0 = is_new || is_0(&before.outputs);
        assert!(!is_0(&news.outputs) || was_0, "{} became 0", point.name);
        assert!(!is_0(&news.outputs) || point.safe == Safe::Hold, "{} is 0", point.name);
    }
}

/// The outputs of a program that has just trapped are safe or already another's, and what its last
/// poll wrote is nowhere.
fn assert_losses_are_safe(before: &Before, news: &Snapshot, model: &Model) {
    for program in model.down.iter().filter(|p| p.trap.is_some_and(|(_, at)| at == news.cycle)) {
        let fact = news.programs.iter().find(|fact| fact.generation == program.generation);
        assert!(fact.is_some_and(|fact| fact.trap.is_some()), "{} has trapped", program.name);
        let id = program.instance.id;
        // A stranger that has not been expelled yet may have the same name.
        let is_alone = model.seated.iter().all(|other| other.instance.id != id);
        assert!(!is_alone || news.variables.read(FOLD[id]) == before.folds[id], "its variable");
        for (id, point) in model.world.points.iter() {
            if before.owners.get(id.index()) != Some(&Some(program.seat)) {
                continue;
            }
            match (news.owners[id.index()], point.safe) {
                (Some(owner), _) => assert_ne!(owner, program.seat, "{}", point.name),
                (None, Safe::Value(safe)) if point.hold_for.is_zero() => {
                    assert_eq!(point.read(&news.outputs), safe);
                }
                // It holds for a while, unless a stop has no time for it.
                (None, Safe::Value(_)) => {}
                (None, Safe::Hold) => {
                    assert_eq!(point.read(&news.outputs), point.read(&before.outputs));
                }
            }
        }
    }
}

/// At most one program is swapped, restarted or removed in one cycle; whoever resumes comes on top.
fn assert_one_change(before: &Before, news: &Snapshot) {
    let is_there = |seat, generation, standby| {
        news.programs.iter().any(|fact| {
            let resumes = Some(fact.generation) == standby && is_rolled_back(fact, news);
            fact.seat == seat && (fact.generation == generation || resumes)
        })
    };
    let gone = before.programs.iter();
    let gone = gone.filter(|(seat, generation, standby)| !is_there(*seat, *generation, *standby));
    let gone: Vec<_> = gone.collect();
    assert!(gone.len() <= 1 || news.halted, "these left at once: {gone:?}");
}

/// Everybody whose turn it was has been polled once, in order, and nobody else. In the cycle of a
/// rollback that was the one that trapped.
fn assert_polls(before: &Before, news: &Snapshot, house: &House) {
    let mut chain_now = before.chain;
    for fact in news.programs.iter().filter(|fact| fact.trap.is_none()) {
        let mut programs = house.model.seated.iter();
        let program = programs.find(|p| p.seat == fact.seat).expect("the model has it too");
        let is_rolled_back = is_rolled_back(fact, news);
        let is_due = news.cycle.is_multiple_of(program.settings.every.into()) && !is_rolled_back;
        let polls = house.memory.polls(fact.generation);
        assert_eq!(fact.polls, polls + u64::from(is_due), "polls of {}", program.name);
        // Whoever has rolled another back was not polled in the meantime.
        if replaced(fact).is_none() && !house.reconfigured.contains(&fact.generation) {
            let every = u64::from(program.settings.every);
            let turns = news.cycle / every - (fact.since_cycle - 1) / every;
            assert_eq!(fact.polls, turns, "{}: one in each cycle of its own", program.name);
        }
        if is_due {
            chain_now = link(chain_now, program.instance.id);
        }
    }
    // Everybody writes it, so it goes back when variables do.
    if !house.model.happened("variables rolled back") {
        assert_eq!(int(news, CHAIN), chain_now, "later programs see what earlier ones committed");
    }
}

/// Every poll, good or trapped, was measured; nothing else was.
fn assert_samples(samples: &mut rtrb::Consumer<Sample>, polled: &[Seat]) {
    let mut found = Vec::new();
    while let Ok(sample) = samples.pop() {
        match sample.what {
            What::Poll(seat) => found.push(seat),
            What::Lateness | What::Work => panic!("the thread measures these, not the scan"),
        }
    }
    assert_eq!(found, polled, "polls in this cycle");
}

/// Inputs are bad or uncertain exactly while their device is at fault; garbage passes for good, and
/// what is late is good once it comes.
fn assert_quality(news: &Snapshot, model: &Model) {
    for ((device, _), fact) in model.devices.iter().zip(news.devices.iter()) {
        let is_lost = device.failure == Some(Injection::Disconnect);
        assert_eq!(fact.fault, is_lost.then_some(Fault::Disconnected));
        for (id, point) in device.ours(Direction::In) {
            let quality = news.inputs.quality[id.index()];
            let is_right = match device.failure {
                None => quality == Quality::Good,
                Some(Injection::Disconnect) => quality == Quality::NoComm,
                Some(Injection::Freeze) => quality != Quality::Good,
                Some(Injection::Slow { .. } | Injection::Hang { .. }) => true,
                Some(Injection::Garbage { .. }) => quality != Quality::Stale,
            };
            assert!(is_right, "{} is {quality:?} with {:?}", point.name, device.failure);
        }
    }
}

/// Every program that was installed sits in the scan, or came back, or is on its way back.
fn assert_nobody_is_lost(house: &House) {
    let model = &house.model;
    let on_its_way = model.returns.iter().filter(|back| matches!(back, Back::Program(_))).count();
    let elsewhere = house.returned + on_its_way as u64;
    let standing = model.seated.iter().filter(|program| program.standby.is_some()).count();
    let present = (model.seated.len() + standing) as u64;
    assert_eq!(elsewhere, model.installed - present, "programs are lost");
}

fn count_events(before: &Before, house: &mut House) {
    let cycle = house.model.world.cycle;
    house.count("cycle");
    for (what, who) in std::mem::take(&mut house.model.events) {
        house.note(what, who);
    }
    for (_, said) in std::mem::take(&mut house.model.world.lines) {
        match said {
            Said::NotFinite(_) => house.count("no number"),
            Said::VariableNotGranted(_) => house.count("variable denied"),
            Said::Words | Said::NotGranted(_) | Said::Owned(..) => {}
        }
    }
    let is_new = |program: &&Seated| program.since_cycle == cycle;
    for program in house.model.seated.clone().iter().filter(is_new) {
        if before.programs.iter().any(|(seat, ..)| *seat == program.seat) {
            house.note("swap", program.name);
        }
    }
    for program in house.model.down.clone() {
        match program.trap {
            Some((kind, at)) if at == cycle => {
                let is_endless = kind.starts_with("budget");
                let what = if is_endless { "endless" } else { "trap" };
                house.note(what, format_args!("{}: {kind}", program.name));
            }
            _ => {}
        }
    }
}
