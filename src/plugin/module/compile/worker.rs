//! Starts a compile worker, on a thread that may wait for it.
//!
//! A thread that starts a process waits in the kernel until the kernel has found and mapped the
//! program's file. If the file lies on a file system that gives no answer, the thread waits for
//! ever. What the daemon sends to the worker, and what the worker answers, is in `compile.rs`.

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

/// Workers that may be starting at one time: as many as the loader compiles at once, and as many
/// for other callers. A start that meets a file system without an answer keeps its thread until
/// there is an answer. Further starts then get no thread.
const MAX_STARTING: usize = 4;

/// The permits for starts, [`MAX_STARTING`] of them. The threads outlive their callers, so this
/// belongs to the process.
static STARTING: Semaphore = Semaphore::const_new(MAX_STARTING);

/// A running worker. Dropping it kills the worker.
#[derive(Debug)]
pub(super) struct Worker {
    /// The process, with its pipes.
    pub(super) child: Child,
    /// Keeps the thread alive that has started the worker: when that thread ends, the kernel kills
    /// the worker (PR_SET_PDEATHSIG of prctl(2), in `confine.rs`). No message is sent: the thread
    /// waits until this end of the channel is dropped.
    pub(super) parent: mpsc::Sender<()>,
}

impl Worker {
    /// Starts `program` as a worker.
    ///
    /// # Errors
    /// When the program cannot be started, or not within [`PATIENCE`]. A worker that starts later
    /// is killed.
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
                    // Nothing is ever sent. The channel closes when the owner drops the worker.
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
