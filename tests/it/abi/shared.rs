//! Tests of what several programs share in a real scan: variables, outputs and the owners of
//! outputs.
//!
//! A program sees what earlier programs committed in the same cycle. An output has one owner at a
//! time. If a poll traps, other programs see nothing of its writes.

use camshaft::process::image::Value;
use camshaft::process::line::Message;
use camshaft::process::seat::Seat;
use camshaft::scan::Order;

use super::*;
use crate::rig::{Rig, points};

/// A program that writes its `value` to `out.count` (at 12), keeps the code in the variable `code`,
/// and adds one to the variable `chain`, whose new value goes to the variable `mine`; `more`
/// follows.
fn program(value: i32, code: &str, mine: &str, more: &str) -> String {
    format!(
        r#"(module
        (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
        (import "env" "wasm_variable_read_int" (func $get (param i32 i32 i32) (result i32)))
        (import "env" "wasm_variable_write_int" (func $set (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "chain") (data (i32.const 16) "{code}") (data (i32.const 32) "{mine}")
        (data (i32.const 48) "doomed")
        (func (export "poll")
          (i32.store (i32.const 100) (i32.const {value}))
          (drop (call $set (i32.const 16) (i32.const {code_len})
            (call $write (i32.const 12) (i32.const 100) (i32.const 4))))
          (drop (call $get (i32.const 0) (i32.const 5) (i32.const 104)))
          (i32.store (i32.const 104) (i32.add (i32.load (i32.const 104)) (i32.const 1)))
          (drop (call $set (i32.const 0) (i32.const 5) (i32.load (i32.const 104))))
          (drop (call $set (i32.const 32) (i32.const {mine_len}) (i32.load (i32.const 104))))
          {more}))"#,
        code_len = code.len(),
        mine_len = mine.len(),
    )
}

fn int(news: &camshaft::scan::Snapshot, name: &str) -> Option<i32> {
    match news.variables.read(name)? {
        Variable::Int(value) => Some(value),
        other => panic!("{other:?} is no int"),
    }
}

/// Two programs that want the same output. `b` comes first into the scan, `a` first by name.
fn two() -> Rig {
    let mut rig = Rig::new(points(), Vec::new());
    rig.install("b", 1, &program(22, "code.b", "b", ""), Settings::default());
    rig.install("a", 0, &program(11, "code.a", "a", ""), Settings::default());
    rig
}

fn denials(rig: &mut Rig) -> Vec<(Seat, Seat)> {
    let mut denials = Vec::new();
    while let Ok(line) = rig.log.pop() {
        let Message::Refused(call) = &line.message else { panic!("unexpected: {line:?}") };
        match call.why {
            Why::Owned(owner) => {
                assert_eq!(call.name.as_str(), "out.count");
                denials.push((line.seat, owner));
            }
            // One of them reads a variable before the other has made it.
            why => assert_eq!(why, Why::NoVariable),
        }
    }
    denials
}

#[test]
fn later_programs_see_what_earlier_ones_committed_in_the_same_cycle() {
    let mut rig = two();
    for _ in 0..5 {
        let news = rig.cycle();
        let (a, b) = (int(&news, "a").unwrap(), int(&news, "b").unwrap());
        assert_eq!(b, a + 1);
        assert_eq!(int(&news, "chain"), Some(b));
    }
}

#[test]
fn an_output_has_one_owner_until_that_program_leaves() {
    let mut rig = two();
    for _ in 0..10 {
        let news = rig.cycle();
        assert_eq!((int(&news, "code.b"), int(&news, "code.a")), (Some(0), Some(5)));
        assert_eq!(rig.value(&news, "out.count"), Value::Int(22));
    }
    assert_eq!(denials(&mut rig), [(Seat(0), Seat(1))], "said once, not every cycle");
    rig.order(Order::Remove(Seat(1)));
    let news = rig.cycle();
    assert_eq!(int(&news, "code.a"), Some(0));
    assert_eq!(rig.value(&news, "out.count"), Value::Int(11));
    rig.install("b", 1, &program(22, "code.b", "b", ""), Settings::default());
    let news = rig.cycle();
    assert_eq!((int(&news, "code.b"), int(&news, "code.a")), (Some(5), Some(0)));
    assert_eq!(denials(&mut rig), [(Seat(1), Seat(0))]);
}

#[test]
fn nobody_sees_anything_of_a_poll_that_trapped() {
    let mut rig = Rig::new(points(), Vec::new());
    // It traps when it has counted to 6, after all its writes.
    let trap = "(if (i32.eq (i32.load (i32.const 104)) (i32.const 6)) (then
        (drop (call $set (i32.const 48) (i32.const 6) (i32.const 1)))
        (unreachable)))";
    rig.install("a", 0, &program(11, "code.a", "a", trap), Settings::default());
    rig.install("b", 1, &program(22, "code.b", "b", ""), Settings::default());
    let news = rig.cycle();
    assert_eq!(
        (int(&news, "a"), int(&news, "b"), int(&news, "code.b")),
        (Some(4), Some(5), Some(5))
    );
    assert_eq!(rig.value(&news, "out.count"), Value::Int(11));
    let news = rig.cycle();
    // What `b` saw in the same cycle: the count as it was, the output free, no new variable.
    assert_eq!(
        (int(&news, "a"), int(&news, "b"), int(&news, "chain")),
        (Some(4), Some(6), Some(6))
    );
    assert_eq!((int(&news, "doomed"), int(&news, "code.b")), (None, Some(0)));
    assert_eq!(rig.value(&news, "out.count"), Value::Int(22));
    let down: Vec<_> = news.programs.iter().filter(|fact| fact.trap.is_some()).collect();
    assert_eq!(down.iter().map(|fact| fact.seat).collect::<Vec<_>>(), [Seat(0)]);
}
