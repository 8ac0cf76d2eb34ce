//! The independent programs that the tests use as peers: scripts of `tests/peers`, and mbpoll.
//!
//! Most scripts use pymodbus. Each script is a process that reads and writes lines of JSON. This
//! file starts and ends these processes; the requests and the expected answers are in the test
//! files of this folder.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Starts a script of `tests/peers`, with the packages that `tests/run` has installed. Its standard
/// input and output are pipes.
pub fn python(script: &str, arguments: &[String]) -> Child {
    Command::new(crate::toolchain::peer("python/bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts; tests/run installs it")
}

/// A script that answers every line with a line. Dropping it ends it.
pub struct Script {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// What it was asked last, at first its name.
    asked: String,
}

impl Script {
    pub fn start(name: &str, arguments: &[String]) -> Self {
        let mut child = python(name, arguments);
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from), asked: name.to_owned() }
    }

    /// Starts one that serves units, with how it is reached: over `tcp` or `rtu+tcp` on this port,
    /// or by `rtu` on a serial line, whose path it says.
    pub fn serving(name: &str, kind: &str, port: u16) -> (Self, String) {
        let mut arguments = vec![kind.to_owned()];
        arguments.extend((kind != "rtu").then(|| port.to_string()));
        let mut script = Self::start(name, &arguments);
        let url = match script.answer::<Option<String>>() {
            Some(path) => format!("rtu://{path}"),
            None => format!("{kind}://127.0.0.1:{port}"),
        };
        (script, url)
    }

    /// The next line that it says.
    pub fn answer<T: DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?} to {}", self.asked))
    }

    /// Says a line, and gives the answer.
    pub fn ask<T: DeserializeOwned>(&mut self, request: impl Display) -> T {
        self.asked = request.to_string();
        writeln!(self.to, "{}", self.asked).unwrap();
        self.answer()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// pymodbus as a client, `tests/peers/modbus_client.py`.
pub struct PyClient(Script);

impl PyClient {
    /// Starts it and connects to a port of this machine.
    pub fn connect(port: u16) -> Self {
        let mut client = Self(Script::start("modbus_client.py", &[]));
        assert_eq!(client.ask(&json!({ "connect": port })), json!({ "connected": true }));
        client
    }

    pub fn ask(&mut self, request: &Value) -> Value {
        self.0.ask(request)
    }

    /// Reads cells; registers come as numbers, bits as bools.
    pub fn read(&mut self, table: &str, address: u16, count: u16) -> Value {
        let request =
            json!({ "call": format!("read_{table}"), "address": address, "count": count });
        let answer = self.ask(&request);
        let is_bits = table == "coils" || table == "discrete_inputs";
        match answer.get(if is_bits { "bits" } else { "registers" }) {
            // pymodbus fills the last byte.
            Some(Value::Array(bits)) if is_bits => bits[..usize::from(count)].into(),
            Some(registers) => registers.clone(),
            None => answer,
        }
    }

    /// Reads input registers as a type that pymodbus knows.
    pub fn value(&mut self, address: u16, count: u16, kind: &str, word_order: &str) -> Value {
        let answer = self.ask(&json!({
            "call": "read_input_registers", "address": address, "count": count, "as": kind,
            "word_order": word_order,
        }));
        answer.get("value").cloned().unwrap_or(answer)
    }
}

/// pymodbus as a server, `tests/peers/modbus_server.py`.
pub struct PyServer {
    pub port: u16,
    /// It lives as long as this.
    _script: Script,
}

impl PyServer {
    /// Starts it with these units.
    pub fn start(units: &[u8]) -> Self {
        let units: Vec<_> = units.iter().map(ToString::to_string).collect();
        let mut script = Script::start("modbus_server.py", &units);
        Self { port: script.answer(), _script: script }
    }
}

/// What mbpoll prints for one poll, or complains about.
pub fn mbpoll(port: u16, arguments: &str) -> String {
    let done = Command::new("mbpoll")
        .args(["-m", "tcp", "-p", &port.to_string(), "-0", "-1", "-q"])
        .args(arguments.split_whitespace().take_while(|word| *word != "--"))
        .arg("127.0.0.1")
        .args(arguments.split_whitespace().skip_while(|word| *word != "--"))
        .output()
        .expect("mbpoll starts; tests/run installs it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&done.stdout) + &text(&done.stderr)
}
