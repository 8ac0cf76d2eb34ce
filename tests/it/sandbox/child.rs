//! Child processes for the attempts of the sandbox tests.
//!
//! An attempt can hang or abort the process that makes it, so each attempt runs in a child process.
//! The parent ends a child that hangs, and reports a hang or an abort as a finding.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use camshaft::plugin::module::cache::Cache;
use camshaft::plugin::module::compile::CompileService;

use super::probe::{Bench, Found, Probe};
use super::witness::Witness;
use crate::rig::compile_service;

/// Set in a child: the folder of its compiled modules.
const FOLDER: &str = "CAMSHAFT_PROBES";

/// A probe takes milliseconds; a machine that stalls, some seconds.
const LIMIT: Duration = Duration::from_secs(6);

/// So long a child may say nothing: it compiles at first, and tells by itself what hangs in it.
const SILENCE: Duration = Duration::from_secs(60);

/// The limits of a compile service: those of the contract.
pub fn compile_service_in(folder: &Path) -> CompileService {
    let cache = Cache::open(folder).expect("the folder is ours");
    CompileService { cache: Some(cache), ..compile_service(camshaft::plugin::Limits::default()) }
}

/// The child's part: takes probes from its input and answers on its output. In the run of all tests
/// it has no input, and makes the one probe that nobody fears.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(compile_service_in(folder.path()));
        let found = bench.probe(super::depth::harmless());
        assert_eq!(found, Found { trap: None, replay: None });
        assert_eq!(Witness::new().look(), Ok(()));
        return;
    };
    let (ask, asked) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || probes(Path::new(&folder), &asked, &answer));
    let (call, called) = mpsc::channel();
    let (say, said) = mpsc::channel();
    thread::spawn(move || witness(&called, &say));
    // Whatever is compiled at first has a minute.
    answered.recv_timeout(SILENCE).expect("the modules compile");
    said.recv_timeout(SILENCE).expect("those of the witness, too").expect("it sees nothing yet");
    for line in std::io::stdin().lock().lines() {
        let probe: Probe = serde_json::from_str(&line.unwrap()).unwrap();
        ask.send(Some(probe)).unwrap();
        let found = match answered.recv_timeout(LIMIT) {
            Ok(found) => found.expect("it was asked"),
            Err(why) => return tell(&Err(ended("the probe itself", why))),
        };
        call.send(()).unwrap();
        match said.recv_timeout(LIMIT) {
            Ok(Ok(())) => tell(&Ok(found)),
            Ok(Err(what)) => return tell(&Err(format!("after it, the other program: {what}"))),
            Err(why) => return tell(&Err(ended("after it, the other program", why))),
        }
    }
}

fn ended(who: &str, why: RecvTimeoutError) -> String {
    match why {
        RecvTimeoutError::Timeout => format!("{who} hangs"),
        RecvTimeoutError::Disconnected => format!("{who} has panicked"),
    }
}

fn tell(answer: &Result<Found, String>) {
    // The harness may have begun a line.
    println!("\nfound {}", serde_json::to_string(answer).expect("it is plain"));
}

fn probes(folder: &Path, asked: &Receiver<Option<Probe>>, answer: &Sender<Option<Found>>) {
    let mut bench = Bench::new(compile_service_in(folder));
    for part in super::depth::PARTS {
        // What is refused is not asked for.
        bench.compile_ahead(part);
    }
    let _ = answer.send(None);
    for probe in asked.iter().flatten() {
        if answer.send(Some(bench.probe(probe))).is_err() {
            return;
        }
    }
}

fn witness(called: &Receiver<()>, say: &Sender<Result<(), String>>) {
    let mut witness = Witness::new();
    let _ = say.send(witness.look());
    for () in called {
        if say.send(witness.look()).is_err() {
            return;
        }
    }
}

/// A running child.
pub struct Prober {
    folder: std::path::PathBuf,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Prober {
    /// Starts a child that keeps compiled modules in `folder`.
    pub fn start(folder: &Path) -> Self {
        let errors = File::create(folder.join("stderr")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::child::child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.join("cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        // The end of the child ends this.
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { folder: folder.to_path_buf(), child, input, lines }
    }

    /// Makes a probe, in a new child if this one ends over it.
    ///
    /// # Errors
    /// What is wrong: a hang, the end of the process, another program that suffers.
    pub fn probe(&mut self, probe: Probe) -> Result<Found, String> {
        let line = serde_json::to_string(&probe).expect("it is plain");
        let sent = writeln!(self.input, "{line}");
        let answer = sent.map_err(|error| error.to_string()).and_then(|()| self.answer());
        if answer.is_err() {
            let folder = self.folder.clone();
            *self = Self::start(&folder);
        }
        answer
    }

    fn answer(&mut self) -> Result<Found, String> {
        loop {
            match self.lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    let Some(answer) = line.strip_prefix("found ") else { continue };
                    return serde_json::from_str(answer).expect("the child writes it so");
                }
                Err(RecvTimeoutError::Timeout) => return Err("the whole process hangs".into()),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().unwrap();
                    let errors = std::fs::read(self.folder.join("stderr")).unwrap_or_default();
                    let errors = String::from_utf8_lossy(&errors).replace('\n', " | ");
                    let words: String = errors.chars().take(300).collect();
                    return Err(format!("the process is dead ({status}): {words}"));
                }
            }
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        // Both fail only if it is over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
