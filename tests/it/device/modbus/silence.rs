//! Requests that nobody answers, and outputs that are on their way: what that costs others, and
//! what is known meanwhile. What comes too late is in `late.rs`, whether any of it is ever a wrong
//! value in bad weather of all sorts in `weather.rs`.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camshaft::clock::{Clock, MonotonicClock};
use camshaft::driver::Delivery;
use camshaft::process::image::{Class, Quality, Value};

use super::{
    Answer, Asked, Bench, Desk, Frames, GOOD, ONE_UNIT, TWO_OUTPUTS, bench, fact, ms, part,
};

/// Three registers, each with a request of its own, and two outputs with one function code each.
fn five() -> String {
    let inputs = r#"
    { name = "a", direction = "in", type = "u16", at = { group = "g", address = 100 } },
    { name = "b", direction = "in", type = "u16", at = { group = "g", address = 200 } },
    { name = "c", direction = "in", type = "u16", at = { group = "g", address = 300 } },
    "#;
    format!("point = [{inputs}{TWO_OUTPUTS}]")
}

/// How old the value of an input is.
fn age(bench: &Bench, name: &str) -> Duration {
    let good_at = bench.inputs.good_at[bench.points.find(name).unwrap().index()];
    MonotonicClock.now().saturating_sub(good_at)
}

/// Many devices say nothing in place of an exception.
#[test]
fn what_a_unit_ignores_does_not_take_its_connection() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match (asked.function, asked.address()) {
        (3, 200 | 300) | (16, _) => Answer::never(),
        _ => asked.sound(|address| address),
    });
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{}", five()));
    // What is ignored takes its time, so that the rest may become stale, but not bad.
    let is_there = |bench: &mut Bench| {
        let (value, quality) = bench.input("a");
        value == Value::Int(100) && quality.class() != Class::Bad && bench.is_confirmed("old")
    };
    bench.until("what it has is there", is_there);
    let started = Instant::now();
    while started.elapsed() < ms(3000) {
        bench.pass(ms(5));
        assert!(is_there(&mut bench), "it stays: {:?}", bench.told());
    }
    assert_eq!(bench.input("b").1, Quality::Waiting);
    assert!(!bench.is_confirmed("new"));
    let mute =
        |from: u16| part(&bench, &format!("group g, table holding from address {from}")).state;
    assert_eq!([200, 300].map(mute), ["not answered"; 2]);
    assert_eq!(fact(&bench, "", "connections"), 1.0);
}

#[test]
fn a_unit_that_ignores_what_comes_first_is_found_all_the_same() {
    for frames in [Frames::Tcp, Frames::Rtu] {
        let desk = Desk::open(frames, |asked: &Asked| match asked.address() {
            100 | 200 => Answer::never(),
            _ => asked.sound(|address| address),
        });
        let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{}", five()));
        let is_there = |bench: &mut Bench| {
            let (value, quality) = bench.input("c");
            value == Value::Int(300) && quality.class() != Class::Bad && bench.is_confirmed("new")
        };
        bench.until("what it has is there", is_there);
        let connections = fact(&bench, "", "connections");
        bench.pass(ms(1000));
        assert!(is_there(&mut bench), "{frames:?}: it stays: {:?}", bench.told());
        assert_eq!(fact(&bench, "", "connections"), connections, "{frames:?}");
    }
}

/// The bus waited three times as long as a unit may take, for one lost frame.
#[test]
fn a_reply_that_is_lost_costs_others_no_more_than_its_own_time() {
    for frames in [Frames::Tcp, Frames::Rtu] {
        let is_lost = AtomicBool::new(false);
        let desk = Desk::open(frames, move |asked: &Asked| {
            let is_late = asked.unit == 1 && asked.nth > 200;
            match is_late && !is_lost.swap(true, Ordering::Relaxed) {
                true => Answer::never(),
                false => asked.sound(|address| address),
            }
        });
        let rest = r#"
            timeout = "200ms"
            unit = [ { name = "u", id = 1 }, { name = "v", id = 2 } ]
            group = [ { name = "g", unit = "u", table = "holding", period = "5ms" },
                      { name = "h", unit = "v", table = "holding", period = "5ms" } ]
            point = [
              { name = "a", direction = "in", type = "u16", at = { group = "g", address = 1 } },
              { name = "b", direction = "in", type = "u16", at = { group = "h", address = 2 } },
            ]"#;
        let mut bench = bench(&desk.url(), rest);
        bench.until("both are there", |bench| {
            bench.input("a").1 == GOOD && bench.input("b").1 == GOOD
        });
        let oldest = Cell::new(Duration::ZERO);
        bench.until("a reply was lost, and that is over", |bench| {
            oldest.set(oldest.get().max(age(bench, "b")));
            fact(bench, "u", "timeouts") > 0.0 && age(bench, "a") < ms(50)
        });
        let oldest = oldest.get();
        // The wait itself, on a serial line as long a pause, and what this machine does besides.
        let most = if frames == Frames::Tcp { 200 } else { 400 };
        assert!(oldest > ms(150), "{frames:?}: nothing was lost");
        assert!(oldest < ms(most + 150), "{frames:?}: the other unit was {oldest:?} old");
    }
}

