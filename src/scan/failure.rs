//! The reaction to a panic of the scan: first all outputs become safe, then the panic's message is
//! written.
//!
//! The standard library normally writes the message of a panic at once, on the panicking thread.
//! That write waits for the process that reads stderr. If that process hangs, the scan's thread
//! would wait too, and the outputs would not become safe. So the panic hook of `store_panics`
//! stores the message, and [`write()`] writes it to the log last. For panics of other threads, the
//! standard library writes the message at once. `thread.rs` calls these functions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

use super::Scan;
use crate::process::seat::{MAX_PROGRAMS, Seat};
use crate::thread::named;

/// The name of the scan's thread.
pub(super) const THREAD: &str = "scan";

/// Time limit for the write of the panic's message. The outputs are already safe before this write.
const PATIENCE: Duration = Duration::from_millis(200);

/// The newest panic message of the scan's thread. The panic hook stores the message, and
/// [`write()`] takes the message out. The hook and the function run on the scan's thread.
static WORDS: Mutex<Option<String>> = Mutex::new(None);

impl Scan {
    /// Writes the safe value of every output to every device. After a panic the scan runs no
    /// further cycle. Returns whether all devices have confirmed the outputs; a device whose driver
    /// panics in this write counts as confirmed. The caller, `thread.rs`, repeats the call until
    /// the result is true or its time limit has passed.
    ///
    /// If the scan panicked in the middle of a call into a program, the output image is not
    /// available here. The function then writes nothing and returns false, and the devices' own
    /// watchdogs make the outputs safe.
    pub fn abandon(&mut self, now: Duration) -> bool {
        let Some(world) = self.world.if_here() else { return false };
        (0..MAX_PROGRAMS as u16).for_each(|seat| world.release_outputs(Seat(seat)));
        world.make_safe_now();
        world.drive();
        let mut is_confirmed = true;
        for device in &mut self.devices {
            // The fault of this write is ignored, because no part of the daemon reads faults after
            // a panic of the scan. This driver may have caused that panic. If this driver panics
            // again here, `catch_unwind` lets the loop continue with the next device.
            let write = || device.driver.write(now, &world.driven);
            let written = catch_unwind(AssertUnwindSafe(write));
            is_confirmed &= written.is_err() || device.driver.is_confirmed();
        }
        is_confirmed
    }

    /// Sets the time without a cycle after which each device makes its outputs safe without the
    /// scan.
    pub fn supervise(&mut self, stall: Duration) {
        self.stall = stall;
        self.devices.iter_mut().for_each(|device| device.driver.supervise(stall));
    }
}

/// Replaces the panic hook. The new hook stores the message of a panic of the scan's thread in
/// `WORDS`, and does not write this message at once.
pub(super) fn store_panics() {
    /// Ensures that the hook is replaced only once, because all scans of a process have the same
    /// panic hook.
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

/// Writes the stored message, if there is one, to the log, and waits for the end of the write for
/// [`PATIENCE`] at most.
pub(super) fn write() {
    let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(words) = words else { return };
    let (written, done) = mpsc::channel();
    // If the thread for the write cannot be started, the message is lost. The exit code of the
    // process still shows the panic.
    let _ = named("panic").spawn(move || {
        tracing::error!("the scan has panicked, which is a defect: {words}");
        let _ = written.send(());
    });
    let _ = done.recv_timeout(PATIENCE);
}
