//! Connections that the other side closes: after replies, at one request, for a unit that is not
//! there, while idle. Nothing but the request that was the cause may notice it.

use std::time::{Duration, Instant};

use camshaft::process::image::{Quality, Value};

use super::{
    Answer, Asked, Bench, Desk, Frames, GOOD, ONE_UNIT, TWO_OUTPUTS, bench, fact, ms, part, state,
};

/// Two registers that are read with one request each, and two outputs.
fn four() -> String {
    let inputs = r#"
    { name = "a", direction = "in", type = "u16", stale_after = "400ms", at = { group = "g", address = 100 } },
    { name = "b", direction = "in", type = "u16", stale_after = "400ms", at = { group = "g", address = 200 } },
    "#;
    format!("point = [{inputs}{TWO_OUTPUTS}]")
}

fn count(desk: &Desk, is_it: impl Fn(&Asked) -> bool) -> usize {
    desk.all().iter().filter(|asked| is_it(asked)).count()
}

/// Cycles for so long; the inputs must be good and the outputs confirmed all the time.
#[track_caller]
fn stays(bench: &mut Bench, time: Duration, inputs: &[&str], outputs: &[&str]) {
    let started = Instant::now();
    while started.elapsed() < time {
        bench.pass(ms(5));
        for input in inputs {
            assert_eq!(bench.input(input).1, GOOD, "{input}: {:?}", bench.told());
        }
        for output in outputs {
            assert!(bench.is_confirmed(output), "{output}: {:?}", bench.told());
        }
        assert_eq!(bench.fault, None, "{:?}", bench.told());
    }
}

#[test]
fn a_close_after_replies_costs_a_connection_and_nothing_else() {
    for (frames, every) in [(Frames::Tcp, 1), (Frames::Tcp, 3), (Frames::Rtu, 1)] {
        let desk = Desk::open(frames, move |asked: &Asked| {
            let answer = asked.sound(|address| address);
            if asked.nth % every == every - 1 { answer.closing(Duration::ZERO) } else { answer }
        });
        let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"50ms\"");
        let mut bench = bench(&desk.url(), &format!("{rest}{}", four()));
        bench.until("all is there", |bench| {
            let is_good = |name| bench.input(name).1 == GOOD;
            is_good("a") && is_good("b") && bench.is_confirmed("old") && bench.is_confirmed("new")
        });
        let (reads, started) = (count(&desk, |asked| asked.function == 3), Instant::now());
        stays(&mut bench, ms(2000), &["a", "b"], &["old", "new"]);
        assert_eq!(bench.input("b").0, Value::Int(200));
        let reads = count(&desk, |asked| asked.function == 3) - reads;
        let due = 2.0 * started.elapsed().as_secs_f64() / 0.05;
        assert!(reads as f64 > 0.8 * due, "{frames:?}, {every}: {reads} reads, {due} were due");
        for function in [6, 16] {
            let writes = count(&desk, |asked| asked.function == function);
            assert_eq!(writes, 1, "{frames:?}, {every}: written with {function}");
        }
        assert!(fact(&bench, "", "connections") > 10.0);
    }
}

#[test]
fn a_close_while_idle_is_no_alarm() {
    for frames in [Frames::Tcp, Frames::Rtu] {
        let desk =
            Desk::open(frames, |asked: &Asked| asked.sound(|address| address).closing(ms(60)));
        let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"300ms\"");
        let mut bench = bench(&desk.url(), &format!("{rest}{}", four()));
        bench.until("all is there", |bench| {
            bench.input("b").1 == GOOD && bench.is_confirmed("old") && bench.is_confirmed("new")
        });
        bench.pass(ms(300));
        let opened = fact(&bench, "", "connections");
        stays(&mut bench, ms(3000), &["a", "b"], &["old", "new"]);
        let opened = fact(&bench, "", "connections") - opened;
        assert!((6.0..=14.0).contains(&opened), "{opened} connections for 10 polls");
        assert_eq!(count(&desk, |asked| matches!(asked.function, 6 | 16)), 2);
    }
}

