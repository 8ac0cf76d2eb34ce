//! Scripts for one plugin. Each line of a script has a command, for example a new file or a new
//! snapshot, and the expected orders of the supervisor's next step.
//!
//! Scripts about limits, probation, stored versions and traps are in separate files in `tests/`. A
//! simulation with random events is in `tests/random.rs`.

use super::*;

mod limits;
mod probation;
mod random;
mod stand_in;
mod traps;

/// Runs a script of `command : expected orders` lines on the plugin `a`; files are letters. After
/// each command, the supervisor makes one step.
///
/// | command | meaning |
/// |---|---|
/// | `file A`, `file -`, `file bad` | the content of the folder |
/// | `hold`, `release`, `restart` | an order of the operator |
/// | `let go` | the daemon, and not the operator, ends a hold |
/// | `ok 1`, `fail 1` | an answer to a prepare: made, or a verdict |
/// | `miss 1`, `lost 1` | an answer to a prepare: an accident, or the bytes are lost |
/// | `see 1`, `see 1 trap`, `see -` | the scan's snapshots from now on |
/// | `see 2 after 1`, `see 1 beat 2` | 1 is on standby for 2; 2 was rolled back, and 1 runs |
/// | `keep B C`, `ran B`, `keep B ran C` | stored good versions; what ran before the start |
/// | `recall A`, `lift A` | A was in quarantine before the start; A is released |
/// | `one trap`, `three traps` | a policy with this number of traps to quarantine |
/// | `safe` | a policy with one trap to quarantine, and without stored versions |
/// | `+100` | time passes, in ms |
/// | `is` | the expected state, the running version, and the next version |
#[track_caller]
fn check(script: &str) {
    let mut run = Run {
        supervisor: Supervisor::new(RestartPolicy::default()),
        now: Duration::from_secs(1000),
        seen: None,
    };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, expected) = line.split_once(':').expect("every line of a script has a colon");
        if command.trim() == "is" {
            assert_eq!(state(&run.supervisor), expected.trim(), "state, script:{script}");
            continue;
        }
        run.carry_out(command);
        let actions = run.supervisor.step(run.now, run.seen.as_slice());
        let actions: Vec<String> = actions.iter().map(brief).collect();
        assert_eq!(actions.join(", "), expected.trim(), "after {command:?}, script:{script}");
    }
}

/// The state of a script while it runs.
struct Run {
    supervisor: Supervisor,
    now: Duration,
    /// The fact about the plugin in the scan's snapshots.
    seen: Option<Fact<'static>>,
}

impl Run {
    /// Executes one command of a script.
    fn carry_out(&mut self, command: &str) {
        let supervisor = &mut self.supervisor;
        let policy = RestartPolicy::default();
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["file", "-"] => supervisor.folder("a", None).unwrap(),
            ["file", "bad"] => supervisor.folder_refused("a", Refusal::new("bad", "")).unwrap(),
            ["file", text] => supervisor.folder("a", Some(hash(text))).unwrap(),
            ["hold"] => supervisor.hold("a").unwrap(),
            ["let", "go"] => supervisor.let_go("a"),
            ["release"] => {
                supervisor.release("a").unwrap();
            }
            ["restart"] => supervisor.restart("a").unwrap(),
            ["keep", good, "ran", ran] => {
                supervisor.set_stored("a", vec![hash(good)], Some(hash(ran)))
            }
            ["keep", ref good @ ..] => {
                supervisor.set_stored("a", good.iter().map(|text| hash(text)).collect(), None);
            }
            ["ran", text] => supervisor.set_stored("a", vec![], Some(hash(text))),
            ["recall", text] => supervisor.recall("a", hash(text), "it trapped".into()),
            ["three", "traps"] => supervisor.set_policy(RestartPolicy { traps: 3, ..policy }),
            ["one", "trap"] => supervisor.set_policy(RestartPolicy { traps: 1, ..policy }),
            ["safe"] => supervisor.set_policy(RestartPolicy {
                traps: 1,
                on_quarantine: OnQuarantine::Safe,
                ..policy
            }),
            ["lift", text] => supervisor.release_version("a", hash(text)),
            [answer @ ("ok" | "fail" | "miss" | "lost"), n] => {
                supervisor.prepared("a", generation(n), prepared(answer));
            }
            ["see", ref words @ ..] => self.seen = seen(words),
            [time] => self.now += Duration::from_millis(time[1..].parse().unwrap()),
            _ => panic!("unknown command {command:?}"),
        }
    }
}

