//! Tests of the audit: the history has one line for each order to a running daemon.
//!
//! The line names the user who gave the order, and the values before and after the order. These
//! tests run a real daemon and the command line. Receipts that are not orders are tested in
//! `history.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use camshaft::control::{Event, ForceOrder, OrderKind, Ordered, Receipt};
use camshaft::plugin::ModuleHash;
use camshaft::process::image::Value;
use nix::sys::signal::Signal;
use nix::unistd::{User, getuid};

use crate::daemon::{Daemon, Keys, LIMIT, Plant, wait};
use crate::rig::{block_on, wat};

const TABLES: &str = r#"
[[device]]
name = "extra"
driver = "sim"
point = [
  { name = "extra.in", direction = "in", type = "u8", initial = 1 },
  { name = "extra.out", direction = "out", type = "i32", safe = 3 },
]

[[variable]]
name = "setpoint"
type = "double"
initial = 1.5
retain = true
"#;

const PROBATION: &str = "swap = { probation = \"50ms\", polls = 20 }";

/// Gives an order that is carried out.
#[track_caller]
fn order(daemon: &Daemon, arguments: &[&str]) {
    let output = daemon.camshaft(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// The orders in the history, with the receipts that they are in.
fn orders(daemon: &Daemon, name: Option<&str>) -> Vec<(Receipt, Ordered)> {
    let all = block_on(daemon.client.history(name, 1000)).unwrap();
    let all = all.into_iter().filter_map(|entry| match &entry.what.event {
        Event::Ordered(ordered) => Some((entry.what.clone(), ordered.clone())),
        _ => None,
    });
    all.collect()
}

/// The end of each sentence: who this test is.
fn me() -> String {
    let name = User::from_uid(getuid()).unwrap().unwrap().name;
    format!("{name} (uid {})", getuid())
}

fn version(number: u32) -> Vec<u8> {
    wat(&format!("(module (global i32 (i32.const {number})) (func (export \"poll\")))"))
}

/// Gives the order, and finds it in the history and in the log as soon as it is answered.
#[track_caller]
fn told(daemon: &Daemon, arguments: &[&str], sentence: &str) {
    order(daemon, arguments);
    let (_, last) = orders(daemon, None).pop().expect("the order is recorded");
    let line = last.sentence(None, None);
    assert_eq!(line, sentence.replace("@me", &me()), "{arguments:?}");
    daemon.wait_log("", &[&line]);
}

#[test]
fn an_order_is_a_line_with_who_and_both_values() {
    let daemon = Daemon::start(Keys { tables: TABLES, ..Keys::default() });
    let told = |arguments: &[&str], sentence| told(&daemon, arguments, sentence);
    told(&["set", "setpoint", "7"], "setpoint is set to 7 (was 1.5) by @me");
    told(&["set", "setpoint", "-0.25"], "setpoint is set to -0.25 (was 7) by @me");
    told(&["set", "extra.in", "40"], "extra.in is set to 40 (was 1) by @me");
    told(
        &["force", "extra.out", "-5", "--for", "1m", "--owner", "ann", "--reason", "a test"],
        "extra.out is forced to -5 (was 3) by ann for 1m: a test; ordered by @me",
    );
    told(
        &["force", "extra.in", "9", "--forever", "--owner", "bob"],
        "extra.in is forced to 9 (was 40) by bob until an operator ends the force; ordered by @me",
    );
    // What stands under the force is not shown, and so nobody knows what it was.
    told(&["set", "extra.in", "40"], "extra.in is set to 40 by @me");
    told(&["unforce", "extra.in"], "extra.in is not forced any more (was 9) by @me");
    told(&["unforce", "--all"], "extra.out is not forced any more (was -5) by @me");
    told(&["fault", "extra", "freeze"], "extra has the simulated fault freeze by @me");
    told(&["fault", "extra", "--clear"], "extra has no simulated fault any more by @me");
    told(&["reset", "--retain"], "the retained variables have their initial values by @me");
    told(&["reload"], "the configuration is read again: no key has changed by @me");
    told(&["restart", "--cold"], "all programs are restarted cold by @me");
    // What a name is about is found by that name.
    let about = |name| orders(&daemon, Some(name)).len();
    assert_eq!(["setpoint", "extra.in", "extra", "witness"].map(about), [2, 4, 2, 0]);
    let table = String::from_utf8(daemon.camshaft(&["history", "extra.out"]).stdout).unwrap();
    let line = table.lines().nth(1).unwrap();
    let words: Vec<_> = line.split_whitespace().skip(2).take(3).collect();
    assert!(words == ["-", "force", "-"] && line.ends_with(&me()), "{table}");
}

#[test]
fn an_order_about_a_plugin_names_the_versions() {
    let daemon = Daemon::start(Keys { plugins: PROBATION, ..Keys::default() });
    let [one, two] = [version(1), version(2)];
    let hash = |module| Some(format!("{:#}", ModuleHash::of(module)));
    for (number, module) in [&one, &two].into_iter().enumerate() {
        block_on(daemon.client.deploy("tank", module.clone().into())).unwrap();
        wait("it is kept", LIMIT, || {
            let versions = block_on(daemon.client.versions("tank")).ok()?;
            let kept = versions.iter().filter(|version| version.kept).count();
            (kept == number + 1).then_some(())
        });
    }
    for arguments in [
        &["rollback", "tank"][..],
        &["restart", "tank"],
        &["hold", "tank"],
        &["release", "tank"],
        &["remove", "tank"],
    ] {
        order(&daemon, arguments);
    }
    let found: Vec<_> = orders(&daemon, Some("tank"))
        .into_iter()
        .map(|(receipt, ordered)| (ordered.order, receipt.hash, receipt.old_hash))
        .collect();
    let expected = [
        (OrderKind::Deploy, hash(&one), None),
        (OrderKind::Deploy, hash(&two), hash(&one)),
        (OrderKind::Rollback, hash(&one), hash(&two)),
        (OrderKind::Restart, None, hash(&one)),
        (OrderKind::Remove, None, hash(&one)),
    ];
    assert_eq!(found, expected);
    let table = String::from_utf8(daemon.camshaft(&["history", "tank"]).stdout).unwrap();
    let me = me();
    for kind in ["deploy", "rollback", "restart", "held", "released", "remove"] {
        let is_it = |line: &&str| line.split_whitespace().nth(3) == Some(kind);
        let line = table.lines().find(is_it).unwrap_or_else(|| panic!("{kind}: {table}"));
        assert!(line.ends_with(&format!("by {me}")), "{line}");
    }
}

/// The folder has not been read yet when the second order comes.
#[test]
fn an_order_right_after_another_names_what_that_one_has_put_into_the_file() {
    let daemon = Daemon::start(Keys::default());
    let modules = [version(1), version(2)];
    let deploy = |at: usize| {
        block_on(daemon.client.deploy("tank", modules[at].clone().into())).unwrap();
    };
    deploy(0);
    daemon.wait_for("tank", "there", |view| view.hash.is_some());
    deploy(1);
    block_on(daemon.client.remove("tank")).unwrap();
    deploy(0);
    let files = orders(&daemon, Some("tank")).into_iter().map(|(it, _)| (it.old_hash, it.hash));
    let hash = |at: usize| Some(format!("{:#}", ModuleHash::of(&modules[at])));
    let expected = [(None, hash(0)), (hash(0), hash(1)), (hash(1), None), (None, hash(0))];
    assert_eq!(files.collect::<Vec<_>>(), expected);
}

/// How each order about this point reads.
fn sentences(daemon: &Daemon, name: &str) -> Vec<String> {
    orders(daemon, Some(name)).iter().map(|(_, it)| it.sentence(None, None)).collect()
}

/// The history ended with a force that was there no more.
#[test]
fn every_end_of_a_force_is_a_line() {
    let plant = Plant::new(Keys { tables: TABLES, ..Keys::default() });
    let text = fs::read_to_string(plant.path("camshaft.toml")).unwrap();
    let slow = text.replace("period = \"1ms\"", "period = \"500ms\"");
    fs::write(plant.path("camshaft.toml"), slow).unwrap();
    let daemon = Daemon::on(plant);
    let force = ForceOrder {
        value: Value::Int(9),
        for_ms: None,
        forever: true,
        owner: "ann".into(),
        reason: String::new(),
    };
    // Both come within one cycle, so that no news of the scan shows the force in between.
    block_on(async {
        let both = async {
            for _ in 0..10 {
                daemon.client.status().await.unwrap();
            }
            daemon.client.unforce(None).await
        };
        let (forced, ended) = tokio::join!(daemon.client.force("extra.out", &force), both);
        forced.and(ended).unwrap();
    });
    let [begin, end] = &sentences(&daemon, "extra.out")[..] else { panic!("two lines") };
    assert!(begin.starts_with("extra.out is forced to 9 "), "{begin}");
    assert_eq!(*end, format!("extra.out is not forced any more (was 9) by {}", me()));
    // With nothing to end the order is a line of its own.
    told(&daemon, &["unforce", "--all"], "no point is forced any more by @me");
    // The point goes, and its force with it.
    block_on(daemon.client.force("extra.in", &force)).unwrap();
    daemon.configure(Keys::default());
    block_on(daemon.client.reload()).unwrap();
    let over = "the force of extra.in has ended; the force was ordered by ann";
    wait(over, LIMIT, || (sentences(&daemon, "extra.in").last()? == over).then_some(()));
    // The daemon stops.
    daemon.configure(Keys { tables: TABLES, ..Keys::default() });
    block_on(daemon.client.reload()).unwrap();
    block_on(daemon.client.force("extra.in", &force)).unwrap();
    let (_, _, plant) = daemon.stop();
    let last = sentences(&Daemon::on(plant), "extra.in").pop();
    assert_eq!(
        last.as_deref(),
        Some("the force of extra.in has ended; the force was ordered by ann; the daemon stops")
    );
}

/// A signal, a saved file and the end of a force come from no person; a refusal is no order.
#[test]
fn what_no_person_has_ordered_names_none_and_a_refusal_is_not_there() {
    let daemon = Daemon::start(Keys { tables: TABLES, ..Keys::default() });
    let force = ["force", "extra.in", "9", "--for", "200ms", "--owner", "ann"];
    order(&daemon, &force);
    let wait_for = |sentence: &str| {
        wait(sentence, LIMIT, || {
            let all = orders(&daemon, None);
            let it = all.into_iter().find(|(_, it)| it.sentence(None, None) == sentence);
            it.map(|(_, it)| assert_eq!(it.who, None))
        });
    };
    wait_for("the force of extra.in has ended; the force was ordered by ann");
    daemon.kill(Signal::SIGHUP);
    wait_for("the configuration is read again: no key has changed; by a signal");
    let text = fs::read_to_string(daemon.path("camshaft.toml")).unwrap();
    let period = text.replace("period = \"1ms\"", "period = \"2ms\"");
    fs::write(daemon.path("camshaft.toml"), period).unwrap();
    wait("the reload by the file", LIMIT, || {
        let all = orders(&daemon, None).into_iter().map(|(_, it)| it.sentence(None, None));
        let words = "the configuration is read again: scan.period changed";
        let is_it =
            |line: &String| line.starts_with(words) && line.ends_with("; the file was saved");
        all.into_iter().find(is_it)
    });
    let before = orders(&daemon, None).len();
    for refused in [
        &["set", "setpoint", "true"][..],
        &["set", "nothing", "1"],
        &["set", "extra.out", "1"],
        &["unforce", "extra.in"],
        &["rollback", "witness"],
        &["fault", "nothing", "freeze"],
        &["recover"],
    ] {
        let output = daemon.camshaft(refused);
        assert_eq!(output.status.code(), Some(1), "{refused:?}: {output:?}");
    }
    assert_eq!(orders(&daemon, None).len(), before);
}

/// Another user gives orders over the socket.
#[test]
#[ignore = "needs python3, and root to become another user"]
fn another_user_has_another_name() {
    let daemon = Daemon::start(Keys { tables: TABLES, ..Keys::default() });
    let socket = daemon.path("control.sock");
    open_to_all(&socket);
    let request = "\
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
body = b'{\"value\":9}'
head = b'PUT /v1/vars/setpoint HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: %d\\r\\n\\r\\n' % len(body)
peer.sendall(head + body)
print(peer.recv(4096).decode())
";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c", request]);
    // That of the system, which everybody may run.
    let output = command.arg(&socket).env("PATH", "/usr/bin:/bin").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("200 OK"), "{output:?}");
    let (_, ordered) = orders(&daemon, Some("setpoint")).pop().unwrap();
    let who = ordered.who.expect("the kernel knows");
    assert_eq!((who.uid, who.name.as_deref()), (65534, Some("nobody")));
}

