//! Links in the plugin folder: another thread, the link thread, follows them. Each link has a time
//! limit, and all links of a pass together have a further time limit.
//!
//! A link may lead to another file system, which may not answer. In that case only this link is
//! silent; the folder is not. The link thread stays blocked in its call for that link, and a second
//! link thread follows the other links. The silent link is not followed again until its call has
//! returned.
//!
//! If a file system answers slowly, a pass has time for only some of its links. The other links
//! keep the sample or the error of an earlier pass, and come first in the next pass. The link
//! thread does not examine or read plain files: the folder's thread does that. The calls on the
//! file system are in `folder/disk.rs`, and the link thread is in `link/worker.rs`.

mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::disk;
use super::settle::{Listing, ReadResult, Sample};
use crate::patience::PATIENCE;
use crate::stamp::Stamp;
use worker::{Answer, Examine, PendingCall, Silence, Work, Worker};

/// Most unanswered links and unfinished readings at one time, counted together. Each of them
/// occupies a thread. When this number is reached, no other link is followed or read, and every
/// other link is refused. The limit is higher than the number of disks in a machine.
const MAX_SILENT: usize = 16;

/// The time limit for each further link of a pass over the folder, after one link has given no
/// answer. The limit is short, because the further links may lead to the same file system. The
/// folder's thread waits during this time.
const IMPATIENCE: Duration = Duration::from_millis(100);

/// The time limit for all links of a pass over the folder together, in addition to the limit of one
/// call. In this time a pass can detect [`MAX_SILENT`] links without an answer.
const ALL_IMPATIENCE: Duration = IMPATIENCE.saturating_mul(MAX_SILENT as u32);

/// The error text for a link whose file system does not answer.
const NO_ANSWER: &str = "it is a link to a file system that does not answer";

/// The error text for a link that was not followed yet.
const NOT_REACHED: &str =
    "it is a link that the daemon did not follow yet, because other links answer slowly";

/// The links of the folder. Only the folder's thread uses this data.
#[derive(Debug)]
pub(super) struct Links {
    /// The links that were found at the last pass over the folder, by path.
    found: BTreeMap<PathBuf, Link>,
    /// The links without an answer, and the readings that were given up.
    silent: Vec<Silent>,
    /// The readings of files that take longer than a pass over the folder.
    reading: Vec<Reading>,
    /// The time when the present pass over the folder stops waiting for readings.
    end: Instant,
    /// The link thread, if one is running and not blocked.
    worker: Option<Worker>,
    examine: Examine,
    /// The time limit of one call.
    limit: Duration,
}

/// A link that was found in the folder.
#[derive(Debug)]
struct Link {
    /// The stamp of the link itself. If the stamp changes, the link is new and may lead to another
    /// file.
    stamp: Stamp,
    /// The sample of the file to which the link led when it was last followed. If the file is
    /// unknown, this is the reason.
    lead: Result<Sample, String>,
    /// The moment at which the link began to wait to be followed; `None` if it does not wait.
    waits_since: Option<Instant>,
}

/// A link without an answer, or a reading that was given up. A thread is blocked in a call for it.
#[derive(Debug)]
struct Silent {
    path: PathBuf,
    /// The stamp of the link; `None` for a reading that was given up.
    stamp: Option<Stamp>,
    /// The time from which the link counts as silent. This time lies in the future if the link had
    /// too little time to answer, because other links of the same pass were slow.
    counts_from: Instant,
    /// The channel for the answer. The blocked thread writes the answer when its call returns, and
    /// the folder's thread reads it.
    answers: Receiver<Answer>,
}

/// A reading that continues after the pass over the folder in which it began.
#[derive(Debug)]
struct Reading {
    path: PathBuf,
    sample: Sample,
    since: Instant,
    order: PendingCall,
}

impl Links {
    pub(super) fn new() -> Self {
        Self::with(disk::led_to, PATIENCE)
    }

    pub(super) fn with(examine: Examine, limit: Duration) -> Self {
        let (found, silent, reading) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { found, silent, reading, end: Instant::now(), worker: None, examine, limit }
    }

    /// Follows the links of a listing, and puts the samples of their files into the listing. If a
    /// link gives no answer, only the first pass that follows this link waits for the time limit.
    /// If all links answer, one order to the link thread is enough. A link that was not followed in
    /// this pass keeps the sample or the error of an earlier pass.
    pub(super) fn follow(&mut self, listing: &mut Listing) {
        let mut before = std::mem::take(&mut self.found);
        for entry in listing.links.iter().filter_map(|name| listing.entries.get(name)) {
            let stamp = entry.sample.stamp;
            let known = before.remove(&entry.path).filter(|link| link.stamp == stamp);
            let unknown = || Link { stamp, lead: Err(NOT_REACHED.into()), waits_since: None };
            self.found.insert(entry.path.clone(), known.unwrap_or_else(unknown));
        }
        self.silent.retain(Silent::has_no_answer);
        let paths = self.turns();
        let answers = self.examine(&paths);
        for (path, lead) in paths.iter().zip(answers) {
            if let Some(link) = self.found.get_mut(path) {
                link.has_led(lead);
            }
        }
        for name in &listing.links {
            if let Some(entry) = listing.entries.get_mut(name)
                && let Some(link) = self.found.get(&entry.path)
            {
                entry.lead_to(link.lead.clone());
            }
        }
        self.give_up_readings();
        self.end = Instant::now() + self.limit;
    }

