//! Tests of a log that no process reads: a full pipe, a stopped terminal, and a journald that
//! hangs.
//!
//! The daemon must run on. Log lines that do not fit into the bounded queue are dropped and
//! counted, and the daemon must report the number of these lines later.

use std::fs;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Instant;

use camshaft::log::{self, Settings};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::sys::termios::{FlowArg, tcflow};
use nix::unistd::mkfifo;

use super::{Watched, plant, wait_for_fan};
use crate::daemon::fan::writes;
use crate::daemon::{LIMIT, Plant, wait};

fn camshaft() -> Command {
    Command::new(env!("CARGO_BIN_EXE_camshaft"))
}

/// Writes until there is no more room.
pub fn fill(pipe: &mut PipeWriter) {
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while pipe.write(&[b'.'; 4096]).is_ok() {}
    while pipe.write(b".").is_ok() {}
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
}

#[test]
fn a_pipe_that_is_not_drained_stops_nothing() {
    let (_reader, mut writer) = std::io::pipe().unwrap();
    fill(&mut writer);
    Watched::by(camshaft(), plant(), writer.into()).goes_on(&[]);
}

#[test]
fn a_terminal_that_is_stopped_stops_nothing() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    // What Ctrl-S does.
    tcflow(&terminal.slave, FlowArg::TCOOFF).unwrap();
    Watched::by(camshaft(), plant(), terminal.slave.into()).goes_on(&[]);
}

/// Puts a socket in the place of journald's, for one command in a mount namespace of its own.
const BESIDE: &str = r#"
    mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && : > /run/systemd/journal/socket
    mount --bind "$0" /run/systemd/journal/socket && exec "$@"
"#;

/// The daemon, for which this socket is the journal's. Needs the right to mount.
pub fn beside(socket: &std::path::Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", BESIDE]).arg(socket);
    command.arg(env!("CARGO_BIN_EXE_camshaft"));
    command
}

pub fn journal_of(plant: &Plant) -> UnixDatagram {
    let text = fs::read_to_string(plant.path("camshaft.toml")).unwrap();
    let text = text.replace("format = \"json\"", "format = \"journal\"");
    fs::write(plant.path("camshaft.toml"), text).unwrap();
    UnixDatagram::bind(plant.path("journal")).unwrap()
}

#[test]
#[ignore = "needs root: it mounts"]
fn a_journal_that_is_not_read_stops_nothing() {
    let plant = plant();
    let journal = journal_of(&plant);
    let command = beside(&plant.path("journal"));
    let stderr = fs::File::create(plant.path("log")).unwrap();
    let daemon = Watched::by(command, plant, stderr.into());
    // Whatever it said at its start is there; what it says from now on has little room.
    let mut datagram = vec![0; 1 << 16];
    let mut lengths = std::iter::repeat_with(|| journal.recv(&mut datagram).unwrap());
    // An empty one finds out whether anybody reads.
    let length = lengths.find(|length| *length > 0).unwrap();
    let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
    assert!(text.contains("SYSLOG_IDENTIFIER") && text.contains("camshaft"), "{text}");
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b".", daemon.path("journal")).is_ok() {}
    daemon.goes_on(&[]);
}

/// The part of a child: it logs more lines than anybody keeps, and says how many were lost.
#[test]
fn child() {
    if std::env::var_os("LOG_UNREAD").is_none() {
        return;
    }
    let (handle, _writer) = log::start(&Settings::default()).unwrap();
    (0..20_000).for_each(|n| tracing::info!("line {n}"));
    std::thread::spawn(|| panic!("with these words")).join().unwrap_err();
    println!("lost {}", handle.lost());
}

#[test]
fn lines_that_have_no_room_are_lost_and_counted() {
    let (_reader, mut writer) = std::io::pipe().unwrap();
    fill(&mut writer);
    let started = Instant::now();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hang::log::child", "--nocapture"])
        .env("LOG_UNREAD", "yes")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stderr(writer)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let lost = text.split_once("lost ").expect("it says how many").1;
    let lost: u64 = lost.split_whitespace().next().unwrap().parse().unwrap();
    // One line is with the writer, which waits.
    assert!((10_000..20_000).contains(&lost), "{text}");
    assert!(started.elapsed() < super::END, "it waits for nobody at its end either");
}

/// Their number was in the status, and the log never said that it lacks something.
#[test]
fn lines_that_could_not_be_written_are_said_when_they_can_be() {
    let plant = plant();
    let path = plant.path("fifo");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let read = || {
        let flags = OFlag::O_NONBLOCK.bits();
        fs::File::options().read(true).custom_flags(flags).open(&path).unwrap()
    };
    let reader = read();
    let writer = fs::File::options().write(true).open(&path).unwrap();
    let daemon = Watched::by(camshaft(), plant, writer.into());
    drop(reader);
    daemon.drop_in("fan", &writes(7));
    wait_for_fan(&daemon, "7");
    let lost = || daemon.status().log_lines_lost;
    wait("lines are lost", LIMIT, || (lost() > 0).then_some(()));
    let mut reader = read();
    // The first line that can be written shows that it can be.
    daemon.drop_in("fan", &writes(9));
    let mut text = String::new();
    wait("the log says it", LIMIT, || {
        let mut bytes = [0; 4096];
        let length = reader.read(&mut bytes).unwrap_or_default();
        text += &String::from_utf8_lossy(&bytes[..length]);
        text.contains("of this log that could not be written: Broken pipe").then_some(())
    });
    daemon.goes_on_as_it_is("9", &[]);
}
