//! Tests with simulated folders in simulated time. Each test defines at which millisecond the
//! folder changes, and compares the reports of the watch, and the moments of the reports.
//!
//! These tests use no disk and no thread. The tests with real files are in `tests/it`.

use super::*;

/// A simulated folder. The time does not advance while a test changes the folder. After the
/// changes, the time advances from pass to pass.
struct Sim {
    table: Table,
    files: BTreeMap<String, (Entry, &'static str)>,
    now: u64,
    inode: u64,
    log: Vec<String>,
    /// The number of further readings during which the file changes.
    moving: u32,
    /// The error of all readings; `None` if readings succeed.
    error: Option<&'static str>,
    readings: u32,
}

const MAX_BYTES: u64 = 100;

/// The wall-clock time at which a simulation starts, in seconds since 1970.
const CLOCK: u64 = 1_000_000;

/// Parses the name of a plugin.
fn named(name: &str) -> FileName {
    FileName::Plugin(name.parse().unwrap())
}

impl Sim {
    fn new() -> Self {
        Self {
            table: Table::new(MAX_BYTES),
            files: BTreeMap::new(),
            now: 0,
            inode: 0,
            log: Vec::new(),
            moving: 0,
            error: None,
            readings: 0,
        }
    }

    /// Advances the time to `ms`, and makes a pass over the folder whenever a pass is due.
    fn until(&mut self, ms: u64) -> &mut Self {
        while let Some(due) = self.due().filter(|due| *due <= ms) {
            assert!(due >= self.now, "due in the past means a busy loop");
            self.now = due;
            self.pass(&[]);
            assert!(self.due() != Some(due), "the pass at {due} ms did nothing");
        }
        self.now = ms;
        self
    }

    fn due(&self) -> Option<u64> {
        self.table.due().map(|due| u64::try_from(due.as_millis()).unwrap())
    }

    fn pass(&mut self, hints: &[(&str, Hint)]) {
        let now = Duration::from_millis(self.now);
        let entries = self.files.iter().map(|(name, (entry, _))| (named(name), entry.clone()));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(CLOCK) + now;
        let (links, overlooked) = Default::default();
        let listing = Listing { at, entries: entries.collect(), links, overlooked };
        let hints = hints.iter().map(|(name, hint)| (name.parse().unwrap(), *hint)).collect();
        for order in self.table.pass(now, listing, &hints) {
            let change = match order {
                SettleStep::Report(change) => Some(change),
                SettleStep::Read { name, sample, .. } => {
                    self.readings += 1;
                    assert_eq!(sample, self.files[&*name].0.sample);
                    let bytes = self.files[&*name].1.as_bytes();
                    let outcome = if let Some(error) = self.error {
                        ReadResult::Failed(error.to_owned())
                    } else if self.moving > 0 {
                        self.moving -= 1;
                        ReadResult::Moved
                    } else {
                        ReadResult::Bytes(ModuleHash::of(bytes), bytes.into())
                    };
                    self.table.read(now, &name, outcome)
                }
            };
            if let Some(change) = change {
                self.log.push(format!("{} {}", self.now, brief(&change)));
            }
        }
    }

    /// Replaces the contents of a file, or creates the file, without events.
    fn write(&mut self, name: &str, text: &'static str) -> &mut Self {
        let inode = self.files.get(name).map(|(entry, _)| entry.sample.stamp.inode);
        let inode = inode.unwrap_or_else(|| self.next_inode());
        self.put(name, text, inode, EntryKind::File);
        self.pass(&[]);
        self
    }

    /// Replaces the contents of a file, or creates the file, and reports the event `hint`.
    fn write_heard(&mut self, name: &str, text: &'static str, hint: Hint) -> &mut Self {
        let inode = self.files.get(name).map(|(entry, _)| entry.sample.stamp.inode);
        let inode = inode.unwrap_or_else(|| self.next_inode());
        self.put(name, text, inode, EntryKind::File);
        self.pass(&[(name, hint)]);
        self
    }