    /// Returns the links that must be followed, in their order: the links that have waited longest
    /// come first. A link whose earlier call has no answer yet is not returned. It is marked as
    /// silent, or as waiting if it had too little time to answer.
    fn turns(&mut self) -> Vec<PathBuf> {
        let mut turns = Vec::new();
        for (path, link) in &mut self.found {
            match self.silent.iter().find(|one| one.is(path, link.stamp)) {
                Some(one) if one.counts_from <= Instant::now() => {
                    link.has_led(Some(Err(NO_ANSWER.into())));
                }
                Some(_) => link.has_led(None),
                // The first field puts waiting links before the others. Without it, links with
                // `None` would come first, because `None` sorts before any time.
                None => turns.push((link.waits_since.is_none(), link.waits_since, path.clone())),
            }
        }
        turns.sort();
        turns.into_iter().map(|(.., path)| path).collect()
    }

    /// Returns, for each link, the sample of the file to which it leads, or the reason why the file
    /// is unknown. The result is `None` for a link that was not followed because the pass had no
    /// time left.
    fn examine(&mut self, paths: &[PathBuf]) -> Vec<Option<Result<Sample, String>>> {
        let end = Instant::now() + self.limit + ALL_IMPATIENCE;
        let (mut found, mut limit) = (Vec::new(), self.limit);
        while found.len() < paths.len() {
            let rest = &paths[found.len()..];
            let order = match self.order(Work::Examine(rest.to_vec())) {
                Ok(order) => order,
                Err(why) => {
                    found.resize(paths.len(), Some(Err(why)));
                    break;
                }
            };
            for path in rest {
                match order.answer(limit, end) {
                    Ok(Answer::Examined(sample)) => {
                        found.push(Some(sample.map_err(|error| error.to_string())));
                        continue;
                    }
                    Err(Silence::Examine) => {
                        found.resize(paths.len(), None);
                        self.fall_silent(path, order, self.limit);
                    }
                    _ => {
                        found.push(Some(Err(NO_ANSWER.to_owned())));
                        self.fall_silent(path, order, Duration::ZERO);
                        limit = limit.min(IMPATIENCE);
                    }
                }
                break;
            }
        }
        found
    }

    /// Whether `path` was a link at the last pass over the folder.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.found.contains_key(path)
    }

    /// The longest time that a link has waited to be followed, or that a reading has lasted.
    pub(super) fn lateness(&self) -> Duration {
        let waiting = self.found.values().filter_map(|link| link.waits_since);
        let reading = self.reading.iter().map(|reading| reading.since);
        waiting.chain(reading).min().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Reads the file to which a link leads, if it is still the sampled file. Each call has a time
    /// limit, and all readings of a pass over the folder together have a further time limit.
    /// Returns `None` if the reading has not ended; the caller asks again at the next pass.
    pub(super) fn read(&mut self, path: &Path, sample: &Sample) -> Option<ReadResult> {
        let is_it = |reading: &Reading| reading.path == path && reading.sample == *sample;
        let (since, order) = match self.reading.iter().position(is_it) {
            Some(at) => {
                let Reading { since, order, .. } = self.reading.swap_remove(at);
                (since, order)
            }
            // This pass has no time left, so the reading begins in a later pass over the folder.
            None if Instant::now() >= self.end => return None,
            None => match self.order(Work::Read(path.to_owned(), sample.clone())) {
                Ok(order) => (Instant::now(), order),
                Err(why) => return Some(ReadResult::Failed(why)),
            },
        };
        match order.answer(self.limit, self.end) {
            Ok(Answer::Read(outcome)) => Some(outcome),
            Err(Silence::Examine) => {
                // The busy thread continues its reading. The field is cleared, so other links get a
                // new thread.
                self.worker = None;
                let (path, sample) = (path.to_owned(), sample.clone());
                self.reading.push(Reading { path, sample, since, order });
                None
            }
            _ => {
                self.fall_silent(path, order, Duration::ZERO);
                Some(ReadResult::Failed(NO_ANSWER.to_owned()))
            }
        }
    }

    /// Gives up the readings of files that were replaced or removed. The thread of such a reading
    /// counts as silent until its call returns.
    fn give_up_readings(&mut self) {
        let Self { reading, found, silent, .. } = self;
        let is_over = |reading: &mut Reading| {
            found.get(&reading.path).is_none_or(|link| link.lead.as_ref() != Ok(&reading.sample))
        };
        silent.extend(reading.extract_if(.., is_over).map(
            |Reading { path, order, since, .. }| Silent {
                path,
                stamp: None,
                counts_from: since,
                answers: order.answers,
            },
        ));
    }

    /// Sends this work to the link thread, and starts a thread if there is none.
    fn order(&mut self, work: Work) -> Result<PendingCall, String> {
        if self.silent.len() + self.reading.len() >= MAX_SILENT {
            return Err(format!(
                "it is a link that the daemon does not follow, because {MAX_SILENT} other links \
                 lead to file systems that do not answer"
            ));
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(self.examine).map_err(|error| error.to_string())?,
        };
        let (order, is_taken) = worker.give(work);
        self.worker = is_taken.then_some(worker);
        Ok(order)
    }

    /// Records a link without an answer, which counts as silent after the time `after`. The thread
    /// stays blocked in its call, and further links get a new thread.
    fn fall_silent(&mut self, path: &Path, order: PendingCall, after: Duration) {
        self.worker = None;
        let stamp = self.found.get(path).map(|link| link.stamp);
        let (path, counts_from) = (path.to_owned(), Instant::now() + after);
        self.silent.push(Silent { path, stamp, counts_from, answers: order.answers });
    }
}

