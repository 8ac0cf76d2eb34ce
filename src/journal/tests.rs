//! Tests of the journal: damage of its files, restarts of the process, rotation of the files, and
//! folders that cannot be used.
//!
//! Tests of the daemon with its journal are in `tests/it/history.rs`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::disk::MAX_FILE_BYTES;
use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    number: Option<u64>,
}

fn note(text: &str) -> Note {
    Note { text: text.into(), number: Some(u64::MAX) }
}

fn open(folder: &Path) -> Journal<Note> {
    Journal::open(folder).unwrap()
}

fn all(journal: &Journal<Note>) -> Vec<Entry<Note>> {
    journal.newest(usize::MAX, |_| true)
}

fn file(folder: &Path) -> PathBuf {
    folder.join("history.jsonl")
}

/// Texts that contain the marks of the file format, such as the start of a line.
const TEXTS: [&str; 5] = ["one", "two\n{\"seq\":9,\"x\":", "ü\"}\u{0}", "", "\",\"check\":\"00\"}"];

/// Returns all complete entries of a text.
fn entries(text: &[u8]) -> impl Iterator<Item = Entry<Note>> {
    pieces(text).filter_map(entry)
}

/// Returns the text of a file with an entry for each of [`TEXTS`], and these entries.
fn whole() -> (Vec<u8>, Vec<Entry<Note>>) {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    TEXTS.iter().for_each(|text| journal.add(note(text)));
    let entries = all(&journal);
    drop(journal);
    (fs::read(file(folder.path())).unwrap(), entries)
}

/// Returns the number of the line that contains this byte.
fn line_of(text: &[u8], at: usize) -> usize {
    text[..at].iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn a_flipped_bit_costs_its_own_entry_and_no_other() {
    let (text, expected) = whole();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut flipped = text.clone();
            flipped[at] ^= 1 << bit;
            let mut others = expected.clone();
            others.remove(line_of(&text, at));
            let found: Vec<Entry<Note>> = entries(&flipped).collect();
            assert_eq!(found, others, "bit {bit} of byte {at} flipped");
        }
    }
}

#[test]
fn a_cut_costs_what_is_behind_it_and_what_comes_next_is_read() {
    let (text, expected) = whole();
    for at in 0..text.len() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file(folder.path()), &text[..at]).unwrap();
        let mut journal = open(folder.path());
        // The last byte is the line end of the last line. Without it, the last line is still
        // complete.
        let left = line_of(&text, at) + usize::from(text[at] == b'\n');
        assert_eq!(all(&journal), expected[..left], "cut at {at}");
        journal.add(note("next"));
        let with_next = all(&journal);
        assert_eq!(with_next.last().unwrap().seq, left as u64 + 1, "cut at {at}");
        drop(journal);
        assert_eq!(all(&open(folder.path())), with_next, "cut at {at}, opened again");
    }
}

#[test]
fn a_byte_that_is_missing_costs_its_own_entry_and_no_other() {
    let (text, expected) = whole();
    for at in 0..text.len() {
        let mut without = text.clone();
        without.remove(at);
        let mut others = expected.clone();
        if text[at] != b'\n' {
            others.remove(line_of(&text, at));
        }
        let found: Vec<Entry<Note>> = entries(&without).collect();
        assert_eq!(found, others, "byte {at} is missing");
    }
}

#[test]
fn garbage_is_no_entry() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = vec![0; 100_000];
    random.fill(&mut text);
    let (whole, expected) = whole();
    let mut found: Vec<Entry<Note>> = entries(&text).collect();
    assert_eq!(found, []);
    text.extend(&whole);
    found = entries(&text).collect();
    assert_eq!(found, expected, "the entries after the damaged line are read");
    // A later version of the daemon could write the line `later`: it has one more field. The line
    // `strange` has no field that this version of the daemon knows.
    let later = serde_json::json!({ "text": "x", "more": [1] });
    let strange = serde_json::json!({ "words": "x" });
    let line = |what| line(&Entry { seq: 9, time: "t".into(), what });
    let text = [line(&later), line(&strange)].concat();
    let found: Vec<Entry<Note>> = entries(&text).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].what, Note { text: "x".into(), number: None });
}

#[test]
fn damage_is_counted() {
    let (text, _) = whole();
    let check = |text: &[u8], expected: usize| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file(folder.path()), text).unwrap();
        let found = open(folder.path()).damaged();
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(text));
    };
    check(b"", 0);
    check(&text, 0);
    check(&text[..text.len() - 1], 0);
    check(&text[..text.len() - 2], 1);
    check(&text[1..], 1);
    check(&[&text[..], b"\n\nnonsense\n", &text].concat(), 1);
    check(&[b"nonsense", &text[..]].concat(), 1);
    check(b"\0\0\0\0", 1);
}

