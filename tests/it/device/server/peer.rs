//! The server, asked by those who speak Modbus well: pymodbus and mbpoll, in the end with the whole
//! daemon behind it.
//!
//! What a client can do wrong is in `strangers.rs` and `value.rs`.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use camshaft::process::image::{Quality, Value};
use serde_json::json;

use super::{ENERGY, Plant, SCADA, SOUND, open};
use crate::daemon::wait;
use crate::device::PATIENCE;
use crate::device::peer::{PyClient, mbpoll};

#[test]
#[ignore = "needs pymodbus"]
fn pymodbus_reads_all_types() {
    let (bench, port) = open(SCADA);
    SOUND.show(&bench);
    let mut client = PyClient::connect(port);
    assert_eq!(client.value(0, 2, "FLOAT32", "big"), json!(42.5));
    assert_eq!(client.value(2, 2, "FLOAT32", "little"), json!(42.5));
    assert_eq!(client.value(4, 1, "INT16", "big"), json!(425));
    assert_eq!(client.value(6, 4, "UINT64", "big"), json!(ENERGY));
    assert_eq!(client.value(10, 4, "UINT64", "little"), json!(ENERGY));
    assert_eq!(client.value(14, 2, "INT32", "big"), json!(-70_000));
    assert_eq!(client.value(16, 4, "FLOAT64", "big"), json!(0.1));
    assert_eq!(client.read("input_registers", 5, 1), json!([0x8001]));
    assert_eq!(client.read("input_registers", 36, 1), json!([42]));
    assert_eq!(client.read("holding_registers", 50, 1), json!([42]));
    assert_eq!(client.read("discrete_inputs", 0, 3), json!([true, true, true]));
    assert_eq!(client.read("coils", 100, 1), json!([true]));
    Plant { running: false, level: (-3.0, Quality::Good), ..SOUND }.show(&bench);
    assert_eq!(client.read("discrete_inputs", 0, 3), json!([false, true, true]));
    assert_eq!(client.read("input_registers", 5, 1), json!([0x8000]));
    assert_eq!(client.value(4, 1, "INT16", "big"), json!(-30));
    // A level below 0 does not fit a u16, and half of a number is none.
    assert_eq!(client.read("holding_registers", 50, 1), json!({ "exception": 4 }));
    assert_eq!(client.read("input_registers", 1, 2), json!({ "exception": 2 }));
    assert_eq!(client.read("input_registers", 18, 5), json!({ "exception": 2 }));
    assert_eq!(client.read("holding_registers", 51, 1), json!({ "exception": 2 }));
}

#[test]
#[ignore = "needs mbpoll"]
fn mbpoll_reads_and_writes() {
    let (mut bench, port) = open(SCADA);
    SOUND.show(&bench);
    let check = |arguments: &str, expected: &str| {
        let printed = mbpoll(port, arguments);
        assert!(printed.contains(expected), "mbpoll {arguments}: {printed}\nnot: {expected}");
    };
    check("-t 3:float -B -r 0", "[0]: \t42.5");
    check("-t 3:float -r 2", "[2]: \t42.5");
    check("-t 3:int -B -r 14", "[14]: \t-70000");
    check("-t 1 -r 0 -c 2", "[1]: \t1");
    check("-t 4 -r 100 -- 421", "Written 1 references.");
    bench.until("it is taken", |bench| {
        bench.input("scada.setpoint") == (Value::Real(421.0 * 0.1), Quality::Good)
    });
    check("-t 4 -r 100", "[100]: \t421");
    check("-t 4 -r 100 -- 1001", "Illegal data value");
    check("-t 4:float -B -r 101 -- -1.25", "Written 1 references.");
    bench.until("it is taken", |bench| {
        bench.input("scada.ramp") == (Value::Real(-1.25), Quality::Good)
    });
    check("-t 4 -r 50 -- 1", "Illegal data address");
    check("-t 0 -r 0 -- 1 0", "Written 2 references.");
    bench.until("both are taken", |bench| {
        bench.input("scada.start") == (Value::Bool(true), Quality::Good)
            && bench.input("scada.stop") == (Value::Bool(false), Quality::Good)
    });
    check("-a 2 -t 3 -r 4", "Target device failed to respond");
}

