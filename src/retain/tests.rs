//! Tests of the retain files: a file is cut off at every byte, and each of its bits is changed.
//! Then the tests compare the generation that `find` returns with the expected generation.
//!
//! Tests of the daemon with these files are in `tests/it/retain.rs`.

use super::*;

fn values(number: i32) -> Vec<(String, Variable)> {
    vec![
        ("count".into(), Variable::Int(number)),
        ("again".into(), Variable::Int(number)),
        ("on".into(), Variable::Boolean(number % 2 == 1)),
        ("level".into(), Variable::Double(f64::from(number) / 3.0)),
        ("x".repeat(MAX_NAME_BYTES), Variable::Double(-0.0)),
    ]
}

fn pairs(values: &[(String, Variable)]) -> impl ExactSizeIterator<Item = (&str, Variable)> {
    values.iter().map(|(name, value)| (name.as_str(), *value))
}

/// Writes this number of generations into a new directory. Returns the directory and its store.
fn written(generations: i32) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Arc::new(Folder::open(dir.path()).unwrap());
    let mut store = Store::new(folder, &Found::default());
    for number in 1..=generations {
        store.write(pairs(&values(number))).unwrap();
    }
    (dir, store)
}

#[track_caller]
fn newest(dir: &Path, number: i32, damaged: usize, what: &str) {
    let found = find(dir);
    assert_eq!(found.damaged.len(), damaged, "{what}: {:?}", found.damaged);
    let (_, generation) = found.newest.unwrap_or_else(|| panic!("{what}: nothing"));
    assert_eq!((generation.number, generation.values), (number as u64, values(number)), "{what}");
}

#[test]
fn generations_take_turns_and_count_the_wear() {
    assert!(find(Path::new("/nowhere")).newest.is_none());
    let (dir, _) = written(0);
    assert!(find(dir.path()).damaged.is_empty());
    for generations in 1..=5 {
        let (dir, store) = written(generations);
        newest(dir.path(), generations, 0, "whole");
        let found = find(dir.path());
        let size = encode(1, 0, pairs(&values(1))).len() as u64;
        let wear = (generations as u64, generations as u64 * size);
        assert_eq!((store.writes, store.bytes), wear);
        let again = Store::new(Arc::clone(&store.folder), &found);
        assert_eq!((again.writes, again.bytes, again.newest), (wear.0, wear.1, store.newest));
    }
}

#[test]
fn a_file_cut_or_changed_at_any_byte_gives_the_other_generation_and_never_a_mixture() {
    // Generation 6 is in the second file, and generation 7 is in the first file.
    for generations in [6, 7] {
        let (dir, store) = written(generations);
        let newer = store.newest.unwrap();
        for (place, expected) in [(newer, generations - 1), (1 - newer, generations)] {
            let path = dir.path().join(FILES[place]);
            let whole = fs::read(&path).unwrap();
            for at in 0..whole.len() {
                fs::write(&path, &whole[..at]).unwrap();
                newest(dir.path(), expected, 1, &format!("{} cut at {at}", FILES[place]));
                let mut flipped = whole.clone();
                for bit in 0..8 {
                    flipped[at] = whole[at] ^ (1 << bit);
                    fs::write(&path, &flipped).unwrap();
                    let what = format!("{} flipped at {at}.{bit}", FILES[place]);
                    newest(dir.path(), expected, 1, &what);
                }
            }
            fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
            newest(dir.path(), expected, 1, "a byte more");
            fs::write(&path, &whole).unwrap();
            newest(dir.path(), generations, 0, "whole again");
        }
    }
}

#[test]
fn a_write_that_was_cut_short_changes_nothing() {
    let (dir, store) = written(4);
    let next = encode(5, store.bytes, pairs(&values(5)));
    let half = dir.path().join(format!("{}.tmp", FILES[1 - store.newest.unwrap()]));
    for at in 0..=next.len() {
        fs::write(&half, &next[..at]).unwrap();
        newest(dir.path(), 4, 0, &format!("killed after {at} bytes"));
    }
}

#[test]
fn with_no_whole_file_nothing_is_guessed() {
    let (dir, store) = written(2);
    fs::write(dir.path().join(FILES[0]), b"").unwrap();
    fs::write(dir.path().join(FILES[1]), b"camshaft retain\n").unwrap();
    let found = find(dir.path());
    assert!(found.newest.is_none());
    let damage: Vec<_> = found.damaged.iter().map(|(_, damage)| damage.clone()).collect();
    assert_eq!(damage, [Damage::Foreign(0), Damage::Foreign(16)]);
    let mut store = Store::new(Arc::clone(&store.folder), &found);
    assert_eq!(find(dir.path()).damaged.len(), 2, "a start touches nothing: it would wait for it");
    store.write([("kept", Variable::Int(7))].into_iter()).unwrap();
    let found = find(dir.path());
    assert!(found.newest.is_some() && found.damaged.is_empty());
    for name in FILES {
        assert!(dir.path().join(name).with_added_extension("damaged").exists(), "{name}");
    }
}

#[test]
fn content_that_makes_no_sense_is_refused_by_name() {
    fn check(change: impl Fn(&mut Vec<u8>), expected: Damage) {
        let mut file = encode(1, 0, pairs(&values(1)));
        file.truncate(file.len() - CHECKSUM);
        change(&mut file);
        let sum = blake3::hash(&file);
        file.extend_from_slice(sum.as_bytes());
        assert_eq!(decode(&file), Err(expected));
    }
    check(|file| file[16] = 2, Damage::Version(2));
    check(|file| file[36] += 1, Damage::Content);
    check(|file| file[39] = 1, Damage::Content);
    check(|file| file[40] = 250, Damage::Content);
    check(|file| file[41] = 0xff, Damage::Content);
    check(|file| file[46] = 3, Damage::Content);
    check(|file| file.push(0), Damage::Content);
    let most: Vec<_> = (0..MAX_VARIABLES)
        .map(|n| (format!("{n:0>MAX_NAME_BYTES$}"), Variable::Double(f64::NAN)))
        .collect();
    let file = encode(u64::MAX, u64::MAX, pairs(&most));
    assert_eq!(file.len() as u64, MAX_FILE_BYTES);
    assert_eq!(decode(&file).unwrap().bytes, u64::MAX);
}
