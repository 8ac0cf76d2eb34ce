//! A scan that fails: it first makes its outputs safe, and only then writes the panic's message.
//!
//! By default the standard library writes that message at once, on the thread that panics, and
//! waits for the reader of stderr. If that reader hangs, the outputs would stay as they are. Panics
//! of other threads are written as usual. The thread that calls this is in `thread.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

use super::Scan;
use crate::process::seat::{MAX_PROGRAMS, Seat};

/// The name of the scan's thread.
pub(super) const THREAD: &str = "scan";

/// How long writing the panic's message may take, when everything else is done.
const PATIENCE: Duration = Duration::from_millis(200);

/// The newest panic message. The panic hook writes it on the scan's thread; [`write()`] reads it
/// there.
static WORDS: Mutex<Option<String>> = Mutex::new(None);

impl Scan {
    /// Writes the safe value of every output to every device: the last act of a scan that fails.
    /// Returns whether all devices have confirmed them, which may take several calls. If a program
    /// had the world when the scan failed, the devices' own watchdogs make the outputs safe.
    pub fn abandon(&mut self, now: Duration) -> bool {
        let Some(world) = self.world.if_here() else { return false };
        (0..MAX_PROGRAMS as u16).for_each(|seat| world.release_outputs(Seat(seat)));
        world.make_safe_now();
        world.drive();
        let mut is_confirmed = true;
        for device in &mut self.devices {
            // A fault has no reader any more. The next device gets its turn even if this driver
            // panics, because this driver may be the cause of the failure.
            let write = || device.driver.write(now, &world.driven);
            let written = catch_unwind(AssertUnwindSafe(write));
            is_confirmed &= written.is_err() || device.driver.is_confirmed();
        }
        is_confirmed
    }

    /// Tells every device after what time without a cycle it makes its outputs safe by itself.
    pub fn supervise(&mut self, stall: Duration) {
        self.stall = stall;
        self.devices.iter_mut().for_each(|device| device.driver.supervise(stall));
    }
}

/// From now on keeps the messages of panics on the scan's thread, instead of writing them at once.
pub(super) fn keep() {
    /// The panic hook belongs to the process, so it is replaced once, even if several scans begin.
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some(THREAD) {
                *WORDS.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string());
            } else {
                others(panic);
            }
        }));
    });
}

/// Writes the kept message to the log, and waits for that no longer than [`PATIENCE`].
pub(super) fn write() {
    let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(words) = words else { return };
    let (written, done) = mpsc::channel();
    // If no thread can be started, the message is lost; the exit code still shows the panic.
    let _ = std::thread::Builder::new().spawn(move || {
        tracing::error!("the scan has panicked, which is a defect: {words}");
        let _ = written.send(());
    });
    let _ = done.recv_timeout(PATIENCE);
}
