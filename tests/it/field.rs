//! Tests of a reload that changes points and devices while the scan runs.
//!
//! Points and devices that exist in both configurations must not be disturbed. The outputs of a
//! removed device must become safe, and a new point must exist from the first cycle on. The check
//! of the configuration file itself is tested in the unit tests of the library. Many edits in a row
//! are tested in `weather/config.rs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use camshaft::crash::{self, CrashReport};
use camshaft::driver::{Command, Driver, Fault};
use camshaft::plugin::Settings;
use camshaft::process::grant::Grant;
use camshaft::process::image::{
    Direction, Inputs, Point, PointId, PointKind, Points, Quality, Safe, Value,
};
use camshaft::process::overlay::Force;
use camshaft::process::seat::Seat;
use camshaft::scan::{DeviceSet, Order, Reconfiguration, Return, Slot, Snapshot};

use crate::crash::report_bytes;
use crate::rig::{COUNTER, PERIOD, Rig, point, points};

/// A device that tells what it was given last, unless it takes nothing.
#[derive(Clone, Default)]
struct Terminal {
    fault: Option<Fault>,
    given: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn given(&self) -> Vec<u8> {
        self.given.lock().unwrap().clone()
    }

    fn driver(&self) -> Box<dyn Driver> {
        Box::new(self.clone())
    }
}

impl Driver for Terminal {
    fn read(&mut self, _: Duration, _: &mut Inputs) -> Result<(), Fault> {
        self.fault.map_or(Ok(()), Err)
    }

    fn write(&mut self, _: Duration, outputs: &[u8]) -> Result<(), Fault> {
        if self.fault.is_none() {
            outputs.clone_into(&mut self.given.lock().unwrap());
        }
        self.fault.map_or(Ok(()), Err)
    }

    fn command(&mut self, _: Duration, _: &Command) -> Result<(), &'static str> {
        Err("it only shows")
    }

    fn is_confirmed(&self) -> bool {
        self.fault.is_none()
    }
}

/// Counts its polls in `out.count`, whose id it asks for once, and in the four bytes at address 0;
/// leaves in the byte at 8 what became of the first.
const CLERK: &str = r#"(module
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_find" (func $find (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_write_int" (func $set (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 32) "out.count")
  (global $polls (mut i32) (i32.const 0))
  (func (export "poll")
    (global.set $polls (i32.add (global.get $polls) (i32.const 1)))
    (if (i32.eq (global.get $polls) (i32.const 1))
      (then (drop (call $find (i32.const 32) (i32.const 9) (i32.const 16)))))
    (i32.store8 (i32.const 24) (call $set (i32.load (i32.const 16)) (global.get $polls)))
    (i32.store (i32.const 20) (global.get $polls))
    (drop (call $write (i32.const 0) (i32.const 20) (i32.const 4)))
    (drop (call $write (i32.const 8) (i32.const 24) (i32.const 1)))))"#;

/// Writes 1 and 2 into the words at addresses 0 and 4, each by itself.
const BOTH: &str = r#"(module
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\01\00\00\00\02\00\00\00")
  (func (export "poll")
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 4)))
    (drop (call $write (i32.const 4) (i32.const 4) (i32.const 4)))))"#;

const SAFE: Safe = Safe::Value(Value::Int(77));

/// An u32.
fn word(name: &str, direction: Direction, byte: u32) -> Point {
    let safe = if direction == Direction::Out { SAFE } else { Safe::Hold };
    point(name, direction, PointKind::U32, byte, 0, safe)
}

/// `out.at`, `out.code` and `out.count`, and those after them; all of one device.
fn table(count: bool, more: Vec<(u16, Point)>) -> Arc<Points> {
    let out = Direction::Out;
    let code = point("out.code", out, PointKind::U8, 8, 0, Safe::Value(Value::Int(77)));
    let mut all = vec![(0, word("out.at", out, 0)), (1, code)];
    all.extend(count.then(|| (2, word("out.count", out, 4))));
    all.extend(more);
    let size = |direction| {
        let ours = all.iter().filter(|(_, point)| point.direction == direction);
        ours.map(|(_, point)| point.bytes().end).max().unwrap_or(0)
    };
    let bytes = [size(Direction::In), size(out)];
    let all = all.into_iter().map(|(id, point)| (PointId(id), point)).collect();
    Arc::new(Points::numbered(all, 3, vec!["panel".into()], bytes))
}

