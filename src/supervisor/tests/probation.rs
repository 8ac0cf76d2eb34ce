//! Scripts about versions that trap on probation and are rolled back.
//!
//! The scan itself makes the rollback, so these scripts contain only the snapshots after the
//! rollback. The words of the scripts are explained in `supervisor/tests.rs`.

use std::fmt::Write as _;

use super::*;

#[test]
fn a_version_that_traps_on_probation_is_quarantined_and_the_one_before_runs_again() {
    check(
        "file A         : prepare A1
         ok 1           : install 1
         see 1          : 'runs 1'
         file B         : prepare B2
         ok 2           : install 2
         see 2 after 1  : 'runs 2'
         is             : running B2
         see 1 beat 2   : 'back from B to A'
         is             : running A1 file quarantined
         see 1 beat 2   :
         +90000         :
         file A         :
         file B         : 'still quarantined B'
         file C         : prepare C3
         ok 3           : install 3
         see 1 beat 3   : 'back from C to A'
         is             : running A1 file quarantined
         file B         : 'still quarantined B'
         release        : prepare B4
         ok 4           : install 4
         see 4 after 1  : 'runs 4'
         see 4          :
         is             : running B4
         see 4 trap     : 'trap 1/5 0ms', prepare B5
         is             : preparing B4 next B5",
    );
}

#[test]
fn a_version_that_resumed_is_restarted_and_stopped_like_any_other() {
    check(
        "file A         : prepare A1
         ok 1           : install 1
         see 1          : 'runs 1'
         file B         : prepare B2
         ok 2           : install 2
         see 1 beat 2   : 'back from B to A'
         see 1 trap     : 'trap 1/5 0ms', prepare A3
         ok 3           : install 3
         see 3          : 'runs 3'
         file -         : stop
         see -          : 'stopped'
         is             : unknown",
    );
}

/// A defect of the past: the list of ordered versions is short, and a series of other versions
/// displaced the standby version from the list.
#[test]
fn the_version_that_stands_by_is_known_after_a_row_of_others() {
    let mut script = "file A : prepare A1
                      ok 1 : install 1
                      see 1 : 'runs 1'\n"
        .to_string();
    for n in 2..=20 {
        let file = if n % 2 == 0 { "B" } else { "C" };
        write!(
            script,
            "file {file} : prepare {file}{n}
             ok {n} : install {n}
             see {n} after 1 : 'runs {n}'\n"
        )
        .unwrap();
    }
    script += "see 1 beat 20 : 'back from B to A'
               is : running A1 file quarantined";
    check(&script);
}

/// A defect of the past: the stop order of version A was lost in a full queue, and then A was on
/// standby for B. B was swapped in again and again, without a pause and without a log line.
#[test]
fn a_version_that_a_stranger_has_rolled_back_is_not_tried_for_ever() {
    check(
        "file A : prepare A1
         ok 1 : install 1
         file - : discard 1, stop
         file B : prepare B2
         ok 2 : install 2
         see 2 after 1 : 'runs 2'
         see 1 beat 2 : 'quarantined B', stop
         see - : 'stopped'
         is : quarantined file quarantined",
    );
}

/// A defect of the past: version C was in the queue and took over in the cycle after the rollback
/// of B. So no snapshot showed the rollback alone, and B ran again with the next file.
#[test]
fn a_version_that_was_taken_back_is_judged_though_the_next_one_took_over_at_once() {
    check(
        "file A                : prepare A1
         ok 1                  : install 1
         see 1                 : 'runs 1'
         file B                : prepare B2
         ok 2                  : install 2
         see 2 after 1         : 'runs 2'
         file C                : prepare C3
         ok 3                  : install 3
         see 3 after 1 beat 2  : 'quarantined B', 'runs 3'
         see 3 beat 2          :
         file B                : 'still quarantined B'
         is                    : running C3 file quarantined",
    );
    // The rolled-back instance had the bytes of the good version. The good version must not be put
    // in quarantine because of this rollback.
    check(
        "file A                : prepare A1
         ok 1                  : install 1
         see 1                 : 'runs 1'
         file B                : prepare B2
         ok 2                  : install 2
         see 2 after 1         : 'runs 2'
         file A                : prepare A3
         ok 3                  : install 3
         see 3 after 1         : 'runs 3'
         file C                : prepare C4
         ok 4                  : install 4
         see 4 after 1 beat 3  : 'runs 4'
         is                    : running C4",
    );
}

