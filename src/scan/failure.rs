//! A scan that fails: its outputs are made safe first, and what the panic said is written then.
//!
//! The standard library writes it to stderr at once, on the thread that panics, and waits for
//! whoever reads there. If nobody does, the outputs would stay as they are. Panics of other threads
//! are written as usual.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

use super::Scan;
use crate::plugin::world::{MAX_PROGRAMS, Seat};

/// The name of the scan's thread.
pub(super) const THREAD: &str = "scan";

/// How long the words may take to be written, when everything else is done.
const PATIENCE: Duration = Duration::from_millis(200);

/// The newest words. The panic hook writes on the scan's thread, [`write()`] reads there.
static WORDS: Mutex<Option<String>> = Mutex::new(None);

impl Scan {
    /// Writes the safe value of every output to every device: the last act of a scan that fails.
    /// Says whether all of them have it, which may take some turns. If the world was lent when the
    /// scan failed, the devices' own watchdogs make them safe.
    pub fn abandon(&mut self, now: Duration) -> bool {
        let Some(world) = &mut self.world else { return false };
        (0..MAX_PROGRAMS as u16).for_each(|seat| world.release_outputs(Seat(seat)));
        world.make_safe_now();
        world.drive();
        let mut is_confirmed = true;
        for device in &mut self.devices {
            // There is nobody left to tell about a fault, and the next device shall get its turn
            // even if this one's driver is what panicked.
            let write = || device.driver.write(now, &world.driven);
            let written = catch_unwind(AssertUnwindSafe(write));
            is_confirmed &= written.is_err() || device.driver.is_confirmed();
        }
        is_confirmed
    }

    /// Tells every device after how long without a cycle it is to make its outputs safe by itself.
    pub fn supervise(&mut self, stall: Duration) {
        self.stall = stall;
        self.devices.iter_mut().for_each(|device| device.driver.supervise(stall));
    }
}

/// Keeps the words of panics on the scan's thread from now on.
pub(super) fn keep() {
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

/// Writes them, if there is somebody who reads.
pub(super) fn write() {
    let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(words) = words else { return };
    let (written, done) = mpsc::channel();
    // Without a thread nobody hears them: the exit code says it.
    let _ = std::thread::Builder::new().spawn(move || {
        tracing::error!("the scan has panicked, which is a defect: {words}");
        let _ = written.send(());
    });
    let _ = done.recv_timeout(PATIENCE);
}
