//! Links in the plugin folder: followed on a thread of their own, each up to a limit.
//!
//! A link may lead to another file system, and that may give no answer. Then it is this one file
//! that does not answer, and not the folder: a thread stays behind with that link, which is not
//! followed again before it has its answer, and another thread follows the others. Files that are
//! no links are looked at and read by the folder's thread itself. How either is done is in
//! `disk.rs`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::disk;
use super::settle::{Listing, Outcome, Sample};
use super::wait::Wait;
use crate::patience::PATIENCE;
use crate::stamp::Stamp;

/// Links that may be without an answer at one time, each with its thread: more than a machine has
/// disks. While there are so many, no other is followed, and that is said of each.
const MAX_SILENT: usize = 16;

/// How long further links have in a look in which one has had no answer: they may lead to the same
/// place, and the folder's thread waits for them meanwhile.
const IMPATIENCE: Duration = Duration::from_millis(100);

/// What is said of a link that is without an answer.
const NO_ANSWER: &str = "it is a link, and the file system that it leads to does not answer";

/// Looks at what a link leads to.
type Look = fn(&Path) -> io::Result<Sample>;

/// The links of the folder. Only the folder's thread has them.
#[derive(Debug)]
pub(super) struct Links {
    /// Those that were found at the last look, as what they are themselves.
    found: BTreeMap<PathBuf, Stamp>,
    silent: Vec<Silent>,
    /// The thread that follows.
    worker: Option<Worker>,
    look: Look,
    limit: Duration,
}

/// One that is without an answer.
#[derive(Debug)]
struct Silent {
    path: PathBuf,
    /// One that was made anew may lead elsewhere.
    stamp: Stamp,
    answers: Receiver<Answer>,
}

/// A thread that follows links. It ends when this is dropped and it has its answer.
#[derive(Debug)]
struct Worker {
    jobs: Sender<Job>,
    /// Written by the thread, read by the folder's.
    wait: Arc<Wait>,
}

#[derive(Debug)]
struct Job {
    work: Work,
    answers: Sender<Answer>,
    /// Nobody is there any more when the job was given up.
    wanted: Weak<()>,
}

#[derive(Debug)]
enum Work {
    /// Look at what these lead to, one after the other; there is an answer for each.
    Look(Vec<PathBuf>),
    /// Read what this leads to.
    Read(PathBuf, Sample),
}

#[derive(Debug)]
enum Answer {
    Looked(io::Result<Sample>),
    Read(Outcome),
}

/// A job whose answers are waited for.
#[derive(Debug)]
struct Order {
    answers: Receiver<Answer>,
    wait: Arc<Wait>,
    _wanted: Arc<()>,
}

impl Links {
    pub(super) fn new() -> Self {
        Self::with(disk::led_to, PATIENCE)
    }

    fn with(look: Look, limit: Duration) -> Self {
        Self { found: BTreeMap::new(), silent: Vec::new(), worker: None, look, limit }
    }

    /// Looks at what the links of a listing lead to. One that is without an answer costs its limit
    /// once; those that answer cost one change of threads for all of them.
    pub(super) fn follow(&mut self, listing: &mut Listing) {
        let entries = &mut listing.entries;
        let own = |name: &String| entries.get(name).map(|it| (it.path.clone(), it.sample.stamp));
        self.found = listing.links.iter().filter_map(own).collect();
        self.silent.retain(Silent::has_no_answer);
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        for name in &listing.links {
            let Some(entry) = entries.get_mut(name) else { continue };
            match self.silent.iter().any(|one| one.is(&entry.path, entry.sample.stamp)) {
                true => entry.lead_to(Err(NO_ANSWER.into())),
                false => {
                    names.push(name);
                    paths.push(entry.path.clone());
                }
            }
        }
        for (name, sample) in names.into_iter().zip(self.look(&paths)) {
            if let Some(entry) = entries.get_mut(name) {
                entry.lead_to(sample);
            }
        }
    }

    /// What each of these leads to, or why that is not known.
    fn look(&mut self, paths: &[PathBuf]) -> Vec<Result<Sample, String>> {
        let (mut found, mut limit) = (Vec::new(), self.limit);
        while found.len() < paths.len() {
            let rest = &paths[found.len()..];
            let order = match self.order(Work::Look(rest.to_vec())) {
                Ok(order) => order,
                Err(why) => {
                    found.resize(paths.len(), Err(why));
                    break;
                }
            };
            for path in rest {
                let Some(Answer::Looked(sample)) = order.answer(limit) else {
                    found.push(Err(NO_ANSWER.to_owned()));
                    self.fall_silent(path, order);
                    limit = limit.min(IMPATIENCE);
                    break;
                };
                found.push(sample.map_err(|error| error.to_string()));
            }
        }
        found
    }

