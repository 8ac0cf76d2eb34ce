//! A watched plugin folder in a temporary directory, for the tests of `folder.rs`.
//!
//! The bench collects the reports of the watch as short texts, for example `a is one`, so that a
//! test can compare them. This file contains no tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use camshaft::clock::{Clock, MonotonicClock};
use camshaft::plugin::ModuleHash;
use camshaft::plugin::module::folder::{Change, Loss, Watch, watch};

/// Nothing takes longer, even on a busy machine: five rescans.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

pub(super) const MAX_BYTES: u64 = 1 << 20;

/// A watched folder `plugins` beside a folder `elsewhere` on the same file system.
pub(super) struct Bench {
    pub(super) watch: Watch,
    pub(super) changes: Receiver<Change>,
    root: tempfile::TempDir,
    sentinels: u32,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With something there before the watch begins.
    pub(super) fn with(prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        let plugins = root.path().join("plugins");
        for dir in ["plugins", "elsewhere"] {
            fs::create_dir(root.path().join(dir)).expect("the temporary directory is ours");
        }
        prepare(&plugins);
        let (sender, changes) = channel();
        let report = move |change| drop(sender.send(change));
        let watch = watch(plugins, MAX_BYTES, report).expect("the folder is there");
        Self { watch, changes, root, sentinels: 0 }
    }

    pub(super) fn plugins(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    /// `name.wasm` in the folder.
    pub(super) fn plugin(&self, name: &str) -> PathBuf {
        self.plugins().join(format!("{name}.wasm"))
    }

    pub(super) fn elsewhere(&self, name: &str) -> PathBuf {
        self.root.path().join("elsewhere").join(name)
    }

    pub(super) fn next(&self) -> String {
        match self.changes.recv_timeout(LIMIT) {
            Ok(change) => brief(&change),
            Err(error) => panic!("nothing is reported: {error}"),
        }
    }

    #[track_caller]
    pub(super) fn reports(&self, expected: &str) {
        assert_eq!(self.next(), expected);
    }

    /// A file that is written in place now is settled after everything that happened before it:
    /// so if it is the next to be reported, all that was nothing.
    #[track_caller]
    pub(super) fn is_quiet(&mut self) {
        self.sentinels += 1;
        let name = format!("sentinel{}", self.sentinels);
        write(&self.plugin(&name), "here");
        self.reports(&format!("{name} is here"));
    }

    /// A bench with the plugin `a`, reported.
    pub(super) fn with_a() -> Self {
        let bench = Self::with(|plugins| write(&plugins.join("a.wasm"), "one"));
        bench.reports("a is one");
        bench
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the temporary directory is ours");
}

fn brief(change: &Change) -> String {
    match change {
        Change::Present { name, path, hash, bytes, detected } => {
            assert_eq!(*hash, ModuleHash::of(bytes));
            assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(name.as_str()));
            let now = MonotonicClock.now();
            assert!(*detected <= now && *detected + LIMIT > now, "{detected:?} at {now:?}");
            format!("{name} is {}", String::from_utf8_lossy(bytes))
        }
        Change::Refused { name, refusal, .. } => format!("{name} refused: {}", refusal.reason),
        Change::Gone { name } => format!("{name} gone"),
        Change::Overlooked(overlooked) => format!("overlooked {}", overlooked.files),
        Change::FolderLost(Loss::Unreadable(_)) => "folder lost".to_owned(),
        Change::FolderLost(loss) => format!("folder lost: {loss:?}"),
        Change::FolderBack => "folder back".to_owned(),
    }
}