    /// Reports the event that the file was closed.
    fn close(&mut self, name: &str) -> &mut Self {
        self.pass(&[(name, Hint::Closed)]);
        self
    }

    /// Reports that the contents of this file are not a valid module.
    fn refuse(&mut self, name: &str) -> &mut Self {
        self.table.refused(name, Duration::from_millis(self.now));
        self
    }

    /// Puts a complete file into the folder by a renaming.
    fn rename_in(&mut self, name: &str, text: &'static str) -> &mut Self {
        let inode = self.next_inode();
        self.put(name, text, inode, EntryKind::File);
        self.pass(&[(name, Hint::Renamed)]);
        self
    }

    /// Puts an entry into the folder that is not a regular file.
    fn odd(&mut self, name: &str, kind: EntryKind) -> &mut Self {
        let inode = self.next_inode();
        self.put(name, "", inode, kind);
        self.pass(&[]);
        self
    }

    fn remove(&mut self, name: &str) -> &mut Self {
        self.files.remove(name).expect("the test put it there");
        self.pass(&[]);
        self
    }

    fn put(&mut self, name: &str, text: &'static str, inode: u64, kind: EntryKind) {
        let whole = i64::try_from(CLOCK + self.now / 1000).unwrap();
        let time = (whole, i64::try_from(self.now % 1000 * 1_000_000).unwrap());
        let bytes = text.len() as u64;
        let stamp = Stamp { device: 1, inode, bytes, modified: time, changed: time };
        let sample = Sample { stamp, kind };
        let entry = Entry { path: format!("/p/{name}.wasm").into(), sample };
        self.files.insert(name.to_owned(), (entry, text));
    }

    fn next_inode(&mut self) -> u64 {
        self.inode += 1;
        self.inode
    }

