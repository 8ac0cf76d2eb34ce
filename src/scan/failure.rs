//! A scan that panics: it first makes its outputs safe, and only then writes the panic's message.
//!
//! By default the standard library writes the message of a panic at once, on the panicking thread,
//! and waits for the reader of stderr. If that reader hangs, the outputs would not become safe.
//! Panics of other threads are written as usual. `thread.rs` has the scan's thread, which calls
//! these functions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

use super::Scan;
use crate::process::seat::{MAX_PROGRAMS, Seat};

/// The name of the scan's thread.
pub(super) const THREAD: &str = "scan";

/// How long the write of the panic's message may take. By then everything else is done.
const PATIENCE: Duration = Duration::from_millis(200);

/// The newest panic message of the scan's thread. The panic hook writes it on the scan's thread,
/// and [`write()`] reads it on the same thread.
static WORDS: Mutex<Option<String>> = Mutex::new(None);

impl Scan {
    /// Writes the safe value of every output to every device; a scan that panicked does nothing
    /// after this. Returns whether all devices have confirmed the outputs, which may take several
    /// calls. If a program had borrowed the world when the scan failed, the devices' own watchdogs
    /// make the outputs safe.
    pub fn abandon(&mut self, now: Duration) -> bool {
        let Some(world) = self.world.if_here() else { return false };
        (0..MAX_PROGRAMS as u16).for_each(|seat| world.release_outputs(Seat(seat)));
        world.make_safe_now();
        world.drive();
        let mut is_confirmed = true;
        for device in &mut self.devices {
            // No part of the daemon reads faults any more. If this driver panics, the next device
            // still gets its outputs, because this driver may be the cause of the failure.
            let write = || device.driver.write(now, &world.driven);
            let written = catch_unwind(AssertUnwindSafe(write));
            is_confirmed &= written.is_err() || device.driver.is_confirmed();
        }
        is_confirmed
    }

    /// Tells every device the time without a cycle after which it makes its outputs safe by itself.
    pub fn supervise(&mut self, stall: Duration) {
        self.stall = stall;
        self.devices.iter_mut().for_each(|device| device.driver.supervise(stall));
    }
}

/// Makes the panic hook keep the messages of the scan's thread from now on, instead of writing them
/// at once.
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

/// Writes the kept message to the log, and waits for the write no longer than [`PATIENCE`].
pub(super) fn write() {
    let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(words) = words else { return };
    let (written, done) = mpsc::channel();
    // If no thread can be started, the message is lost. The exit code still shows the panic.
    let _ = std::thread::Builder::new().spawn(move || {
        tracing::error!("the scan has panicked, which is a defect: {words}");
        let _ = written.send(());
    });
    let _ = done.recv_timeout(PATIENCE);
}