/// Returns the answer to a prepare for this word of a script.
fn prepared(word: &str) -> Result<(), Refusal> {
    match word {
        "ok" => Ok(()),
        "fail" => Err(Refusal::new("no", "")),
        "miss" => Err(Refusal::new("not now", "").by_accident()),
        "lost" => Err(Refusal::new("it is nowhere", "").of_lost_bytes()),
        _ => panic!("unknown answer {word:?}"),
    }
}

/// Returns the fact in the snapshots, from the words after `see` in a script.
fn seen(words: &[&str]) -> Option<Fact<'static>> {
    Some(match *words {
        ["-"] => return None,
        [n] => fact(n),
        [n, "trap"] => Fact { trap: Some(trap()), ..fact(n) },
        [n, "after", m] => Fact { standby: Some(generation(m)), ..fact(n) },
        [n, "beat", m] => Fact { rolled_back: Some((generation(m), trap())), ..fact(n) },
        [n, "after", m, "beat", rolled_back] => {
            let rolled_back = Some((generation(rolled_back), trap()));
            Fact { standby: Some(generation(m)), rolled_back, ..fact(n) }
        }
        _ => panic!("unknown command {words:?}"),
    })
}

fn fact(n: &str) -> Fact<'static> {
    Fact { name: "a", generation: generation(n), trap: None, standby: None, rolled_back: None }
}

fn hash(text: &str) -> ModuleHash {
    ModuleHash::of(text.as_bytes())
}

fn letter(of: ModuleHash) -> &'static str {
    ["A", "B", "C"].into_iter().find(|text| hash(text) == of).expect("scripts use A, B and C")
}

fn generation(text: &str) -> Generation {
    Generation(text.parse().unwrap())
}

fn trap() -> Arc<Trap> {
    Arc::new(Trap { kind: "unreachable".into(), function: None, offset: None, cycle: 7 })
}

fn brief(action: &Action) -> String {
    match action {
        Action::Prepare { hash, generation, .. } => {
            format!("prepare {}{}", letter(*hash), generation.0)
        }
        Action::Install { generation, .. } => format!("install {}", generation.0),
        Action::Stop { .. } => "stop".into(),
        Action::Discard { generation, .. } => format!("discard {}", generation.0),
        Action::Log { note, .. } => match note {
            Note::Started(version) => format!("'runs {}'", version.generation.0),
            Note::Restarting { trap, of, delay } => {
                format!("'trap {trap}/{of} {}ms'", delay.as_millis())
            }
            Note::Retrying { delay, .. } => format!("'retry {}ms'", delay.as_millis()),
            Note::Quarantined { hash, .. } => format!("'quarantined {}'", letter(*hash)),
            Note::GivenUp { hash, .. } => format!("'gave up {}'", letter(*hash)),
            Note::StillQuarantined { hash, .. } => {
                format!("'still quarantined {}'", letter(*hash))
            }
            Note::TriedInstead { hash, .. } => format!("'{} instead'", letter(*hash)),
            Note::StandsIn { hash, .. } => format!("'{} stands in'", letter(*hash)),
            Note::RolledBack { from, to } => {
                format!("'back from {} to {}'", letter(*from), letter(*to))
            }
            Note::Refused { .. } => "'refused'".into(),
            Note::Stopped => "'stopped'".into(),
        },
    }
}