impl Link {
    /// Stores the sample of the file to which the link leads, or the reason why the file is
    /// unknown. `None` means that the link was not followed in this pass; then the link waits.
    fn has_led(&mut self, lead: Option<Result<Sample, String>>) {
        match lead {
            Some(lead) => (self.lead, self.waits_since) = (lead, None),
            None => drop(self.waits_since.get_or_insert_with(Instant::now)),
        }
    }
}

impl Silent {
    fn is(&self, path: &Path, stamp: Stamp) -> bool {
        self.path == path && self.stamp == Some(stamp)
    }

    /// Whether the blocked thread has not answered yet. Returns false if the thread has answered or
    /// has ended.
    fn has_no_answer(&self) -> bool {
        matches!(self.answers.try_recv(), Err(TryRecvError::Empty))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::time::Instant;
    use std::{io, thread};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::super::disk::list;
    use super::super::settle::EntryKind;
    use super::super::wait::Wait;
    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    /// Follows a link as the daemon does. But if the link leads to a pipe, the call blocks until
    /// the test writes into the pipe.
    fn examine(path: &Path) -> io::Result<Sample> {
        let lead = fs::read_link(path)?;
        if lead.ends_with("pipe") {
            File::open(lead)?;
        }
        disk::led_to(path)
    }

    fn kinds(dir: &Path, links: &mut Links) -> BTreeMap<String, EntryKind> {
        let mut listing = list(dir, std::iter::empty(), &Wait::default()).unwrap();
        links.follow(&mut listing);
        listing
            .entries
            .into_iter()
            .map(|(name, entry)| (name.to_string(), entry.sample.kind))
            .collect()
    }

    /// A past defect: a single link to a disk that did not answer made the whole folder count as
    /// lost.
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
        let mut links = Links::with(examine, LIMIT);
        let silent = EntryKind::Unreadable(NO_ANSWER.to_owned());
        let check = |found: BTreeMap<String, EntryKind>| {
            assert_eq!(
                (&found["a"], &found["c"], &found["file"]),
                (&EntryKind::File, &EntryKind::File, &EntryKind::File)
            );
            assert!(matches!(&found["d"], EntryKind::Unreadable(why) if why.contains("No such")));
            found["b"].clone()
        };
        assert_eq!(check(kinds(dir.path(), &mut links)), silent);
        // The silent link is already known, so a pass over the folder does not wait for it.
        let started = Instant::now();
        for _ in 0..3 {
            assert_eq!(check(kinds(dir.path(), &mut links)), silent);
        }
        assert!(started.elapsed() < LIMIT && links.silent.len() == 1);
        // A new link with the same name may lead to another file, so it is followed.
        fs::rename(at("b.wasm"), at("e.wasm")).unwrap();
        symlink(at("lead"), at("b.wasm")).unwrap();
        assert_eq!(check(kinds(dir.path(), &mut links)), EntryKind::File);
        // Now the file system of the silent link answers.
        fs::remove_file(at("e.wasm")).unwrap();
        drop(File::options().write(true).open(at("pipe")).unwrap());
        let started = Instant::now();
        while !links.silent.is_empty() {
            check(kinds(dir.path(), &mut links));
            assert!(started.elapsed() < PATIENCE);
        }
        let sample = disk::led_to(&at("a.wasm")).unwrap();
        assert!(links.has(&at("a.wasm")) && !links.has(&at("file.wasm")));
        assert!(matches!(links.read(&at("a.wasm"), &sample), Some(ReadResult::Bytes(..))));
    }