#[test]
fn numbers_go_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder.path().join("made/if/need/be"));
    journal.add(note("a"));
    journal.add(note("b"));
    let before = all(&journal);
    assert_eq!(journal.trouble(), None);
    drop(journal);
    let mut journal = open(&folder.path().join("made/if/need/be"));
    assert_eq!(all(&journal), before);
    journal.add(note("c"));
    let found: Vec<_> = all(&journal).into_iter().map(|e| (e.seq, e.what.text)).collect();
    assert_eq!(found, [(1, "a".into()), (2, "b".into()), (3, "c".into())]);
    let newest = journal.newest(1, |note| note.text != "c");
    assert_eq!(newest, before[1..]);
    let about = fs::metadata(folder.path().join("made/if/need/be")).unwrap();
    assert_eq!(about.mode() & 0o777, 0o700);
}

#[test]
fn rotation_keeps_the_bound_and_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    let long = "x".repeat(4000);
    let mut last = 0;
    // The test writes more bytes than fit into three files.
    while last * 4000 < 3 * MAX_FILE_BYTES {
        journal.add(note(&long));
        last += 1;
        if last % 100 == 0 {
            drop(journal); // so that the queue does not overflow, and a begun file goes on
            journal = open(folder.path());
        }
    }
    drop(journal);
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        assert!(file.metadata().unwrap().len() <= MAX_FILE_BYTES, "{file:?}");
    }
    let kept: Vec<_> = all(&open(folder.path())).iter().map(|entry| entry.seq).collect();
    let expected: Vec<_> = (last + 1 - kept.len() as u64..=last).collect();
    assert_eq!(kept, expected);
    let bytes = kept.len() as u64 * 4000;
    assert!((MAX_FILE_BYTES..=2 * MAX_FILE_BYTES).contains(&bytes), "{bytes}");
}

#[test]
fn memory_has_a_bound_too() {
    let mut journal = Journal::in_memory("because");
    let numbers = 0..MAX_ENTRIES + 10;
    numbers.for_each(|number| journal.add(note(&number.to_string())));
    let found = all(&journal);
    assert_eq!(found.len(), MAX_ENTRIES);
    assert_eq!(found[0].what.text, "10");
    assert_eq!(journal.trouble().as_deref(), Some("because"));
}

#[test]
fn a_folder_that_is_no_good_is_refused_by_its_reason() {
    let check = |folder: &Path, expected: &str| {
        let error = Journal::<Note>::open(folder).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} lacks {expected}");
    };
    let folder = tempfile::tempdir().unwrap();
    check(Path::new("/proc/history"), "No such file");
    fs::create_dir(file(folder.path())).unwrap();
    check(folder.path(), "history.jsonl: it is a folder, not a regular file");
    fs::remove_dir(file(folder.path())).unwrap();
    fs::write(file(folder.path()), "").unwrap();
    check(&file(folder.path()), "File exists");
    open(folder.path());
}

#[test]
fn a_file_that_somebody_removes_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    journal.add(note("a"));
    let started = std::time::Instant::now();
    while !file(folder.path()).exists() {
        assert!(started.elapsed().as_secs() < 20, "the entry is written in time");
        std::thread::yield_now();
    }
    // The thread may have the file open at this moment, or may be about to check it.
    fs::remove_dir_all(folder.path()).unwrap();
    journal.add(note("b"));
    drop(journal);
    let found = all(&open(folder.path()));
    assert_eq!(found.last().unwrap().what, note("b"));
}

/// The disk fails for a short time: a folder has the name of the file, so the file cannot be
/// opened.
#[test]
fn what_could_not_be_written_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    fs::create_dir(file(folder.path())).unwrap();
    journal.add(note("a"));
    let started = std::time::Instant::now();
    while journal.trouble().is_none() {
        assert!(started.elapsed().as_secs() < 20, "the trouble is reported in time");
        std::thread::yield_now();
    }
    fs::remove_dir(file(folder.path())).unwrap();
    journal.add(note("b"));
    drop(journal);
    let found = all(&open(folder.path()));
    let found: Vec<_> = found.into_iter().map(|entry| entry.what).collect();
    assert_eq!(found, [note("a"), note("b")]);
}
