//! The folder's thread: looks at the folder, compares it with what was reported, reads new files,
//! and reports changes.
//!
//! The thread looks when a hint comes, and every two seconds anyway. The folder is lost when it
//! cannot be read. The folder is also lost when another folder has its name and holds none of the
//! plugins, as when a file system is no longer mounted. As long as the folder is lost, the thread
//! reports no plugin as gone.
//!
//! What a file's samples mean is decided in `folder/settle.rs`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use super::hint::{Inbox, Mail, Watcher, start_watcher};
use super::home::{Home, Identity};
use super::link::Links;
use super::names::Names;
use super::settle::{Kind, Listing, Order, Table};
use super::wait::Wait;
use super::{Change, Loss, Overlooked, disk};
use crate::clock::{Clock, MonotonicClock};

/// Time from one look to the next without a hint, because some changes raise no event.
const RESCAN: Duration = Duration::from_secs(2);

/// Time between two looks while the folder is lost: a look then costs one failing call, or the list
/// of an empty folder.
const RESCAN_LOST: Duration = Duration::from_millis(250);

/// The shortest time from a look to the next one by a hint. Ten thousand events a second then cost
/// fifty looks a second.
const LOOK_GAP: Duration = Duration::from_millis(20);

/// The thread pauses after a look for at least so many times as long as the look took. So a folder
/// with a hundred thousand names, which takes long to list, costs at most a fifth of a CPU.
const LOOK_SHARE: u32 = 4;

/// The shortest time between two reports of overlooked files, because each report is a line of the
/// log.
const OVERLOOKED_PAUSE: Duration = Duration::from_secs(5);

/// The kernel's watch on the folder.
enum Hints {
    /// The thread has yet to set up the watch: at the start, and after the folder was moved or
    /// could not be read.
    Untried,
    /// The kernel watches the folder.
    Watching {
        /// Kept because dropping it ends the watch.
        _watcher: Watcher,
        /// The identity of the watched folder.
        watched: Identity,
    },
    /// The kernel refused the watch, and the log says so.
    Unavailable,
}

/// The data of the folder's thread.
pub(super) struct Keeper<R> {
    dir: PathBuf,
    table: Table,
    /// Hints and requests. notify's thread and the `Watch` write them; this thread takes them.
    inbox: Arc<Inbox>,
    /// The present call on the file system. This thread writes it; the `Watch` reads it.
    wait: Arc<Wait>,
    /// The names of the present files. This thread writes them; the `Watch` reads them.
    names: Arc<Names>,
    /// The identity of the folder. This thread writes it; publishers read it.
    home: Arc<Home>,
    hints: Hints,
    links: Links,
    /// The reported reason why the folder is lost.
    lost: Option<Loss>,
    /// Plugins whose files the operator has removed since the folder was last listed.
    forgotten: BTreeSet<String>,
    /// The last report of overlooked files, and its time.
    overlooked: (Overlooked, Duration),
    report: R,
}

impl<R: FnMut(Change)> Keeper<R> {
    pub(super) fn new(
        dir: PathBuf,
        max_bytes: u64,
        (inbox, wait): (Arc<Inbox>, Arc<Wait>),
        (names, home): (Arc<Names>, Arc<Home>),
        report: R,
    ) -> Self {
        Self {
            dir,
            table: Table::new(max_bytes),
            inbox,
            wait,
            names,
            home,
            hints: Hints::Untried,
            links: Links::new(),
            lost: None,
            forgotten: BTreeSet::new(),
            overlooked: (Overlooked::default(), Duration::ZERO),
            report,
        }
    }

    /// Makes the folder if it is missing, and tries to read it.
    pub(super) fn open(&self) -> io::Result<()> {
        self.wait.during(|| fs::create_dir_all(&self.dir))?;
        self.wait.during(|| fs::read_dir(&self.dir)).map(drop)
    }

