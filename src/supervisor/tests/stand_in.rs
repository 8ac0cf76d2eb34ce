//! Scripts about stored versions that run in place of a bad file.
//!
//! In the expected orders, `B instead` is the log line that an instance of the stored version B is
//! being created, and `B stands in` is the log line that B runs. The words of the scripts are
//! explained in `supervisor/tests.rs`.

use super::*;

#[test]
fn kept_versions_take_the_place_of_a_quarantined_file_one_after_the_other() {
    check(
        "one trap   :
         file A     : prepare A1
         keep B C   :
         ok 1       : install 1
         see 1      : 'runs 1'
         see 1 trap : 'quarantined A', 'B instead', prepare B2
         is         : preparing A1 next B2 file quarantined
         ok 2       : install 2
         see 2      : 'runs 2', 'B stands in'
         is         : running B2 file quarantined
         +90000     :
         keep B C   :
         see 2 trap : 'quarantined B', 'C instead', prepare C3
         ok 3       : install 3
         see 3 trap : 'runs 3', 'C stands in', 'quarantined C', stop
         see -      : 'stopped'
         is         : quarantined file quarantined
         +90000     :
         release    : prepare A4",
    );
}

/// With the policy `safe`, no stored version runs, neither after traps nor after a start.
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
         keep B C   : 'B instead', prepare B1
         ok 1       : install 1
         see 1      : 'runs 1', 'B stands in'
         is         : running B1 file quarantined
         file C     : prepare C2",
    );
    // The module that ran before runs again if the file is bad, as if the daemon had not been
    // restarted.
    for start in ["", "safe :\n"] {
        check(&format!(
            "{start}
             file bad   :
             is         : refused refusal
             ran B      : 'B instead', prepare B1
             ok 1       : install 1
             see 1      : 'runs 1', 'B stands in'
             is         : running B1 refusal"
        ));
    }
    // `ran` is valid only until a version has run, and only for the file that was present at the
    // start.
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

/// A defect of the past: the bytes of the module that ran were lost. No program ran, although a
/// good version was stored.
#[test]
fn a_kept_version_takes_the_place_of_what_ran_and_cannot_be_had() {
    check(
        "file bad     :
         keep B ran C : 'C instead', prepare C1
         lost 1       : 'refused', 'retry 100ms', 'B instead', prepare B2
         keep B ran C :
         ok 2         : install 2
         see 2        : 'runs 2', 'B stands in'
         +90000       :
         is           : running B2 refusal",
    );
    check(
        "safe         :
         file bad     :
         keep B ran C : 'C instead', prepare C1
         lost 1       : 'refused', 'retry 100ms'
         is           : backoff refusal",
    );
    // If the stored version cannot run either, the lost module is tried again, because its bytes
    // may exist again.
    check(
        "file bad     :
         keep B ran C : 'C instead', prepare C1
         lost 1       : 'refused', 'retry 100ms', 'B instead', prepare B2
         fail 2       : 'refused'
         +100         : 'C instead', prepare C3
         ok 3         : install 3
         see 3        : 'runs 3', 'C stands in'
         see 3 trap   : 'trap 1/5 0ms', prepare C4
         miss 4       : 'refused', 'retry 100ms'
         is           : backoff C3 refusal",
    );
    // The bytes exist again, but they cannot be read at present.
    check(
        "file bad     :
         keep B ran C : 'C instead', prepare C1
         lost 1       : 'refused', 'retry 100ms', 'B instead', prepare B2
         miss 2       : 'refused', 'retry 100ms'
         +100         : 'C instead', prepare C3
         miss 3       : 'refused', 'retry 200ms'
         +100         :
         is           : backoff refusal",
    );
}

