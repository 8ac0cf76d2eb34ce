//! Debian's Mosquitto on a port of its own, and its clients.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::device::{Bench, PATIENCE};

/// A running broker. Dropping it ends it.
pub struct Mosquitto {
    pub port: u16,
    folder: TempDir,
    child: Child,
}

/// A port that nobody listens on at present.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Mosquitto {
    pub fn start() -> Self {
        Self::with(|_| "allow_anonymous true".into())
    }

    /// With these lines in its configuration, which may need files in its folder.
    pub fn with(lines: impl Fn(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        // It may be root's test: then it would become a user who cannot read the folder.
        let lines = lines(folder.path());
        let text = format!("user root\nlistener {port} 127.0.0.1\npersistence false\n{lines}\n");
        fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let child = launch(folder.path());
        let mut broker = Self { port, folder, child };
        broker.wait();
        broker
    }

    /// Waits until it answers.
    fn wait(&mut self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "no broker: {ended:?}");
            sleep(Duration::from_millis(5));
        }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Without a warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After a kill, on the same port.
    pub fn restart(&mut self) {
        self.child = launch(self.folder.path());
        self.wait();
    }

    fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        client.args(["-V", "5", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        client
    }

    /// Publishes a message, at least once, with further arguments.
    #[track_caller]
    pub fn say(&self, topic: &str, payload: &str, arguments: &[&str]) {
        let mut client = self.client("mosquitto_pub");
        // It takes nothing only if it is told so.
        let source = if payload.is_empty() { "-n" } else { "-s" };
        client.args(["-q", "1", "-t", topic, source]).args(arguments);
        let mut client = client.stdin(Stdio::piped()).spawn().expect("mosquitto_pub starts");
        client.stdin.take().unwrap().write_all(payload.as_bytes()).unwrap();
        assert!(client.wait().unwrap().success());
    }

    /// Publishes many messages as fast as the broker takes them, at most once.
    pub fn flood(&self, topic: &str, payloads: impl Iterator<Item = String>) {
        let mut client = self.client("mosquitto_pub");
        client.args(["-q", "0", "-t", topic, "-l"]);
        let mut client = client.stdin(Stdio::piped()).spawn().expect("mosquitto_pub starts");
        let mut to = std::io::BufWriter::new(client.stdin.take().unwrap());
        for payload in payloads {
            writeln!(to, "{payload}").unwrap();
        }
        drop(to);
        assert!(client.wait().unwrap().success());
    }

    /// Somebody who hears everything on a topic from now on.
    pub fn listen(&self, topic: &str) -> Ear {
        const READY: &str = "ear/ready";
        self.say(READY, "ready", &["-r"]);
        let mut client = self.client("mosquitto_sub");
        client.args(["-q", "1", "-t", topic, "-t", READY, "--retain-as-published"]);
        let client = client.args(["-F", "%r %q %t %p"]).stdout(Stdio::piped());
        let mut child = client.spawn().expect("mosquitto_sub starts");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        spawn(move || {
            for line in lines.map_while(Result::ok) {
                hears.lock().unwrap().push(Heard::parse(&line));
            }
        });
        let ear = Ear { child, heard, next: Mutex::default() };
        // The last filter is the last that is answered.
        ear.wait(READY);
        ear
    }
}

/// The program is where a user who is not root does not look.
fn launch(folder: &Path) -> Child {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut broker = Command::new("mosquitto");
    broker.env("PATH", format!("{path}:/usr/sbin"));
    broker.arg("-c").arg(folder.join("mosquitto.conf"));
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    broker.stdout(Stdio::null()).stderr(log).spawn().expect("mosquitto starts")
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who listens. Dropping it ends it.
pub struct Ear {
    child: Child,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// How many messages of each topic were taken out.
    next: Mutex<std::collections::HashMap<String, usize>>,
}

/// A message.
#[derive(Debug, Clone)]
pub struct Heard {
    pub retain: bool,
    pub qos: u8,
    pub topic: String,
    pub payload: String,
}

impl Heard {
    fn parse(line: &str) -> Self {
        let mut parts = line.splitn(4, ' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (retain, qos, topic, payload) = (part(), part(), part(), part());
        Self { retain: retain == "1", qos: qos.parse().unwrap(), topic, payload }
    }
}

impl Ear {
    /// How many messages it has heard on a topic.
    pub fn heard(&self, topic: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|heard| heard.topic == topic).count()
    }

    fn take(&self, topic: &str) -> Option<Heard> {
        let heard = self.heard.lock().unwrap();
        let mut next = self.next.lock().unwrap();
        let next = next.entry(topic.to_owned()).or_default();
        let found = heard.iter().filter(|heard| heard.topic == topic).nth(*next).cloned()?;
        *next += 1;
        Some(found)
    }

    /// The next message on a topic, while the scan goes on.
    #[track_caller]
    pub fn next(&self, topic: &str, bench: &mut Bench) -> Heard {
        let mut found = None;
        let started = Instant::now();
        while found.is_none() {
            bench.cycle();
            found = self.take(topic);
            let all = || self.heard.lock().unwrap().clone();
            assert!(started.elapsed() < PATIENCE, "nothing on {topic}: {:?}", all());
            sleep(Duration::from_millis(1));
        }
        found.expect("the loop ends with one")
    }

    /// The same where nothing goes on.
    #[track_caller]
    pub fn wait(&self, topic: &str) -> Heard {
        let started = Instant::now();
        loop {
            if let Some(heard) = self.take(topic) {
                return heard;
            }
            assert!(started.elapsed() < PATIENCE, "nothing on {topic}");
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
