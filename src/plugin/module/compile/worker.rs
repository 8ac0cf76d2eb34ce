//! Starts a compile worker, on a thread that is allowed to block.
//!
//! The start of a process blocks the calling thread until the kernel has opened and mapped the
//! executable file. If the file is on a file system that does not answer, the thread stays blocked
//! for ever. So the daemon does not start the worker on its main loop. The job for the worker, and
//! the worker's answer, are in `compile.rs`.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::WORKER_VERB;
use crate::patience::{self, PATIENCE};

/// Most workers that may be starting at the same time. The loader of plugins compiles two modules
/// at the same time, and other callers may start two more workers. If the file system of the
/// executable does not answer, each start blocks its thread until an answer comes. Further starts
/// then get no thread and fail after [`PATIENCE`].
const MAX_STARTING: usize = 4;

/// The [`MAX_STARTING`] permits for starts. A blocked thread exists longer than the call that
/// started it, so the permits belong to the whole process.
static STARTING: Semaphore = Semaphore::const_new(MAX_STARTING);

/// A running worker. If this value is dropped, the worker is killed.
#[derive(Debug)]
pub(super) struct Worker {
    /// The worker's process, with its pipes.
    pub(super) child: Child,
    /// Keeps the thread alive that has started the worker. When that thread ends, the kernel kills
    /// the worker (PR_SET_PDEATHSIG of prctl(2), in `confine.rs`). The thread waits until this end
    /// of the channel is dropped; no message is ever sent.
    pub(super) parent: mpsc::Sender<()>,
}

impl Worker {
    /// Starts the executable `program` as a worker.
    ///
    /// # Errors
    /// The executable cannot be started, or its start takes longer than [`PATIENCE`]. A worker that
    /// starts after that time is killed at once.
    pub(super) async fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .arg(WORKER_VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_clear()
            .kill_on_drop(true);
        let (parent, ended) = mpsc::channel();
        let (sender, receiver) = oneshot::channel();
        let started = timeout(PATIENCE, async {
            let permit = STARTING.acquire().await;
            spawn_blocking(move || {
                let child = command.spawn();
                drop(permit);
                if sender.send(child).is_ok() {
                    // No message is ever sent. The call returns when the owner drops the worker,
                    // which closes the channel.
                    let _ = ended.recv();
                }
            });
            receiver.await.unwrap_or_else(|_| {
                Err(io::Error::other("the thread that starts the worker has panicked"))
            })
        });
        let child = started.await.unwrap_or_else(|_| {
            let silent = patience::no_answer(PATIENCE);
            Err(patience::late(format!("{}: {silent}", program.display())))
        });
        Ok(Self { child: child?, parent })
    }
}