fn value(news: &Snapshot, name: &str) -> Value {
    let point = &news.points[news.points.find(name).expect("the point exists")];
    match point.direction {
        Direction::In => point.read(&news.inputs.bytes),
        Direction::Out => point.read(&news.outputs),
    }
}

fn owner(news: &Snapshot, name: &str) -> Option<Seat> {
    news.owners[news.points.find(name).unwrap().index()]
}

/// One cycle that begins with these.
fn reconfigure(
    rig: &mut Rig,
    points: &Arc<Points>,
    devices: Vec<Slot>,
) -> (Snapshot, Box<Reconfiguration>) {
    rig.programs_returned();
    let device_set = DeviceSet { points: Arc::clone(points), devices, removed: Vec::new() };
    rig.order(Order::Reconfigure(Box::new(Reconfiguration {
        period: PERIOD,
        device_set: Some(device_set),
        ..Reconfiguration::default()
    })));
    let news = rig.cycle();
    let Ok(Return::Reconfigured(reconfiguration)) = rig.handle.returns.pop() else {
        panic!("it comes back")
    };
    (news, reconfiguration)
}

#[test]
fn points_that_stay_keep_their_values_while_others_come_and_go() {
    let (old, new) = (Terminal::default(), Terminal::default());
    let before = table(true, Vec::new());
    let mut rig = Rig::new(Arc::clone(&before), vec![old.driver()]);
    rig.install("clerk", 0, CLERK, Settings::default());
    (0..4).for_each(|_| rig.step());

    // Two come, behind the others in both images.
    let more =
        vec![(3, word("in.new", Direction::In, 60)), (4, word("out.new", Direction::Out, 96))];
    let points = table(true, more);
    let (news, back) = reconfigure(&mut rig, &points, vec![Slot::Opened(new.driver())]);
    assert_eq!(value(&news, "out.at"), Value::Int(6), "it was polled in every cycle");
    assert_eq!(value(&news, "out.count"), Value::Int(6), "the id that it knows is good");
    assert_eq!(value(&news, "out.new"), Value::Int(77), "it is safe from the beginning");
    assert_eq!((value(&news, "in.new"), news.inputs.quality[3]), (Value::Int(0), Quality::Waiting));
    assert_eq!((owner(&news, "out.count"), owner(&news, "out.new")), (Some(Seat(0)), None));
    assert_eq!(new.given(), news.outputs);
    assert_eq!(old.given().len(), 9, "it was never given what it does not know");
    let device_set = back.device_set.expect("it had other points");
    assert!(
        Arc::ptr_eq(&device_set.points, &before) && device_set.removed.len() == 1,
        "what it replaced"
    );

    // `out.count` goes, and with it what the program has written there.
    let points = table(false, vec![(4, word("out.new", Direction::Out, 96))]);
    let (news, _) = reconfigure(&mut rig, &points, vec![Slot::Opened(old.driver())]);
    assert_eq!(new.given()[4..8], 77u32.to_le_bytes(), "the last that its device heard is safe");
    assert_eq!(news.outputs[4..8], [0; 4], "nothing is left of it");
    assert_eq!(value(&news, "out.at"), Value::Int(7));
    assert!(news.inputs.bytes.is_empty(), "no input is left");
    (0..3).for_each(|_| rig.step());
    let news = rig.cycle();
    assert_eq!(value(&news, "out.at"), Value::Int(11), "the program goes on without");
    assert_eq!(value(&news, "out.code"), Value::Int(3), "there is no such point any more");

    // It comes back with another id: the program would have to ask again.
    let points = table(false, vec![(5, word("out.count", Direction::Out, 4))]);
    let (news, _) = reconfigure(&mut rig, &points, vec![Slot::Kept(0)]);
    assert_eq!(
        (value(&news, "out.at"), value(&news, "out.count")),
        (Value::Int(12), Value::Int(77))
    );
    assert_eq!(value(&news, "out.code"), Value::Int(3));
    assert_eq!(owner(&news, "out.count"), None);
}