    /// Looks at the folder until the watch is dropped.
    pub(super) fn run(mut self) {
        let mut mail = Mail::default();
        while !mail.stop {
            if mail.uprooted {
                self.hints = Hints::Untried;
            }
            let begun = MonotonicClock.now();
            self.look(&mail);
            let now = MonotonicClock.now();
            let is_lost = self.lost.is_some();
            let rescan = now + if is_lost { RESCAN_LOST } else { RESCAN };
            let until = self.table.due().filter(|_| !is_lost).map_or(rescan, |due| rescan.min(due));
            let gap = LOOK_GAP.max((now - begun) * LOOK_SHARE);
            mail = self.inbox.wait(now + gap, until);
        }
    }

    /// Looks at the folder once, and notes how long that takes.
    fn look(&mut self, mail: &Mail) {
        self.compare(mail);
        // If the folder could not be listed in this look, no link had its turn, so no lateness of
        // links is noted.
        if self.lost.is_none() {
            self.wait.is_behind(self.links.lateness());
        }
        self.wait.look_has_ended();
    }

    /// Compares the folder with what was reported, and reports what is new.
    fn compare(&mut self, mail: &Mail) {
        self.forgotten.extend(mail.forgotten.iter().cloned());
        let wait = Arc::clone(&self.wait);
        let (identity, mut listing) = match wait.step(|| self.list()) {
            Ok(found) => found,
            Err(error) => {
                // The watch is set up anew, because the same folder may come back by a remount, but
                // the kernel's watch does not come back.
                self.hints = Hints::Untried;
                return self.on_loss(Loss::Unreadable(error.to_string()));
            }
        };
        wait.step(|| self.links.follow(&mut listing));
        for name in std::mem::take(&mut self.forgotten) {
            let gone = self.table.forget(&name, &listing.entries);
            gone.into_iter().for_each(|change| (self.report)(change));
        }
        let is_other = self.home.get().is_some_and(|home| home != identity);
        // Only files make the folder a folder of plugins, because an empty mount point may have
        // other entries.
        let has_files = listing.entries.values().any(|entry| entry.sample.kind == Kind::File);
        let is_empty = !has_files && self.table.holds_plugins();
        if is_other && is_empty && !mail.accepted {
            return self.on_loss(Loss::Exchanged);
        }
        self.home.set(identity);
        if self.lost.take().is_some() {
            (self.report)(Change::FolderBack);
        }
        let now = MonotonicClock.now();
        mail.refused.iter().for_each(|name| self.table.refused(name, now));
        for order in self.table.look(now, listing, &mail.hints) {
            let change = match order {
                Order::Tell(change) => Some(change),
                Order::Read { name, path, sample } => {
                    let outcome = match self.links.has(&path) {
                        true => wait.step(|| self.links.read(&path, &sample)),
                        false => Some(wait.step(|| disk::read(&path, &sample, &wait))),
                    };
                    // A file whose reading still goes on will be ready at the next look too.
                    outcome.and_then(|it| self.table.read(MonotonicClock.now(), &name, it))
                }
            };
            change.into_iter().for_each(|change| (self.report)(change));
        }
        self.tell_of_overlooked();
        match self.table.overlooked().files {
            0 => self.names.set(self.table.names()),
            _ => self.names.forget(),
        }
    }

    /// Lists the folder that now has the name. Links are not followed yet.
    fn list(&mut self) -> io::Result<(Identity, Listing)> {
        let identity = self.wait.during(|| Identity::of(&self.dir))?;
        // The watch begins before the listing, so that a change in between is listed, or raises an
        // event, or both.
        self.keep_watching(identity);
        Ok((identity, disk::list(&self.dir, self.table.paths(), &self.wait)?))
    }

    /// Reports that the folder is lost, unless a loss with the same kind of reason was reported
    /// already.
    fn on_loss(&mut self, loss: Loss) {
        self.table.pause();
        self.names.forget();
        let same = |before: &Loss| std::mem::discriminant(before) == std::mem::discriminant(&loss);
        if !self.lost.as_ref().is_some_and(same) {
            (self.report)(Change::FolderLost(loss.clone()));
            self.lost = Some(loss);
        }
    }