    #[track_caller]
    fn reported(&mut self, expected: &[&str]) {
        self.until(self.now + 5_000);
        assert_eq!(self.log, expected);
    }
}

fn brief(change: &Change) -> String {
    match change {
        Change::Present { name, bytes, detected, .. } => {
            let text = String::from_utf8_lossy(bytes);
            format!("{name} is {text} since {}", detected.as_millis())
        }
        Change::Refused { name, refusal, .. } => format!("{name} refused: {}", refusal.reason),
        Change::Gone { name } => format!("{name} gone"),
        Change::Overlooked(_) | Change::FolderLost(_) | Change::FolderBack => {
            panic!("the table does not make this report")
        }
    }
}

#[test]
fn a_new_file_settles() {
    Sim::new().until(50).write("a", "one").reported(&["150 a is one since 50"]);
}

#[test]
fn a_file_renamed_in_is_settled_at_once() {
    Sim::new().until(50).rename_in("a", "one").reported(&["50 a is one since 50"]);
    // The first pass over the folder that found the file was made before the hint came.
    let mut sim = Sim::new();
    sim.write("a", "one").until(2).pass(&[("a", Hint::Renamed)]);
    sim.reported(&["2 a is one since 0"]);
}

/// A start waited 100 ms for files that had lain there for an hour.
#[test]
fn a_file_that_is_old_when_it_is_first_seen_is_settled_at_once() {
    let mut sim = Sim::new();
    sim.put("old", "one", 1, EntryKind::File);
    sim.now = 10_000;
    sim.put("new", "two", 2, EntryKind::File);
    sim.now = 19_000;
    sim.pass(&[]);
    // Once it is known, its age no longer counts.
    sim.until(30_000).write("old", "three").until(60_000);
    sim.reported(&[
        "19000 old is one since 19000",
        "19100 new is two since 19000",
        "30100 old is three since 30000",
    ]);
}

#[test]
fn a_growing_file_is_not_taken_however_long_it_takes() {
    let mut sim = Sim::new();
    for (n, text) in ["1", "12", "123", "1234"].into_iter().cycle().take(200).enumerate() {
        sim.until(n as u64 * 90).write("a", text);
    }
    sim.reported(&["18010 a is 1234 since 0"]);
}

#[test]
fn touching_cannot_keep_a_file_out() {
    let mut sim = Sim::new();
    for n in 0..50 {
        sim.until(n * 40).write("a", "one");
    }
    sim.reported(&["1000 a is one since 0"]);
    assert!(sim.readings <= 5, "{} readings", sim.readings);
}

#[test]
fn the_same_bytes_again_are_not_reported() {
    let mut sim = Sim::new();
    sim.write("a", "one").until(1_000).write("a", "one").until(2_000).rename_in("a", "one");
    sim.until(3_000).remove("a").until(3_400).write("a", "one");
    sim.reported(&["100 a is one since 0"]);
}

#[test]
fn new_bytes_are_reported() {
    let mut sim = Sim::new();
    sim.write("a", "one").until(1_000).write("a", "two").until(3_000).rename_in("a", "three");
    sim.reported(&[
        "100 a is one since 0",
        "1100 a is two since 1000",
        "3000 a is three since 3000",
    ]);
}

#[test]
fn a_file_that_moves_while_it_is_read_is_read_again() {
    let mut sim = Sim::new();
    sim.moving = 3;
    sim.write("a", "one").reported(&["400 a is one since 0"]);
}

#[test]
fn a_write_that_leaves_no_trace_is_found_by_the_second_reading() {
    let mut sim = Sim::new();
    sim.rename_in("a", "one");
    sim.files.get_mut("a").unwrap().1 = "two";
    sim.reported(&["0 a is one since 0", "2000 a is two since 2000"]);
    assert_eq!(sim.due(), None, "an unchanged file is not read a third time");
}

#[test]
fn a_removal_counts_after_the_grace() {
    Sim::new()
        .write("a", "one")
        .until(1_000)
        .remove("a")
        .reported(&["100 a is one since 0", "1500 a gone"]);
    // The file was never reported, so its removal is not reported either.
    Sim::new().write("a", "one").until(50).remove("a").reported(&[]);
    // The file is deleted and created again, as some editors do.
    let mut sim = Sim::new();
    sim.write("a", "one").until(1_000).remove("a").until(1_499).write("a", "two");
    sim.reported(&["100 a is one since 0", "1599 a is two since 1499"]);
}

#[test]
fn while_the_folder_is_lost_nothing_is_gone() {
    let mut sim = Sim::new();
    sim.write("a", "one").until(1_000).remove("a").until(1_400);
    sim.table.pause();
    sim.now = 60_000;
    sim.pass(&[]);
    sim.reported(&["100 a is one since 0", "60500 a gone"]);
}

#[test]
fn what_cannot_be_a_module_is_refused_once_and_unread() {
    let check = |kind: EntryKind, expected: &str| {
        let mut sim = Sim::new();
        sim.odd("a", kind.clone()).until(1_000).odd("a", kind);
        sim.reported(&[&format!("100 a refused: {expected}")]);
        assert_eq!(sim.readings, 0);
    };
    check(EntryKind::Other("a named pipe"), "it is a named pipe");
    check(EntryKind::Unreadable("no such file".to_owned()), "it cannot be read: no such file");
    check(EntryKind::Misnamed, "a is not a valid name for a plugin");
    check(EntryKind::Missuffixed, "its name ends in .wasm, but not in small letters");
}

#[test]
fn a_large_file_is_refused_unread_and_a_smaller_one_has_a_new_chance() {
    let large: &'static str = Box::leak("x".repeat(101).into_boxed_str());
    let mut sim = Sim::new();
    sim.write("a", "one").until(1_000).write("a", large).until(2_000).write("a", "one");
    sim.reported(&[
        "100 a is one since 0",
        "1100 a refused: the file has 101 bytes",
        "2100 a is one since 2000",
    ]);
}

#[test]
fn an_unreadable_file_is_tried_again_and_told_once() {
    let mut sim = Sim::new();
    sim.error = Some("input/output error");
    sim.write("a", "one").until(7_000);
    sim.error = None;
    sim.until(14_000);
    sim.reported(&[
        "100 a refused: it cannot be read: input/output error",
        "14100 a is one since 14100",
    ]);
}

/// Each attempt to read an unreadable file may read much of it before it reaches the defect of the
/// disk. So the attempts must become rare.
#[test]
fn an_unreadable_file_is_tried_again_later_and_later() {
    let mut sim = Sim::new();
    sim.error = Some("input/output error");
    sim.write("a", "one").until(3_600_000);
    // The attempts come after 2, 4, 8, 16 and 32 seconds, and then every 64 seconds.
    assert!((55..65).contains(&sim.readings), "{} readings", sim.readings);
}

#[test]
fn of_two_names_that_differ_in_case_the_newer_is_refused() {
    let mut sim = Sim::new();
    sim.write("tank", "one").until(1_000).write("Tank", "two").until(2_000).write("tank", "three");
    sim.until(3_000).remove("tank");
    sim.reported(&[
        "100 tank is one since 0",
        "1100 Tank refused: its name differs from tank only in upper and lower case",
        "2100 tank is three since 2000",
        "3500 tank gone",
        "3600 Tank is two since 3500",
    ]);
    // If both files exist from the start, the older file gets the name.
    let mut sim = Sim::new();
    sim.put("tank", "new", 1, EntryKind::File);
    sim.put("TANK", "old", 2, EntryKind::File);
    sim.files.get_mut("tank").unwrap().0.sample.stamp.modified.0 += 1;
    sim.pass(&[]);
    sim.reported(&[
        "100 TANK is old since 0",
        "100 tank refused: its name differs from TANK only in upper and lower case",
    ]);
}

#[test]
fn plugins_are_limited_and_the_next_in_line_moves_up() {
    let mut sim = Sim::new();
    for n in 0..3 * MAX_PLUGINS {
        sim.put(&format!("p{n:04}"), "one", n as u64, EntryKind::File);
    }
    sim.pass(&[]);
    sim.until(1_000);
    let count = |sim: &Sim, text| sim.log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count(&sim, "is one"), MAX_PLUGINS);
    assert_eq!(count(&sim, "refused: the folder already has 1000 plugins"), MAX_REFUSED);
    let overlooked = sim.table.overlooked().clone();
    let files = 2 * MAX_PLUGINS - MAX_REFUSED;
    assert_eq!(overlooked, Overlooked { files, example: "p2999".to_owned() });
    sim.log.clear();
    sim.remove("p0007");
    sim.reported(&[
        "1500 p0007 gone",
        "1600 p1000 is one since 1500",
        "1600 p1064 refused: the folder already has 1000 plugins",
    ]);
}

