//! Tests that each event becomes the right hint.
//!
//! The tests make the events themselves, without a kernel. The tests with real files are in
//! `tests/it`.

use notify::event::{CreateKind, DataChange, Flag, RemoveKind};

use super::*;

/// The kinds of event that the library notify reports.
#[test]
fn events_become_hints() {
    let check = |event: Event, dirty, uprooted, said: Option<(&str, Hint)>| {
        let mut mail = Mail::default();
        mail.hear(&event, Path::new("/p"));
        assert_eq!((mail.dirty, mail.uprooted), (dirty, uprooted), "{event:?}");
        let hint = mail.hints.first_key_value().map(|(name, hint)| (name.as_str(), *hint));
        assert_eq!(hint, said, "{event:?}");
    };
    let event = |kind, path: &str| Event::new(kind).add_path(path.into());
    let name = |mode| EventKind::Modify(ModifyKind::Name(mode));
    let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
    let closed = |mode| EventKind::Access(AccessKind::Close(mode));
    check(event(open, "/p/a.wasm"), false, false, None);
    check(event(closed(AccessMode::Read), "/p/a.wasm"), false, false, None);
    check(event(closed(AccessMode::Write), "/p/a.wasm"), true, false, Some(("a", Hint::Closed)));
    check(event(EventKind::Create(CreateKind::File), "/p/a.wasm"), true, false, None);
    let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    check(event(data, "/p/a.wasm"), true, false, Some(("a", Hint::Written)));
    check(event(name(RenameMode::From), "/p/a.wasm"), true, false, None);
    check(event(name(RenameMode::To), "/p/a.wasm"), true, false, Some(("a", Hint::Renamed)));
    check(event(name(RenameMode::To), "/p/a.wasm.tmp"), true, false, None);
    let both = event(name(RenameMode::Both), "/p/.a.tmp").add_path("/p/a.wasm".into());
    check(both, true, false, Some(("a", Hint::Renamed)));
    check(event(EventKind::Remove(RemoveKind::Folder), "/p"), true, true, None);
    check(event(name(RenameMode::From), "/p"), true, true, None);
    let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    check(overflow, true, false, None);
}

#[test]
fn any_number_of_events_takes_the_same_room() {
    let mut mail = Mail::default();
    for n in 0..10_000 {
        let kind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        mail.hear(&Event::new(kind).add_path(format!("/p/{n}.wasm").into()), Path::new("/p"));
    }
    assert!(mail.dirty);
    assert_eq!(mail.hints.len(), MAX_HINTS);
}

/// The hint of the last event about a file is stored. The exception is the closing of a file after
/// its renaming.
#[test]
fn a_later_hint_outweighs_those_before() {
    let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let check = |events: &[EventKind], expected| {
        let mut mail = Mail::default();
        for kind in events {
            mail.hear(&Event::new(*kind).add_path("/p/a.wasm".into()), Path::new("/p"));
        }
        assert_eq!(mail.hints.get("a"), Some(&expected), "{events:?}");
    };
    check(&[written, closed], Hint::Closed);
    check(&[written, closed, written], Hint::Written);
    check(&[renamed, closed], Hint::Renamed);
    check(&[renamed, written], Hint::Written);
    check(&[renamed, written, closed], Hint::Closed);
}

#[test]
fn hints_wait_for_the_gap_and_pokes_do_not() {
    let inbox = Inbox::default();
    let now = MonotonicClock.now();
    let hour = Duration::from_secs(3600);
    inbox.put(|mail| mail.dirty = true);
    inbox.wait(now + Duration::from_millis(5), now + hour);
    assert!(MonotonicClock.now() >= now + Duration::from_millis(5));
    inbox.put(|mail| mail.poked = true);
    assert!(inbox.wait(now + hour, now + hour).poked);
}