fn state(supervisor: &Supervisor) -> String {
    let Some(view) = supervisor.plugin("a") else { return "unknown".into() };
    let version = |version: Version| format!("{}{}", letter(version.hash), version.generation.0);
    let mut text = format!("{:?}", view.state).to_lowercase();
    if let State::Backoff { .. } = view.state {
        text.truncate("backoff".len());
    }
    if let Some(running) = view.running {
        text += &format!(" {}", version(running));
    }
    if let Some(next) = view.next {
        text += &format!(" next {}", version(next));
    }
    text + if view.quarantined { " file quarantined" } else { "" }
        + if view.refusal.is_some() { " refusal" } else { "" }
}

/// An instance can appear in the scan after another plugin has got its seat.
#[test]
fn a_stranger_on_its_seat_is_not_taken_for_a_refused_plugin() {
    check(
        "file bad :
         is       : refused refusal
         see 7    : stop
         is       : refused refusal
         +100     : stop
         see -    : 'stopped'
         file A   : prepare A1
         fail 1   : 'refused'
         see 8    : stop
         see -    : 'stopped'",
    );
    // If the plugin has a version to run, this version replaces the stranger.
    check(
        "file A : prepare A1
         see 0  :
         is     : preparing next A1
         ok 1   : install 1
         see 1  : 'runs 1'
         is     : running A1",
    );
}

#[test]
fn a_file_becomes_a_program_and_goes() {
    check(
        "file A : prepare A1
         is     : preparing next A1
         +50    :
         ok 1   : install 1
         is     : starting next A1
         see 1  : 'runs 1'
         is     : running A1
         file A :
         file - : stop
         is     : stopping A1
         see -  : 'stopped'
         is     : unknown",
    );
}

#[test]
fn the_same_snapshot_many_times_is_one_fact() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1 trap : 'runs 1', 'trap 1/5 0ms', prepare A2
         see 1 trap :
         ok 2       : install 2
         see 1 trap :
         see 2      : 'runs 2'
         see 1 trap :
         see 2      :
         is         : running A2",
    );
}

#[test]
fn orders_that_get_lost_are_repeated() {
    check(
        "file A : prepare A1
         ok 1   : install 1
         +99    :
         +1     : install 1
         +100   : install 1
         see 1  : 'runs 1'
         +100   :
         file - : stop
         +99    :
         +1     : stop
         see -  : 'stopped'
         +100   :",
    );
}

#[test]
fn a_version_that_will_not_load_changes_nothing() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1      : 'runs 1'
         file B     : prepare B2
         is         : running A1 next B2
         fail 2     : 'refused'
         is         : running A1 refusal
         +90000     :
         file bad   :
         is         : running A1 refusal
         see 1 trap : 'trap 1/5 0ms', prepare A3
         ok 3       : install 3
         see 3      : 'runs 3'
         file A     :
         is         : running A3
         file B     : prepare B4
         fail 4     : 'refused'
         restart    : prepare B5
         fail 5     : 'refused', prepare A6
         ok 6       : install 6
         see 6      : 'runs 6'
         is         : running A6 refusal
         release    : prepare B7
         ok 7       : install 7
         see 7      : 'runs 7'
         is         : running B7",
    );
    check(
        "file A     : prepare A1
         fail 1     : 'refused'
         is         : refused refusal
         +90000     :
         file A     :
         file B     : prepare B2",
    );
    check(
        "file bad   :
         is         : refused refusal
         file -     :
         is         : unknown",
    );
}

#[test]
fn a_module_that_ran_before_is_tried_again() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1 trap : 'runs 1', 'trap 1/5 0ms', prepare A2
         fail 2     : 'refused', 'retry 100ms'
         is         : backoff A1 refusal
         +100       : prepare A3
         fail 3     : 'refused', 'retry 200ms'
         +200       : prepare A4
         ok 4       : install 4
         see 4      : 'runs 4'
         restart    : prepare A5
         fail 5     : 'refused'
         is         : running A4 refusal",
    );
}

