//! Tests of the tape: an exported tape has exactly the calls that were recorded.
//!
//! No instance runs in these tests. The tests record random calls and compare them with the calls
//! that `tape/read.rs` reads from the exported tape.

use super::*;

const READ: Tag = Tag { id: 1, is_talk: false };
const TALK: Tag = Tag { id: 0, is_talk: true };

/// A tape that gets as many blocks as it needs.
fn tape() -> Tape {
    Tape { ring: Ring::new(spare::make), ..Tape::default() }
}

/// Records a poll with calls of random sizes. Returns the section that the tape should then have.
fn poll(tape: &mut Tape, cycle: u64, random: &mut fastrand::Rng, largest: usize) -> Section {
    let now = Duration::from_micros(10 * cycle);
    tape.begin(Phase::Poll, cycle, now);
    let calls = (0..random.usize(..4)).map(|_| {
        let arguments: Vec<u64> = (0..3).map(|_| random.u64(..) >> random.u32(..64)).collect();
        let bytes: Vec<u8> = (0..random.usize(..largest)).map(|_| random.u8(..)).collect();
        let (at, code) = (random.u32(..), random.i32(..));
        tape.call(READ, &arguments);
        tape.taken(at, &bytes);
        tape.given(at / 2, &bytes);
        tape.answer(code);
        let (taken, given) = (vec![(at, bytes.clone())], vec![(at / 2, bytes)]);
        Called { function: 1, arguments, taken, given, code }
    });
    let calls = calls.collect();
    tape.end();
    Section { phase: Phase::Poll, cycle, now, is_cut: false, calls }
}

#[test]
fn the_newest_sections_are_there_whole() {
    let mut random = fastrand::Rng::with_seed(7);
    for largest in [1, 10, 1000, 9000] {
        let (mut tape, mut all) = (tape(), Vec::new());
        for cycle in 0..5000 {
            all.push(poll(&mut tape, cycle, &mut random, largest));
            if cycle % 97 == 0 {
                let exported = tape.export();
                // The exported tape may be longer than the ring by one row.
                assert!(exported.len() < TAPE_BYTES + HEAD + 3 * LONGEST);
                let found = parse(&exported).collect::<Result<Vec<_>, _>>().unwrap();
                let newest = &all[all.len() - found.len()..];
                assert!(found.iter().map(|(_, section)| section).eq(newest));
                // If an old section was removed, the tape must be nearly full.
                let is_full = exported.len() > TAPE_BYTES - 4 * (2 * largest + 100);
                assert!(found.len() == all.len() || is_full, "{}", exported.len());
            }
        }
    }
}

#[test]
fn a_section_that_is_too_large_is_cut_after_a_whole_call() {
    let mut tape = tape();
    let before = tape.position();
    tape.begin(Phase::Poll, 1, Duration::ZERO);
    for n in 0..100_000 {
        tape.call(READ, &[n]);
        tape.given(0, &[1, 2, 3]);
        tape.answer(0);
    }
    tape.end();
    assert!(tape.reaches(before), "it may be the last section");
    let found = parse(&tape.export()).collect::<Result<Vec<_>, _>>().unwrap();
    let [(0, section)] = &found[..] else { panic!("{} sections", found.len()) };
    assert!(section.is_cut && section.calls.len() > 5000);
    assert_eq!(section.calls.last().unwrap().given, [(0, vec![1, 2, 3])]);
    tape.begin(Phase::Poll, 2, Duration::ZERO);
    tape.end();
    assert!(!tape.reaches(before), "a section with missing calls is not the last section");
    let position = tape.position();
    assert!(tape.reaches(position));
}

#[test]
fn a_call_that_was_not_answered_is_not_on_the_tape_and_cuts_its_section() {
    let mut tape = tape();
    let before = tape.position();
    tape.begin(Phase::Save, 1, Duration::ZERO);
    tape.call(READ, &[1]);
    tape.answer(0);
    tape.call(READ, &[2]);
    tape.given(0, &[1, 2, 3]);
    tape.end();
    let found = parse(&tape.export()).collect::<Result<Vec<_>, _>>().unwrap();
    let [(0, section)] = &found[..] else { panic!("{} sections", found.len()) };
    assert!(section.is_cut && section.calls.len() == 1 && section.calls[0].arguments == [1]);
    assert!(tape.reaches(before), "it may be the last section");
    tape.forget(true);
    assert!(tape.export().is_empty());
    tape.begin(Phase::Poll, 2, Duration::ZERO);
    assert!(tape.reaches(before), "the incomplete section was removed");
}