    /// Each link that does not answer blocks a thread, so their number has a limit.
    #[test]
    fn of_many_links_that_hang_few_are_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for n in 0..=MAX_SILENT {
            symlink(&pipe, dir.path().join(format!("{n:02}.wasm"))).unwrap();
        }
        let mut links = Links::with(examine, LIMIT);
        let found = kinds(dir.path(), &mut links);
        let last = &found[&format!("{MAX_SILENT:02}")];
        let why = "it is a link that the daemon does not follow, because 16 other links lead to \
                   file systems that do not answer";
        assert_eq!(*last, EntryKind::Unreadable(why.to_owned()));
        assert_eq!(links.silent.len(), MAX_SILENT);
        drop(File::options().read(true).write(true).open(pipe).unwrap());
    }

    /// Time of a slow sample. A pass over the folder has 3.6 s, so it has time for three of the
    /// five links of the test, and certainly not for a fourth.
    const LATE: Duration = Duration::from_secs(1);

    /// Takes a sample slowly.
    fn examine_late(path: &Path) -> io::Result<Sample> {
        thread::sleep(LATE);
        disk::led_to(path)
    }

    /// A past defect: a pass over many links with slow answers lasted as long as all answers
    /// together. During this time the plain files of the folder were not examined.
    #[test]
    fn links_that_answer_late_have_the_time_of_one_look() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lead"), "led to").unwrap();
        let names = ["a", "b", "c", "d", "e"];
        for name in names {
            symlink(dir.path().join("lead"), dir.path().join(format!("{name}.wasm"))).unwrap();
        }
        let mut links = Links::with(examine_late, 2 * LATE);
        let is_file = |found: &BTreeMap<String, EntryKind>| -> Vec<_> {
            names.iter().filter(|name| found[**name] == EntryKind::File).copied().collect()
        };
        let started = Instant::now();
        let found = kinds(dir.path(), &mut links);
        assert!(started.elapsed() < 2 * LATE + ALL_IMPATIENCE + LATE, "{:?}", started.elapsed());
        let first = is_file(&found);
        assert!(!first.is_empty() && first.len() < names.len(), "{found:?}");
        let why = EntryKind::Unreadable(NOT_REACHED.to_owned());
        assert!(found.values().all(|kind| *kind == EntryKind::File || *kind == why), "{found:?}");
        assert!(links.lateness() > Duration::ZERO);
        // In the next pass over the folder, the links that were not followed yet come first. The
        // links that were followed in the first pass keep their results.
        let found = kinds(dir.path(), &mut links);
        assert!(found.values().all(|kind| *kind == EntryKind::File || *kind == why), "{found:?}");
        let second = is_file(&found);
        assert!(second.len() > first.len() && second.starts_with(&first), "{first:?}, {second:?}");
    }

    /// Begins a reading in a pass over the folder that has little time for it.
    fn begin(links: &mut Links, link: &Path, sample: &Sample) {
        while links.reading.is_empty() {
            links.end = Instant::now() + Duration::from_millis(2);
            assert!(links.read(link, sample).is_none());
        }
        assert_eq!((links.reading.len(), links.silent.len()), (1, 0));
    }

    /// A past defect: if the reading of a file lasted longer than a pass over the folder, each pass
    /// began the reading again from the start.
    #[test]
    fn a_reading_goes_on_after_the_look_that_began_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("lead"), dir.path().join("a.wasm"));
        File::create(&file).unwrap().set_len(256 << 20).unwrap();
        symlink(&file, &link).unwrap();
        let mut links = Links::with(disk::led_to, PATIENCE);
        assert_eq!(kinds(dir.path(), &mut links)["a"], EntryKind::File);
        let sample = disk::led_to(&link).unwrap();
        links.end = Instant::now();
        assert!(links.read(&link, &sample).is_none() && links.reading.is_empty());
        begin(&mut links, &link, &sample);
        assert_eq!(kinds(dir.path(), &mut links)["a"], EntryKind::File);
        let started = Instant::now();
        loop {
            links.end = Instant::now();
            if let Some(outcome) = links.read(&link, &sample) {
                assert!(matches!(outcome, ReadResult::Bytes(..)), "{outcome:?}");
                break;
            }
            assert!(links.reading.len() == 1 && started.elapsed() < 12 * PATIENCE);
        }
        // If the file has been replaced, the thread does not wait for its reading.
        begin(&mut links, &link, &sample);
        fs::write(&file, "another").unwrap();
        assert_eq!(kinds(dir.path(), &mut links)["a"], EntryKind::File);
        assert_eq!((links.reading.len(), links.silent.len()), (0, 1));
    }
}
