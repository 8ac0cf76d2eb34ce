//! What a line or a server does to frames: echoes, noise, other numbers, other addresses, addresses
//! that do not exist.

use std::time::Duration;

use camshaft::process::image::{Quality, Value};

use super::{Answer, Asked, Bench, Desk, Frames, GOOD, ONE_UNIT, bench, fact, part, state};

const TWO: &str = r#"point = [
    { name = "a", direction = "in", type = "u16", at = { group = "g", address = 100 } },
    { name = "old", direction = "out", type = "u16", safe = 7,
      at = { unit = "u", address = 50, single = true } },
]"#;

/// Inputs of a group, each with its name and its address, as a list of the configuration.
fn inputs(group: &str, kind: &str, all: impl Iterator<Item = (String, u16)>) -> String {
    let input = |(name, address)| {
        format!(
            "{{ name = \"{name}\", direction = \"in\", type = \"{kind}\", \
             at = {{ group = \"{group}\", address = {address} }} }},"
        )
    };
    all.map(input).collect()
}

fn is_there(bench: &mut Bench) -> bool {
    bench.input("a") == (Value::Int(100), GOOD) && bench.is_confirmed("old")
}

#[test]
fn an_echo_is_skipped() {
    let desk = Desk::open(Frames::Rtu, |asked: &Asked| asked.sound(|address| address).echoed());
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{TWO}"));
    bench.until("all is there", is_there);
    bench.until("the status says so", |bench| state(bench, "").contains("echo"));
    // The unit takes reads only; the echo of a write must not be its answer.
    desk.answer(|asked: &Asked| match asked.function {
        6 => Answer::never().echoed(),
        _ => asked.sound(|address| address).echoed(),
    });
    bench.output("old", Value::Int(8));
    desk.until_cycling(&mut bench, "it is written", |all| all.iter().any(|it| it.bytes[3] == 8));
    bench.pass(Duration::from_millis(500));
    assert!(!bench.is_confirmed("old"), "only the echo has confirmed it");
}

/// Function 1 gives back 24 bits in as many bytes as its request has.
#[test]
fn an_echo_with_nobody_on_the_line_is_no_value_and_confirms_nothing() {
    let desk = Desk::open(Frames::Rtu, |_: &Asked| Answer::never().echoed());
    let bits = inputs("c", "bool", (0x300..0x314).map(|n| (format!("c{n}"), n)));
    let rest = r#"
        timeout = "30ms"
        unit = [{ name = "u", id = 1, probe = "100ms" }]
        group = [{ name = "c", unit = "u", table = "coil", period = "5ms" }]
        point = [BITS
          { name = "old", direction = "out", type = "u16", safe = 7,
            at = { unit = "u", address = 50, single = true } } ]"#;
    let mut bench = bench(&desk.url(), &rest.replace("BITS", &bits));
    bench.until("the unit is offline", |bench| state(bench, "u") == "offline");
    bench.pass(Duration::from_millis(500));
    for n in 0x300..0x314 {
        assert_ne!(bench.input(&format!("c{n}")).1, GOOD, "c{n}");
    }
    assert!(!bench.is_confirmed("old"));
    assert!(fact(&bench, "u", "timeouts") > 2.0);
}

/// A person by hand is not deceived either.
#[test]
fn a_write_by_hand_is_not_confirmed_by_its_own_echo() {
    let camshaft = |desk: &Desk, arguments: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_camshaft"));
        command.arg("modbus").args(arguments.replace("BUS", &desk.url()).split_whitespace());
        let done = command.args(["--timeout", "200ms"]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&done.stdout), text(&done.stderr), done.status.code())
    };
    let desk = Desk::open(Frames::Rtu, |_: &Asked| Answer::never().echoed());
    for arguments in ["write BUS holding 50 7 --single", "read BUS holding 50"] {
        let (printed, said, code) = camshaft(&desk, arguments);
        assert_eq!((&*printed, code), ("", Some(1)), "{arguments}: {said}");
        assert!(said.contains("only the echo of the request"), "{arguments}: {said}");
    }
    desk.answer(|asked: &Asked| asked.sound(|address| address).echoed());
    let (printed, said, code) = camshaft(&desk, "write BUS holding 50 7 --single --trace");
    assert_eq!((&*printed, code), ("unit 1 has acknowledged holding 50: 7 (0007)\n", Some(0)));
    assert!(said.contains("the line gives back each request as an echo"), "{said}");
    assert!(said.contains("sent 01 06 00 32 00 07"), "{said}");
    assert!(said.contains("received 01 06 00 32 00 07"), "{said}");
}

#[test]
fn noise_before_a_reply_is_skipped() {
    for noise in [&[0][..], &[0xff, 0], &[3], &[1], &[2, 3, 2]] {
        let bytes = noise.to_vec();
        let desk = Desk::open(Frames::Rtu, move |asked: &Asked| {
            asked.sound(|address| address).after_noise(&bytes)
        });
        let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}{TWO}"));
        bench.until("all is there", is_there);
        assert_eq!(fact(&bench, "u", "crc") + fact(&bench, "u", "garbage"), 0.0, "{noise:x?}");
    }
}