/// After an accident, the module itself is tried again. A file that has never run is tried again,
/// too, if its bytes are lost.
#[test]
fn an_accident_is_no_reason_for_a_stand_in() {
    for what in ["miss", "lost"] {
        check(&format!(
            "one trap     :
             file A       :  prepare A1
             keep B       :
             {what} 1     : 'refused', 'retry 100ms'
             +100         : prepare A2
             {what} 2     : 'refused', 'retry 200ms'
             is           : backoff refusal"
        ));
    }
    check(
        "one trap     :
         file bad     :
         keep B ran C : 'C instead', prepare C1
         miss 1       : 'refused', 'retry 100ms'
         +100         : prepare C2
         miss 2       : 'refused', 'retry 200ms'
         is           : backoff refusal",
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
    // Each version is tried one time. Otherwise two versions that cannot be loaded would be tried
    // alternately without end.
    check(
        "recall A   :
         file A     : 'still quarantined A'
         keep B C   : 'B instead', prepare B1
         fail 1     : 'refused', 'C instead', prepare C2
         fail 2     : 'refused'
         +90000     :
         is         : quarantined file quarantined",
    );
}

/// A defect of the past: after an order to restart, a new file came and was refused, and the
/// running version was not restarted.
#[test]
fn a_restart_is_not_lost_under_a_file_that_is_refused() {
    check(
        "file A    : prepare A1
         ok 1      : install 1
         see 1     : 'runs 1'
         restart   : prepare A2
         file B    : discard 2, prepare B3
         fail 3    : 'refused', prepare A4
         ok 4      : install 4
         see 4     : 'runs 4'
         +90000    :
         is        : running A4 refusal",
    );
    // A version that takes over is also a new instance, so no further restart follows.
    check(
        "file A    : prepare A1
         ok 1      : install 1
         see 1     : 'runs 1'
         restart   : prepare A2
         file B    : discard 2, prepare B3
         ok 3      : install 3
         see 3     : 'runs 3'
         +90000    :
         is        : running B3",
    );
}

/// A defect of the past: after the end of recovery or of a cold restart, quarantined versions ran.
#[test]
fn who_waits_for_the_end_of_recovery_stays_in_quarantine() {
    check(
        "hold       :
         recall A   :
         file A     :
         keep B     :
         let go     : 'still quarantined A', 'B instead', prepare B1",
    );
}

/// `rollback --even-bad` releases one version; the other versions remain in quarantine.
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
    supervisor.folder_refused("Pump", Refusal::new("it is a folder", "")).unwrap();
    let check = |supervisor: &Supervisor, name: &str, expected: &str| {
        let found = supervisor.admits_name(name).map_err(|refusal| refusal.reason);
        assert_eq!(found.err().unwrap_or_default(), expected, "{name}");
    };
    check(&supervisor, "tank", "");
    check(&supervisor, "lamp", "");
    check(&supervisor, "Tank", "its name differs from tank only in upper and lower case");
    // A defect of the past: the name was refused only when the folder reported the conflict, and
    // the useless file was already in the folder.
    check(&supervisor, "pump", "its name differs from Pump only in upper and lower case");
    // A defect of the past: for two names that differ only in case, each refusal named the other
    // file as the valid file. A rival does not reserve its name against the other file.
    supervisor.folder_rival("TANK", Refusal::new("its name differs from tank", "")).unwrap();
    supervisor.folder_refused("tank", Refusal::new("it is no module", "")).unwrap();
    check(&supervisor, "tank", "");
    check(&supervisor, "TANK", "its name differs from tank only in upper and lower case");
    supervisor.folder("TANK", None).unwrap();
    supervisor.folder("tank", Some(hash("A"))).unwrap();
    check(&supervisor, "..", "\"..\" is not a valid name for a plugin");
    for n in 1..MAX_PLUGINS {
        supervisor.folder(&format!("p{n}"), Some(hash("A"))).unwrap();
    }
    let full = format!("there are {MAX_PLUGINS} plugins already");
    check(&supervisor, "more", &full);
    // A file that is no module does not count for the limit.
    check(&supervisor, "Pump", &full);
    check(&supervisor, "tank", "");
}

/// A defect of the past: the module that ran trapped while the file was bad. The output points
/// remained safe, although a good version was stored.
#[test]
fn what_is_good_stands_in_for_what_ran_as_well() {
    for (file, refused) in [("file bad :", ""), ("file C : prepare C2", "fail 2 : 'refused'")] {
        let next = if refused.is_empty() { 2 } else { 3 };
        check(&format!(
            "one trap   :
             file B     : prepare B1
             keep A     :
             ok 1       : install 1
             see 1      : 'runs 1'
             {file}
             {refused}
             is         : running B1 refusal
             see 1 trap : 'quarantined B', 'A instead', prepare A{next}
             ok {next}  : install {next}
             see {next} : 'runs {next}', 'A stands in'
             is         : running A{next} refusal"
        ));
    }
    // A stored version also runs after a start, unless the policy is `safe`.
    check(
        "recall B   :
         file bad   :
         keep A ran B : 'A instead', prepare A1",
    );
    check(
        "safe       :
         recall B   :
         file bad   :
         keep A ran B :
         is         : refused refusal",
    );
    // If the file was never good and no version ran before, no stored version runs.
    check(
        "file bad   :
         keep A     :
         is         : refused refusal",
    );
}

