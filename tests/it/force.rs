//! Tests of the process overlay: the values that replace the values of devices and programs.
//!
//! These values are forces, substitutes for bad inputs, and safe values. An output can become safe
//! after a hold time, or because a program lacks a required input. The precedence is: safe value,
//! then force, then program. The orders of an operator to a whole daemon are tested in
//! `force/daemon.rs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use camshaft::driver::{Command, Driver, Fault};
use camshaft::plugin::Settings;
use camshaft::process::image::{
    Direction, Freshness, Inputs, OnBad, Point, PointId, PointKind, Points, Quality, Safe, Value,
};
use camshaft::process::overlay::{Force, MAX_FORCES};
use camshaft::process::seat::Seat;
use camshaft::scan::{Order, Return, Snapshot};

use crate::rig::{PERIOD, Rig, point, wat};

mod daemon;

const LEVEL: PointId = PointId(0);
const VALVE: PointId = PointId(1);
const LAMP: PointId = PointId(2);
const PUMP: PointId = PointId(3);

/// `level` (i32 input, 0 when bad or as `on_bad` says), `valve` (i32, safe 7), `lamp` (hold),
/// `pump` (i32, safe -1 after 50 ms).
fn points(on_bad: OnBad) -> Arc<Points> {
    use Direction::{In, Out};
    let ms = |ms| Some(Duration::from_millis(ms));
    let freshness = Freshness { stale_after: ms(1000), bad_after: ms(2000) };
    let level = Point { on_bad, freshness, ..point("level", In, PointKind::I32, 0, 0, Safe::Hold) };
    let pump = Point {
        hold_for: Duration::from_millis(50),
        ..point("pump", Out, PointKind::I32, 8, 0, Safe::Value(Value::Int(-1)))
    };
    let all = vec![
        level,
        point("valve", Out, PointKind::I32, 0, 0, Safe::Value(Value::Int(7))),
        point("lamp", Out, PointKind::I32, 4, 0, Safe::Hold),
        pump,
    ];
    Arc::new(Points::new(all, 4, 12))
}

/// What the test says of the field, and what the field was given last.
#[derive(Debug, Default)]
struct Field {
    level: i32,
    quality: Option<Quality>,
    given: Vec<u8>,
}

/// A device with one sensor.
#[derive(Debug, Clone, Default)]
struct Sensor(Arc<Mutex<Field>>);

impl Driver for Sensor {
    fn read(&mut self, now: Duration, inputs: &mut Inputs) -> Result<(), Fault> {
        let field = self.0.lock().unwrap();
        match field.quality {
            Some(quality) => inputs.degrade(LEVEL, quality),
            None => {
                inputs.bytes[..4].copy_from_slice(&field.level.to_le_bytes());
                inputs.note(LEVEL, Quality::Good, now);
            }
        }
        Ok(())
    }

    fn write(&mut self, _: Duration, outputs: &[u8]) -> Result<(), Fault> {
        self.0.lock().unwrap().given = outputs.to_vec();
        Ok(())
    }

    fn command(&mut self, _: Duration, _: &Command) -> Result<(), &'static str> {
        Err("no")
    }

    fn is_confirmed(&self) -> bool {
        true
    }
}

/// Copies the level to valve, lamp and pump, once it is not 99; then it traps.
const COPY: &str = r#"(module
  (import "env" "wasm_read_input" (func $read (param i32 i32 i32) (result i32)))
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (import "env" "wasm_degraded" (func $degraded (param i32) (result i32)))
  (import "env" "wasm_variable_write_int" (func $var (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "degraded")
  (func (export "poll")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 4)))
    (if (i32.eq (i32.load (i32.const 0)) (i32.const 99)) (then unreachable))
    (i32.store (i32.const 4) (i32.load (i32.const 0)))
    (i32.store (i32.const 8) (i32.load (i32.const 0)))
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 12)))
    (drop (call $degraded (i32.const 50)))
    (drop (call $var (i32.const 100) (i32.const 8) (i32.load8_u (i32.const 50))))))"#;

struct Bench {
    rig: Rig,
    field: Sensor,
    tickets: u64,
}

impl Bench {
    fn new(on_bad: OnBad, settings: Settings) -> Self {
        let field = Sensor::default();
        field.0.lock().unwrap().level = 5;
        let mut rig = Rig::new(points(on_bad), vec![Box::new(field.clone())]);
        rig.install("copy", 0, COPY, settings);
        let mut bench = Self { rig, field, tickets: 0 };
        bench.check([5, 5, 5, 5]);
        bench
    }

    fn plain() -> Self {
        Self::new(OnBad::Keep, Settings::default())
    }

    fn level(&mut self, level: i32) -> &mut Self {
        (self.field.0.lock().unwrap().level, self.field.0.lock().unwrap().quality) = (level, None);
        self
    }

    fn bad(&mut self) -> &mut Self {
        self.field.0.lock().unwrap().quality = Some(Quality::NoComm);
        self
    }