#[test]
fn new_bytes_overtake_what_is_under_way() {
    check(
        "file A     : prepare A1
         file B     : discard 1, prepare B2
         ok 1       : discard 1
         fail 1     :
         ok 2       : install 2
         file C     : discard 2, prepare C3
         see 2      : 'runs 2'
         ok 3       : install 3
         see 3      : 'runs 3'
         is         : running C3",
    );
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1      : 'runs 1'
         file B     : prepare B2
         file A     : discard 2
         is         : running A1",
    );
    // New bytes end a backoff. Traps of the old bytes do not count for the new bytes.
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1 trap : 'runs 1', 'trap 1/5 0ms', prepare A2
         ok 2       : install 2
         see 2 trap : 'runs 2', 'trap 2/5 100ms'
         file B     : prepare B3
         ok 3       : install 3
         see 3 trap : 'runs 3', 'trap 1/5 0ms', prepare B4",
    );
}

#[test]
fn hold_outranks_the_folder() {
    check(
        "hold       :
         is         : held
         file A     :
         is         : held
         release    : prepare A1
         hold       : discard 1
         ok 1       : discard 1
         release    : prepare A2
         ok 2       : install 2
         hold       : discard 2, stop
         see 2      :
         +100       : stop
         is         : stopping
         see -      : 'stopped'
         file B     :
         +90000     :
         is         : held
         release    : prepare B3
         ok 3       : install 3
         see 3      : 'runs 3'
         hold       : stop
         release    :
         is         : running B3
         see -      : 'stopped', prepare B4",
    );
    check(
        "file A     : prepare A1
         hold       : discard 1
         file -     :
         is         : held
         file A     :
         is         : held",
    );
}

#[test]
fn a_restart_makes_a_new_instance() {
    check(
        "file A     : prepare A1
         restart    :
         ok 1       : install 1
         see 1      : 'runs 1'
         restart    : prepare A2
         is         : running A1 next A2
         ok 2       : install 2
         see 2      : 'runs 2'
         +1000      :
         see 2 trap : 'trap 1/5 0ms', prepare A3
         ok 3       : install 3
         see 3 trap : 'runs 3', 'trap 2/5 100ms'
         restart    : prepare A4",
    );
}

/// A defect of the past: the file was refused, and the restart that the operator ordered did not
/// follow. The log reported a restart, but the program was not restarted.
#[test]
fn a_restart_is_of_what_runs() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1      : 'runs 1'
         file B     : prepare B2
         restart    :
         fail 2     : 'refused', prepare A3
         ok 3       : install 3
         see 3      : 'runs 3'
         +1000      :
         file bad   :
         restart    : prepare A4
         ok 4       : install 4
         see 4      : 'runs 4'
         +1000      :
         is         : running A4 refusal",
    );
    // A version that replaces the program is also a new instance, so no further restart follows.
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1      : 'runs 1'
         file B     : prepare B2
         restart    :
         ok 2       : install 2
         restart    :
         see 2      : 'runs 2'
         +1000      :
         is         : running B2",
    );
}

#[test]
fn an_instance_that_was_lost_on_the_way_is_made_again() {
    check(
        "file A     : prepare A1
         ok 1       : install 1
         see 1 trap : 'runs 1', 'trap 1/5 0ms', prepare A2
         ok 2       : install 2
         fail 2     : 'refused', 'retry 100ms'
         +100       : prepare A3",
    );
    check(
        "file A     : prepare A1
         ok 1       : install 1
         +59999     : install 1
         +1         : discard 1, 'retry 100ms'
         +100       : prepare A2
         ok 2       : install 2
         see 2      : 'runs 2'",
    );
}

#[test]
fn a_program_that_nobody_knows_is_stopped() {
    check(
        "see 9      : stop
         +100       : stop
         see -      : 'stopped'
         is         : unknown",
    );
}

#[test]
fn a_release_is_not_lost_against_an_older_failure() {
    let mut supervisor = Supervisor::new(RestartPolicy::default());
    supervisor.folder("a", Some(hash("A"))).unwrap();
    supervisor.step(Duration::ZERO, &[]);
    supervisor.prepared("a", Generation(1), Err(Refusal::new("no", "")));
    supervisor.release("a").unwrap();
    let actions: Vec<String> = supervisor.step(Duration::ZERO, &[]).iter().map(brief).collect();
    assert_eq!(actions, ["prepare A2"]);
}