/// Whether the server closes the connection in place of an answer to this request.
type Closes = fn(&Asked) -> bool;

/// A request was the cause if the connection ends at it twice.
#[test]
fn a_request_that_closes_is_put_off_and_the_rest_goes_on() {
    let cases: [(&str, Closes); 3] = [
        ("a read", |asked| (asked.function, asked.address()) == (3, 100)),
        ("a write", |asked| asked.function == 16),
        ("the first of all", |asked| asked.nth == 0 || asked.function == 6),
    ];
    for frames in [Frames::Tcp, Frames::Rtu] {
        for (what, closes) in cases {
            let desk = Desk::open(frames, move |asked: &Asked| match closes(asked) {
                true => Answer::never().closing(Duration::ZERO),
                false => asked.sound(|address| address),
            });
            let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"20ms\"");
            let mut bench = bench(&desk.url(), &format!("{rest}{}", four()));
            let (inputs, outputs): (&[_], &[_]) = match what {
                "a read" => (&["b"], &["old", "new"]),
                "a write" => (&["a", "b"], &["old"]),
                _ => (&["a", "b"], &["new"]),
            };
            bench.until(what, |bench| {
                inputs.iter().all(|name| bench.input(name).1 == GOOD)
                    && outputs.iter().all(|name| bench.is_confirmed(name))
            });
            // The request is tried a few times until it is put off.
            bench.pass(ms(500));
            let before = desk.all().len();
            stays(&mut bench, ms(2000), inputs, outputs);
            let asked = desk.all().split_off(before);
            let closed = asked.iter().filter(|asked| closes(asked)).count();
            assert!(closed <= 20, "{frames:?}: {what}: tried {closed} times in 2 s");
            let reads = asked.iter().filter(|asked| asked.function == 3 && !closes(asked)).count();
            assert!(reads > 60 * inputs.len(), "{frames:?}: {what}: {reads} reads in 2 s");
            assert_eq!(bench.is_confirmed("new"), what != "a write");
            assert_eq!(bench.is_confirmed("old"), outputs.contains(&"old"));
        }
    }
}

#[test]
fn a_gateway_that_closes_for_a_dead_unit_costs_the_others_nothing() {
    for frames in [Frames::Tcp, Frames::Rtu] {
        let desk = Desk::open(frames, |asked: &Asked| match asked.unit {
            2 => Answer::never().closing(Duration::ZERO),
            _ => asked.sound(|_| 5),
        });
        let rest = r#"
            timeout = "20ms"
            unit = [{ name = "first", id = 1 }, { name = "second", id = 2, probe = "500ms" }]
            group = [
              { name = "one", unit = "first", table = "input", period = "20ms" },
              { name = "two", unit = "second", table = "input", period = "20ms" },
            ]
            point = [
              { name = "one", direction = "in", type = "u16", stale_after = "200ms",
                at = { group = "one", address = 0 } },
              { name = "two", direction = "in", type = "u16", at = { group = "two", address = 0 } },
              { name = "fan", direction = "out", type = "u16", safe = 1,
                at = { unit = "first", address = 1 } },
            ]"#;
        let mut bench = bench(&desk.url(), rest);
        bench.until("the dead one is known to be", |bench| {
            state(bench, "second") == "offline" && bench.is_confirmed("fan")
        });
        assert_eq!(bench.input("two").1, Quality::NoComm);
        let before = desk.all().len();
        stays(&mut bench, ms(4000), &["one"], &["fan"]);
        let asked = desk.all().split_off(before);
        let of = |unit| asked.iter().filter(|asked| asked.unit == unit).count();
        assert!(of(1) > 160, "{frames:?}: the sound one was read {} times of 200", of(1));
        assert!((4..=24).contains(&of(2)), "{frames:?}: the dead one was probed {} times", of(2));
        assert_eq!(count(&desk, |asked| asked.function == 16), 1, "{frames:?}");
        desk.answer(|asked: &Asked| asked.sound(|_| 6));
        bench.until("it comes back", |bench| bench.input("two") == (Value::Int(6), GOOD));
    }
}

