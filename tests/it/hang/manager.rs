//! A simulated service manager, which counts the watchdog messages of a daemon.
//!
//! As systemd does, it treats the daemon as failed if a message is more than the watchdog time
//! late. The tests in this folder use it to check that a daemon is never late. This file contains
//! no tests.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::daemon::{LIMIT, wait};

/// `WatchdogSec=`. The daemon means to feed twice in that time, so a busy machine may take the half
/// of it. What hangs here hangs for longer.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The manager's end of a daemon's notification socket.
pub struct Manager {
    address: String,
    watchdog_us: String,
    /// How often the watchdog was fed; the listener writes it.
    fed: Arc<AtomicU32>,
    listener: JoinHandle<Result<(), String>>,
    _dir: tempfile::TempDir,
}

impl Manager {
    /// Listens from now on, until the daemon says that it stops or is late.
    pub fn listen() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let fed = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&fed);
        Self {
            address: path.to_str().unwrap().to_owned(),
            watchdog_us: WATCHDOG.as_micros().to_string(),
            fed,
            listener: thread::spawn(move || watch(&socket, &counter)),
            _dir: dir,
        }
    }

    /// What a daemon finds in its environment.
    pub fn environment(&self) -> [(&str, &str); 2] {
        [("NOTIFY_SOCKET", &self.address), ("WATCHDOG_USEC", &self.watchdog_us)]
    }

    /// The watchdog was fed in time since the start, and is once more.
    pub fn is_fed(&self) {
        let before = self.fed.load(Ordering::Relaxed);
        wait("the watchdog is fed", LIMIT, || {
            let is_later = self.fed.load(Ordering::Relaxed) > before;
            (is_later || self.listener.is_finished()).then_some(())
        });
    }

    /// Waits until the daemon has said that it stops. It was in time until then.
    pub fn hears_of_the_end(self) {
        self.listener.join().expect("the listener does not panic").unwrap();
    }
}

/// Gives an error when the watchdog is late.
fn watch(socket: &UnixDatagram, fed: &AtomicU32) -> Result<(), String> {
    let mut datagram = [0; 4096];
    let mut next = |limit| {
        socket.set_read_timeout(Some(limit)).unwrap();
        let length = socket.recv(&mut datagram).map_err(|_| format!("no word for {limit:?}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&datagram[..length]).into_owned())
    };
    while !next(LIMIT)?.contains("READY=1") {}
    let mut last = Instant::now();
    loop {
        let word = next(WATCHDOG)?;
        if word.contains("STOPPING=1") {
            return Ok(());
        }
        if last.elapsed() > WATCHDOG {
            return Err(format!("the watchdog was not fed for {:?}", last.elapsed()));
        }
        if word.contains("WATCHDOG=1") {
            fed.fetch_add(1, Ordering::Relaxed);
            last = Instant::now();
        }
    }
}