/// A defect of the past: a stored file could not be read when it was needed, and it was never tried
/// again.
#[test]
fn a_passing_trouble_is_no_verdict() {
    check(
        "recall A   :
         file A     : 'still quarantined A'
         keep B     : 'B instead', prepare B1
         miss 1     : 'refused', 'retry 100ms'
         is         : backoff file quarantined
         +99        :
         +1         : prepare B2
         miss 2     : 'refused', 'retry 200ms'
         restart    : prepare B3
         ok 3       : install 3
         see 3      : 'runs 3', 'B stands in'
         is         : running B3 file quarantined",
    );
    // Other versions are tried first. If another version runs at the next attempt, it continues to
    // run.
    check(
        "recall A   :
         file A     : 'still quarantined A'
         keep B C   : 'B instead', prepare B1
         miss 1     : 'refused', 'retry 100ms', 'C instead', prepare C2
         +90000     :
         ok 2       : install 2
         see 2      : 'runs 2', 'C stands in'
         +90000     :
         is         : running C2 file quarantined",
    );
    // The rule is also valid for the file itself, with and without another version that runs.
    check(
        "file A     : prepare A1
         miss 1     : 'refused', 'retry 100ms'
         is         : backoff refusal
         +100       : prepare A2
         ok 2       : install 2
         see 2      : 'runs 2'
         is         : running A2
         file B     : prepare B3
         miss 3     : 'refused', 'retry 100ms'
         is         : running A2 refusal
         +100       : prepare B4
         miss 4     : 'refused', 'retry 200ms'
         see 2 trap : 'trap 1/5 0ms', prepare A5
         +200       :
         ok 5       : install 5
         see 5      : 'runs 5', prepare B6
         see 5 trap :
         fail 6     : 'refused'
         is         : backoff A5 refusal
         +100       : prepare A7",
    );
}

#[test]
fn a_restart_tries_again_what_would_stand_in() {
    check(
        "recall A   :
         file A     : 'still quarantined A'
         keep B     : 'B instead', prepare B1
         fail 1     : 'refused'
         is         : quarantined file quarantined
         restart    : prepare B2",
    );
}

/// A defect of the past: the module that ran trapped one time, and then its `init` trapped each
/// time. The output points remained safe without end, although a good version was stored.
#[test]
fn what_cannot_be_made_again_makes_room_for_what_is_good() {
    check(
        "three traps :
         file A     : prepare A1
         keep B C   :
         ok 1       : install 1
         see 1      : 'runs 1'
         see 1 trap : 'trap 1/3 0ms', prepare A2
         fail 2     : 'refused', 'retry 100ms'
         +100       : prepare A3
         miss 3     : 'refused', 'retry 200ms'
         +200       : prepare A4
         fail 4     : 'refused', 'retry 400ms'
         is         : backoff A1 refusal
         +400       : prepare A5
         fail 5     : 'refused', 'retry 800ms', 'B instead', prepare B6
         fail 6     : 'refused', 'C instead', prepare C7
         +800       :
         ok 7       : install 7
         see 7      : 'runs 7', 'gave up A', 'C stands in'
         is         : running C7 file quarantined
         +90000     :
         release    : prepare A8",
    );
    // B cannot be loaded either, so A is tried again. The value of an input point may be the reason
    // for both failures.
    check(
        "one trap   :
         file A     : prepare A1
         keep B ran A :
         fail 1     : 'refused', 'retry 100ms', 'B instead', prepare B2
         fail 2     : 'refused'
         is         : backoff refusal
         +100       : prepare A3
         fail 3     : 'refused', 'retry 200ms'
         +200       : prepare A4
         ok 4       : install 4
         see 4      : 'runs 4'
         is         : running A4",
    );
    // With the policy `safe`, the module is tried again without end.
    check(
        "safe       :
         file A     : prepare A1
         keep B ran A :
         fail 1     : 'refused', 'retry 100ms'
         +100       : prepare A2
         fail 2     : 'refused', 'retry 200ms'
         is         : backoff refusal",
    );
}

/// A defect of the past: after a start of the daemon, the `init` of the module that ran before
/// trapped one time, and the module was not tried again. Without the start of the daemon, the
/// module would have been tried again.
#[test]
fn what_ran_before_a_start_is_tried_again_after_it() {
    check(
        "file A     : prepare A1
         ran A      :
         fail 1     : 'refused', 'retry 100ms'
         +100       : prepare A2
         fail 2     : 'refused', 'retry 200ms'
         +200       : prepare A3
         ok 3       : install 3
         see 3      : 'runs 3'
         is         : running A3",
    );
    // The supervisor may get the name of the module that ran after the first attempt with the file.
    check(
        "file A     : prepare A1
         fail 1     : 'refused'
         is         : refused refusal
         ran A      : prepare A2
         ran A      :
         fail 2     : 'refused', 'retry 100ms'
         ran A      :
         +100       : prepare A3",
    );
}
