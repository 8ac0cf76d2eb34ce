//! Tests of a whole daemon that controls the level of a simulated tank over Modbus.
//!
//! The controller is the program `plugins/tank.wasm`. The tank is the script `tests/peers/tank.py`,
//! which uses an independent Modbus server. The Modbus driver alone is tested in
//! `device/modbus.rs`.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use camshaft::control::PointView;
use camshaft::driver::Delivery;
use camshaft::process::image::{Quality, Value};

use super::peer::Script;
use crate::daemon::{Daemon, Keys, Plant, wait};
use crate::rig::block_on;

/// The tank of `tests/peers/tank.py`.
struct Tank {
    script: Script,
    url: String,
}

impl Tank {
    fn start(kind: &str, port: u16) -> Self {
        let (script, url) = Script::serving("tank.py", kind, port);
        Self { script, url }
    }

    /// Level in percent, valve in thousandths.
    fn look(&mut self) -> (f64, u16) {
        self.script.ask("")
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A daemon with the tank's controller, and this tank in the field.
fn daemon(tank: &Tank) -> Daemon {
    let tables = format!(
        r#"
        [[device]]
        name = "field"
        driver = "modbus"
        connect = "{}"
        {}
        timeout = "100ms"
        unit = [ {{ name = "tank", id = 1, probe = "500ms" }} ]
        group = [ {{ name = "fast", unit = "tank", table = "input", period = "20ms" }} ]
        point = [
          {{ name = "tank.level", direction = "in", type = "u16", scale = 0.01, unit = "%",
             at = {{ group = "fast", address = 0 }} }},
          {{ name = "tank.inflow", direction = "out", type = "u16", scale = 0.1, unit = "%", safe = 0,
             at = {{ unit = "tank", address = 0 }} }},
        ]"#,
        tank.url,
        if tank.url.starts_with("rtu:") { "baud = 115200" } else { "" },
    );
    let plant = Plant::new(Keys { tables: &tables, ..Keys::default() });
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/tank.wasm");
    std::fs::copy(module, plant.plugins().join("tank.wasm")).unwrap();
    Daemon::on(plant)
}

fn point(daemon: &Daemon, name: &str) -> PointView {
    let points = block_on(daemon.client.points()).unwrap();
    points.into_iter().find(|view| view.name == name).unwrap()
}

fn level(daemon: &Daemon) -> (f64, Quality) {
    let view = point(daemon, "tank.level");
    let Value::Real(level) = view.value else { panic!("{view:?}") };
    (level, view.reason)
}

/// Waits until the level is where the controller keeps it.
fn wait_for_setpoint(daemon: &Daemon, tank: &mut Tank) {
    let about = |level: f64| (57.0..64.0).contains(&level);
    wait("the level is at its setpoint of 60 %", Duration::from_secs(60), || {
        let (seen, quality) = level(daemon);
        let (real, valve) = tank.look();
        (quality == Quality::Good && about(seen) && about(real) && valve > 0).then_some(())
    });
    assert_eq!(point(daemon, "tank.inflow").owner.as_deref(), Some("tank"));
}

#[test]
#[ignore = "needs pymodbus"]
fn a_tank_over_tcp_is_controlled_lost_and_controlled_again() {
    let port = free_port();
    let mut tank = Tank::start("tcp", port);
    let daemon = daemon(&tank);
    wait_for_setpoint(&daemon, &mut tank);
    let before = daemon.status();
    drop(tank);
    wait("the level is bad, and keeps its value", Duration::from_secs(20), || {
        let (level, quality) = level(&daemon);
        assert!(level > 50.0, "nothing becomes 0 by accident: {level}");
        (quality == Quality::NoComm).then_some(())
    });
    wait("nobody knows what the valve has", Duration::from_secs(20), || {
        let status = daemon.status();
        let device = status.devices.iter().find(|device| device.name == "field").unwrap();
        let is_doubted = point(&daemon, "tank.inflow").delivery == Some(Delivery::Unconfirmed);
        (is_doubted && !device.confirmed && device.fault.is_some()).then_some(())
    });
    wait("the log names it", Duration::from_secs(20), || {
        let said = |words: &str| daemon.log().iter().any(|line| line.message.contains(words));
        (said("UNCONFIRMED") && said("tank.inflow of field")).then_some(())
    });
    let mut tank = Tank::start("tcp", port);
    wait_for_setpoint(&daemon, &mut tank);
    let after = daemon.status();
    let witness = |status: &camshaft::control::StatusView| {
        status.plugins.iter().find(|plugin| plugin.name == "witness").unwrap().polls
    };
    let cycles = after.cycle - before.cycle;
    assert_eq!(witness(&after) - witness(&before), cycles, "the scan has not noticed");
    let (status, ..) = daemon.stop();
    assert_eq!(status.code(), Some(0), "safe outputs are confirmed");
    assert_eq!(tank.look().1, 0, "the valve is shut");
}

#[test]
#[ignore = "needs pymodbus"]
fn a_tank_on_a_serial_line_is_controlled() {
    let mut tank = Tank::start("rtu", 0);
    let daemon = daemon(&tank);
    wait_for_setpoint(&daemon, &mut tank);
    let (status, ..) = daemon.stop();
    assert_eq!(status.code(), Some(0), "safe outputs are confirmed");
    assert_eq!(tank.look().1, 0, "the valve is shut");
}