#[test]
fn a_file_that_is_open_for_writing_is_not_settled() {
    // The file does not settle while an event comes every few seconds.
    let mut sim = Sim::new();
    sim.write("a", "old").until(1_000);
    for (n, text) in ["1", "12", "123", "1234"].into_iter().enumerate() {
        sim.until(1_000 + n as u64 * 9_000).write_heard("a", text, Hint::Written);
    }
    sim.until(30_000).close("a");
    sim.reported(&["100 a is old since 0", "30000 a is 1234 since 1000"]);
    // A file that is closed immediately after the last write settles in the usual time.
    let mut sim = Sim::new();
    sim.write_heard("a", "1", Hint::Written).until(3_000).write_heard("a", "12", Hint::Closed);
    sim.reported(&["3100 a is 12 since 0"]);
    // The second write leaves no trace in the sample, because the file system's clock did not tick.
    let mut sim = Sim::new();
    sim.write_heard("a", "one", Hint::Closed).until(1_000).pass(&[("a", Hint::Written)]);
    sim.files.get_mut("a").unwrap().1 = "two";
    sim.until(4_000).close("a").reported(&["100 a is one since 0", "4000 a is two since 1000"]);
}

/// A past defect: the daemon ran an incomplete module, in which the constants were zeros.
#[test]
fn a_file_that_is_open_for_writing_is_not_settled_by_a_change_of_its_times() {
    let mut sim = Sim::new();
    sim.write_heard("a", "1", Hint::Written).until(150).write("a", "1");
    sim.until(750).write_heard("a", "12", Hint::Written).close("a");
    sim.reported(&["850 a is 12 since 0"]);
    // Another file has the name now, and there was no event about a writer of this other file.
    let mut sim = Sim::new();
    sim.write_heard("a", "1", Hint::Written).until(150).remove("a").write("a", "other");
    sim.reported(&["250 a is other since 0"]);
}

