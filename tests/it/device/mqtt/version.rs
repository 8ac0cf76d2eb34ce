//! MQTT 3.1.1: a broker that speaks nothing else, and what is said of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::spawn;

use camshaft::process::image::{Quality, Value};

use super::mosquitto::Mosquitto;
use super::stub::Stub;
use super::{Plant, command, connected, fact, session, toml};
use crate::device::Bench;
use crate::toolchain::peer;

/// A broker that knows MQTT 3.1 and 3.1.1 alone: aedes, in Node. Dropping it ends it.
struct Aedes {
    port: u16,
    child: Child,
}

impl Aedes {
    fn start() -> Self {
        const BROKER: &str =
            "const server = require('net').createServer(require('aedes')().handle);
            server.listen(0, '127.0.0.1', () => console.log(server.address().port));";
        let mut node = Command::new("node");
        node.args(["-e", BROKER]).env("NODE_PATH", peer("node_modules"));
        let mut child = node.stdout(Stdio::piped()).spawn().expect("node starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("aedes is installed and tells its port");
        Self { port, child }
    }
}

impl Drop for Aedes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const OLD: &str = "version = \"3.1.1\"";

/// Publishes and receives, from bench to bench.
fn works(port: u16) {
    let keys = format!(
        "{OLD}
        publish = [{{ name = \"tank.level\", topic = \"set/speed\", payload = \"value\",
                      retain = true, min_interval = \"10ms\" }}]"
    );
    let mut first = Bench::open(&toml(port, &keys, ""));
    let other = toml(port, OLD, &command("speed", "f64", "20s", ", retained = true"));
    let mut second = Bench::open(&other.replace("\"bench\"", "\"other\""));
    connected(&mut first);
    connected(&mut second);
    let mut plant = Plant::new();
    for level in [1.5, 2.5] {
        plant.level(&first, level);
        first.until("it is sent", |bench| fact(bench, "queue") == 0.0);
        second.until("it has come", |bench| {
            bench.input("speed") == (Value::Real(level), Quality::Good)
        });
    }
    assert_eq!((fact(&first, "denied"), fact(&second, "refused")), (0.0, 0.0));
    first.until("both are counted", |bench| fact(bench, "published") == 2.0);
    // What the broker has kept comes to whoever subscribes later.
    drop(second);
    let mut late = Bench::open(&other.replace("\"bench\"", "\"late\""));
    late.until("it has come", |bench| bench.input("speed").0 == Value::Real(2.5));
    // Nothing is said for more than twice the keep-alive time: the broker answers the pings.
    late.pass(std::time::Duration::from_secs(3));
    assert_eq!((fact(&late, "reconnects"), session(&late).ok), (0.0, true));
}

#[test]
#[ignore = "needs aedes"]
fn a_broker_of_the_older_version_alone() {
    let broker = Aedes::start();
    works(broker.port);
    // With MQTT 5 it does not work, and the status says why.
    let mut bench = Bench::open(&toml(broker.port, "", ""));
    bench.until("it is told", |bench| {
        let state = session(bench).state;
        state.ends_with("a broker that speaks only MQTT 3.1.1 does so: set `version = \"3.1.1\"`")
    });
}

#[test]
#[ignore = "needs mosquitto"]
fn a_broker_of_both_versions() {
    works(Mosquitto::start().port);
}

#[test]
#[ignore = "needs mosquitto"]
fn a_refusal_has_no_reason_in_the_older_version() {
    let broker = Mosquitto::with(|folder| {
        std::fs::write(folder.join("users"), "").unwrap();
        format!("allow_anonymous false\npassword_file {}", folder.join("users").display())
    });
    let mut bench = Bench::open(&toml(broker.port, OLD, &command("speed", "f64", "20s", "")));
    bench.until("it is told", |bench| {
        session(bench).state == "the broker refuses this client: NotAuthorized"
    });
}

#[test]
fn a_hang_up_before_the_welcome_is_told() {
    /// A broker that answers each client with these bytes and closes the connection.
    fn closing(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        spawn(move || {
            for mut client in listener.incoming().flatten() {
                // The packet is read, so that the end is no reset.
                let _ = client.read(&mut [0; 1024]);
                let _ = client.write_all(answer);
            }
        });
        port
    }
    let hung_up = "the broker closed the connection before it answered the CONNECT";
    let older = "a broker that speaks only MQTT 3.1.1 does so: set `version = \"3.1.1\"`";
    for (keys, expected) in [("", format!("{hung_up}; {older}")), (OLD, hung_up.to_owned())] {
        let mut bench = Bench::open(&toml(closing(b""), keys, ""));
        bench.until("it is told", |bench| session(bench).state == expected);
    }
    // CONNACK of the older version: the protocol version is not acceptable.
    let port = closing(&[0x20, 2, 0, 1]);
    let mut bench = Bench::open(&toml(port, "", ""));
    bench.until("it is told", |bench| session(bench).state.ends_with(older));
    let mut bench = Bench::open(&toml(port, OLD, "").replace("\"bench\"", "\"old\""));
    let expected = "the broker refuses this client: RefusedProtocolVersion; a broker that speaks \
                    only MQTT 5 does so: remove `version`";
    bench.until("it is told", |bench| session(bench).state == expected);
}

#[test]
fn a_silent_broker_of_the_older_version_is_left() {
    let stub = Stub::start(|_| Vec::new());
    let mut bench = Bench::open(&toml(stub.port, OLD, ""));
    bench.until("it is told", |bench| {
        session(bench).state == "no answer from the broker within connect_timeout"
    });
    bench.until("it is tried again", |_| stub.heard(super::stub::CONNECT).len() > 1);
}
