//! The thread that follows links, and the orders to it.
//!
//! It makes one call after the other on the file system, and may wait in each for ever. The
//! folder's thread sees how long a call lasts, gives up the order, and leaves the thread behind.
//! When it does so, and what becomes of the link, is in `link.rs`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::super::disk;
use super::super::settle::{Outcome, Sample};
use super::super::wait::Wait;

/// A function that examines what a link leads to.
pub(super) type Look = fn(&Path) -> io::Result<Sample>;

/// Why there is no answer.
pub(super) enum Silence {
    /// A call has lasted as long as it may.
    Call,
    /// The look has lasted as long as it may.
    Look,
}

/// A thread that follows links. It ends when this is dropped and its present call has returned.
#[derive(Debug)]
pub(super) struct Worker {
    /// The folder's thread writes, the worker's thread reads.
    jobs: Sender<Job>,
    /// The thread's present call. The thread writes it; the folder's thread reads it.
    wait: Arc<Wait>,
}

/// An order to the thread that follows links.
#[derive(Debug)]
struct Job {
    work: Work,
    /// The worker's thread writes, the folder's thread reads.
    answers: Sender<Answer>,
    /// Has no owner any more when the folder's thread has given the job up; the worker looks.
    wanted: Weak<()>,
}

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Examine what these lead to, one after the other; each gets an answer.
    Look(Vec<PathBuf>),
    /// Read what this leads to.
    Read(PathBuf, Sample),
}

/// What the thread has found.
#[derive(Debug)]
pub(super) enum Answer {
    Looked(io::Result<Sample>),
    Read(Outcome),
}

/// A job whose answers the folder's thread waits for. The worker's thread writes, it reads.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) answers: Receiver<Answer>,
    wait: Arc<Wait>,
    /// Dropped with the order, which the worker's thread sees.
    _wanted: Arc<()>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(look: Look) -> io::Result<Self> {
        let (jobs, orders) = channel();
        let wait = Arc::<Wait>::default();
        let calls = Arc::clone(&wait);
        let work = move || orders.into_iter().for_each(|job: Job| job.work(look, &calls));
        thread::Builder::new().name("link".to_owned()).spawn(work)?;
        Ok(Self { jobs, wait })
    }

    /// Gives this work to the thread. Also returns whether the thread has taken it: one that has
    /// panicked does not, and then there is no answer.
    pub(super) fn give(&self, work: Work) -> (Order, bool) {
        let (answers, wanted) = (channel(), Arc::new(()));
        let job = Job { work, answers: answers.0, wanted: Arc::downgrade(&wanted) };
        let order = Order { answers: answers.1, wait: Arc::clone(&self.wait), _wanted: wanted };
        (order, self.jobs.send(job).is_ok())
    }
}

impl Job {
    /// Does the job, on the thread that follows links.
    fn work(self, look: Look, wait: &Wait) {
        let Self { work, answers, wanted } = self;
        // An answer that comes too late is not read; only that it has come is noticed.
        let tell = |answer| drop(answers.send(answer));
        match work {
            Work::Look(paths) => {
                for path in paths {
                    if wanted.strong_count() == 0 {
                        break;
                    }
                    tell(Answer::Looked(wait.during(|| look(&path))));
                }
            }
            Work::Read(path, sample) => tell(Answer::Read(disk::read_link(&path, &sample, wait))),
        }
    }
}

impl Order {
    /// The next answer, if no call lasts as long as `limit`, and it comes before `end`.
    pub(super) fn answer(&self, limit: Duration, end: Instant) -> Result<Answer, Silence> {
        loop {
            let of_look = end.saturating_duration_since(Instant::now());
            let of_call = limit.saturating_sub(self.wait.lasts());
            match self.answers.recv_timeout(of_call.min(of_look)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(Silence::Call),
                Err(_) if self.wait.lasts() >= limit => return Err(Silence::Call),
                Err(_) if Instant::now() >= end => return Err(Silence::Look),
                Err(_) => {}
            }
        }
    }
}
