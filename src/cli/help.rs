//! The text below the help of each verb: details and examples.
//!
//! The grammar is in `args.rs`. The one-line help of each verb and each flag is in `args.rs` too.
//! These texts add what does not fit into one line. The examples are not tested here.

/// Text below the help of `check`.
pub(super) const CHECK_HELP: &str = "\
A file whose name ends in .toml is a configuration; every other file is a module. Modules are
compared with the limits of --config. Without --config, the limits are those of the one
configuration among the files, or else the default limits. The output says which limits these are.
A note is about something that is allowed but is almost certainly a slip, such as two points in one
place. It does not change the exit code.

Examples:
  camshaft check config/camshaft.toml plugins/*.wasm
  camshaft check --config /etc/camshaft/camshaft.toml build/v2.wasm";

/// Text below the help of `deploy`.
pub(super) const DEPLOY_HELP: &str = "\
The daemon writes the whole file or none of it, then treats it like any other new file.
If the code cannot run, the old version goes on and the exit code is 1.

A new version is on probation first, for 5 s and 100 polls by default ([plugins.swap]). If it traps
during that time, the version before it runs again, with its state. A deploy ends when the new
version runs, and says how long the probation lasts. With --wait, which scripts should use, the
deploy ends when the probation ends; the exit code is 1 if the version has trapped or was taken
back.

Examples:
  camshaft deploy build/v2.wasm --name tank
  camshaft deploy build/v2.wasm --name tank --wait && echo it is good";

/// Text below the help of `history`.
pub(super) const HISTORY_HELP: &str = "\
The list is about everything, or about one plugin, point, variable or device. The oldest line is
first and the newest is last; times are in UTC. When the same trap or refusal comes many times in a
row, the list has the first five of them, and then the 8th, the 16th, the 32nd and so on.

Each order (set, force, deploy, hold and so on) has a line with the user who gave it and the values
before and after. The line is under the name of the plugin, point, variable or device that the order
is about. An order given with sudo has the user root. A script may give the same order all the time
(set, restart, fault). After 20 lines about one target, there is one line every 10 minutes, which
says how many orders it stands for.

Examples:
  camshaft history
  camshaft history tank -n 100
  camshaft history tank.level            who has set or forced it
  camshaft history --json -n 1000 | jq '.[] | select(.kind == \"refused\")'";

/// Text below the help of `rollback`.
pub(super) const ROLLBACK_HELP: &str = "\
The daemon keeps the last five good versions of each plugin. A version is good when it has survived
its probation. If a version traps on probation, the daemon itself lets the version before it run
again. This verb is for mistakes that show later. As in any swap, the version that takes over gets
the state of the one that runs.

A version that trapped after its probation, or is in quarantine, is bad. It comes back only if you
name it with --to and give --even-bad. `camshaft versions` lists all versions.

Examples:
  camshaft rollback tank
  camshaft rollback tank --to 3f2a1b
  camshaft rollback tank --to 3f2a1b --even-bad";

/// Text below the help of `versions`.
pub(super) const VERSIONS_HELP: &str = "\
A version is unproven until it has survived its probation, and good after that. It is doubtful while
it does not write an output that a good version before it wrote. It is bad once it has trapped or is
in quarantine. The daemon keeps the last five good versions of each plugin; a bad or doubtful one
never takes the place of a good one.

A bad version is good again when it survives another probation, after `camshaft release` or
`camshaft rollback --even-bad`. With [plugins.restart] on_quarantine = \"last_good\", the newest
good version runs while the file is in quarantine.

Examples:
  camshaft versions tank
  camshaft versions tank --json";

/// Text below the help of `run`.
pub(super) const RUN_HELP: &str = "\
Recovery: with --no-plugins, or after 3 abnormal ends within 10 minutes, the scan runs with its
devices and every output is safe. No plugin runs until an operator gives `camshaft recover`. An end
is abnormal if it was no orderly stop, for example a watchdog, a panic or a kill. A power cut is not
an abnormal end, because it ends the machine too. Power cuts are counted separately, as [recovery]
in the configuration says.";

/// Text below the help of `release`.
pub(super) const RELEASE_HELP: &str = "\
If the plugin is held, its hold ends and nothing else changes. A file that was in quarantine stays
there, and the answer says so. If the plugin is not held, its quarantine ends. What was known
against its versions is forgotten too: each is good again when it proves itself.

Examples:
  camshaft release tank";

/// Text below the help of `restart`.
pub(super) const RESTART_HELP: &str = "\
--cold concerns the whole machine. Every program is taken out and every output becomes safe. All
variables that a [[variable]] declares get their initial values, retained ones also on disk.
Variables that programs have made are forgotten, with their types. Then all programs that are not
held start anew.

Examples:
  camshaft restart tank
  camshaft restart --cold";

/// Text below the help of `reload`.
pub(super) const RELOAD_HELP: &str = "\
The daemon watches the file and reloads it by itself a moment after it was saved. SIGHUP does the
same. The daemon first checks the whole file. A file with a mistake changes nothing, and the last
good configuration stays in force. Period, budgets, plugins, variables, devices and their points
change between two cycles. A device that has changed begins anew, and the others go on. An output
that is removed is made safe first.

Some changes wait for a restart: what is tied to the process, and which variables are retained. The
whole file waits for a restart if a point would get another address or type, or if a new point would
lie in the place of another, because programs use addresses. That is also true for points that an
earlier reload has removed: such a point comes back as it was, or after a restart.

Examples:
  camshaft diff
  camshaft reload";

/// Text below the help of `diff`.
pub(super) const DIFF_HELP: &str = "\
Compares the file on disk with the configuration that is in force in the daemon, and changes
nothing. To check a file before you put it in place, use `camshaft check`.";

/// Text below the help of `reset`.
pub(super) const RESET_HELP: &str = "\
Retained variables get their initial values: in memory between two cycles, and in both files on
disk. Programs go on running. A program that keeps a value in its own memory may write it again. To
start the programs anew as well, use `camshaft restart --cold`.";

/// Text below the help of `set`.
pub(super) const SET_HELP: &str = "\
If a program writes the variable in every cycle, it has the program's value again a cycle later.
If a point and a variable have the same name, the point is set.

Examples:
  camshaft set button.start true
  camshaft set tank.level 42.5
  camshaft set heater.setpoint 60";

/// Text below the help of `force`.
pub(super) const FORCE_HELP: &str = "\
Programs see the value of a forced input, and the device gets the value of a forced output. Both
points are shown as forced. When the force ends, the value of the device or of the program counts
again. Safe outranks a force: an output whose program is held, has trapped or lacks an input is
safe, even if it is forced. A force stays when the program is swapped, and ends with the daemon.

Examples:
  camshaft force pump.run true --for 10m --reason 'test of the seal'
  camshaft force tank.level 80 --forever --owner ann
  camshaft forces
  camshaft unforce --all";

/// Text below the help of `fault`.
pub(super) const FAULT_HELP: &str = "\
Examples:
  camshaft fault plant disconnect
  camshaft fault plant slow delay=200ms
  camshaft fault plant garbage seed=7
  camshaft fault plant hang for=1s     the whole scan stalls: devices make outputs safe. A scan that
                                       stalls for scan.stall_exit (2s) ends the daemon. That counts
                                       as an abnormal end, and a service manager starts it again
  camshaft fault plant --clear";

/// Text below the help of `test`.
pub(super) const TEST_HELP: &str = "\
Examples:
  camshaft test plugins/tank.wasm plugins/tank/tank.recipe.json
  camshaft test --config /etc/camshaft/camshaft.toml build/v2.wasm v2.recipe.json";

/// Text below the help of `completions`.
pub(super) const COMPLETIONS_HELP: &str = "\
Example:
  camshaft completions bash > ~/.local/share/bash-completion/completions/camshaft";

/// Text below the help of `replay`.
pub(super) const REPLAY_HELP: &str = "\
The exit code is 0 if the module traps again at the same place, and 1 if it does not.
The report has the limits of the plugin. The replay lowers limits that are above the defaults, or
above those of --config, and says which.

Example:
  camshaft replay /var/lib/camshaft/crash/tank-4711-0123456789abcdef.crash";

/// Text below the help of `modbus read`.
pub(super) const MODBUS_READ_HELP: &str = "\
Registers are shown in hexadecimal digits, and as values of the type in every order that their
bytes can have on the wire. A is the most significant byte. The column whose values make sense shows
the right order.

Examples:
  camshaft modbus read tcp://10.0.0.7 holding 0 4
  camshaft modbus read tcp://10.0.0.7:1502 --unit 3 input 100 2 --type f32
  camshaft modbus read rtu:///dev/ttyUSB0 --baud 9600 --parity none --stop-bits 2 coil 0 16";

/// Text below the help of `modbus write`.
pub(super) const MODBUS_WRITE_HELP: &str = "\
The unit has acknowledged the values that are printed. Only reading them shows whether it keeps
them.

Examples:
  camshaft modbus write tcp://10.0.0.7 holding 100 421
  camshaft modbus write tcp://10.0.0.7 holding 101 -1.25 --type f32 --order CDAB
  camshaft modbus write tcp://10.0.0.7 coil 0 on --single";

/// Text below the help of `modbus scan`.
pub(super) const MODBUS_SCAN_HELP: &str = "\
Each unit is asked once for holding register 0, and has 200ms to answer unless --timeout says
otherwise. An exception is an answer, unless a gateway gives it for a unit that it does not reach.
On a serial line, a unit that is absent takes twice as long.

Examples:
  camshaft modbus scan tcp://10.0.0.7
  camshaft modbus scan rtu:///dev/ttyUSB0 --baud 9600 --to 32";