#[test]
fn a_fixed_transaction_number_is_named_and_can_be_ignored() {
    let zero: fn(&mut Vec<u8>) = |frame| frame[..2].fill(0);
    let desk =
        Desk::open(Frames::Tcp, move |asked: &Asked| asked.sound(|address| address).spoiled(zero));
    let mut strict = bench(&desk.url(), &format!("{ONE_UNIT}{TWO}"));
    strict.until("the unit is offline", |bench| state(bench, "u") == "offline");
    assert_eq!(strict.input("a").1, Quality::NoComm);
    assert!(fact(&strict, "u", "garbage") > 2.0, "{:?}", part(&strict, "u"));
    let mut easy = bench(&desk.url(), &format!("transaction = \"ignore\"\n{ONE_UNIT}{TWO}"));
    easy.until("all is there", is_there);
    // A late reply is then as on a line without numbers.
    desk.answer(move |asked: &Asked| {
        let answer = asked.sound(|address| address).spoiled(zero);
        if asked.nth.is_multiple_of(7) { answer.late(Duration::from_millis(70)) } else { answer }
    });
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        easy.cycle();
        let (value, quality) = easy.input("a");
        assert!(quality != GOOD || value == Value::Int(100), "{value}");
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn a_unit_may_answer_with_another_address() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| {
        asked.sound(|address| address).spoiled(|frame| frame[6] = 0)
    });
    let mut strict = bench(&desk.url(), &format!("{ONE_UNIT}{TWO}"));
    strict.until("the unit is offline", |bench| state(bench, "u") == "offline");
    let rest = ONE_UNIT.replace("id = 1", "id = 1, answers_as = 0");
    let mut other = bench(&desk.url(), &format!("{rest}{TWO}"));
    other.until("all is there", is_there);
}

#[test]
fn the_first_request_waits_for_the_connect_delay() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
    let started = std::time::Instant::now();
    let mut bench = bench(&desk.url(), &format!("connect_delay = \"300ms\"\n{ONE_UNIT}{TWO}"));
    bench.until("all is there", is_there);
    let passed = started.elapsed();
    assert!(passed >= Duration::from_millis(300), "{passed:?}");
}

/// Ten registers side by side, of which one does not exist.
#[test]
fn a_hole_in_a_read_costs_its_own_points_and_is_named() {
    let has_hole = |hole: u16, from: u16, count: u16| (from..from + count).contains(&hole);
    let desk = Desk::open(Frames::Tcp, move |asked: &Asked| {
        match has_hole(104, asked.address(), asked.count()) {
            true => asked.refused(2),
            false => asked.sound(|address| address),
        }
    });
    let points = inputs("g", "u16", (100..110).map(|n| (format!("r{n}"), n)));
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}point = [{points}]"));
    let good = |bench: &mut Bench| {
        let is_good = |n: &u16| bench.input(&format!("r{n}")) == (Value::Int((*n).into()), GOOD);
        (100..110).filter(is_good).collect::<Vec<u16>>()
    };
    bench.until("nine are there", |bench| good(bench).len() == 9);
    bench.until("the hole is known", |bench| bench.input("r104").1 == Quality::Config);
    let name = "group g, table holding from address 104";
    bench.until("the status names it", |bench| {
        part(bench, name).state == "address 104: exception 2 (illegal data address)"
    });
    // In the end each side of the hole is one request, and the hole is left alone.
    bench.pass(Duration::from_millis(300));
    let before = desk.all().len();
    bench.pass(Duration::from_millis(500));
    let mut ranges: Vec<_> = desk.all().split_off(before);
    ranges.sort_by_key(|asked| (asked.address(), asked.count()));
    ranges.dedup_by_key(|asked| (asked.address(), asked.count()));
    let ranges: Vec<_> = ranges.iter().map(|asked| (asked.address(), asked.count())).collect();
    assert_eq!(ranges, [(100, 4), (105, 5)]);
}

/// A unit that takes no more than eight registers at once.
#[test]
fn a_read_that_is_too_long_is_halved() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| match asked.count() > 8 {
        true if asked.function == 3 => asked.refused(3),
        _ => asked.sound(|address| address),
    });
    let points = inputs("g", "u32", (0..10).map(|n| (format!("r{n}"), 2 * n)));
    let mut bench = bench(&desk.url(), &format!("{ONE_UNIT}point = [{points}]"));
    bench.until("all are there", |bench| (0..10).all(|n| bench.input(&format!("r{n}")).1 == GOOD));
    assert_eq!(bench.input("r9").0, Value::Int(18 << 16 | 19));
    bench.pass(Duration::from_millis(300));
    let refused = desk.all().iter().filter(|asked| asked.count() > 8).count();
    bench.pass(Duration::from_millis(300));
    let later = desk.all().iter().filter(|asked| asked.count() > 8).count();
    assert_eq!(later, refused, "it is not tried again");
}
