//! What a panic on the scan's thread says, kept until the outputs are safe.
//!
//! The standard library writes it to stderr at once, on the thread that panics, and waits for
//! whoever reads there. If nobody does, the outputs would stay as they are. Panics of other threads
//! are written as usual.

use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

/// The name of the scan's thread.
pub(super) const THREAD: &str = "scan";

/// How long the words may take to be written, when everything else is done.
const PATIENCE: Duration = Duration::from_millis(200);

/// The newest words. The panic hook writes on the scan's thread, [`write()`] reads there.
static WORDS: Mutex<Option<String>> = Mutex::new(None);

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
    std::thread::spawn(move || {
        tracing::error!("the scan has panicked, which is a defect: {words}");
        let _ = written.send(());
    });
    let _ = done.recv_timeout(PATIENCE);
}
