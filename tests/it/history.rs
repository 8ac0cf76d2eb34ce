//! Tests of the history: the receipts about each plugin, which the daemon stores in its journal.
//!
//! A real daemon runs a plugin through installs, traps, quarantine and rollbacks. The tests then
//! compare the history with these events, also after restarts, kills and damage of the files. The
//! receipts of orders are tested in `audit.rs`.

use std::fs;

use camshaft::control::{By, Event, PluginState, Receipt};
use camshaft::journal::Entry;
use camshaft::plugin::ModuleHash;

use crate::daemon::{Daemon, Keys, LIMIT, Plant, wait};
use crate::rig::{block_on, wat};

fn version(number: u32) -> Vec<u8> {
    wat(&format!("(module (global i32 (i32.const {number})) (func (export \"poll\")))"))
}

fn hex(bytes: &[u8]) -> Option<String> {
    Some(format!("{:#}", ModuleHash::of(bytes)))
}

/// What the binary prints.
fn history(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.camshaft(&[&["history"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The receipts of a plugin but those of orders, which `audit.rs` looks at.
fn receipts(daemon: &Daemon, name: &str) -> Vec<Entry<Receipt>> {
    let text = history(daemon, &[name, "--json", "-n", "1000"]);
    let mut all: Vec<Entry<Receipt>> = serde_json::from_str(&text).unwrap();
    all.retain(|entry| !matches!(entry.what.event, Event::Ordered(_)));
    all
}

/// Waits until the last receipt of `tank` is of this kind.
fn wait_for(daemon: &Daemon, kind: &str) {
    wait(&format!("a receipt: {kind}"), LIMIT, || {
        let all = history(daemon, &["tank"]);
        let mut kinds = all.lines().rev().filter_map(|line| line.split_whitespace().nth(3));
        (kinds.find(|kind| *kind != "deploy")? == kind).then_some(())
    });
}

/// Lets `tank` live through everything; gives the versions: two good ones, a bad one, one that traps
/// after another, one that traps by itself.
fn live(daemon: &Daemon) -> [Vec<u8>; 5] {
    let trapping = wat("(module (func $bad (export \"poll\") unreachable))");
    let early = wat("(module (func $bad (export \"poll\") nop unreachable))");
    let [one, two] = [version(1), version(2)];
    let bad = wat("(module (import \"env\" \"nonsense\" (func)) (func (export \"poll\")))");
    block_on(daemon.client.deploy("tank", one.clone().into())).unwrap();
    wait_for(daemon, "started");
    block_on(daemon.client.deploy("tank", two.clone().into())).unwrap();
    wait_for(daemon, "swapped");
    block_on(daemon.client.deploy("tank", "garbage".into())).unwrap_err();
    wait_for(daemon, "refused");
    daemon.drop_in("tank", &bad);
    let is_refused = || (receipts(daemon, "tank").len() == 4).then_some(());
    wait("the second refusal", LIMIT, is_refused);
    for _ in 0..2 {
        block_on(daemon.client.act("tank", "hold")).unwrap();
        wait_for(daemon, "stopped");
    }
    daemon.drop_in("tank", &two);
    daemon.wait_for("tank", "seen", |view| view.file_hash == hex(&two));
    block_on(daemon.client.act("tank", "release")).unwrap();
    wait_for(daemon, "started");
    daemon.drop_in("tank", &early);
    wait_for(daemon, "rollback");
    daemon.remove("tank");
    wait_for(daemon, "stopped");
    daemon.drop_in("tank", &trapping);
    daemon.wait_for("tank", "quarantined", |view| view.state == PluginState::Quarantined);
    wait_for(daemon, "stopped");
    daemon.remove("tank");
    daemon.wait_gone("tank");
    [one, two, bad, early, trapping]
}

/// It was told that there is no history, as of a point that nobody has touched.
#[test]
fn a_history_of_what_nobody_knows_is_refused() {
    let daemon = Daemon::start(Keys::default());
    let told = |name: &str| {
        let output = daemon.camshaft(&["history", name]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    for known in ["evil.mark", "plant"] {
        assert_eq!(told(known), (Some(0), "no history\n".into()), "{known}");
    }
    let unknown = "error: there is no plugin, point, variable or device \"tnak\", and the history \
                   has no entry about it; `camshaft history` lists all entries\n";
    assert_eq!(told("tnak"), (Some(1), unknown.into()));
    // One that is gone is known by what it has left.
    let hash = daemon.drop_in("tnak", &wat(r#"(module (func (export "poll")))"#));
    daemon.wait_running("tnak", &hash);
    daemon.remove("tnak");
    daemon.wait_gone("tnak");
    let (code, text) = told("tnak");
    assert!(code == Some(0) && text.contains("started"), "{text}");
}

#[test]
fn a_history_tells_the_story_of_a_plugin() {
    let daemon = Daemon::start(Keys::default());
    let [one, two, bad, early, trapping] = live(&daemon);
    let mut found = receipts(&daemon, "tank");
    // When a report is written is the disk's affair.
    found.retain(|entry| !matches!(entry.what.event, Event::Reported { .. }));
    let kind = |entry: &Entry<Receipt>| {
        let json = serde_json::to_value(entry).unwrap();
        json["kind"].as_str().unwrap().to_owned()
    };
    let expected = [
        ("started", hex(&one), None),
        ("swapped", hex(&two), hex(&one)),
        ("refused", None, hex(&two)),
        ("refused", hex(&bad), hex(&two)),
        ("held", hex(&two), hex(&two)),
        ("stopped", hex(&two), hex(&two)),
        ("released", None, None),
        ("started", hex(&two), None),
        ("swapped", hex(&early), hex(&two)),
        ("trapped", hex(&early), hex(&early)),
        ("rollback", hex(&two), hex(&early)),
        ("removed", hex(&two), hex(&two)),
        ("stopped", hex(&two), hex(&two)),
        ("started", hex(&trapping), None),
        ("trapped", hex(&trapping), hex(&trapping)),
        ("restarted", hex(&trapping), hex(&trapping)),
        ("trapped", hex(&trapping), hex(&trapping)),
        ("restarted", hex(&trapping), hex(&trapping)),
        ("trapped", hex(&trapping), hex(&trapping)),
        ("quarantined", hex(&trapping), hex(&trapping)),
        ("stopped", hex(&trapping), hex(&trapping)),
        ("removed", None, None),
    ];
    let story: Vec<_> =
        found.iter().map(|e| (kind(e), e.what.hash.clone(), e.what.old_hash.clone())).collect();
    assert_eq!(story, expected.map(|(kind, hash, old)| (kind.to_owned(), hash, old)));
    check_details(&found);

    // The table has the same, in the same order.
    let table = history(&daemon, &["tank", "-n", "100"]);
    let whats = table.lines().skip(1).map(|line| line.split_whitespace().nth(3).unwrap());
    let whats: Vec<_> = whats.filter(|what| !["reported", "deploy"].contains(what)).collect();
    assert_eq!(whats, story.iter().map(|(kind, ..)| kind.as_str()).collect::<Vec<_>>());
    assert_eq!(history(&daemon, &["tank", "-n", "3"]).lines().count(), 4);
    assert!(history(&daemon, &["-n", "100"]).contains("witness"), "all plugins");
    assert_eq!(daemon.status().history_trouble, None);
}

/// What the receipts of `live` say beside kind and hashes.
fn check_details(found: &[Entry<Receipt>]) {
    let event = |index: usize| &found[index].what.event;
    let Event::Swapped { swap, shadow: None } = event(1) else { panic!("{:?}", event(1)) };
    assert!(swap.compile_us > 0 && swap.prepare_us > 0, "{swap:?}");
    let Event::Refused { reason, remedy, count: 1, shadow: None, .. } = event(3) else {
        panic!("{:?}", event(3))
    };
    assert!(reason.contains("env.nonsense") && !remedy.is_empty(), "{reason}; {remedy}");
    let Event::Held { by: By::Operator, who: Some(who) } = event(4) else { panic!() };
    let released = Event::Released { by: By::Operator, forgives: false, who: Some(who.clone()) };
    assert_eq!(event(6), &released);
    let Event::Trapped { trap, count: 1 } = event(9) else { panic!("{:?}", event(9)) };
    assert_eq!((trap.kind.as_str(), trap.function.as_deref()), ("unreachable", Some("bad")));
    assert!(trap.offset.is_some() && trap.cycle == found[9].what.cycle, "{trap:?}");
    assert!(matches!(event(18), Event::Trapped { count: 3, .. }), "{:?}", event(18));
    let Event::Quarantined { reason } = event(19) else { panic!("{:?}", event(19)) };
    let words = "3 traps in a short time, the last: unreachable in bad at offset";
    assert!(reason.starts_with(words), "{reason}");
    assert!(found.is_sorted_by(|one, two| one.seq < two.seq && one.time <= two.time));
}

#[test]
fn a_history_survives_stops_kills_and_damage() {
    let daemon = Daemon::start(Keys::default());
    live(&daemon);
    let before = receipts(&daemon, "tank");
    let (status, _, plant) = daemon.stop();
    assert!(status.success());
    let daemon = Daemon::on(plant);
    assert_eq!(receipts(&daemon, "tank"), before, "of a plugin that nobody knows any more");
    let last = |daemon: &Daemon| receipts(daemon, "witness").pop().unwrap();
    let number = last(&daemon).seq;
    assert!(number > before.last().unwrap().seq);

    let file = daemon.state().join("history.jsonl");
    let read = || fs::read_to_string(&file).unwrap();
    wait("it is written", LIMIT, || read().contains(&format!("{{\"seq\":{number},")).then_some(()));
    let daemon = daemon.kill_and_restart();
    assert_eq!(receipts(&daemon, "tank"), before);
    assert_eq!(last(&daemon).seq, number + 1);

    let (_, _, plant) = daemon.stop();
    let text = read().replace("\"kind\":\"held\"", "\"kind\":\"hold\"");
    fs::write(&file, &text[..text.len() - 10]).unwrap();
    let daemon = Daemon::on(plant);
    let left: Vec<_> = before.iter().filter(|entry| entry.seq != before[4].seq).cloned().collect();
    assert_eq!(receipts(&daemon, "tank"), left, "all but the damaged one");
    assert_eq!(last(&daemon).seq, number + 1, "the one that was cut off");
}

#[test]
fn without_a_folder_it_is_kept_in_memory() {
    let plant = Plant::new(Keys::default());
    fs::write(plant.state(), "a file").unwrap();
    let daemon = Daemon::on(plant);
    let why = daemon.status().history_trouble.unwrap();
    assert!(why.starts_with("in memory only; ") && why.contains("cannot be used"), "{why}");
    daemon.wait_log("", &["the history is in memory only"]);
    assert_eq!(receipts(&daemon, "witness").len(), 1);
}
