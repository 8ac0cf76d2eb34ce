//! Modbus peers that we did not write: pymodbus as a client, and mbpoll.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// Python with the packages that `tests/run` has installed.
pub fn python() -> PathBuf {
    crate::toolchain::peer("python/bin/python")
}

/// A script of `tests/peers`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// pymodbus as a client.
pub struct PyClient {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl PyClient {
    /// Starts it and connects to a port of this machine.
    pub fn connect(port: u16) -> Self {
        let mut child = Command::new(python())
            .arg(script("modbus_client.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts; tests/run installs it");
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut client = Self { child, to, from: BufReader::new(from) };
        assert_eq!(client.ask(&json!({ "connect": port })), json!({ "connected": true }));
        client
    }

    pub fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.to, "{request}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?} to {request}"))
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

impl Drop for PyClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// pymodbus as a server, `tests/peers/modbus_server.py`.
pub struct PyServer {
    pub port: u16,
    child: Child,
}

impl PyServer {
    /// Starts it with these units.
    pub fn start(units: &[u8]) -> Self {
        let mut child = Command::new(python())
            .arg(script("modbus_server.py"))
            .args(units.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts; tests/run installs it");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { port: line.trim().parse().expect("it prints its port"), child }
    }
}

impl Drop for PyServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
