//! The link thread, which follows links, and the orders to it.
//!
//! The link thread makes one call on the file system after the other, and each call may block for
//! ever. The folder's thread measures how long a call lasts. If a call lasts too long, the folder's
//! thread gives up the order, and stops using this link thread. The time limits are in `link.rs`,
//! which also decides what happens to the link after that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::super::disk;
use super::super::settle::{ReadResult, Sample};
use super::super::wait::Wait;
use crate::thread::named;

/// A function that takes a sample of the file to which a link leads. Tests use slow functions.
pub(super) type Examine = fn(&Path) -> io::Result<Sample>;

/// The reason why the folder's thread stops waiting for an answer.
pub(super) enum Silence {
    /// A call has reached its time limit, or the link thread has ended.
    Call,
    /// The pass over the folder has reached its time limit.
    Examine,
}

/// The link thread. After this value is dropped, the thread ends when its present job has ended.
#[derive(Debug)]
pub(super) struct Worker {
    /// The channel for jobs. The folder's thread writes, and the link thread reads.
    jobs: Sender<Job>,
    /// The call that the link thread makes at present. The link thread writes this value, and the
    /// folder's thread reads it.
    wait: Arc<Wait>,
}

/// A job for the link thread.
#[derive(Debug)]
struct Job {
    work: Work,
    /// The channel for answers. The link thread writes, and the folder's thread reads.
    answers: Sender<Answer>,
    /// Shows the link thread whether the job is still wanted. When the folder's thread gives up the
    /// job, it drops the matching `Arc`. The link thread then sees a strong count of 0.
    wanted: Weak<()>,
}

/// The work of a job.
#[derive(Debug)]
pub(super) enum Work {
    /// Follow these links, one after the other. Each link gets an answer with the sample of its
    /// file.
    Examine(Vec<PathBuf>),
    /// Read the file to which this link leads, if the file still has this sample.
    Read(PathBuf, Sample),
}

/// The answer of the link thread about one link.
#[derive(Debug)]
pub(super) enum Answer {
    Examined(io::Result<Sample>),
    Read(ReadResult),
}

/// An order that was sent to the link thread. The folder's thread waits here for the answers.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) answers: Receiver<Answer>,
    wait: Arc<Wait>,
    /// This field is dropped together with the order. The drop shows the link thread that the job
    /// is not wanted any more.
    _wanted: Arc<()>,
}

impl Worker {
    /// Starts the link thread, which uses `examine` to follow links.
    pub(super) fn start(examine: Examine) -> io::Result<Self> {
        let (jobs, orders) = channel();
        let wait = Arc::<Wait>::default();
        let calls = Arc::clone(&wait);
        let work = move || orders.into_iter().for_each(|job: Job| job.work(examine, &calls));
        named("link").spawn(work)?;
        Ok(Self { jobs, wait })
    }

    /// Sends this work to the link thread. Returns the order, and whether the thread has accepted
    /// the work. A thread that has panicked accepts no work, and its order gets no answer.
    pub(super) fn give(&self, work: Work) -> (PendingCall, bool) {
        let (answers, wanted) = (channel(), Arc::new(()));
        let job = Job { work, answers: answers.0, wanted: Arc::downgrade(&wanted) };
        let order =
            PendingCall { answers: answers.1, wait: Arc::clone(&self.wait), _wanted: wanted };
        (order, self.jobs.send(job).is_ok())
    }
}

impl Job {
    /// Carries out the job. This function runs on the link thread.
    fn work(self, examine: Examine, wait: &Wait) {
        let Self { work, answers, wanted } = self;
        // The send fails if the folder's thread has given up the order. A failed send is no error.
        let answer = |answer| drop(answers.send(answer));
        match work {
            Work::Examine(paths) => {
                for path in paths {
                    if wanted.strong_count() == 0 {
                        break;
                    }
                    answer(Answer::Examined(wait.during(|| examine(&path))));
                }
            }
            Work::Read(path, sample) => answer(Answer::Read(disk::read_link(&path, &sample, wait))),
        }
    }
}

impl PendingCall {
    /// Waits for the next answer. The wait fails if a call lasts longer than `limit`, if no answer
    /// comes before the time `end`, or if the link thread has ended.
    pub(super) fn answer(&self, limit: Duration, end: Instant) -> Result<Answer, Silence> {
        loop {
            let of_look = end.saturating_duration_since(Instant::now());
            let of_call = limit.saturating_sub(self.wait.lasts());
            match self.answers.recv_timeout(of_call.min(of_look)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(Silence::Call),
                Err(_) if self.wait.lasts() >= limit => return Err(Silence::Call),
                Err(_) if Instant::now() >= end => return Err(Silence::Examine),
                Err(_) => {}
            }
        }
    }
}
