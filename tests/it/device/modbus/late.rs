//! Replies that come too late, twice, or damaged: none of them is ever a value.

use std::time::Duration;

use camshaft::process::image::Value;

use super::{Answer, Asked, Bench, Desk, Frames, GOOD, ONE_UNIT, bench, fact};

/// Three registers that are read with requests of the same shape.
const THREE: &str = r#"point = [
    { name = "a", direction = "in", type = "u16", at = { group = "g", address = 100 } },
    { name = "b", direction = "in", type = "u16", at = { group = "g", address = 200 } },
    { name = "c", direction = "in", type = "u16", at = { group = "g", address = 300 } },
]"#;

/// Cycles for so long, and looks at every value that is passed on; gives how often there was one.
fn watch(bench: &mut Bench, time: Duration) -> usize {
    let started = std::time::Instant::now();
    let mut good = 0;
    while started.elapsed() < time {
        bench.cycle();
        for (name, address) in [("a", 100), ("b", 200), ("c", 300)] {
            let (value, quality) = bench.input(name);
            if quality == GOOD {
                assert_eq!(value, Value::Int(address), "{name} has the value of another register");
                good += 1;
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    good
}

/// Every fifth reply comes after a time from just in time to nearly three times what is waited for.
fn sometimes_late(asked: &Asked) -> Answer {
    let answer = asked.sound(|address| address);
    match asked.nth % 5 {
        4 => answer.late(Duration::from_millis(20 + 12 * (asked.nth as u64 / 5 % 8))),
        _ => answer,
    }
}

#[test]
fn a_late_reply_never_becomes_the_value_of_another_register() {
    for frames in [Frames::Tcp, Frames::Rtu] {
        let desk = Desk::open(frames, sometimes_late);
        let rest = ONE_UNIT.replace("50ms", "40ms").replace("period = \"5ms\"", "period = \"1ms\"");
        // The unit shall not count as absent, and requests not be repeated: the worst case.
        let rest =
            format!("retries = 0\n{}", rest.replace("id = 1", "id = 1, offline_after = 200"));
        let mut bench = bench(&desk.url(), &format!("{rest}{THREE}"));
        let good = watch(&mut bench, Duration::from_secs(6));
        assert!(good > 1000, "{frames:?}: {good} good values were seen");
        let timeouts = fact(&bench, "u", "timeouts");
        assert!(timeouts > 5.0, "{frames:?}: {timeouts} replies were late");
    }
}

#[test]
fn a_server_that_gives_late_replies_a_new_number_deceives_nobody() {
    let started = std::time::Instant::now();
    let desk = Desk::open(Frames::Tcp, move |asked: &Asked| {
        let answer = asked.sound(|address| address);
        let late =
            Duration::from_millis([60, 75, 90, 105, 120][started.elapsed().as_secs() as usize % 5]);
        let is_late = asked.nth > 50 && started.elapsed() < Duration::from_secs(5);
        if is_late { answer.late(late).renumbered() } else { answer }
    });
    let rest = ONE_UNIT.replace("id = 1", "id = 1, offline_after = 200");
    let mut bench = bench(&desk.url(), &format!("retries = 0\n{rest}{THREE}"));
    let good = watch(&mut bench, Duration::from_secs(6));
    assert!(good > 100, "{good} good values were seen");
    let doubtful = fact(&bench, "u", "doubtful");
    assert!(doubtful >= 1.0, "{doubtful} replies were doubted");
}

#[test]
fn damage_never_becomes_a_value() {
    let spoils: [fn(&mut Vec<u8>); 6] = [
        // One bit, the unit, the function code, the length, the end, everything.
        |frame| *frame.iter_mut().rev().nth(2).unwrap() ^= 4,
        |frame| frame[0] ^= 1,
        |frame| frame[1] ^= 1,
        |frame| frame[2] += 1,
        |frame| frame.truncate(5),
        |frame| frame.iter_mut().for_each(|byte| *byte ^= 0x5a),
    ];
    for (n, spoil) in spoils.into_iter().enumerate() {
        let desk = Desk::open(Frames::Rtu, move |asked: &Asked| {
            let answer = asked.sound(|address| address);
            if asked.nth % 3 == 2 { answer.spoiled(spoil) } else { answer }
        });
        let rest = ONE_UNIT.replace("id = 1", "id = 1, offline_after = 200");
        let mut bench = bench(&desk.url(), &format!("{rest}{THREE}"));
        let good = watch(&mut bench, Duration::from_millis(1500));
        assert!(good > 100, "spoil {n}: {good} good values were seen");
        let seen = fact(&bench, "u", "crc") + fact(&bench, "u", "garbage");
        assert!(seen > 1.0, "spoil {n}: seen {seen} times");
    }
}

#[test]
fn what_is_no_frame_ends_a_connection_and_another_begins() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match asked.nth {
        // Another protocol than Modbus.
        10 => asked.sound(|address| address).spoiled(|frame| frame[2] = 1),
        // Another unit answers, with the right number.
        20 => asked.sound(|_| 7).spoiled(|frame| frame[6] = 9),
        // A frame of another transaction comes first.
        30 => asked.sound(|address| address).spoiled(|frame| {
            let mut other = frame.clone();
            other[0] ^= 0x80;
            *other.last_mut().unwrap() ^= 1;
            frame.splice(0..0, other);
        }),
        _ => asked.sound(|address| address),
    });
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{THREE}"));
    watch(&mut bench, Duration::from_millis(300));
    bench.until("it goes on", |_| desk.all().len() > 60);
    watch(&mut bench, Duration::from_millis(300));
    assert_eq!(fact(&bench, "", "connections"), 2.0);
    bench.until("it is counted", |bench| fact(bench, "u", "garbage") == 1.0);
}