/// Lets everybody through to the socket.
fn open_to_all(socket: &Path) {
    let all = fs::Permissions::from_mode;
    fs::set_permissions(socket.parent().unwrap(), all(0o755)).unwrap();
    fs::set_permissions(socket, all(0o666)).unwrap();
}

/// A script that sets a variable all the time does not drive the rest out of the history.
#[test]
fn a_script_is_counted_and_its_last_order_is_known() {
    let daemon = Daemon::start(Keys { tables: TABLES, ..Keys::default() });
    for n in 0..100 {
        block_on(daemon.client.set_var("setpoint", Value::Int(n))).unwrap();
    }
    let lines = orders(&daemon, Some("setpoint"));
    assert_eq!(lines.len(), 20);
    assert!(lines.iter().all(|(_, ordered)| ordered.count == 1));
    order(&daemon, &["set", "extra.in", "3"]);
    assert_eq!(orders(&daemon, None).len(), 21);
    let (_, _, plant) = daemon.stop();
    let daemon = Daemon::on(plant);
    let (_, last) = orders(&daemon, Some("setpoint")).pop().unwrap();
    assert_eq!((last.new.as_deref(), last.count), (Some("99"), 80));
}

/// The order after which the daemon was gone is the one that is looked for.
#[test]
fn an_order_that_ends_the_daemon_has_a_line() {
    let daemon = Daemon::start(Keys { tables: TABLES, ..Keys::default() });
    let output = daemon.camshaft(&["fault", "extra", "hang", "for=1m"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (status, plant) = daemon.end(|| {});
    assert_eq!(status.code(), Some(70));
    let daemon = Daemon::on(plant);
    let (_, last) = orders(&daemon, Some("extra")).pop().expect("it is recorded");
    let sentence = last.sentence(None, None);
    let words = format!("the order `fault extra` by {} has failed: the daemon has ended", me());
    assert!(sentence.starts_with(&words), "{sentence}");
}