/// A defect of the past: the operator deployed the previous version again. Before its instance was
/// ready, the scan rolled back to the same version. This version ran with its state, but then the
/// operator's instance restarted it without the state.
#[test]
fn a_version_that_resumes_is_not_restarted_by_what_was_to_take_over() {
    let meets = |orders: &str| {
        check(&format!(
            "file A         : prepare A1
             ok 1           : install 1
             see 1          : 'runs 1'
             file B         : prepare B2
             ok 2           : install 2
             see 2 after 1  : 'runs 2'
             file A         : prepare A3
             {orders}"
        ));
    };
    meets(
        "see 1 beat 2   : discard 3, 'back from B to A'
         +90000         :
         is             : running A1",
    );
    // A restart that the operator ordered is executed.
    meets(
        "ok 3           : install 3
         see 3 after 1  : 'runs 3'
         restart        : prepare A4
         see 1 beat 3   : 'trap 1/5 0ms'
         ok 4           : install 4
         see 4          : 'runs 4'",
    );
}

/// A defect of the past: the operator deployed a good version again while its successor was on
/// probation, and the new instance trapped one time. Then the good version was in quarantine
/// although it ran.
#[test]
fn a_version_that_the_same_bytes_follow_is_restarted_and_not_judged() {
    check(
        "file A         : prepare A1
         ok 1           : install 1
         see 1          : 'runs 1'
         file B         : prepare B2
         ok 2           : install 2
         see 2 after 1  : 'runs 2'
         file A         : prepare A3
         ok 3           : install 3
         see 3 after 1  : 'runs 3'
         see 1 beat 3   : 'trap 1/5 0ms'
         is             : running A1
         see 1 trap     : 'trap 2/5 100ms'",
    );
}

/// A defect of the past: after a failed restart, the bytes of the running version were dropped.
/// After new bytes in the file, the bytes of the standby version were dropped. Then the daemon
/// could find the bytes of neither version.
#[test]
fn what_runs_or_may_resume_is_needed() {
    let mut supervisor = Supervisor::new(RestartPolicy::default());
    let check = |supervisor: &Supervisor, needed: &str, ran: &str| {
        let mut all: Vec<_> = supervisor.needed().map(letter).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.concat(), needed);
        let have_run = ["A", "B", "C"].into_iter().filter(|text| supervisor.has_run(hash(text)));
        assert_eq!(have_run.collect::<String>(), ran);
    };
    let deploy = |supervisor: &mut Supervisor, text: &str, number: &str| {
        supervisor.folder("a", Some(hash(text))).unwrap();
        supervisor.step(Duration::ZERO, &[]);
        supervisor.prepared("a", generation(number), Ok(()));
    };
    deploy(&mut supervisor, "A", "1");
    check(&supervisor, "A", "");
    supervisor.step(Duration::ZERO, &[]);
    supervisor.step(Duration::ZERO, &[fact("1")]);
    supervisor.folder("a", Some(hash("B"))).unwrap();
    supervisor.step(Duration::ZERO, &[fact("1")]);
    supervisor.prepared("a", generation("2"), Ok(()));
    check(&supervisor, "AB", "A");
    supervisor.step(Duration::ZERO, &[fact("1")]);
    let on_probation = Fact { standby: Some(generation("1")), ..fact("2") };
    supervisor.step(Duration::ZERO, std::slice::from_ref(&on_probation));
    check(&supervisor, "AB", "AB");
    supervisor.folder("a", Some(hash("C"))).unwrap();
    supervisor.step(Duration::ZERO, &[on_probation]);
    supervisor.prepared("a", generation("3"), Err(Refusal::new("no", "")));
    check(&supervisor, "ABC", "AB");
    supervisor.step(Duration::ZERO, &[fact("2")]);
    check(&supervisor, "BC", "B");
}