#[test]
fn a_heartbeat_or_a_readback_that_closes_leaves_the_rest_alone() {
    let rest = r#"
        timeout = "20ms"
        unit = [{ name = "u", id = 1 }]
        group = [{ name = "g", unit = "u", table = "holding", period = "20ms" }]
        heartbeat = { unit = "u", address = 9, period = "20ms" }
        point = [
          { name = "a", direction = "in", type = "u16", stale_after = "400ms", at = { group = "g", address = 100 } },
          { name = "out", direction = "out", type = "u16", safe = 7, at = { unit = "u", address = 60 } },
          { name = "back", direction = "out", type = "u16", safe = 7,
            at = { unit = "u", address = 70, readback = true } },
        ]"#;
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match (asked.function, asked.address()) {
        (6, 9) | (3, 70) => Answer::never().closing(Duration::ZERO),
        _ => asked.sound(|address| address),
    });
    let mut bench = bench(&desk.url(), rest);
    bench.until("the rest is there", |bench| {
        bench.input("a").1 == GOOD && bench.is_confirmed("out")
    });
    let before = desk.all().len();
    stays(&mut bench, ms(3000), &["a"], &["out"]);
    assert!(!bench.is_confirmed("back"), "it was never read back");
    let asked = desk.all().split_off(before);
    let reads = asked.iter().filter(|asked| (asked.function, asked.address()) == (3, 100)).count();
    assert!(reads > 100, "{reads} reads of 150");
    let beats = asked.iter().filter(|asked| asked.function == 6).count();
    assert!(beats < 100, "{beats} beats in 3 s");
}

/// The header of some exceptions counts one byte too few.
#[test]
fn a_wrong_header_is_a_missing_reply_of_its_request() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match asked.address() {
        200 => asked.refused(1).spoiled(|frame| frame[5] = 2),
        _ => asked.sound(|address| address),
    });
    let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"20ms\"");
    let mut bench = bench(&desk.url(), &format!("{rest}{}", four()));
    bench.until("the other one is there", |bench| {
        bench.input("a").1 == GOOD && bench.is_confirmed("new")
    });
    bench.pass(ms(500));
    stays(&mut bench, ms(1500), &["a"], &["old", "new"]);
    let name = "group g, table holding from address 200";
    assert_eq!(part(&bench, name).state, "not answered");
    assert!(fact(&bench, "u", "closed") > 2.0);
}

/// What has run for long and ends at once may have lost its outputs.
#[test]
fn after_a_restart_outputs_are_written_again() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
    let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"20ms\"");
    let mut bench = bench(&desk.url(), &format!("{rest}{}", four()));
    bench.until("it is written", |bench| bench.is_confirmed("new"));
    bench.pass(ms(10_500));
    let writes = |desk: &Desk| count(desk, |asked| asked.function == 16);
    assert_eq!(writes(&desk), 1);
    desk.answer(|asked: &Asked| {
        let answer = asked.sound(|address| address);
        if asked.connection == 0 { answer.closing(Duration::ZERO) } else { answer }
    });
    bench.until("it is written again", |bench| writes(&desk) == 2 && bench.is_confirmed("new"));
    bench.pass(ms(300));
    assert_eq!(fact(&bench, "", "connections"), 2.0);
    assert_eq!(writes(&desk), 2);
}

/// A device that is gone is an alarm, whatever its last connection was like.
#[test]
fn a_close_with_nothing_behind_it_is_a_loss() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| {
        asked.sound(|address| address).closing(Duration::ZERO)
    });
    let rest = ONE_UNIT.replace("period = \"5ms\"", "period = \"20ms\"");
    let mut bench = bench(&desk.url(), &format!("{rest}{}", four()));
    bench.until("it is written", |bench| bench.is_confirmed("new"));
    desk.close();
    bench.until("it is told", |bench| {
        bench.fault.is_some() && !bench.is_confirmed("new") && bench.input("a").1 != GOOD
    });
    assert!(state(&bench, "").starts_with("not connected: "), "{}", state(&bench, ""));
}