    /// Whether this was a link at the last look.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.found.contains_key(path)
    }

    /// Reads what a link leads to, if that is still what was sampled. Each call of that has its
    /// limit.
    pub(super) fn read(&mut self, path: &Path, sample: &Sample) -> Outcome {
        let order = match self.order(Work::Read(path.to_owned(), sample.clone())) {
            Ok(order) => order,
            Err(why) => return Outcome::Failed(why),
        };
        match order.answer(self.limit) {
            Some(Answer::Read(outcome)) => outcome,
            _ => {
                self.fall_silent(path, order);
                Outcome::Failed(NO_ANSWER.to_owned())
            }
        }
    }

    /// Has a thread do this.
    fn order(&mut self, work: Work) -> Result<Order, String> {
        if self.silent.len() >= MAX_SILENT {
            return Err(format!(
                "it is a link, and is not followed while {MAX_SILENT} others have no answer"
            ));
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(self.look).map_err(|error| error.to_string())?,
        };
        let (answers, wanted) = (channel(), Arc::new(()));
        let job = Job { work, answers: answers.0, wanted: Arc::downgrade(&wanted) };
        let order = Order { answers: answers.1, wait: Arc::clone(&worker.wait), _wanted: wanted };
        // A thread that has panicked takes none, and then there is no answer.
        if worker.jobs.send(job).is_ok() {
            self.worker = Some(worker);
        }
        Ok(order)
    }

    /// There is no answer. The thread is left behind, and further links get another.
    fn fall_silent(&mut self, path: &Path, order: Order) {
        self.worker = None;
        let stamp = self.found.get(path).copied().unwrap_or_default();
        self.silent.push(Silent { path: path.to_owned(), stamp, answers: order.answers });
    }
}

impl Silent {
    fn is(&self, path: &Path, stamp: Stamp) -> bool {
        self.path == path && self.stamp == stamp
    }

    fn has_no_answer(&self) -> bool {
        matches!(self.answers.try_recv(), Err(TryRecvError::Empty))
    }
}

impl Worker {
    fn start(look: Look) -> io::Result<Self> {
        let (jobs, orders) = channel();
        let wait = Arc::<Wait>::default();
        let calls = Arc::clone(&wait);
        let work = move || orders.into_iter().for_each(|job: Job| job.work(look, &calls));
        thread::Builder::new().name("link".to_owned()).spawn(work)?;
        Ok(Self { jobs, wait })
    }
}

impl Job {
    /// Done by the thread that follows links.
    fn work(self, look: Look, wait: &Wait) {
        let Self { work, answers, wanted } = self;
        // Nobody hears an answer that comes too late, but that there is one.
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
    /// The next answer; `None` if a call lasts for as long as this.
    fn answer(&self, limit: Duration) -> Option<Answer> {
        loop {
            let left = limit.saturating_sub(self.wait.lasts());
            match self.answers.recv_timeout(left) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Timeout) if self.wait.lasts() < limit => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::time::Instant;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::super::disk::list;
    use super::super::settle::Kind;
    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    /// Hangs where a link leads to a pipe: until somebody writes into that.
    fn look(path: &Path) -> io::Result<Sample> {
        let lead = fs::read_link(path)?;
        if lead.ends_with("pipe") {
            File::open(lead)?;
        }
        disk::led_to(path)
    }

    fn kinds(dir: &Path, links: &mut Links) -> BTreeMap<String, Kind> {
        let mut listing = list(dir, std::iter::empty(), &Wait::default()).unwrap();
        links.follow(&mut listing);
        listing.entries.into_iter().map(|(name, entry)| (name, entry.sample.kind)).collect()
    }

    /// One link to a disk that gave no answer made the folder a lost one.
    #[test]
    fn only_the_link_that_has_no_answer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file.wasm"), "file").unwrap();
        fs::write(at("lead"), "led to").unwrap();
        mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        for (name, lead) in [("a", "lead"), ("b", "pipe"), ("c", "lead"), ("d", "nothing")] {
            symlink(at(lead), at(&format!("{name}.wasm"))).unwrap();
        }
        let mut links = Links::with(look, LIMIT);
        let silent = Kind::Unreadable(NO_ANSWER.to_owned());
        let check = |found: BTreeMap<String, Kind>| {
            assert_eq!(
                (&found["a"], &found["c"], &found["file"]),
                (&Kind::File, &Kind::File, &Kind::File)
            );
            assert!(matches!(&found["d"], Kind::Unreadable(why) if why.contains("No such")));
            found["b"].clone()
        };
        assert_eq!(check(kinds(dir.path(), &mut links)), silent);
        // Known by now, so it costs nothing.
        let started = Instant::now();
        for _ in 0..3 {
            assert_eq!(check(kinds(dir.path(), &mut links)), silent);
        }
        assert!(started.elapsed() < LIMIT && links.silent.len() == 1);
        // One that was made anew may lead elsewhere.
        fs::rename(at("b.wasm"), at("e.wasm")).unwrap();
        symlink(at("lead"), at("b.wasm")).unwrap();
        assert_eq!(check(kinds(dir.path(), &mut links)), Kind::File);
        // It answers.
        fs::remove_file(at("e.wasm")).unwrap();
        drop(File::options().write(true).open(at("pipe")).unwrap());
        let started = Instant::now();
        while !links.silent.is_empty() {
            check(kinds(dir.path(), &mut links));
            assert!(started.elapsed() < PATIENCE);
        }
        let sample = disk::led_to(&at("a.wasm")).unwrap();
        assert!(links.has(&at("a.wasm")) && !links.has(&at("file.wasm")));
        assert!(matches!(links.read(&at("a.wasm"), &sample), Outcome::Bytes(..)));
    }
}
