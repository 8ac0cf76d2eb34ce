//! Unix signals: how the daemon turns signals into events, and how a signal stops the start.
//!
//! ```text
//!   SIGTERM, SIGINT ──┬──▶ Event::Stop ──▶ the loop
//!                     └──▶ Stop ──▶ the start gives up its present step
//!   SIGHUP ──────────────▶ Event::Reload ──▶ the loop
//! ```
//! A start may wait some seconds for each of several disks. Separate threads do the waiting, so
//! SIGTERM or SIGINT can stop the start at any step, and the process does not wait for these
//! threads. The orderly stop of a running daemon is in `daemon/stop.rs`.

use std::future::{Future, pending};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use crate::daemon::Event;
use crate::daemon::reload::Cause;

/// Whether SIGTERM or SIGINT was received. The start needs this flag, because the main loop does
/// not run yet and no code handles events.
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Installs the signal handlers, which turn signals into events.
    ///
    /// - SIGUSR1 and SIGUSR2 would end the process by default. The daemon catches both signals and
    ///   ignores them.
    /// - The daemon also catches SIGXFSZ. So a write beyond the file size limit (RLIMIT_FSIZE)
    ///   fails with the error EFBIG and does not end the process.
    ///
    /// # Errors
    /// The system cannot install a handler.
    pub(super) fn listen(events: &mpsc::Sender<Event>) -> anyhow::Result<Self> {
        type Make = fn() -> Option<Event>;
        let all: [(SignalKind, Make); 6] = [
            (SignalKind::terminate(), || Some(Event::Stop)),
            (SignalKind::interrupt(), || Some(Event::Stop)),
            (SignalKind::hangup(), || Some(Event::Reload(Cause::Signal))),
            (SignalKind::user_defined1(), || None),
            (SignalKind::user_defined2(), || None),
            (SignalKind::from_raw(nix::libc::SIGXFSZ), || None),
        ];
        let (sender, receiver) = watch::channel(false);
        for (kind, make) in all {
            let mut signals = signal(kind).context("the signal handlers cannot be installed")?;
            let (events, sender) = (events.clone(), sender.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let Some(event) = make() else { continue };
                    if matches!(event, Event::Stop) {
                        sender.send_replace(true);
                    }
                    if events.send(event).await.is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self(receiver))
    }

    /// Runs a step of the start and returns its result. Returns `None` if the process receives
    /// SIGTERM or SIGINT before the step has ended. In that case the caller drops the unfinished
    /// step.
    pub(super) async fn or<T>(&self, step: impl Future<Output = T> + Unpin) -> Option<T> {
        let mut receiver = self.0.clone();
        let stop = async {
            if receiver.wait_for(|is_stopped| *is_stopped).await.is_err() {
                // The tasks that receive signals have ended. No signal can stop this step any more.
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = stop => None,
            done = step => Some(done),
        }
    }
}

/// Runs a part of the start on a thread for blocking work, because the part may wait for a disk.
///
/// # Errors
/// The part has panicked. The message of the panic is in the log.
pub(super) async fn off<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    spawn_blocking(work).await.context("a part of the start has panicked")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_step_counts_until_the_daemon_is_told_to_stop() {
        let (sender, receiver) = watch::channel(false);
        let stop = Stop(receiver);
        assert_eq!(stop.or(pin!(async { 1 })).await, Some(1));
        let hangs = pin!(pending::<()>());
        let (given_up, _) = tokio::join!(stop.or(hangs), async { sender.send_replace(true) });
        assert_eq!(given_up, None);
        assert_eq!(stop.or(pin!(async { 1 })).await, None, "no further step runs");
        let (sender, receiver) = watch::channel(false);
        drop(sender);
        assert_eq!(Stop(receiver).or(pin!(async { 1 })).await, Some(1));
    }
}