/// Until the unit has answered, it may have the old value or the new one.
#[test]
fn an_output_is_in_doubt_as_long_as_another_value_is_on_its_way() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match (asked.function, asked.bytes[3]) {
        (6, 2) => asked.sound(|address| address).late(ms(150)),
        _ => asked.sound(|address| address),
    });
    let rest = ONE_UNIT.replace("50ms", "1s");
    let mut bench = bench(&desk.url(), &format!("{rest}{}", five()));
    let written = |value: u8| {
        let is_it = move |asked: &Asked| asked.function == 6 && asked.bytes[3] == value;
        desk.all().iter().filter(|asked| is_it(asked)).count()
    };
    bench.until("it is safe", |bench| bench.is_confirmed("old"));
    bench.output("old", Value::Int(2));
    bench.until("another value is on its way", |_| written(2) == 1);
    bench.output("old", Value::Int(7));
    bench.cycle();
    assert!(!bench.is_confirmed("old"), "the unit is about to take the other one");
    bench.until("it is safe again", |bench| bench.is_confirmed("old"));
    assert_eq!(written(7), 2);
}

/// A device that left was believed to have what it had been given before.
#[test]
fn a_device_that_leaves_has_its_last_outputs_or_says_which_not() {
    for _ in 0..10 {
        let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
        let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{}", five()));
        bench.until("they are safe", |bench| bench.driver.is_confirmed());
        bench.output("old", Value::Int(3));
        bench.output("new", Value::Int(4));
        bench.cycle();
        assert_eq!(bench.driver.finish(), []);
        let has = |function, value| {
            desk.all().iter().any(|asked| {
                asked.function == function && asked.bytes.last().copied() == Some(value)
            })
        };
        assert!(has(6, 3) && has(16, 4));
    }
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match asked.function {
        16 => asked.refused(4),
        _ => asked.sound(|address| address),
    });
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{}", five()));
    bench.until("one is safe", |bench| bench.is_confirmed("old"));
    let missing = bench.driver.finish();
    assert_eq!(missing, [bench.points.find("new").unwrap()]);
}

/// A unit that was missed when it was asked first was left alone for the whole period.
#[test]
fn a_unit_that_is_read_seldom_is_waited_for_all_the_same() {
    let desk = Desk::open(Frames::Rtu, |asked: &Asked| match asked.nth {
        0 | 1 => Answer::never(),
        _ => asked.sound(|address| address),
    });
    let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"10m\"");
    let mut bench = bench(&desk.url(), &format!("{rest}{}", five()));
    bench.until("all is read and written", |bench| {
        ["a", "b", "c"].iter().all(|name| bench.input(name).1 == GOOD)
            && bench.driver.is_confirmed()
    });
}

#[test]
fn a_unit_that_cannot_be_reached_is_bad_though_it_is_read_seldom() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
    let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"10m\"");
    let mut bench = bench(&desk.url(), &format!("{rest}{}", five()));
    bench.until("all is there", |bench| bench.input("c").1 == GOOD && bench.driver.is_confirmed());
    desk.answer(|_| Answer::never());
    drop(desk);
    // Nobody reads for ten minutes, and an output finds out: two silences, and then no connection.
    bench.output("old", Value::Int(3));
    bench.until("it is bad", |bench| bench.input("c") == (Value::Int(300), Quality::NoComm));
}

/// A read that went its own way was a cycle late half of the time.
#[test]
fn reads_end_just_before_a_cycle_of_the_scan() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
    let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"40ms\"");
    let mut bench = bench(&desk.url(), &format!("{rest}{}", five()));
    bench.driver.pace(ms(40));
    bench.until("all is read", |bench| bench.input("c").1 == GOOD);
    let asked = desk.all().len();
    desk.until("it is read again", |all| all.len() > asked);
    // Cycles that come just before the rhythm that the reads began with.
    let mut cycle = Instant::now() + ms(38);
    let mut ages = Vec::new();
    for _ in 0..30 {
        std::thread::sleep(cycle.saturating_duration_since(Instant::now()));
        bench.cycle();
        ages.push(age(&bench, "c"));
        cycle += ms(40);
    }
    ages.sort();
    assert!(ages[15] < ms(15), "values are {ages:?} old when the scan reads them");
}

/// An output that changed in every cycle was an alarm.
#[test]
fn an_output_that_changes_all_the_time_is_under_way() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address).late(ms(20)));
    let rest = ONE_UNIT.replace("50ms", "1s");
    let mut bench = bench(&desk.url(), &format!("{rest}{}", five()));
    bench.until("it is safe", |bench| bench.is_confirmed("old"));
    let delivery = |bench: &Bench| bench.driver.delivery(bench.points.find("old").unwrap());
    let started = Instant::now();
    for value in 0u8.. {
        bench.output("old", Value::Int(value.into()));
        bench.pass(ms(10));
        assert_ne!(delivery(&bench), Delivery::Unconfirmed, "{value}");
        if started.elapsed() > ms(2000) {
            break;
        }
    }
    assert_eq!(delivery(&bench), Delivery::UnderWay);
    desk.answer(|_| Answer::never());
    bench.output("old", Value::Int(300));
    bench.until("it is not taken", |bench| delivery(bench) == Delivery::Unconfirmed);
    desk.answer(|asked: &Asked| asked.sound(|address| address));
    bench.until("it is taken", |bench| delivery(bench) == Delivery::Confirmed);
}
