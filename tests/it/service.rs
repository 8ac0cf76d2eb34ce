//! Tests of the daemon as a systemd service, with a real notification socket.
//!
//! The test has the other end of the socket and reads what the daemon sends: ready, watchdog,
//! reloading and stopping. `systemd.rs` tests that the watchdog gets no message if the scan runs no
//! cycles.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use camshaft::control::PluginState;
use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Keys, LIMIT, Plant};
use crate::rig::wat;

/// The service manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    /// The next datagram that has a line starting with `key`; others are passed over.
    fn expect(&self, key: &str) -> String {
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            let mut buffer = [0; 4096];
            match self.0.recv(&mut buffer) {
                Ok(len) => {
                    let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                    if text.lines().any(|line| line.starts_with(key)) {
                        return text;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("the socket fails: {error}"),
            }
        }
        panic!("no {key} within {LIMIT:?}");
    }
}

/// A daemon whose manager listens, with a watchdog of 200 ms.
fn service() -> (Daemon, Manager) {
    let plant = Plant::new(Keys::default());
    let path = plant.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let path = path.to_str().unwrap().to_owned();
    let daemon = Daemon::within(plant, &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "200000")]);
    (daemon, Manager(socket))
}

#[test]
fn it_is_ready_after_a_cycle_feeds_the_watchdog_and_says_when_it_stops() {
    let (daemon, manager) = service();
    let ready = manager.expect("READY=1");
    assert!(ready.contains("STATUS="), "{ready}");
    for _ in 0..5 {
        manager.expect("WATCHDOG=1");
    }
    let (status, passed, _) = daemon.stop();
    manager.expect("STOPPING=1");
    assert!(status.success(), "{status}");
    assert!(passed < Duration::from_secs(5), "{passed:?}");
}

#[test]
fn a_reload_is_announced_and_ends_well_whatever_the_file_says() {
    let (daemon, manager) = service();
    manager.expect("READY=1");

    let reload = |manager: &Manager| {
        daemon.kill(Signal::SIGHUP);
        let announced = manager.expect("RELOADING=1");
        let usec = announced.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(usec.is_some_and(|usec| usec.parse::<u64>().is_ok()), "{announced}");
        manager.expect("READY=1")
    };
    assert!(reload(&manager).contains("nothing has changed"));

    daemon.configure(Keys { level: "debug", ..Keys::default() });
    assert!(reload(&manager).contains("reloaded: log.level"));

    daemon.configure(Keys {
        plugins: "compiler = \"singlepass\"",
        level: "debug",
        ..Keys::default()
    });
    let refused = reload(&manager);
    assert!(refused.contains("waiting for a restart of the daemon: plugins.compiler"), "{refused}");

    daemon.configure(Keys { plugins: "dri = 3", ..Keys::default() });
    assert!(reload(&manager).contains("reload refused"));

    let tables = "[[plugin]]\nname = \"other\"\nhold = true\noutputs = []";
    daemon.drop_in("other", &wat(r#"(module (func (export "poll")))"#));
    daemon.wait_for("other", "running", |view| view.state == PluginState::Running);
    daemon.configure(Keys { tables, level: "debug", ..Keys::default() });
    let held = reload(&manager);
    assert!(held.contains("plugin[other] added"), "{held}");
    daemon.wait_for("other", "held", |view| view.state == PluginState::Held);
    daemon.stop();
}