#[test]
fn a_device_that_goes_is_told_that_its_outputs_are_safe_and_the_others_keep_running() {
    let (first, second) = (Terminal::default(), Terminal::default());
    let of = |devices: &[(&str, u32)]| {
        let out = |(device, (name, byte)): (usize, &(&str, u32))| {
            let id = PointId((byte / 4) as u16);
            (id, Point { device, ..word(name, Direction::Out, *byte) })
        };
        let all = devices.iter().enumerate().map(out).collect();
        let names = devices.iter().map(|(name, _)| (*name).to_owned()).collect();
        Arc::new(Points::numbered(all, 2, names, [0, 8]))
    };
    let both = of(&[("a", 0), ("b", 4)]);
    let mut rig = Rig::new(both, vec![first.driver(), second.driver()]);
    rig.install("clerk", 0, BOTH, Settings::default());
    rig.step();
    assert_eq!(first.given(), [[1, 0, 0, 0], [2, 0, 0, 0]].concat());
    let (news, _) = reconfigure(&mut rig, &of(&[("b", 4)]), vec![Slot::Kept(1)]);
    assert_eq!(first.given(), [[77, 0, 0, 0], [2, 0, 0, 0]].concat());
    assert_eq!(news.devices.len(), 1);
    rig.step();
    assert_eq!(first.given()[0], 77, "nobody speaks to it any more");
    assert_eq!(second.given()[4..], [2, 0, 0, 0]);
}

#[test]
fn an_output_that_another_device_takes_over_is_safe_for_the_one_before() {
    let (old, new) = (Terminal::default(), Terminal::default());
    let of = |device: &str| {
        let all = vec![(PointId(0), word("out.at", Direction::Out, 0))];
        Arc::new(Points::numbered(all, 1, vec![device.into()], [0, 12]))
    };
    let mut rig = Rig::new(of("rack1"), vec![old.driver()]);
    rig.install("clerk", 0, CLERK, Settings::default());
    let (news, back) = reconfigure(&mut rig, &of("rack2"), vec![Slot::Opened(new.driver())]);
    assert_eq!(old.given()[..4], 77u32.to_le_bytes());
    assert_eq!(new.given()[..4], 2u32.to_le_bytes(), "it goes on as it was");
    assert_eq!(owner(&news, "out.at"), Some(Seat(0)));
    let removed = back.device_set.unwrap().removed;
    assert_eq!((removed[0].place, removed[0].fault), (0, None));
    // One that cannot be told is named.
    let deaf = Terminal { fault: Some(Fault::Timeout), ..Terminal::default() };
    let (_, back) = reconfigure(&mut rig, &of("rack3"), vec![Slot::Opened(deaf.driver())]);
    assert_eq!(back.device_set.unwrap().removed[0].fault, None);
    let (_, back) = reconfigure(&mut rig, &of("rack4"), vec![Slot::Opened(old.driver())]);
    assert_eq!(back.device_set.unwrap().removed[0].fault, Some(Fault::Timeout));
}

/// What a device hears last of an output that stays is what it was given, and not what a program
/// wrote below that.
#[test]
fn a_device_that_begins_anew_hears_nothing_new_before() {
    let (old, new) = (Terminal::default(), Terminal::default());
    let points = table(true, Vec::new());
    let mut rig = Rig::new(Arc::clone(&points), vec![old.driver()]);
    rig.install("clerk", 0, CLERK, Settings::default());
    let raw = points[PointId(2)].raw_of(Value::Int(4000)).unwrap();
    let force = Force { point: PointId(2), raw, until: None };
    rig.order(Order::Force { ticket: 1, force });
    rig.step();
    assert_eq!(old.given()[4..8], 4000u32.to_le_bytes());
    reconfigure(&mut rig, &points, vec![Slot::Opened(new.driver())]);
    assert_eq!(old.given()[4..8], 4000u32.to_le_bytes(), "the force stands to the end");
    assert_eq!(new.given()[4..8], 4000u32.to_le_bytes());
}