#[test]
#[ignore = "needs pymodbus"]
fn pymodbus_commands_expire() {
    let (mut bench, port) = open(SCADA);
    let mut client = PyClient::connect(port);
    assert_eq!(bench.input("scada.pulse"), (Value::Int(0), Quality::Waiting));
    // Never written is not 0.
    assert_eq!(client.read("holding_registers", 103, 2), json!({ "exception": 4 }));
    assert_eq!(client.read("holding_registers", 105, 1), json!([2]));
    let write = json!({ "call": "write_registers", "address": 103, "values": [0x0304, 0x0102] });
    client.ask(&write);
    bench.until("it is taken", |bench| {
        bench.input("scada.pulse") == (Value::Int(0x0102_0304), Quality::Good)
    });
    // The same again and again is still a command.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        client.ask(&write);
        bench.cycle();
        assert_eq!(bench.input("scada.pulse").1, Quality::Good);
    }
    assert_eq!(client.read("holding_registers", 103, 3), json!([0x0304, 0x0102, 0]));
    let silent = Instant::now();
    bench.until("it expires", |bench| bench.input("scada.pulse").1 == Quality::NoComm);
    let lasted = silent.elapsed();
    assert!((600..1500).contains(&lasted.as_millis()), "it lasted {lasted:?}");
    assert_eq!(bench.input("scada.pulse").0, Value::Int(0x0102_0304), "and stays what it was");
    assert_eq!(client.read("holding_registers", 103, 3), json!([0x0304, 0x0102, 2]));
    client.ask(&write);
    bench.until("it counts again", |bench| bench.input("scada.pulse").1 == Quality::Good);
}

/// A daemon that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs pymodbus"]
fn the_example_is_seen_and_commanded_by_scada() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = std::fs::read_to_string(root.join("config/modbus_server.toml")).unwrap();
    let text = text
        .replace("../plugins", root.join("plugins").to_str().unwrap())
        .replace("127.0.0.1:1502", &format!("127.0.0.1:{port}"));
    std::fs::write(folder.path().join("scada.toml"), text).unwrap();
    let places = ["STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY"];
    let camshaft = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
        command.args(arguments).current_dir(&folder).env_remove("NOTIFY_SOCKET");
        command.envs(places.map(|place| (place, folder.path())));
        command.env("CAMSHAFT_SOCKET", folder.path().join("control.sock")).stderr(Stdio::null());
        command
    };
    let _daemon = Running(camshaft(&["run", "scada.toml"]).stdout(Stdio::null()).spawn().unwrap());
    let listens = || TcpStream::connect(("127.0.0.1", port)).ok();
    wait("the server listens", PATIENCE, listens);
    let mut client = PyClient::connect(port);
    let mut level = || {
        let read = client.value(0, 2, "FLOAT32", "big").as_f64()?;
        let quality = client.read("input_registers", 2, 1);
        (quality == json!([0])).then_some(read)
    };
    let first = wait("a level is shown", PATIENCE, &mut level);
    wait("it moves", PATIENCE, || level().filter(|level| (level - first).abs() > 0.5));
    assert!((0.0..=100.0).contains(&first), "{first}");
    let setpoint = client.value(5, 2, "FLOAT32", "big");
    assert_eq!(setpoint, json!(60.0), "a variable");
    client.ask(&json!({ "call": "write_register", "address": 100, "value": 601 }));
    assert_eq!(client.read("holding_registers", 100, 2), json!([601, 0]));
    let has_it = || {
        let points = camshaft(&["points"]).output().unwrap();
        let points = String::from_utf8_lossy(&points.stdout).into_owned();
        let line = points.lines().find(|line| line.starts_with("scada.setpoint"))?.to_owned();
        (line.contains("60.1") && line.contains("good")).then_some(())
    };
    wait("the controller has the command", PATIENCE, has_it);
}