    fn force(&mut self, point: PointId, value: i128, cycles: Option<u32>) -> Result<(), &str> {
        let raw = self.rig.points[point].raw_of(Value::Int(value)).unwrap();
        let until = cycles.map(|cycles| self.rig.now + cycles * PERIOD + PERIOD / 2);
        self.tickets += 1;
        let (ticket, force) = (self.tickets, Force { point, raw, until });
        self.rig.order(Order::Force { ticket, force });
        self.rig.step();
        self.answer(ticket)
    }

    fn answer(&mut self, wanted: u64) -> Result<(), &'static str> {
        loop {
            match self.rig.handle.returns.pop().expect("each order is answered in its cycle") {
                Return::Answer { ticket, result } if ticket == wanted => return result,
                _ => {}
            }
        }
    }

    fn unforce(&mut self, point: Option<PointId>) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.rig.order(Order::Unforce { ticket, point });
        self.rig.step();
        self.answer(ticket).unwrap();
    }

    /// One cycle after which the level that programs see and the outputs that the field was given
    /// are these.
    #[track_caller]
    fn check(&mut self, expected: [i128; 4]) -> Snapshot {
        let news = self.rig.cycle();
        let value = |name| match self.rig.value(&news, name) {
            Value::Int(value) => value,
            other => panic!("{other}"),
        };
        assert_eq!(["level", "valve", "lamp", "pump"].map(value), expected);
        assert_eq!(self.field.0.lock().unwrap().given, news.outputs, "the device has it so");
        news
    }
}

#[test]
fn a_force_stands_over_device_and_program_and_leaves_both_as_they_were() {
    let mut bench = Bench::plain();
    bench.force(LEVEL, 40, None).unwrap();
    bench.force(LAMP, 1, None).unwrap();
    let news = bench.check([40, 40, 1, 40]);
    assert_eq!(
        news.inputs.quality,
        [Quality::Forced, Quality::Good, Quality::Forced, Quality::Good]
    );
    assert_eq!(news.forces.len(), 2);
    // The device says something else meanwhile, and then nothing.
    bench.level(6).check([40, 40, 1, 40]);
    bench.bad().check([40, 40, 1, 40]);
    bench.unforce(Some(LEVEL));
    let news = bench.check([6, 6, 1, 6]);
    assert_eq!(news.inputs.quality[0], Quality::NoComm, "the force has left nothing behind");
    bench.unforce(None);
    let news = bench.level(8).check([8, 8, 8, 8]);
    assert_eq!((news.inputs.quality, news.forces.len()), (vec![Quality::Good; 4], 0));
}

#[test]
fn a_force_ends_by_itself_and_can_be_replaced() {
    let mut bench = Bench::plain();
    bench.force(VALVE, 70, Some(3)).unwrap();
    bench.check([5, 70, 5, 5]);
    bench.check([5, 70, 5, 5]);
    assert_eq!(bench.check([5, 5, 5, 5]).forces.len(), 0);
    bench.force(VALVE, 70, Some(2)).unwrap();
    bench.force(VALVE, 71, None).unwrap();
    (0..5).for_each(|_| drop(bench.check([5, 71, 5, 5])));
    bench.rig.order(Order::Halt);
    assert_eq!(
        bench.check([5, 7, 5, -1]).forces.len(),
        0,
        "a stop ends forces, and waits for nothing"
    );
}

#[test]
fn safe_outranks_a_force_and_a_swap_does_not_end_it() {
    let mut bench = Bench::plain();
    bench.force(VALVE, 70, None).unwrap();
    bench.check([5, 70, 5, 5]);
    let other = COPY.replace("(drop (call $degraded (i32.const 50)))", "");
    let settings = Settings::default();
    let prepared = bench.rig.prepare("copy", 0, &wat(&other), settings.clone()).unwrap();
    bench.rig.order(Order::Install(Box::new(prepared)));
    bench.check([5, 70, 5, 5]);
    bench.rig.order(Order::Remove(Seat(0)));
    let news = bench.check([5, 7, 5, 5]);
    assert_eq!(news.inputs.quality[VALVE.index()], Quality::Good, "it is safe, not forced");
    assert_eq!(news.forces.len(), 1, "it waits");
    bench.rig.install("copy", 1, COPY, settings);
    bench.check([5, 70, 5, 5]);
    // Safe in the very cycle of the trap.
    bench.level(99).check([99, 7, 5, 5]);
}

