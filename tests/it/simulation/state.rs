//! The parts of the simulation that survive a trap or the end of the daemon.
//!
//! These parts are the crash reports, each of which is replayed, and the retained variables. The
//! simulation cuts the power while the retained variables are being written.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use camshaft::crash::Verdict;
use camshaft::plugin::instance::program::Program;
use camshaft::process::variable::Variable;
use camshaft::retain::{Store, find};
use camshaft::state::Folder;
use tempfile::TempDir;

use super::guest::{CHAIN, MIX, TALLY};
use super::house::House;
use crate::crash::{play, report_bytes};

/// The variables that are retained.
const KEPT: [&str; 5] = [CHAIN, MIX[0], MIX[1], TALLY[0], "declared"];

/// Reports of one day that are played: a replay takes as long as thousands of cycles.
const REPLAYS: u64 = 12;

/// A state directory.
pub struct Disk {
    folder: Arc<Folder>,
    store: Store,
    /// The newest values that were written whole.
    pub kept: Vec<(&'static str, Variable)>,
    dir: TempDir,
}

impl Disk {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("there is room for one");
        let folder = Arc::new(Folder::open(dir.path()).expect("it is ours"));
        let store = Store::new(Arc::clone(&folder), &find(dir.path()));
        Self { folder, store, kept: Vec::new(), dir }
    }

    /// The files with retained values.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap().path());
        // Those that are set aside hold none any more.
        let is_one = |path: &PathBuf| {
            let is_aside = path.extension().is_some_and(|extension| extension == "damaged");
            !is_aside && path.file_name().is_some_and(|name| name != "lock")
        };
        let files = files.filter(is_one);
        files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    }

    /// Writes these, and perhaps loses the power over it. Gives whether it did.
    fn write(&mut self, values: Vec<(&'static str, Variable)>, random: &mut fastrand::Rng) -> bool {
        let before = self.files();
        self.store.write(values.iter().copied()).expect("the disk is good");
        let is_cut = random.u32(..3) == 0;
        if is_cut {
            let new = self.files().into_iter().find(|file| !before.contains(file));
            let (path, mut bytes) = new.expect("a generation differs from all before");
            let at = random.usize(..bytes.len());
            match random.bool() {
                true => bytes.truncate(at),
                false => bytes[at] ^= 1 << random.u32(..8),
            }
            fs::write(path, bytes).unwrap();
            let found = find(self.dir.path());
            assert_eq!(found.damaged.len(), 1, "it is seen: {found:?}");
            self.store = Store::new(Arc::clone(&self.folder), &found);
        } else {
            self.kept = values;
        }
        is_cut
    }

    /// What a start finds is what was last written whole.
    fn assert_whole(&self) {
        let newest = find(self.dir.path()).newest.map(|(_, generation)| generation.values);
        let found = newest.unwrap_or_default();
        let found: Vec<_> = found.iter().map(|(name, value)| (&**name, *value)).collect();
        assert!(
            found.len() == self.kept.len()
                && found.iter().zip(&self.kept).all(|(a, b)| a.0 == b.0 && a.1.is_same(b.1)),
            "{found:?} instead of {:?}",
            self.kept
        );
    }
}

impl House {
    /// Retained values go to the disk.
    pub fn flush(&mut self) {
        let news = self.rig.handle.latest.read();
        let values = KEPT.into_iter().filter_map(|name| Some((name, news.variables.read(name)?)));
        let values = values.collect();
        let is_cut = self.disk.write(values, &mut self.random);
        self.disk.assert_whole();
        self.note(if is_cut { "power cut" } else { "retain" }, "");
    }

    /// A report of a program that has trapped traps again in the same place.
    pub fn play(&mut self, program: Program) {
        if program.trap().is_none() || program.is_over() || !self.one_in(4) {
            return;
        }
        if self.counts.get("played again").is_some_and(|count| *count >= REPLAYS) {
            return;
        }
        let module = self.modules.iter().find(|m| m.hash == program.hash).expect("one of ours");
        let judgement = play(&report_bytes(&self.rig, program, Some(&module.bytes)));
        assert_eq!(judgement.verdict, Verdict::Reproduced, "{}", judgement.words);
        self.note("played again", &judgement.trap);
    }
}
