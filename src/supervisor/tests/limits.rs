//! The limits on the number of plugins, the refusals of orders, and the status as JSON.
//!
//! These tests call the supervisor directly. The other tests of the supervisor use scripts
//! (`supervisor/tests.rs`).

use super::super::quarantine::MAX_OF_ONE;
use super::*;

#[test]
fn what_cannot_be_asked_for_is_refused() {
    let mut supervisor = Supervisor::new(RestartPolicy::default());
    let reason = |result: Result<(), Refusal>| result.unwrap_err().reason;
    assert_eq!(reason(supervisor.release("a").map(drop)), "there is no plugin \"a\"");
    assert_eq!(reason(supervisor.restart("a")), "there is no plugin \"a\"");
    assert_eq!(reason(supervisor.hold("a/b")), "\"a/b\" is not a valid name for a plugin");
    supervisor.hold("a").unwrap();
    assert_eq!(reason(supervisor.restart("a")), "a is held");
    supervisor.release("a").unwrap();
    supervisor.context.quarantine.add("a", hash("A"), "it trapped".into());
    supervisor.folder("a", Some(hash("A"))).unwrap();
    assert_eq!(reason(supervisor.restart("a")), "a is in quarantine");
    // The quarantine remains when the file is removed. A release ends the quarantine even without a
    // file.
    supervisor.context.quarantine.add("b", hash("B"), "it trapped".into());
    assert_eq!(supervisor.release("b").unwrap(), Released::Forgiven);
    assert_eq!(reason(supervisor.release("b").map(drop)), "there is no plugin \"b\"");
}

#[test]
fn plugins_are_limited() {
    let mut supervisor = Supervisor::new(RestartPolicy::default());
    let now = Duration::from_secs(1);
    for n in 0..MAX_PLUGINS {
        supervisor.folder(&format!("p{n}"), Some(hash("A"))).unwrap();
    }
    let refusal = supervisor.folder("more", Some(hash("A"))).unwrap_err();
    assert_eq!(refusal.reason, "there are 1000 plugins already");
    assert!(supervisor.hold("more").is_err());
    assert!(supervisor.plugin("more").is_none());
    // A plugin that is leaving the scan is not included in the limit, so the next plugin is
    // accepted.
    let orders = supervisor.step(now, &[]);
    assert_eq!(orders.len(), MAX_PLUGINS);
    supervisor.folder("p7", None).unwrap();
    supervisor.folder("more", Some(hash("A"))).unwrap();
    // The list of entries is limited even while the scan stalls.
    for n in 0..3 * MAX_PLUGINS {
        let _ = supervisor.folder(&format!("q{n}"), Some(hash("A")));
        supervisor.folder(&format!("q{n}"), None).unwrap();
    }
    assert!(supervisor.plugins().count() <= MAX_ENTRIES);
}

#[test]
fn a_file_that_is_no_module_takes_no_place() {
    let mut supervisor = Supervisor::new(RestartPolicy::default());
    for n in 0..MAX_PLUGINS {
        supervisor.folder_refused(&format!("junk{n}"), Refusal::new("it is a pipe", "")).unwrap();
    }
    supervisor.step(Duration::from_secs(1), &[]);
    for n in 0..MAX_PLUGINS {
        supervisor.folder(&format!("p{n}"), Some(hash("A"))).unwrap();
    }
    assert_eq!(supervisor.plugins().count(), 2 * MAX_PLUGINS, "both are shown");
    assert!(supervisor.folder("more", Some(hash("A"))).is_err());
}

#[test]
fn the_quarantine_forgets_the_oldest() {
    let mut supervisor = Supervisor::new(RestartPolicy { traps: 1, ..RestartPolicy::default() });
    for n in 1..=MAX_OF_ONE as u64 + 3 {
        supervisor.folder("a", Some(hash(&n.to_string()))).unwrap();
        supervisor.step(Duration::from_secs(n), &[]);
        supervisor.prepared("a", Generation(n), Ok(()));
        supervisor.step(Duration::from_secs(n), &[]);
        let fact = Fact {
            name: "a",
            generation: Generation(n),
            trap: Some(trap()),
            standby: None,
            rolled_back: None,
        };
        supervisor.step(Duration::from_secs(n), &[fact]);
    }
    let mut all = supervisor.quarantined("a");
    assert_eq!(all.len(), MAX_OF_ONE);
    let oldest = all.remove(0);
    let why = "it trapped: unreachable, cycle 7".to_owned();
    assert_eq!(oldest, (hash("4"), why));
}

#[test]
fn status_as_json() {
    let mut supervisor = Supervisor::new(RestartPolicy::default());
    supervisor.folder("a", Some(hash("A"))).unwrap();
    let now = Duration::from_millis(1500);
    supervisor.step(now, &[]);
    supervisor.prepared("a", Generation(1), Ok(()));
    supervisor.step(now, &[]);
    let mut fact = Fact {
        name: "a",
        generation: Generation(1),
        trap: Some(trap()),
        standby: None,
        rolled_back: None,
    };
    supervisor.step(now, std::slice::from_ref(&fact));
    supervisor.prepared("a", Generation(2), Ok(()));
    supervisor.step(now, std::slice::from_ref(&fact));
    fact.generation = Generation(2);
    supervisor.step(now, &[fact]);
    let json = serde_json::to_value(supervisor.plugin("a")).unwrap();
    let full_hash = format!("{:#}", hash("A"));
    let expected = serde_json::json!({
        "want": "run", "state": "backoff", "restart_at_ms": 1600, "file": full_hash,
        "running": {"hash": full_hash, "generation": 2}, "next": null, "good": full_hash,
        "quarantined": false, "quarantine": null,
        "traps": 2, "trapped": full_hash, "refusal": null,
        "last_trap": {"kind": "unreachable", "function": null, "offset": null, "cycle": 7},
    });
    assert_eq!(json, expected);
}
