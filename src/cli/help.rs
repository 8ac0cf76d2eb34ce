//! What stands below the help of a verb: what its one line cannot say, and examples.
//!
//! The grammar, and the line of each verb and flag, are in `args.rs`; whether an example works is
//! not tested here.

/// Below the help of `check`.
pub(super) const CHECK_HELP: &str = "\
A file whose name ends in .toml is a configuration, every other one a module. Modules are compared
with the limits of --config, or of the one configuration among the files, or else with the default
limits; the output says with which. A note is about something lawful that is nearly surely a slip,
such as two points in one place; it does not change the exit code.

Examples:
  camshaft check config/camshaft.toml plugins/*.wasm
  camshaft check --config /etc/camshaft/camshaft.toml build/v2.wasm";

/// Below the help of `deploy`.
pub(super) const DEPLOY_HELP: &str = "\
The daemon writes the file whole or not at all, then treats it like any other new file.
If the code cannot run, the old version goes on and the exit code is 1.

A version that runs is on probation at first, 5 s and 100 polls by default ([plugins.swap]). If it
traps meanwhile, the version before runs again, with its state. A deploy ends when the new version
runs, and says for how long it is on probation; with --wait it ends with the probation, and the exit
code is 1 if the version has trapped or was taken back: that is what scripts want.

Examples:
  camshaft deploy build/v2.wasm --name tank
  camshaft deploy build/v2.wasm --name tank --wait && echo it is good";

/// Below the help of `history`.
pub(super) const HISTORY_HELP: &str = "\
Of everything, or of one plugin, point, variable or device; oldest first, newest last, in UTC. Of a
long row of the same traps or refusals only the first five are listed, and then those whose number
in the row is a power of two.

Each order (set, force, deploy, hold and so on) is there with the user who gave it and the value
before and after, under the name of the plugin, point, variable or device that it is about. Behind
sudo the user is root. Scripts may give some orders all the time (set, restart, fault): each target
has 20 lines then, and one more every 10 minutes, which says for how many orders it stands.

Examples:
  camshaft history
  camshaft history tank -n 100
  camshaft history tank.level            who has set or forced it
  camshaft history --json -n 1000 | jq '.[] | select(.kind == \"refused\")'";

/// Below the help of `rollback`.
pub(super) const ROLLBACK_HELP: &str = "\
The last five versions of each plugin that have survived their probation are kept. One that traps on
probation is taken back without you; this is for the day after. State is handed over as in any swap.
One that trapped after its probation, or is in quarantine, is bad: it is taken only if you name it
and say --even-bad. `camshaft versions` lists them.

Examples:
  camshaft rollback tank
  camshaft rollback tank --to 3f2a1b
  camshaft rollback tank --to 3f2a1b --even-bad";

/// Below the help of `versions`.
pub(super) const VERSIONS_HELP: &str = "\
A version that has survived its probation is kept and good. It is bad once it trapped or is in
quarantine, and doubtful while it does not write an output that a good one before it wrote; neither
pushes a good one out of the five that are kept. A bad one is good again when it proves itself after
`camshaft release` or `camshaft rollback --even-bad`. With [plugins.restart] on_quarantine =
\"last_good\" the newest good one runs where the file is in quarantine.

Examples:
  camshaft versions tank
  camshaft versions tank --json";

/// Below the help of `run`.
pub(super) const RUN_HELP: &str = "\
Recovery: with --no-plugins, or after 3 abnormal ends within 10 minutes, the scan runs with its
devices, every output is safe, and no plugin is run until somebody says `camshaft recover`. An
end is abnormal when it was no orderly stop: a watchdog, a panic or a kill. A power cut is none:
it ends the machine too and counts apart; [recovery] in the configuration says how.";

/// Below the help of `release`.
pub(super) const RELEASE_HELP: &str = "\
Where the plugin is held the hold ends, and no more than that: a file that was in quarantine before
still is, and the answer says so. Where it is not held its quarantine ends, and with it what was
known against its versions: each is good again when it proves itself.

Examples:
  camshaft release tank";

/// Below the help of `restart`.
pub(super) const RESTART_HELP: &str = "\
--cold concerns the whole machine. Every program is taken out and every output becomes safe; all
variables that a [[variable]] declares get their initial values, retained ones also on disk;
those that programs have made are forgotten with their types; then all programs that are not held
start anew.

Examples:
  camshaft restart tank
  camshaft restart --cold";

/// Below the help of `reload`.
pub(super) const RELOAD_HELP: &str = "\
The daemon watches the file and does this by itself a moment after it was saved; so does SIGHUP.
All of the file is checked first. What is wrong changes nothing, and the last good configuration
stays in force. Period, budgets, plugins, variables, devices and their points change between two
cycles. A device that changed begins anew, the others go on; an output that goes is made safe
first. What is tied to the process, and which variables are retained, counts after a restart, and so
does the whole file if a point would move to another address or type, or a new one would lie in the
place of another, because programs go by these. That holds for points of before as well: one that a
reload has taken away comes back as it was, or after a restart.

Examples:
  camshaft diff
  camshaft reload";

/// Below the help of `diff`.
pub(super) const DIFF_HELP: &str = "\
Compares the file on disk with what is in force in the daemon. Nothing is changed. To look at a
file before it is put in place, use `camshaft check`.";

/// Below the help of `reset`.
pub(super) const RESET_HELP: &str = "\
Retained variables get their initial values, in memory between two cycles and in both files on
disk. Programs go on running: one that keeps a value in its own memory may write it again. To
start those anew as well, use `camshaft restart --cold`.";

/// Below the help of `set`.
pub(super) const SET_HELP: &str = "\
A variable that a program writes in every cycle has its own value again a cycle later.
Where a point and a variable have the same name, the point is set.

Examples:
  camshaft set button.start true
  camshaft set tank.level 42.5
  camshaft set heater.setpoint 60";

/// Below the help of `force`.
pub(super) const FORCE_HELP: &str = "\
A forced input is what programs see, a forced output what the device gets; both say so. What the
device or the program says meanwhile counts again when the force ends. Safe outranks a force: an
output whose program is held, has trapped or lacks an input is safe, forced or not. A force stays
when its program is swapped, and ends with the daemon.

Examples:
  camshaft force pump.run true --for 10m --reason 'test of the seal'
  camshaft force tank.level 80 --forever --owner ann
  camshaft forces
  camshaft unforce --all";

/// Below the help of `fault`.
pub(super) const FAULT_HELP: &str = "\
Examples:
  camshaft fault plant disconnect
  camshaft fault plant slow delay=200ms
  camshaft fault plant garbage seed=7
  camshaft fault plant hang for=1s     the whole scan stands: devices make outputs safe. One that
                                       stands for scan.stall_exit (2s) ends the daemon, which
                                       counts as an abnormal end; a manager starts it again
  camshaft fault plant --clear";

/// Below the help of `test`.
pub(super) const TEST_HELP: &str = "\
Examples:
  camshaft test plugins/tank.wasm plugins/tank/tank.recipe.json
  camshaft test --config /etc/camshaft/camshaft.toml build/v2.wasm v2.recipe.json";

/// Below the help of `completions`.
pub(super) const COMPLETIONS_HELP: &str = "\
Example:
  camshaft completions bash > ~/.local/share/bash-completion/completions/camshaft";

/// Below the help of `replay`.
pub(super) const REPLAY_HELP: &str = "\
The exit code is 0 when the module traps again at the same place, and 1 when it does not.
Limits of the plugin in the report that are above the defaults, or above those of --config, are
lowered, and the replay says which.

Example:
  camshaft replay /var/lib/camshaft/crash/tank-4711-0123456789abcdef.crash";

/// Below the help of `modbus read`.
pub(super) const MODBUS_READ_HELP: &str = "\
Registers are shown in hexadecimal digits, and as values of the type in every order that their
bytes can have on the wire; A is the most significant byte. The right order is the column that
makes sense.

Examples:
  camshaft modbus read tcp://10.0.0.7 holding 0 4
  camshaft modbus read tcp://10.0.0.7:1502 --unit 3 input 100 2 --type f32
  camshaft modbus read rtu:///dev/ttyUSB0 --baud 9600 --parity none --stop-bits 2 coil 0 16";

/// Below the help of `modbus write`.
pub(super) const MODBUS_WRITE_HELP: &str = "\
What is printed the unit has acknowledged; whether it keeps it, only reading tells.

Examples:
  camshaft modbus write tcp://10.0.0.7 holding 100 421
  camshaft modbus write tcp://10.0.0.7 holding 101 -1.25 --type f32 --order CDAB
  camshaft modbus write tcp://10.0.0.7 coil 0 on --single";

/// Below the help of `modbus scan`.
pub(super) const MODBUS_SCAN_HELP: &str = "\
Each unit is asked once for holding register 0, and has 200ms to answer if --timeout says nothing
else; an exception is an answer, unless a gateway gives it for a unit that it does not reach. On a
serial line a unit that is absent takes twice as long.

Examples:
  camshaft modbus scan tcp://10.0.0.7
  camshaft modbus scan rtu:///dev/ttyUSB0 --baud 9600 --to 32";
