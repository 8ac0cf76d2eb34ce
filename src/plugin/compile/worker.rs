//! Starts a compile worker, on a thread that may wait for it.
//!
//! Whoever starts a process waits in the kernel until its program was found and mapped: for ever,
//! if that lies on a file system which gives no answer. What the worker is told, and what it
//! answers, is in `compile.rs`.

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

/// Starts at one time: as many as compile, and as many that others ask for. Each that meets a file
/// system which gives no answer keeps its thread until it does; further ones have none.
const MAX_STARTING: usize = 4;

/// See [`MAX_STARTING`]. The threads outlive whoever asked, so this belongs to the process.
static STARTING: Semaphore = Semaphore::const_new(MAX_STARTING);

/// A worker that runs. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) child: Child,
    /// Keeps the thread that has started it: the kernel kills the worker with that thread
    /// (PR_SET_PDEATHSIG of prctl(2), in `confine.rs`).
    pub(super) parent: mpsc::Sender<()>,
}

impl Worker {
    /// Starts `program` as a worker.
    ///
    /// # Errors
    /// When that cannot be started, or not within [`PATIENCE`]; one that starts later is killed.
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
        let (tell, told) = oneshot::channel();
        let started = timeout(PATIENCE, async {
            let permit = STARTING.acquire().await;
            spawn_blocking(move || {
                let child = command.spawn();
                drop(permit);
                if tell.send(child).is_ok() {
                    // Nothing is ever sent: the end of the worker's owner closes it.
                    let _ = ended.recv();
                }
            });
            told.await.unwrap_or_else(|_| Err(io::Error::other("its thread has panicked")))
        });
        let child = started.await.unwrap_or_else(|_| {
            let silent = patience::no_answer(PATIENCE);
            Err(patience::late(format!("{}: {silent}", program.display())))
        });
        Ok(Self { child: child?, parent })
    }
}