#[test]
fn there_is_room_for_so_many_forces_and_no_more() {
    use Direction::In;
    let many = (0..=MAX_FORCES as u32)
        .map(|n| point(&format!("i{n}"), In, PointKind::U8, n, 0, Safe::Hold))
        .collect();
    let points = Arc::new(Points::new(many, MAX_FORCES + 1, 0));
    let mut rig = Rig::new(points, Vec::new());
    let force = |n: usize| Force { point: PointId(n as u16), raw: [1; 8], until: None };
    for n in 0..=MAX_FORCES {
        rig.order(Order::Force { ticket: n as u64, force: force(n) });
        let news = rig.cycle();
        assert_eq!(news.forces.len(), (n + 1).min(MAX_FORCES));
        let Ok(Return::Answer { result, .. }) = rig.handle.returns.pop() else {
            panic!("no answer")
        };
        assert_eq!(result.is_ok(), n < MAX_FORCES);
    }
    let gone = Force { point: PointId(500), raw: [0; 8], until: None };
    rig.order(Order::Force { ticket: 0, force: gone });
    rig.step();
    let Ok(Return::Answer { result, .. }) = rig.handle.returns.pop() else { panic!("no answer") };
    assert_eq!(result, Err("the point is not in the configuration any more"));
}

#[test]
fn an_output_holds_for_its_time_before_it_is_safe() {
    let mut bench = Bench::plain();
    // 50 ms are five cycles.
    bench.level(99);
    (0..5).for_each(|_| drop(bench.check([99, 7, 5, 5])));
    bench.check([99, 7, 5, -1]);
    // Whoever takes it over meanwhile goes on with it.
    bench.level(3);
    bench.rig.install("copy", 1, COPY, Settings::default());
    bench.check([3, 3, 3, 3]);
    bench.level(99).check([99, 7, 3, 3]);
    bench.level(4);
    bench.rig.install("copy", 2, COPY, Settings::default());
    (0..10).for_each(|_| drop(bench.check([4, 4, 4, 4])));
}

#[test]
fn a_bad_input_has_its_substitute_and_nothing_becomes_0_by_accident() {
    let mut bench = Bench::new(OnBad::Value(Value::Int(-3)), Settings::default());
    let news = bench.bad().check([-3, -3, -3, -3]);
    assert_eq!(news.inputs.quality[0], Quality::Substitute);
    bench.force(LEVEL, 2, Some(2)).unwrap();
    bench.check([2, 2, 2, 2]);
    bench.check([-3, -3, -3, -3]);
    let news = bench.level(6).check([6, 6, 6, 6]);
    assert_eq!(news.inputs.quality[0], Quality::Good);
    let mut bench = Bench::plain();
    let news = bench.bad().check([5, 5, 5, 5]);
    assert_eq!(news.inputs.quality[0], Quality::NoComm, "the last good value, and it says so");
    assert_eq!(news.now - news.inputs.good_at[0], PERIOD, "and how old it is");
}

#[test]
fn a_value_that_stands_still_is_stale_and_then_bad() {
    let mut bench = Bench::plain();
    bench.field.0.lock().unwrap().quality = Some(Quality::Good);
    let mut quality = |cycles: u64| {
        (0..cycles).for_each(|_| drop(bench.check([5, 5, 5, 5])));
        bench.check([5, 5, 5, 5]).inputs.quality[0]
    };
    assert_eq!(
        [98, 0, 98, 0].map(&mut quality),
        [Quality::Good, Quality::Stale, Quality::Stale, Quality::NoComm]
    );
    bench.level(6).check([6, 6, 6, 6]);
    assert_eq!(bench.check([6, 6, 6, 6]).inputs.quality[0], Quality::Good);
}

#[test]
fn outputs_are_safe_while_a_required_input_is_bad() {
    let requires = Settings {
        requires: vec![LEVEL],
        requires_timeout: Duration::from_millis(20),
        ..Settings::default()
    };
    let mut bench = Bench::new(OnBad::Keep, requires);
    let degraded = |news: &Snapshot| {
        let seen = news.variables.read("degraded").map(Value::from);
        (news.programs[0].degraded, seen)
    };
    // For 20 ms nothing happens; then valve is safe, lamp holds, pump holds for 50 ms.
    bench.bad().check([5, 5, 5, 5]);
    let news = bench.check([5, 5, 5, 5]);
    assert_eq!(degraded(&news), (false, Some(Value::Int(0))));
    let news = bench.check([5, 7, 5, 5]);
    assert_eq!(degraded(&news), (true, Some(Value::Int(1))), "it is polled, and is told");
    bench.force(VALVE, 70, None).unwrap();
    (0..3).for_each(|_| drop(bench.check([5, 7, 5, 5])));
    bench.check([5, 7, 5, -1]);
    let owners = bench.check([5, 7, 5, -1]).owners;
    assert_eq!(owners[1..], [Some(Seat(0)); 3], "it still owns them");
    bench.unforce(None);
    // Another version does not get time anew.
    let settings = Settings { requires: vec![LEVEL], ..Settings::default() };
    let other = COPY.replace("(i32.const 99)", "(i32.const 98)");
    let prepared = bench.rig.prepare("copy", 0, &wat(&other), settings).unwrap();
    bench.rig.order(Order::Install(Box::new(prepared)));
    bench.check([5, 7, 5, -1]);
    let news = bench.level(9).check([9, 9, 9, 9]);
    assert_eq!(degraded(&news), (false, Some(Value::Int(0))));
    assert_eq!(bench.check([9, 9, 9, 9]).programs.len(), 1);
    let _ = (LAMP, PUMP);
}
