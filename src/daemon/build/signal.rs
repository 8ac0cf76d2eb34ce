//! Signals: which events of the loop they become, and how a signal ends a start.
//!
//! ```text
//!   SIGTERM, SIGINT ──┬──▶ Event::Stop ──▶ the loop
//!                     └──▶ Stop ──▶ the start gives up its present step
//!   SIGHUP ──────────────▶ Event::Reload ──▶ the loop
//! ```
//! A start may wait for several disks, seconds for each. Other threads wait for the disks, so the
//! start can be given up at any point. The process does not wait for these threads. What a stop
//! does is in `daemon/stop.rs`.

use std::future::{Future, pending};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use crate::daemon::Event;
use crate::daemon::reload::Cause;

/// Whether a signal to stop has come. The start asks this, because no loop reads events yet.
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Turns signals into events. SIGUSR1 and SIGUSR2 end a process by default, so they are caught
    /// and do nothing. SIGXFSZ is caught too. If a write then goes beyond the limit of a file's
    /// size (RLIMIT_FSIZE), the write fails with EFBIG, as other errors of the disk.
    ///
    /// # Errors
    /// If the system has no room for a handler.
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
        let (tell, told) = watch::channel(false);
        for (kind, make) in all {
            let mut signals = signal(kind).context("signals cannot be listened to")?;
            let (events, tell) = (events.clone(), tell.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let Some(event) = make() else { continue };
                    if matches!(event, Event::Stop) {
                        tell.send_replace(true);
                    }
                    if events.send(event).await.is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self(told))
    }

    /// The result of a step of the start; `None` if a signal to stop comes first. The step does not
    /// go on after `None`, and the caller drops it.
    pub(super) async fn or<T>(&self, step: impl Future<Output = T> + Unpin) -> Option<T> {
        let mut told = self.0.clone();
        let stop = async {
            if told.wait_for(|is_told| *is_told).await.is_err() {
                // No task listens to signals any more.
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

/// Runs a part of the start that may wait for a disk, on a thread for blocking work.
///
/// # Errors
/// If the part has panicked. The log has the panic.
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
        let (tell, told) = watch::channel(false);
        let stop = Stop(told);
        assert_eq!(stop.or(pin!(async { 1 })).await, Some(1));
        let hangs = pin!(pending::<()>());
        let (given_up, _) = tokio::join!(stop.or(hangs), async { tell.send_replace(true) });
        assert_eq!(given_up, None);
        assert_eq!(stop.or(pin!(async { 1 })).await, None, "no further step is taken");
        let (tell, told) = watch::channel(false);
        drop(tell);
        assert_eq!(Stop(told).or(pin!(async { 1 })).await, Some(1));
    }
}
