//! Scripts about programs that trap: backoff and quarantine.
//!
//! Each script has the traps in its snapshots, and the expected restarts with their waits. The
//! words of the scripts are explained in `supervisor/tests.rs`.

use super::check;

#[test]
fn restarts_come_later_and_later_and_end_in_quarantine() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1 trap : 'runs 1', 'trap 1/5 0ms', prepare A2
         ok 2       : install 2
         see 2 trap : 'runs 2', 'trap 2/5 100ms'
         is         : backoff A2
         +99        :
         +1         : prepare A3
         ok 3       : install 3
         see 3 trap : 'runs 3', 'trap 3/5 200ms'
         +200       : prepare A4
         ok 4       : install 4
         see 4 trap : 'runs 4', 'trap 4/5 400ms'
         +400       : prepare A5
         ok 5       : install 5
         see 5 trap : 'runs 5', 'quarantined A', stop
         see -      : 'stopped'
         is         : quarantined file quarantined
         +90000     :
         file -     :
         is         : unknown
         file A     : 'still quarantined A'
         file A     :
         file B     : prepare B6
         file A     : 'still quarantined A', discard 6
         hold       :
         release    :
         is         : quarantined file quarantined
         release    : prepare A7
         is         : preparing next A7",
    );
}

/// A defect of the past: the operator held a plugin and released it, and the plugin's module in
/// quarantine ran again.
#[test]
fn the_end_of_a_hold_forgives_nothing() {
    check(
        "one trap   :
         file A     : prepare A1
         ok 1       : install 1
         see 1      : 'runs 1'
         hold       : stop
         see 1 trap : 'quarantined A'
         see -      : 'stopped'
         release    :
         is         : quarantined file quarantined
         keep B     : 'B instead', prepare B2
         hold       : discard 2
         release    : prepare B3
         is         : preparing next B3 file quarantined
         release    : discard 3, prepare A4",
    );
}

#[test]
fn a_minute_without_a_trap_is_forgiven() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1 trap : 'runs 1', 'trap 1/5 0ms', prepare A2
         ok 2       : install 2
         see 2      : 'runs 2'
         +60000     :
         see 2 trap : 'trap 1/5 0ms', prepare A3",
    );
}

#[test]
fn an_old_version_is_not_swapped_for_quarantined_bytes() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1 trap : 'runs 1', 'trap 1/5 0ms', prepare A2
         ok 2       : install 2
         see 2 trap : 'runs 2', 'trap 2/5 100ms'
         +100       : prepare A3
         ok 3       : install 3
         see 3 trap : 'runs 3', 'trap 3/5 200ms'
         +200       : prepare A4
         ok 4       : install 4
         see 4 trap : 'runs 4', 'trap 4/5 400ms'
         +400       : prepare A5
         ok 5       : install 5
         see 5 trap : 'runs 5', 'quarantined A', stop
         see -      : 'stopped'
         file B     : prepare B6
         ok 6       : install 6
         see 6      : 'runs 6'
         file A     : 'still quarantined A'
         is         : running B6 file quarantined
         see 6 trap : 'trap 1/5 0ms', prepare B7",
    );
}

#[test]
fn a_program_that_vanishes_has_trapped() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1      : 'runs 1'
         see -      : 'trap 1/5 0ms', prepare A2",
    );
}

#[test]
fn traps_of_a_version_that_is_being_replaced_do_not_count() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1      : 'runs 1'
         file B     : prepare B2
         see 1 trap :
         is         : preparing A1 next B2
         ok 2       : install 2
         see 2 trap : 'runs 2', 'trap 1/5 0ms', prepare B3",
    );
}

/// A module in quarantine leaves the scan, even if a restart of the module was in the queue at its
/// last trap and the stop order was lost.
#[test]
fn what_is_in_quarantine_leaves_the_scan_whoever_ordered_it() {
    check(
        "one trap   :
         file A     : prepare A1
         ok 1       : install 1
         see 1      : 'runs 1'
         restart    : prepare A2
         ok 2       : install 2
         see 1 trap : 'quarantined A', discard 2, stop
         see 2      : 'runs 2'
         +99        :
         +1         : stop
         +100       : stop
         see -      : 'stopped'
         is         : quarantined file quarantined",
    );
    // After a rollback from B to A, a queued instance of B takes over. It is stopped, and A runs
    // again.
    check(
        "file A         : prepare A1
         ok 1           : install 1
         see 1          : 'runs 1'
         file B         : prepare B2
         ok 2           : install 2
         see 2 after 1  : 'runs 2'
         restart        : prepare B3
         ok 3           : install 3
         see 1 beat 2   : 'back from B to A', discard 3
         see 3 after 1  : 'runs 3', stop
         see -          : 'stopped', prepare A4",
    );
}