#[test]
fn words_for_the_log_are_not_kept_and_what_was_undone_is_forgotten() {
    let mut tape = tape();
    let poll = |tape: &mut Tape, phase| {
        tape.begin(phase, 1, Duration::ZERO);
        tape.call(TALK, &[2]);
        tape.taken(0, b"words");
        tape.answer(0);
        tape.end();
    };
    poll(&mut tape, Phase::Poll);
    poll(&mut tape, Phase::Save);
    tape.forget(true);
    let found = parse(&tape.export()).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].1.calls[0].taken.is_empty() && tape.reaches(0));
    poll(&mut tape, Phase::Save);
    tape.forget(false);
    assert!(!tape.reaches(0));
}

#[test]
fn polls_that_call_nothing_are_told_one_by_one() {
    let (mut tape, mut expected) = (tape(), Vec::new());
    let mut quiet = |tape: &mut Tape, cycle: u64| {
        let now = Duration::from_millis(10 * cycle);
        tape.begin(Phase::Poll, cycle, now);
        tape.end();
        expected.push(Section { phase: Phase::Poll, cycle, now, is_cut: false, calls: vec![] });
    };
    (7..1007).for_each(|cycle| quiet(&mut tape, cycle));
    let of_one_kind = tape.export().len();
    assert!(of_one_kind < 10 * (HEAD + 3 * LONGEST), "{of_one_kind} bytes");
    // Now the polls run in every third cycle. The last poll comes after a longer gap.
    (1009..1300).step_by(3).chain([2000]).for_each(|cycle| quiet(&mut tape, cycle));
    let position = tape.position();
    (2001..2003).for_each(|cycle| quiet(&mut tape, cycle));
    let found = parse(&tape.export()).collect::<Result<Vec<_>, _>>().unwrap();
    assert!(found.iter().map(|(_, section)| section).eq(&expected));
    let after = found.iter().filter(|(at, _)| *at >= tape.exported_before(position));
    assert_eq!(after.count(), 2, "a row ends where a caller asks for the position");
}

#[test]
fn a_tape_that_is_off_holds_nothing() {
    let mut tape = Tape::new(false);
    poll(&mut tape, 1, &mut fastrand::Rng::with_seed(1), 100);
    tape.forget(true);
    assert!(tape.export().is_empty() && !tape.reaches(0));
}

#[test]
fn a_tape_grows_only_as_far_as_a_replay_needs() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut tape = tape();
    let mut positions = vec![tape.position()];
    for cycle in 0..3000 {
        poll(&mut tape, cycle, &mut random, 40);
        // As if there was a checkpoint after each hundred polls, of which the older one is needed.
        if cycle % 100 == 99 {
            let newest = positions.len() - 1;
            tape.need_from(positions[newest]);
            positions.push(tape.position());
            assert!(tape.reaches(positions[newest]));
        }
    }
    // The sections of two hundred polls are 30 KiB long.
    let (needed, blocks) = (tape.since(positions[positions.len() - 2]), tape.ring.len());
    assert!((6..12).contains(&blocks), "{needed} bytes in {blocks} blocks");
}

#[test]
fn a_tape_without_further_memory_has_the_newest_calls() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut tape = Tape { ring: Ring::new(|| None), ..Tape::default() };
    let mut all = Vec::new();
    for cycle in 0..1000 {
        all.push(poll(&mut tape, cycle, &mut random, 40));
        let exported = tape.export();
        let found = parse(&exported).collect::<Result<Vec<_>, _>>().unwrap();
        assert!(!found.is_empty() && exported.len() <= 2 * 4096);
        assert!(found.iter().map(|(_, section)| section).eq(&all[all.len() - found.len()..]));
    }
    // A section that alone is larger than the memory is cut.
    tape.begin(Phase::Poll, 1000, Duration::ZERO);
    for _ in 0..3 {
        tape.call(READ, &[1]);
        tape.given(0, &[7; 3000]);
        tape.answer(0);
    }
    tape.end();
    let found = parse(&tape.export()).collect::<Result<Vec<_>, _>>().unwrap();
    let [(0, section)] = &found[..] else { panic!("{} sections", found.len()) };
    assert!(section.is_cut && (1..3).contains(&section.calls.len()), "{}", section.calls.len());
}
