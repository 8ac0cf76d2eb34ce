//! Tests of devices that a reload has removed, if the daemon stops directly after the reload.
//!
//! Such a device must get its last outputs before the daemon ends. If it does not, the log must
//! name the outputs, because the next start does not know this device any more.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{hang, patient};
use crate::daemon::{Daemon, Keys, LIMIT, Plant, wait};
use crate::device::modbus::desk::{Answer, Asked, Desk, Frames};
use crate::rig::{block_on, wat};

/// Writes 9 to the first pump.
const RUNS: &str = r#"(module
  (import "env" "wasm_write_output" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\09\00")
  (func (export "poll") (drop (call $write (i32.const 40) (i32.const 0) (i32.const 2)))))"#;

/// A device with a register that is read all the time, and a pump that is safe at 7.
fn pump(number: u16, desk: &Desk) -> String {
    format!(
        r#"
        [[device]]
        name = "dev{number}"
        driver = "modbus"
        connect = "{}"
        timeout = "900ms"
        unit = [{{ name = "u", id = 1 }}]
        group = [{{ name = "g", unit = "u", table = "holding", period = "5ms" }}]
        point = [
          {{ name = "level{number}", direction = "in", type = "u16", address = {},
             at = {{ group = "g", address = 100 }} }},
          {{ name = "pump{number}", direction = "out", type = "u16", safe = 7, address = {},
             at = {{ unit = "u", address = 60 }} }},
        ]
        "#,
        desk.url(),
        40 + 2 * number,
        40 + 2 * number
    )
}

/// What the pumps were told last.
fn last_told(desk: &Desk) -> Option<u8> {
    let all = desk.all();
    all.iter().rev().find(|asked| asked.function == 16)?.bytes.last().copied()
}

/// A daemon whose first pump runs.
fn start(desk: &Desk) -> Daemon {
    let plant = Plant::new(Keys { tables: &pump(0, desk), ..Keys::default() });
    plant.drop_in("runs", &wat(RUNS));
    let daemon = Daemon::on(plant);
    wait("the pump runs", LIMIT, || (last_told(desk) == Some(9)).then_some(()));
    daemon
}

/// Its thread died with the process, before the pump was off.
#[test]
fn a_stop_waits_for_a_device_that_has_just_left() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
    let daemon = start(&desk);
    desk.answer(|asked| match asked.function {
        3 => asked.sound(|address| address).late(Duration::from_millis(600)),
        _ => asked.sound(|address| address),
    });
    let before = desk.all().len();
    desk.until("a slow answer is waited for", |all| all.len() > before);
    daemon.configure(Keys::default());
    block_on(daemon.client.reload()).unwrap();
    let (status, time, plant) = daemon.stop();
    println!("{status} after {time:?}");
    assert_eq!(last_told(&desk), Some(7), "the pump is safe");
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(plant.path("log")).unwrap();
    assert!(text.contains("stopped; the devices have confirmed their safe outputs"), "{text}");
}

/// The log ended with the words that all devices have confirmed their safe outputs.
#[test]
fn a_stop_names_what_a_device_that_has_just_left_has_not_taken() {
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
    let daemon = start(&desk);
    desk.answer(|asked| match asked.function {
        16 => Answer::never(),
        _ => asked.sound(|address| address),
    });
    daemon.configure(Keys::default());
    block_on(daemon.client.reload()).unwrap();
    let (status, time, plant) = daemon.stop();
    println!("{status} after {time:?}");
    let text = fs::read_to_string(plant.path("log")).unwrap();
    let words = "error: stopped, but device dev0 was removed by a reload, and its last outputs are \
                 UNCONFIRMED: pump0; check them by hand";
    assert!(text.contains(words), "{text}");
    assert!(!status.success() && time < Duration::from_secs(5), "{status} {time:?}");
}

/// A second each, one after the other, before anybody looked at the time; and nobody was told.
#[test]
fn devices_that_leave_while_the_daemon_stops_leave_at_the_same_time_and_are_named() {
    const PUMPS: u16 = 8;
    let dead = |_| Desk::open(Frames::Tcp, |_: &Asked| Answer::never());
    let desks: Vec<_> = (0..PUMPS).map(dead).collect();
    let tables: String = (0..PUMPS).zip(&desks).map(|(number, desk)| pump(number, desk)).collect();
    let plant = Plant::new(Keys { tables: &tables, ..Keys::default() });
    patient(&plant);
    let daemon = Daemon::on(plant);
    hang(&daemon, "2s");
    daemon.configure(Keys::default());
    patient(&daemon);
    let client = daemon.client.clone();
    let reload = thread::spawn(move || block_on(client.reload()));
    daemon.wait_log("", &["reloaded: "]);
    daemon.kill(Signal::SIGTERM);
    let (status, time, plant) = daemon.stop();
    println!("{status} after {time:?}");
    reload.join().unwrap().expect("it was carried out");
    let text = fs::read_to_string(plant.path("log")).unwrap();
    for number in 0..PUMPS {
        let words = format!(
            "device dev{number} was removed by a reload, and its last outputs are UNCONFIRMED"
        );
        assert_eq!(text.matches(&words).count(), 2, "in the log and at the end: {text}");
    }
    assert!(!status.success() && time < Duration::from_secs(6), "{status} {time:?}");
}