/// A program may write where no point is; an output that comes there later is not its own.
#[test]
fn a_new_output_that_holds_begins_at_0() {
    let table = |held: bool| {
        let mut all = vec![(PointId(0), word("out.at", Direction::Out, 8))];
        let hold = point("out.hold", Direction::Out, PointKind::U32, 0, 0, Safe::Hold);
        all.extend(held.then_some((PointId(1), hold)));
        Arc::new(Points::numbered(all, 2, vec!["panel".into()], [0, 12]))
    };
    let mut rig = Rig::new(table(false), Vec::new());
    let outputs = Grant::Only(vec![PointId(0)]);
    let news = rig.install("both", 0, BOTH, Settings { outputs, ..Settings::default() });
    assert_eq!(news.outputs[..4], [1, 0, 0, 0], "it wrote there");
    let (news, _) = reconfigure(&mut rig, &table(true), Vec::new());
    assert_eq!((value(&news, "out.hold"), owner(&news, "out.hold")), (Value::Int(0), None));
}

/// The id of a point that is gone is not another's in a report either.
#[test]
fn a_report_names_points_by_their_ids() {
    let all = vec![(PointId(3), word("out.count", Direction::Out, 4))];
    let gapped = Arc::new(Points::numbered(all, 4, vec!["panel".into()], [0, 12]));
    let mut rig = Rig::new(Arc::clone(&gapped), Vec::new());
    let mortal = CLERK.replace(
        "(i32.store (i32.const 20) (global.get $polls))",
        "(if (i32.eq (global.get $polls) (i32.const 3)) (then (unreachable)))",
    );
    rig.install("clerk", 0, &mortal, Settings::default());
    (0..3).for_each(|_| rig.step());
    let mut returned = std::iter::from_fn(|| rig.handle.returns.pop().ok());
    let program = returned.find_map(|thing| match thing {
        Return::Program(program) => Some(program),
        _ => None,
    });
    let program = program.expect("it has trapped");
    let report = CrashReport::parse(&report_bytes(&rig, program, None)).unwrap();
    let cycles = crash::history(&report, 3).unwrap();
    assert!(cycles[1].did.contains(&"out.count=2".to_string()), "{cycles:?}");
}

#[test]
fn an_output_that_nobody_owns_follows_its_safe_value() {
    let table = |safe| {
        let all = vec![point("out.a", Direction::Out, PointKind::U32, 0, 0, safe)];
        Arc::new(Points::new(all, 0, 4))
    };
    let int = |n| Safe::Value(Value::Int(n));
    let mut rig = Rig::new(table(int(5)), Vec::new());
    assert_eq!(value(&rig.cycle(), "out.a"), Value::Int(5));
    let (news, _) = reconfigure(&mut rig, &table(int(6)), Vec::new());
    assert_eq!(value(&news, "out.a"), Value::Int(6));
    let (news, _) = reconfigure(&mut rig, &table(Safe::Hold), Vec::new());
    assert_eq!(value(&news, "out.a"), Value::Int(6), "it holds");
}

#[test]
fn rights_go_by_what_is_there() {
    let mut rig = Rig::new(points(), Vec::new());
    let outputs = Grant::Only(vec![PointId(3), PointId(5)]);
    rig.install("counter", 0, COUNTER, Settings { outputs, ..Settings::default() });
    assert_eq!(owner(&rig.cycle(), "out.count"), Some(Seat(0)));
    // It still says that it may write number 5, and another has come that it may not.
    let all = points().iter().take(5).map(|(id, point)| (id, point.clone())).collect::<Vec<_>>();
    let other = word("out.other", Direction::Out, 12);
    let all = [all, vec![(PointId(6), other)]].concat();
    let table = Arc::new(Points::numbered(all, 7, vec!["panel".into()], [16, 16]));
    let (news, _) = reconfigure(&mut rig, &table, Vec::new());
    assert_eq!((value(&news, "out.other"), owner(&news, "out.other")), (Value::Int(77), None));
    assert!(news.programs[0].trap.is_none());
}