    /// Reports how many files are overlooked, if the number has changed and the last report is old
    /// enough.
    fn tell_of_overlooked(&mut self) {
        let (now, (told, at)) = (MonotonicClock.now(), &self.overlooked);
        let found = self.table.overlooked();
        let is_due = found.files == 0 || told.files == 0 || now >= *at + OVERLOOKED_PAUSE;
        if found.files != told.files && is_due {
            self.overlooked = (found.clone(), now);
            (self.report)(Change::Overlooked(found.clone()));
        }
    }

    /// Makes sure that the kernel watches this folder.
    fn keep_watching(&mut self, identity: Identity) {
        if matches!(&self.hints, Hints::Watching { watched, .. } if *watched == identity) {
            return;
        }
        let was_told = matches!(self.hints, Hints::Unavailable);
        let watcher = self.wait.during(|| start_watcher(&self.dir, &self.inbox));
        self.hints = match watcher {
            Ok(watcher) => Hints::Watching { _watcher: watcher, watched: identity },
            Err(error) => {
                if !was_told {
                    tracing::warn!(
                        dir = %self.dir.display(), %error,
                        "no events for the plugin folder ({error}), changes are noticed within \
                         {RESCAN:?}"
                    );
                }
                Hints::Unavailable
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::thread;
    use std::time::Instant;

    use super::super::settle::{Hint, Sample};
    use super::*;

    /// Longer than any step of a look at a folder with nothing slow in it.
    const LONG: Duration = Duration::from_millis(20);

    fn look_long(path: &Path) -> io::Result<Sample> {
        let begun = Instant::now();
        while begun.elapsed() < LONG {
            thread::yield_now();
        }
        disk::led_to(path)
    }

    fn keeper(dir: PathBuf) -> (Keeper<impl FnMut(Change)>, Arc<Wait>) {
        let (wait, most) = (Arc::<Wait>::default(), 1 << 30);
        let calls = (Arc::default(), Arc::clone(&wait));
        let keeper = Keeper::new(dir, most, calls, Default::default(), |_| {});
        let limit = Duration::from_secs(5);
        (Keeper { links: Links::with(look_long, limit), ..keeper }, wait)
    }

    /// Whether the slow step is forgotten after quick looks.
    fn forgets(keeper: &mut Keeper<impl FnMut(Change)>, wait: &Wait) -> bool {
        let begun = Instant::now();
        while wait.slowest_step() >= LONG {
            if begun.elapsed() > Duration::from_secs(60) {
                return false;
            }
            keeper.look(&Mail::default());
        }
        true
    }

    /// All calls were answered late, and this was not reported as long as the steps were not
    /// measured.
    #[test]
    fn a_look_notes_how_long_each_of_its_steps_takes() {
        let dir = tempfile::tempdir().unwrap();
        // For a missing folder, the attempt to list it is the only step.
        let (mut keeper_of_nothing, wait) = keeper(dir.path().join("nothing"));
        keeper_of_nothing.look(&Mail::default());
        assert!(wait.slowest_step() > Duration::ZERO);

        let (mut keeper, wait) = keeper(dir.path().to_owned());
        keeper.look(&Mail::default());
        assert!(wait.slowest_step() < LONG || forgets(&mut keeper, &wait));
        let link = dir.path().join("link.wasm");
        symlink(dir.path(), &link).unwrap();
        keeper.look(&Mail::default());
        assert!(wait.slowest_step() >= LONG, "to follow links is a step");
        fs::remove_file(link).unwrap();
        assert!(forgets(&mut keeper, &wait), "a look has its end");

        let file = dir.path().join("file.wasm");
        File::create(&file).unwrap().set_len(512 << 20).unwrap();
        let mut mail = Mail::default();
        mail.hints.insert("file".parse().unwrap(), Hint::Renamed);
        keeper.look(&mail);
        assert!(wait.slowest_step() >= LONG, "to read a file is a step");
        fs::remove_file(file).unwrap();
        assert!(forgets(&mut keeper, &wait));
    }
}