#[test]
fn a_writer_that_never_closes_cannot_keep_a_file_out() {
    let mut sim = Sim::new();
    sim.write_heard("a", "1", Hint::Written).until(4_000).write_heard("a", "12", Hint::Written);
    sim.until(20_000).reported(&["14000 a is 12 since 0"]);
}

#[test]
fn a_file_that_is_still_empty_is_waited_for() {
    let mut sim = Sim::new();
    sim.write("a", "").until(2_500).write("a", "one").reported(&["2600 a is one since 0"]);
    Sim::new().write("a", "").reported(&["3000 a is  since 0"]);
    Sim::new().write_heard("a", "", Hint::Closed).reported(&["100 a is  since 0"]);
}

/// Without events, each piece of the file settles, and the first piece is refused.
#[test]
fn a_refused_file_that_grows_is_given_time() {
    let mut sim = Sim::new();
    for (n, text) in ["1", "12", "123", "1234", "12345"].into_iter().enumerate() {
        sim.until(n as u64 * 600).write("a", text);
        if n == 0 {
            sim.until(300).refuse("a");
        }
    }
    sim.reported(&["100 a is 1 since 0", "3400 a is 12345 since 600"]);
    // If the author corrects the file later, the file settles in the usual time.
    let mut sim = Sim::new();
    sim.write("a", "1").until(200).refuse("a").until(11_000).write("a", "12");
    sim.reported(&["100 a is 1 since 0", "11100 a is 12 since 11000"]);
    // If another file replaces the refused file, the other file settles in the usual time too.
    let mut sim = Sim::new();
    sim.write("a", "1").until(200).refuse("a").put("a", "12", 99, EntryKind::File);
    sim.pass(&[]);
    sim.reported(&["100 a is 1 since 0", "300 a is 12 since 200"]);
}

/// Files of /proc behave like this: the length of their contents never equals their size.
#[test]
fn a_file_that_always_moves_is_refused() {
    let mut sim = Sim::new();
    sim.moving = u32::MAX;
    sim.write("a", "one").until(300_000);
    assert!(sim.readings < 12, "{} readings", sim.readings);
    let why = "it changes during each reading, or has another length than its file size";
    sim.reported(&[&format!("600 a refused: {why}")]);
}

#[test]
fn what_is_no_file_takes_no_place_from_plugins() {
    let mut sim = Sim::new();
    for n in 0..600 {
        sim.put(&format!("junk{n}"), "", n, EntryKind::Unreadable("no such file".to_owned()));
    }
    sim.pass(&[]);
    sim.until(1_000);
    assert_eq!(sim.log.len(), MAX_REFUSED);
    assert_eq!(sim.table.overlooked().files, 600 - MAX_REFUSED);
    sim.log.clear();
    sim.write("zz", "one").reported(&["1100 zz is one since 1000"]);
    // A plugin whose file cannot be read for a while still counts as a plugin.
    sim.log.clear();
    sim.odd("zz", EntryKind::Unreadable("an error".to_owned()));
    sim.reported(&["6100 zz refused: it cannot be read: an error"]);
    sim.log.clear();
    sim.remove("junk0");
    sim.until(20_000);
    assert_eq!(sim.table.overlooked().files, 599 - MAX_REFUSED);
}

#[test]
fn what_the_operator_took_away_is_gone_at_once() {
    let mut sim = Sim::new();
    sim.write("a", "one").until(1_000);
    let entries = BTreeMap::from([(named("a"), sim.files["a"].0.clone())]);
    assert_eq!(sim.table.forget("a", &entries), None, "the file exists");
    assert!(sim.table.holds_plugins());
    let gone = sim.table.forget("a", &BTreeMap::new()).map(|change| brief(&change));
    assert_eq!(gone.as_deref(), Some("a gone"));
    assert!(!sim.table.holds_plugins());
}
