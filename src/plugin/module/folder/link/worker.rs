//! The thread that follows links, and the orders to it.
//!
//! The worker's thread makes one call after the other on the file system, and may wait for ever in
//! each. The folder's thread sees how long a call lasts. If a call lasts too long, the folder's
//! thread gives up the order, and no longer uses this worker. The limits, and what happens to the
//! link, are in `link.rs`.

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

/// The reason why the folder's thread waits no longer for an answer.
pub(super) enum Silence {
    /// A call has lasted as long as it may.
    Call,
    /// The look has lasted as long as it may.
    Look,
}

/// A thread that follows links. The thread ends when the `Worker` is dropped and the thread's
/// present call has returned.
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
    /// The worker's sign that the job is still wanted. The folder's thread drops the owner when it
    /// gives the job up, and the worker's thread checks this.
    wanted: Weak<()>,
}

/// The work that an order gives to the thread.
#[derive(Debug)]
pub(super) enum Work {
    /// Examine the files that these links lead to, one after the other, with an answer for each.
    Look(Vec<PathBuf>),
    /// Read the file that this link leads to, if it still has this sample.
    Read(PathBuf, Sample),
}

/// The thread's answer to one link.
#[derive(Debug)]
pub(super) enum Answer {
    Looked(io::Result<Sample>),
    Read(Outcome),
}

/// An order that was given to the worker. The worker's thread writes the answers, and the folder's
/// thread reads them.
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

    /// Gives this work to the thread. Also returns whether the thread has taken the work. A thread
    /// that has panicked does not take it, and the order gets no answer.
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
        // A failed send is no error: the folder's thread may have given up the order.
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
    /// The next answer, if no call lasts as long as `limit`, and the answer comes before `end`.
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
