//! Scripts about kept versions that run in place of a file that is no good.

use super::*;

#[test]
fn kept_versions_take_the_place_of_a_quarantined_file_one_after_the_other() {
    check(
        "one trap   :
         file A     : prepare A1
         keep B C   :
         ok 1       : install 1
         see 1      : 'runs 1'
         see 1 trap : 'quarantined A', 'B stands in', prepare B2
         is         : preparing A1 next B2 file quarantined
         ok 2       : install 2
         see 2      : 'runs 2'
         is         : running B2 file quarantined
         +90000     :
         keep B C   :
         see 2 trap : 'quarantined B', 'C stands in', prepare C3
         ok 3       : install 3
         see 3 trap : 'runs 3', 'quarantined C', stop
         see -      : 'stopped'
         is         : quarantined file quarantined
         +90000     :
         release    : prepare A4",
    );
}

/// The operator decides: neither by traps nor after a start does anything stand in.
#[test]
fn nothing_stands_in_where_that_is_not_wanted() {
    check(
        "safe       :
         file A     : prepare A1
         keep B C   :
         ok 1       : install 1
         see 1 trap : 'runs 1', 'quarantined A', stop
         see -      : 'stopped'
         is         : quarantined file quarantined",
    );
    check(
        "safe       :
         recall A   :
         file A     : 'still quarantined A'
         keep B     :
         is         : quarantined file quarantined",
    );
}

#[test]
fn after_a_start_the_same_runs_as_before() {
    check(
        "recall A   :
         file A     : 'still quarantined A'
         is         : quarantined file quarantined
         keep B C   : 'B stands in', prepare B1
         ok 1       : install 1
         see 1      : 'runs 1'
         is         : running B1 file quarantined
         file C     : prepare C2",
    );
    // What ran goes on whatever is wrong with the file: so it would without the start.
    for start in ["", "safe :\n"] {
        check(&format!(
            "{start}
             file bad   :
             is         : refused refusal
             ran B      : 'B stands in', prepare B1
             ok 1       : install 1
             see 1      : 'runs 1'
             is         : running B1 refusal"
        ));
    }
    // It counts until something has run, and for the file that was there.
    check(
        "safe       :
         file A     : prepare A1
         ran B      :
         ok 1       : install 1
         see 1 trap : 'runs 1', 'quarantined A', stop
         ran B      :
         see -      : 'stopped'
         file -     :
         file bad   :
         is         : refused refusal",
    );
}

#[test]
fn a_kept_version_that_is_no_good_does_not_stand_in() {
    check(
        "recall B   :
         recall A   :
         file A     : 'still quarantined A'
         keep B     :
         is         : quarantined file quarantined",
    );
    // Each is tried once: two that will not load are not tried in turns for ever.
    check(
        "recall A   :
         file A     : 'still quarantined A'
         keep B C   : 'B stands in', prepare B1
         fail 1     : 'refused', 'C stands in', prepare C2
         fail 2     : 'refused'
         +90000     :
         is         : quarantined file quarantined",
    );
}

/// The end of recovery, and of a cold restart, let quarantined versions run.
#[test]
fn who_waits_for_the_end_of_recovery_stays_in_quarantine() {
    check(
        "hold       :
         recall A   :
         file A     :
         keep B     :
         let go     : 'still quarantined A', 'B stands in', prepare B1",
    );
}

/// `rollback --even-bad` names one version, and the others stay where they are.
#[test]
fn one_version_of_several_gets_another_chance() {
    check(
        "recall A   :
         recall B   :
         file A     : 'still quarantined A'
         lift A     : prepare A1
         file B     : 'still quarantined B', discard 1",
    );
}

#[test]
fn a_name_is_refused_before_its_file_is_written() {
    let mut supervisor = Supervisor::new(RestartPolicy::default());
    supervisor.folder("tank", Some(hash("A"))).unwrap();
    supervisor.folder_refused("Pump", Refusal::new("its name", "")).unwrap();
    let check = |supervisor: &Supervisor, name: &str, expected: &str| {
        let found = supervisor.admits_name(name).map_err(|refusal| refusal.reason);
        assert_eq!(found.err().unwrap_or_default(), expected, "{name}");
    };
    check(&supervisor, "tank", "");
    check(&supervisor, "lamp", "");
    check(&supervisor, "Tank", "its name differs from tank only in upper and lower case");
    check(&supervisor, "pump", "");
    check(&supervisor, "..", "\"..\" is no name for a plugin");
    for n in 1..MAX_PLUGINS {
        supervisor.folder(&format!("p{n}"), Some(hash("A"))).unwrap();
    }
    let full = format!("there are {MAX_PLUGINS} plugins already");
    check(&supervisor, "more", &full);
    // What is no module takes no place.
    check(&supervisor, "Pump", &full);
    check(&supervisor, "tank", "");
}
